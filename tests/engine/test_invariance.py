"""With dropout off, neither padding nor company nor accumulation changes what a step computes, for any method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kdcore.config import TrainConfig
from kdcore.data.encode import collate
from kdcore.engine import step
from kdcore.engine.device import Compute
from kdcore.engine.ensemble import Ensemble, Teacher
from kdcore.engine.job import Job, TrainingAnswers, encode_rows
from kdcore.engine.step import StepClock, train_step
from kdcore.methods import METHODS, resolve
from kdcore.models.sizes import size_of
from kdcore.models.students import save_student
from kdcore.records import Batch, Encoding, Setup
from tests.helpers import tiny_task as world

CPU = Compute(torch.device("cpu"), "fp32")
ROWS = np.arange(12)


@pytest.fixture(params=list(METHODS))
def key(request) -> str:
    if METHODS[request.param].relates_rows(METHODS[request.param].Config()):
        pytest.skip("its terms relate the rows of a batch to one another, and it says so")
    return request.param


@pytest.fixture(params=[True, False], ids=["cached", "live"])
def bench(request, key, shelf, tmp_path):
    """One method on real models, ready for its last stage; `grade` gives a step's losses and gradients."""
    return Bench(key, shelf, tmp_path, cached=request.param)


class Bench:
    def __init__(self, key: str, shelf: Path, folder: Path, cached: bool) -> None:
        task = world.data_of()
        fewest, most = METHODS[key].takes(METHODS[key].Config())
        count = max(fewest, min(most, 2))
        teachers = []
        for i in range(count):
            home = shelf / f"invariance-{i}"
            if not home.exists():
                save_student(world.model(layers=4, seed=20 + i), world.tokenizer(), home)
            teachers.append(Teacher(f"t{i}", home, replace(world.SIZE, layers=4), f"identity {i}", "made for tests"))
        shape = size_of(world.model().config)
        scores: dict[str, float | None] = {teacher.name: 0.5 for teacher in teachers}
        setup = Setup(
            kind="classification", labels=2, student=shape, teachers={t.name: t.size for t in teachers}, scores=scores
        )
        method = resolve(key, {})[0](resolve(key, {})[1], setup)
        homes = {teacher.name: teacher for teacher in teachers}

        def build(layers: int | None = None, draw: int = 0, of: str | None = None) -> nn.Module:
            if of is not None:
                return homes[of].load().requires_grad_(True)
            return world.model(layers=layers or shape.layers, seed=1 + draw, dropout=0.0)

        students = method.build_students(build)
        settings = TrainConfig(max_length=32, dropout=0.0, clip=1e9, batch_size=12)
        rows = encode_rows(task, world.tokenizer(), settings)
        ensemble = Ensemble(teachers, rows.train, rows.identity, CPU, cached)
        self.stage = method.stages()[-1]
        self.job = Job(
            train=settings, task=task.task, folder=folder, rows=rows.train, splits=rows.splits,
            tokenizer=world.tokenizer(), method=method, students=students, fresh=lambda: students, ensemble=ensemble,
            compute=CPU,
        )  # fmt: skip
        for role in (role for stage in method.stages() for role in stage.adopt):
            save_student(students[role], world.tokenizer(), folder / role)
            size = size_of(students[role].config)
            ensemble.adopt(Teacher(role, folder / role, size, f"identity {role}", "made for tests"))
        for _ in ensemble.ready(self.stage.needs, self.stage.asks(ensemble.teachers)):
            pass
        list(method.before_stage(self.stage.name, TrainingAnswers(self.job)) or ())

    def batch(self, rows: np.ndarray, pad: int = 0) -> Batch:
        batch = collate(self.job.rows, rows)
        padded = Encoding(*(nn.functional.pad(t, (0, pad)) for t in batch.encoding.tensors()))
        return Batch(batch.ids, batch.labels, {"": padded}, source=batch.source)

    def grade(self, batch: Batch, accumulate: int = 1) -> tuple[dict[str, float], list[torch.Tensor]]:
        """Raw terms of one step on this batch, and the gradients that the optimiser would see."""
        self.job.train = self.job.train.model_copy(update={"accumulate": accumulate})
        keep = Keep(self.job)
        outcome = train_step(
            self.job, self.stage, keep, batch, StepClock(done=0, steps=10, epoch=0.0), torch.Generator()
        )
        return {name: float(value) for name, value in outcome.raw.items()}, keep.gradients


class Keep(torch.optim.SGD):
    """An optimiser that changes nothing and remembers the gradients it was given."""

    def __init__(self, job: Job) -> None:
        roles = [p for module in job.modules().values() for p in module.parameters()]
        super().__init__(dict.fromkeys(roles), lr=0.0)
        self.gradients: list[torch.Tensor] = []

    def step(self, closure: Any = None) -> None:
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        self.gradients = [grad.clone() for grad in grads if grad is not None]


def agree(one: tuple, two: tuple) -> None:
    assert one[0] == pytest.approx(two[0], rel=2e-5, abs=1e-6)
    assert len(one[1]) == len(two[1]) and any(g.abs().max() > 0 for g in one[1])
    for left, right in zip(one[1], two[1], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=2e-5 * max(1.0, float(right.abs().max())))


def test_padding(bench):
    agree(bench.grade(bench.batch(ROWS, pad=9)), bench.grade(bench.batch(ROWS)))


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_accumulation(bench, parts):
    """Also in parts of unequal size: 12 rows in five parts are 3, 3, 3, 3."""
    agree(bench.grade(bench.batch(ROWS), accumulate=parts), bench.grade(bench.batch(ROWS)))
    short = bench.batch(ROWS[:7])
    agree(bench.grade(short, accumulate=parts), bench.grade(short))


def test_order_within_a_batch(bench):
    agree(bench.grade(bench.batch(ROWS[::-1].copy())), bench.grade(bench.batch(ROWS)))


def test_company(bench):
    """A batch's loss and gradient are the mean of its rows', each alone."""
    losses, gradients = bench.grade(bench.batch(ROWS))
    alone = [bench.grade(bench.batch(ROWS[i : i + 1])) for i in range(len(ROWS))]
    mean = {name: float(np.mean([each[0][name] for each in alone])) for name in losses}
    pulled = [torch.stack([each[1][i] for each in alone]).mean(0) for i in range(len(gradients))]
    agree((mean, pulled), (losses, gradients))


def test_the_checks_can_fail(bench, monkeypatch):
    """Parts that count alike, whatever their rows, are noticed."""
    parts = step._parts

    def lopsided(batch: Batch, count: int) -> list[Batch]:
        whole = parts(batch, count)
        return [*whole[:-1], whole[0]] if count > 1 else whole

    monkeypatch.setattr(step, "_parts", lopsided)
    with pytest.raises(AssertionError):
        agree(bench.grade(bench.batch(ROWS), accumulate=2), bench.grade(bench.batch(ROWS)))
