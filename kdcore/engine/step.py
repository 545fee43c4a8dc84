"""One training step: what the students and teachers say, the terms, their gradients, the update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kdcore.engine.seeds import seed_of
from kdcore.errors import UserError
from kdcore.events import StepDone
from kdcore.models.observe import observe
from kdcore.records import Batch, Stage, Step, Term

if TYPE_CHECKING:
    from kdcore.engine.loop import Job


@dataclass
class Outcome:
    """What a step computed, still on the device: reading it is left to the steps that are logged."""

    raw: dict[str, Tensor]
    weighted: dict[str, Tensor]
    norm: Tensor
    shares: dict[str, float]

    def event(
        self, stage: str, step: int, steps: int, epoch: float, lr: float, speed: float, seconds: float,
        notes: dict[str, float],
    ) -> StepDone:  # fmt: skip
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
            stage, step, steps, epoch, loss, raw, weighted, lr, speed, seconds, float(self.norm), self.shares, notes
        )


def train_step(
    job: Job,
    stage: Stage,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    at: tuple[int, int, float],
    dropout: torch.Generator,
    share_due: bool = False,
) -> Outcome:
    """One optimiser step on `batch`, in `accumulate` parts whose losses are weighted by their rows.

    at: steps done in this stage, its steps, and the epoch. All that is random follows from (seed, stage, step).
    """
    done, _, _ = at
    seed = job.train.seed
    if job.where.device.type == "cuda":
        torch.cuda.manual_seed(seed_of(seed, "dropout", stage.name, done))
    dropout.manual_seed(seed_of(seed, "dropout", stage.name, done))
    job.method.train()
    for student in job.students.values():
        student.train()
    sums: dict[str, Tensor] = {}
    weights: dict[str, float] = {}
    shares: dict[str, float] = {}
    step: Step | None = None
    for part in _parts(batch, job.train.accumulate):
        step = _look(job, stage, part.to(job.where.device), at)
        terms = stage.terms(step)
        scale = len(part) / len(batch)
        if share_due and not shares:
            shares = _gradient_shares(terms, job)
        total = torch.stack([term.value.float() * term.weight for term in terms.values()]).sum() * scale
        total.backward()
        for name, term in terms.items():
            value = term.value.detach().float() * scale
            sums[name] = sums[name] + value if name in sums else value
            weights[name] = term.weight
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(trained, job.train.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    assert step is not None
    job.method.after_step(step)
    return Outcome(sums, {name: value * weights[name] for name, value in sums.items()}, norm, shares)


def _look(job: Job, stage: Stage, batch: Batch, at: tuple[int, int, float]) -> Step:
    """Runs the students, lets the method pick teachers, and asks those."""
    done, steps, epoch = at
    rng = torch.Generator().manual_seed(seed_of(job.train.seed, "teachers", stage.name, done))
    with job.where.autocast():
        students = {role: observe(model, batch.encoding, stage.needs.student) for role, model in job.students.items()}
    regression = job.task.kind == "regression"
    step = Step(batch, students, {}, {}, stage.name, done + 1, steps, epoch, rng, regression)
    rows = job.method.pick_teachers(step) if stage.needs.teacher else {}
    if stage.teachers is not None:
        rows = {name: chosen for name, chosen in rows.items() if name in stage.teachers}
    answers = {name: job.ensemble.answer(name, batch, chosen) for name, chosen in rows.items()}
    return Step(batch, students, answers, rows, stage.name, done + 1, steps, epoch, rng, regression)


def _parts(batch: Batch, parts: int) -> list[Batch]:
    if parts == 1:
        return [batch]
    chunks = torch.arange(len(batch)).chunk(parts)
    return [
        Batch(batch.ids[c], batch.labels[c], {key: e.rows(c) for key, e in batch.encodings.items()}) for c in chunks
    ]


def _gradient_shares(terms: Mapping[str, Term], job: Job) -> dict[str, float]:
    """Each weighted term's gradient norm on the main student, as a share of their sum."""
    parameters = [p for p in job.main.parameters() if p.requires_grad]
    norms = {}
    for name, term in terms.items():
        value = term.value * term.weight
        if not value.requires_grad:
            norms[name] = 0.0
            continue
        gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        norms[name] = float(torch.stack([g.float().norm() for g in gradients if g is not None]).norm())
    total = sum(norms.values()) or 1.0
    return {name: norm / total for name, norm in norms.items()}
