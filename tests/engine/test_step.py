"""One step: what its terms sum to when their weights follow from the batch and the batch comes in parts."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from kdcore.events import StepDone
from kdcore.methods import METHODS
from kdcore.methods.kd import KD
from kdcore.records import Stage, Step, Term
from tests.helpers.tiny_task import run


class Weighed(KD):
    """KD whose soft term counts by the share of rows with the label 1, which differs from part to part."""

    seen: ClassVar[list[tuple[int, dict[str, tuple[float, float]]]]] = []
    told: ClassVar[list[int]] = []

    def stages(self) -> list[Stage]:
        return [replace(stage, terms=self.weighed) for stage in super().stages()]

    def weighed(self, step: Step) -> dict[str, Term]:
        terms = self.terms(step)
        share = step.batch.labels.double().mean()
        terms["soft"] = Term(terms["soft"].value, self.weight(share))
        if torch.is_grad_enabled():
            values = {name: (float(term.value.detach()), float(term.weight)) for name, term in terms.items()}
            self.seen.append((len(step.batch), values))
        return terms

    def weight(self, share: torch.Tensor) -> torch.Tensor:
        return share

    def after_step(self, step: Step) -> None:
        self.told.append(len(self.seen))


@pytest.fixture
def weighed(monkeypatch: pytest.MonkeyPatch) -> type[Weighed]:
    monkeypatch.setattr(Weighed, "seen", [])
    monkeypatch.setattr(Weighed, "told", [])
    monkeypatch.setitem(METHODS, "kd", Weighed)
    return Weighed


@pytest.mark.parametrize("parts", [1, 4])
def test_weighted_values_are_sums_over_parts_each_with_its_own_weight(weighed, trained, one_teacher, parts):
    steps = trained(run("kd", one_teacher, accumulate=parts, epochs=1)).of(StepDone)
    rows = [number for number, _ in weighed.seen]
    assert len(steps) == 6 and len({values["soft"][1] for _, values in weighed.seen}) > 3
    at = 0
    for step, end in zip(steps, weighed.told, strict=True):
        counts, values = rows[at:end], [values for _, values in weighed.seen[at:end]]
        shares = [count / sum(counts) for count in counts]
        for name in ("hard", "soft"):
            raw = sum(share * each[name][0] for share, each in zip(shares, values, strict=True))
            product = sum(share * each[name][0] * each[name][1] for share, each in zip(shares, values, strict=True))
            assert step.raw[name] == pytest.approx(raw, rel=1e-5)
            assert step.weighted[name] == pytest.approx(product, rel=1e-5)
        assert step.loss == pytest.approx(sum(step.weighted.values()), rel=1e-6)
        at = end


def test_a_batch_in_parts_is_one_step_to_the_method(weighed, trained, one_teacher):
    """What `terms` collects of all parts is there when `after_step` is called."""
    trained(run("kd", one_teacher, accumulate=4, max_steps=2))
    assert weighed.told == [4, 8]
    assert [sum(number for number, _ in weighed.seen[at : at + 4]) for at in (0, 4)] == [16, 16]


def test_a_weight_with_a_graph_is_refused(weighed, trained, one_teacher, monkeypatch):
    monkeypatch.setattr(Weighed, "weight", lambda self, share: share.clone().requires_grad_())
    with pytest.raises(ValueError, match="weight of the term 'soft' has a graph"):
        trained(run("kd", one_teacher, max_steps=1))
