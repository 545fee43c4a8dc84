"""One training step: outputs of students and teachers, the terms, their gradients, the update."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from kdcore.data.encode import Encoded, collate, sorted_order
from kdcore.engine.evaluate import scores
from kdcore.engine.job import Job
from kdcore.engine.optimizer import clip
from kdcore.engine.predict import predict, result_of
from kdcore.engine.seeds import seed_of
from kdcore.errors import UserError
from kdcore.events import Progress, StepDone
from kdcore.losses.soft_targets import hard_labels
from kdcore.models.observe import observe, rerun_of
from kdcore.records import Batch, Stage, Step, Term


@dataclass(frozen=True)
class StepClock:
    """When a step happens. done, steps: of its stage, done before it and planned. epoch: passes over the rows."""

    done: int
    steps: int
    epoch: float


@dataclass
class Outcome:
    """What a step computed, still on the device: reading it is left to the steps that are logged."""

    raw: dict[str, Tensor]
    weighted: dict[str, Tensor]
    norm: Tensor
    shares: dict[str, float]

    def event(
        self, *, stage: str, step: int, steps: int, epoch: float, lr: float, speed: float, seconds: float,
        notes: dict[str, float],
    ) -> StepDone:  # fmt: skip
        """Reads the values from the device. Raises UserError where the loss is not a number."""
        raw = {name: float(value) for name, value in self.raw.items()}
        weighted = {name: float(value) for name, value in self.weighted.items()}
        loss = sum(weighted.values())
        if not math.isfinite(loss):
            worst = [name for name, value in raw.items() if not math.isfinite(value)]
            raise UserError(
                "train.lr", f"the loss is not a number at step {step} (terms: {', '.join(worst)})",
                "lower the learning rate or the weights of these terms",
            )  # fmt: skip
        return StepDone(
            stage=stage, step=step, steps=steps, epoch=epoch, loss=loss, raw=raw, weighted=weighted, lr=lr,
            examples_per_second=speed, seconds=seconds, gradient_norm=float(self.norm), gradient_share=self.shares,
            notes=notes,
        )  # fmt: skip


def train_step(
    job: Job,
    stage: Stage,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    clock: StepClock,
    dropout: torch.Generator,
    share_due: bool = False,
) -> Outcome:
    """One optimiser step on `batch`, in `accumulate` parts whose losses are weighted by their rows.

    Raw and weighted values are the sums over the parts, each with the weight that its part had.

    All that is random follows from (seed, stage, step). share_due: whether each term's gradient is measured too.
    """
    seed = seed_of(job.train.seed, "dropout", stage.name, clock.done)
    if job.compute.device.type == "cuda":
        with torch.cuda.device(job.compute.device):
            torch.cuda.manual_seed(seed)
    dropout.manual_seed(seed)
    job.method.train()
    for role, student in job.students.items():
        student.train(stage.trains(role))
    raw: dict[str, Tensor] = {}
    weighted: dict[str, Tensor] = {}
    shares: dict[str, float] = {}
    step: Step | None = None
    for part in _parts(batch, job.train.accumulate):
        step = _observe(job, stage, part.to(job.compute.device), clock)
        terms = stage.terms(step)
        scale = len(part) / len(batch)
        if share_due and not shares:
            shares = _gradient_shares(terms, job.learner(stage))
        products = {name: _product(name, term) for name, term in terms.items()}
        total = torch.stack(list(products.values())).sum() * scale
        total.backward()  # type: ignore[no-untyped-call]
        for name, term in terms.items():
            _add(raw, name, term.value.detach().float() * scale)
            _add(weighted, name, products[name].detach() * scale)
    norm = clip(optimizer, job.train.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    assert step is not None
    job.method.after_step(step)
    return Outcome(raw, weighted, norm, shares)


def _product(name: str, term: Term) -> Tensor:
    """Value times weight, float32. Raises ValueError where the weight has a graph: it would be trained to be 0."""
    if isinstance(term.weight, Tensor) and term.weight.requires_grad:
        raise ValueError(f"the weight of the term {name!r} has a graph: detach it, or let the value hold it")
    return (term.value.float() * term.weight).float()


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value


@torch.no_grad()
def stage_loss(job: Job, stage: Stage, rows: Encoded) -> Generator[Progress, None, float]:
    """The stage's weighted loss in eval mode, mean over these rows. Teachers answer live: the rows are not cached."""
    total = 0.0
    for module in job.modules().values():
        module.eval()
    batches = sorted_order(rows.lengths, job.train.batch_size)
    for done, chosen in enumerate(batches, start=1):
        batch = collate(rows, chosen, job.compute.pad_to)
        unknown = replace(batch, ids=torch.full_like(batch.ids, -1))
        step = _observe(job, stage, unknown.to(job.compute.device), StepClock(done=0, steps=1, epoch=0.0))
        terms = stage.terms(step)
        total += len(chosen) * sum(float(term.value) * float(term.weight) for term in terms.values())
        yield Progress("scoring select by the stage's loss", done, len(batches))
    if not math.isfinite(total):
        raise UserError("train.lr", "the student's outputs are not numbers", "lower the learning rate")
    return total / len(rows)


def _observe(job: Job, stage: Stage, batch: Batch, clock: StepClock) -> Step:
    """Runs the students, lets the method pick teachers, and asks those."""
    rng = torch.Generator().manual_seed(seed_of(job.train.seed, "teachers", stage.name, clock.done))
    with job.compute.autocast():
        students = {
            role: observe(model, batch.encoding, stage.needs.of_student(role), grad=stage.trains(role))
            for role, model in job.students.items()
            if stage.runs(role)
        }
    if "student" in stage.needs.rerun:
        students = {
            role: outputs.with_rerun(rerun_of(job.students[role], batch.encoding, stage.needs.of_student(role)))
            for role, outputs in students.items()
        }
    step = Step(
        batch=batch, students=students, stage=stage.name, step=clock.done + 1, steps=clock.steps, epoch=clock.epoch,
        rng=rng, regression=job.task_of(batch.task).kind == "regression",
    )  # fmt: skip
    ensemble = job.ensemble_of(batch.task)
    asked = stage.asks(ensemble.teachers)
    picked = job.method.pick_teachers(step) if asked else {}
    rows = {name: chosen for name, chosen in picked.items() if name in asked}
    answers = {name: ensemble.answer(name, batch, chosen) for name, chosen in rows.items()}
    return replace(step, teachers=answers, rows=rows, probe=partial(_probe, job, stage))


def _probe(job: Job, stage: Stage, source: int | None = None) -> dict[str, float]:
    """Loss against the gold labels and scores of the stage's learner on `select`, or on its rows of one domain."""
    rows, regression = job.splits["select"], job.task.kind == "regression"
    if source is not None:
        if rows.sources is None:
            raise ValueError("the data name no domains")
        rows = rows.take(np.flatnonzero(rows.sources == source))
    logits = result_of(predict(job.learner(stage), rows, job.compute, "scoring select for the method"))
    loss = hard_labels(torch.from_numpy(logits), torch.from_numpy(rows.labels), regression)
    return {"loss": float(loss), **scores(job.task, logits, rows.labels)}


def _parts(batch: Batch, parts: int) -> list[Batch]:
    if parts == 1:
        return [batch]
    chunks = torch.arange(len(batch)).chunk(parts)
    return [batch.rows(chunk) for chunk in chunks]


def _gradient_shares(terms: Mapping[str, Term], student: nn.Module) -> dict[str, float]:
    """Each weighted term's gradient norm on the student, as a share of their sum."""
    parameters = [p for p in student.parameters() if p.requires_grad]
    norms = {}
    for name, term in terms.items():
        value = term.value * term.weight
        if not value.requires_grad:
            norms[name] = 0.0
            continue
        gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        reached = [gradient.float().norm() for gradient in gradients if gradient is not None]
        norms[name] = float(torch.stack(reached).norm()) if reached else 0.0  # others may learn from this term
    total = sum(norms.values()) or 1.0
    return {name: norm / total for name, norm in norms.items()}
