"""What a stage trains and what keeps its weights, whatever weight decay and the other learners do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from kdcore.config import ProbeConfig
from kdcore.engine import loop, trainer
from kdcore.events import StepDone
from kdcore.losses.soft_targets import hard_labels
from kdcore.methods import METHODS
from kdcore.methods.base import Build
from kdcore.methods.kd import KD
from kdcore.records import Stage, Step, Term
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run, same, weights

EMBEDDINGS, POOLER, CLASSIFIER = "bert.embeddings.", "bert.pooler.", "classifier."


def frozen_in(stages: list[Stage], *parts: str) -> list[Stage]:
    return [replace(stage, frozen=parts) for stage in stages]


class Frozen(KD):
    """KD that leaves embeddings, pooler and classifier as they are."""

    parts = ("embeddings", "pooler", "classifier")

    def stages(self) -> list[Stage]:
        return frozen_in(super().stages(), *self.parts)


class Halves(KD):
    """KD in two stages, of which the first leaves the embeddings as they are."""

    def stages(self) -> list[Stage]:
        (whole,) = super().stages()
        return [
            replace(whole, name="first", share=0.5, frozen=("embeddings",)),
            replace(whole, name="second", share=0.5),
        ]


class ByHand(KD):
    """KD of a student whose positions have no gradient, with a module of its own that has none either."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.scale = nn.Linear(1, 1, bias=False).requires_grad_(False)
        self.shift = nn.Linear(1, 1, bias=False)

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        student = build()
        student.bert.embeddings.position_embeddings.requires_grad_(False)
        return {"student": student}

    def terms(self, step: Step) -> dict[str, Term]:
        moved = Term(self.shift(self.scale(step.student.logits[:, :1])).square().mean())
        return {**super().terms(step), "moved": moved}


def unchanged(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], begins: str) -> set[bool]:
    """Whether each tensor whose name begins so is the same, as a set: {True}, {False} or both."""
    names = [name for name in one if name.startswith(begins)]
    assert names
    return {torch.equal(one[name], two[name]) for name in names}


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The student's weights before the first step of the run that follows."""
    seen: dict[str, torch.Tensor] = {}
    real = trainer.run_stages

    def watched(job, control):
        seen.update({name: tensor.clone() for name, tensor in job.main.state_dict().items() if name not in seen})
        return real(job, control)

    monkeypatch.setattr(trainer, "run_stages", watched)
    return seen


def test_frozen_parts_keep_every_bit(trained, one_teacher, before, monkeypatch):
    """Also vectors of words that no row holds, at a weight decay that would be seen."""
    monkeypatch.setitem(METHODS, "kd", Frozen)
    setting = run("kd", one_teacher, weight_decay=0.5)
    after = trained(setting).weights()
    for part in (EMBEDDINGS, POOLER, CLASSIFIER):
        assert unchanged(before, after, part) == {True}
    assert unchanged(before, after, "bert.encoder.layer.1.output.dense") == {False}


@pytest.mark.parametrize("part", ["embeddings", "pooler", "classifier"])
def test_one_frozen_part_leaves_the_others_to_train(trained, one_teacher, before, monkeypatch, part):
    monkeypatch.setitem(METHODS, "kd", Frozen)
    monkeypatch.setattr(Frozen, "parts", (part,))
    after = trained(run("kd", one_teacher, max_steps=3)).weights()
    begins = {"embeddings": EMBEDDINGS, "pooler": POOLER, "classifier": CLASSIFIER}
    for name, beginning in begins.items():
        assert unchanged(before, after, beginning) == {name == part}


def test_what_one_stage_freezes_the_next_may_train(trained, one_teacher, before, monkeypatch):
    monkeypatch.setitem(METHODS, "kd", Halves)
    seen: dict[str, dict[str, torch.Tensor]] = {}
    real = loop._end

    def watched(job, stage):
        seen[stage.name] = {name: tensor.clone() for name, tensor in job.main.state_dict().items()}
        real(job, stage)

    monkeypatch.setattr(loop, "_end", watched)
    whole = trained(run("kd", one_teacher))
    assert unchanged(before, seen["first"], EMBEDDINGS) == {True}
    assert unchanged(before, seen["second"], EMBEDDINGS) == {False}
    for step in (3, 9):
        half = trained(run("kd", one_teacher), control=world.StopAt(step))
        assert same(trained(run("kd", one_teacher), half.folder).weights(), whole.weights())


def test_what_a_method_built_without_a_gradient_keeps_its_weights(trained, one_teacher, before, monkeypatch):
    methods: list[ByHand] = []

    class Kept(ByHand):
        def before_stage(self, *args: object) -> None:
            methods.append(self)
            self.at_start = [self.scale.weight.detach().clone(), self.shift.weight.detach().clone()]

    monkeypatch.setitem(METHODS, "kd", Kept)
    after = trained(run("kd", one_teacher, weight_decay=0.5)).weights()
    positions = "bert.embeddings.position_embeddings"
    assert unchanged(before, after, positions) == {True}
    assert unchanged(before, after, "bert.embeddings.LayerNorm") == {False}
    (method,) = methods
    assert torch.equal(method.scale.weight, method.at_start[0])
    assert not torch.equal(method.shift.weight, method.at_start[1])


class Shared(KD):
    """Two students over one table of word vectors; only the second learns from the gold labels."""

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        one, two = build(), build(draw=1)
        two.set_input_embeddings(one.get_input_embeddings())
        return {"student": one, "other": two}

    def stages(self) -> list[Stage]:
        lr = {"student": 1.0, "other": 1.0}
        return [replace(stage, lr=lr, terms=self.both) for stage in super().stages()]

    def both(self, step: Step) -> dict[str, Term]:
        hard = hard_labels(step.students["other"].logits, step.batch.labels, False)
        return {"other": Term(hard), **self.terms(step)}


def test_a_table_of_words_that_two_share_stays_one(trained, one_teacher, before, monkeypatch):
    jobs = []
    real = loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda job, *rest: (jobs.append(job), real(job, *rest))[1])
    monkeypatch.setitem(METHODS, "kd", Shared)
    setting = run("kd", one_teacher, probes=ProbeConfig(fidelity=False, latency=False, gradient_share_every=1))
    done = trained(setting)
    words = "bert.embeddings.word_embeddings.weight"
    one, two = (student.state_dict()[words] for student in jobs[0].students.values())
    assert torch.equal(one, two) and torch.equal(one, done.weights()[words])
    assert not torch.equal(one, before[words])
    assert all(set(step.gradient_share) == {"other", "hard", "soft"} for step in done.of(StepDone))
    half = trained(setting, control=world.StopAt(7))
    assert same(trained(setting, half.folder).weights(), weights(done.folder / "student-last"))
