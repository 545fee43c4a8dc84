"""How the tasks of a run share an epoch."""

import math
from collections import Counter

import pytest

from kdcore.data.task_order import task_order, task_steps

BATCHES = {"": 78, "mrpc": 115, "stsb": 180, "wnli": 1}


@pytest.mark.parametrize("power", [0.0, 0.25, 0.75, 1.0])
def test_an_epoch_has_as_many_steps_as_there_are_batches(power):
    steps = task_steps(BATCHES, power)
    assert sum(steps.values()) == sum(BATCHES.values()) and min(steps.values()) >= 1
    weights = {task: count**power for task, count in BATCHES.items()}
    for task, count in steps.items():
        assert abs(count - sum(BATCHES.values()) * weights[task] / sum(weights.values())) < 1


def test_power_1_sees_each_row_once_and_less_lets_small_tasks_come_more_often():
    assert task_steps(BATCHES, 1.0) == BATCHES
    assert task_steps({"": 7}, 0.3) == {"": 7}
    small = [task_steps(BATCHES, power)["wnli"] for power in (1.0, 0.75, 0.5, 0.0)]
    assert small == sorted(small) and small[0] == 1 and small[-1] in (93, 94)


def test_batches_of_a_task_are_numbered_through_all_epochs():
    steps = task_steps(BATCHES, 0.75)
    drawn = [each for epoch in range(3) for each in task_order(steps, seed=5, epoch=epoch)]
    for task, count in steps.items():
        assert [number for name, number in drawn if name == task] == list(range(3 * count))


def test_the_order_follows_from_seed_and_epoch_alone():
    steps = task_steps(BATCHES, 0.75)
    orders = {
        (seed, epoch): [task for task, _ in task_order(steps, seed, epoch)] for seed in (1, 2) for epoch in (0, 1)
    }
    assert len({tuple(order) for order in orders.values()}) == 4
    assert orders[1, 1] == [task for task, _ in task_order(steps, 1, 1)]
    first = Counter(orders[1, 0][: math.ceil(len(orders[1, 0]) / 2)])
    assert all(first[task] for task in ("", "mrpc", "stsb")), "tasks are mixed, not one after another"
