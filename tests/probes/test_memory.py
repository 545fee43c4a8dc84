"""What a model takes of memory while it answers, against sums by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdcore.models.sizes import bert_config
from kdcore.models.weights import build_classifier
from kdcore.probes import memory
from kdcore.probes.forward_pass import inputs_for
from kdcore.probes.latency import measure
from kdcore.records import ModelSize

FLOAT = 4
"""Bytes."""


class Widening(nn.Module):
    """Looks words up, sets two copies of the states side by side, and lets go of the narrow ones."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(30, width)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        narrow = self.words(input_ids)
        wide = torch.cat([narrow, narrow], dim=-1)
        del narrow
        return wide.sum()


def _bert(layers: int) -> nn.Module:
    return build_classifier(bert_config(ModelSize(layers, 16, 2, 24, 30, 16, 2), 2, None), {}, 0)[0].eval()


@pytest.mark.parametrize("batch", [1, 32])
def test_it_is_the_weights_and_what_is_held_at_once(batch: int) -> None:
    model, ids = Widening(64), torch.ones(batch, 8, dtype=torch.int64)
    with torch.inference_mode():
        found = memory.answering(model, {"input_ids": ids})
    states = batch * 8 * 64 * FLOAT
    assert found == pytest.approx(30 * 64 * FLOAT + 3 * states, abs=64)


def test_the_highest_sum_is_of_what_is_held_not_of_what_is_given_out() -> None:
    assert memory.highest_sum([4, 2, -4, 3, -5]) == 6
    assert memory.highest_sum([-8, 2]) == 0 and memory.highest_sum([]) == 0


def test_another_layer_costs_its_weights_once_the_states_of_the_last_are_free() -> None:
    two, three = _bert(2), _bert(3)
    with torch.inference_mode():
        found = [memory.answering(model, inputs_for(model, 4, 8)) for model in (two, three)]
    assert found[1] - found[0] == memory.weights(three) - memory.weights(two) > 0


def test_shared_weights_count_once_and_quantised_ones_a_byte_each() -> None:
    tied = nn.ModuleList([nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)])
    assert memory.weights(tied) == 2 * 64 * FLOAT
    tied[1].weight = tied[0].weight
    assert memory.weights(tied) == 64 * FLOAT
    whole = nn.Sequential(nn.Linear(8, 8))
    small = torch.ao.quantization.quantize_dynamic(whole, {nn.Linear}, dtype=torch.qint8)
    assert memory.weights(whole) == 64 * FLOAT + 8 * FLOAT
    assert 64 + 8 * FLOAT <= memory.weights(small) <= 64 + 8 * FLOAT + 16  # the scale of a tensor is one number


def test_without_torchs_profiler_it_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "kineto_available", lambda: False)
    with torch.inference_mode():
        assert memory.answering(Widening(8), {"input_ids": torch.ones(1, 4, dtype=torch.int64)}) is None


def test_every_timing_says_it_and_a_second_one_says_the_same() -> None:
    models = {"student": _bert(1), "teacher": _bert(2)}
    first, second = (
        {(r.name, r.batch): r.memory for r in measure(models, batch_sizes=(1, 8), tokens=8, repeats=1, warmup=0)}
        for _ in range(2)
    )
    assert first == second
    assert 0 < first["student", 1] < first["student", 8] and first["student", 1] < first["teacher", 1]
