"""A read-out is the plain mean at first, then older steps fade; it is part of a method's state."""

import pytest
import torch

from kdcore.methods.running_mean import RunningMean


def test_the_mean_of_the_first_steps_whatever_it_started_from() -> None:
    running = RunningMean(torch.full((2,), 9.0))
    assert running.mean.tolist() == [9.0, 9.0]
    for value in (1.0, 2.0, 6.0):
        running.update(torch.tensor([value, -value]))
    assert running.mean.tolist() == pytest.approx([3.0, -3.0])


def test_older_steps_fade() -> None:
    running = RunningMean(torch.zeros(()), steps=10)
    for _ in range(10):
        running.update(torch.tensor(0.0))
    for _ in range(200):
        running.update(torch.tensor(5.0))
    assert running.mean.item() == pytest.approx(5 * (1 - 0.9**200), rel=1e-9)


def test_it_travels_as_a_buffer() -> None:
    one, other = RunningMean(torch.zeros(3)), RunningMean(torch.zeros(3))
    one.update(torch.ones(3))
    other.load_state_dict(one.state_dict())
    for running in (one, other):
        running.update(torch.tensor([4.0, 5.0, 6.0]))
    assert torch.equal(one.mean, other.mean) and not list(one.parameters())
