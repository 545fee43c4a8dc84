"""The training loop, read from top to bottom. It knows stages and terms, never a method by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kdcore.config import TrainConfig
from kdcore.data.encode import Encoded, collate, epoch_order
from kdcore.engine import checkpoint
from kdcore.engine.checkpoint import Place
from kdcore.engine.control import Control, Stop, before_saving
from kdcore.engine.device import Compute
from kdcore.engine.dropout import seeded_dropout
from kdcore.engine.ensemble import Ensemble
from kdcore.engine.evaluate import scores
from kdcore.engine.predict import predict
from kdcore.engine.seeds import seed_of
from kdcore.engine.sparse_embedding import UsedWords, used_words
from kdcore.engine.step import stage_loss, train_step
from kdcore.errors import UserError
from kdcore.events import Checkpointed, Evaluated, Event, StageStarted
from kdcore.methods.base import Method
from kdcore.models.students import load_classifier, save_student
from kdcore.probes.snapshots import Snapshots
from kdcore.records import Batch, Stage
from kdcore.tasks import Task

NO_DECAY = ("bias", "LayerNorm.weight", "layer_norm.weight")


@dataclass
class Job:
    """All that a training needs, made ready. `splits` are scored; "select" is among them and decides."""

    train: TrainConfig
    task: Task
    folder: Path
    rows: Encoded
    splits: Mapping[str, Encoded]
    tokenizer: Any
    method: Method
    students: dict[str, nn.Module]
    fresh: Callable[[], dict[str, nn.Module]]
    ensemble: Ensemble
    where: Compute
    facts: Mapping[str, Any]
    gradient_share_every: int = 0
    snapshots: Snapshots | None = None
    place: Place = field(default_factory=Place)
    before_saving: Callable[[], None] = lambda: None

    @property
    def main(self) -> nn.Module:
        """The student that is scored, kept and exported."""
        return next(iter(self.students.values()))

    def scored(self, stage: Stage) -> nn.Module:
        """The student that this stage's evaluations score: the first that it trains."""
        return next((model for role, model in self.students.items() if stage.trains(role)), self.main)

    @property
    def epoch_steps(self) -> int:
        return epoch_steps(self.train, len(self.rows))

    @property
    def budget(self) -> int:
        """The run's student steps, all stages but pilots."""
        return student_steps(self.train, len(self.rows))

    def words(self) -> dict[str, UsedWords]:
        """The tables of words that are trained in part, by role."""
        tables = {role: model.get_input_embeddings() for role, model in self.students.items()}  # type: ignore[operator]
        return {role: table for role, table in tables.items() if isinstance(table, UsedWords)}

    def unused_words(self) -> dict[str, nn.Module]:
        """What the tables that are trained in part keep of the other words while a stage runs."""
        return {f"unused-words-{role}": words.unused for role, words in self.words().items()}

    def modules(self) -> dict[str, nn.Module]:
        return {**self.students, "method": self.method}


def epoch_steps(train: TrainConfig, rows: int) -> int:
    """Steps in which so many rows are seen once."""
    return math.ceil(rows / train.batch_size)


def student_steps(train: TrainConfig, rows: int) -> int:
    """The run's student steps, all stages but pilots, for so many training rows."""
    return train.max_steps or max(1, round(train.epochs * epoch_steps(train, rows)))


def stage_steps(stages: list[Stage], budget: int) -> list[int]:
    """Steps of each stage: its share of the budget; rounding never changes the sum of the stages that are no pilots.

    Raises:
        UserError: the budget leaves a stage without a step.
    """
    bounds = np.cumsum([0.0] + [0.0 if stage.pilot else stage.share for stage in stages])
    real = np.diff(np.round(bounds * budget)).astype(int)
    steps = [round(stage.share * budget) if stage.pilot else int(n) for stage, n in zip(stages, real, strict=True)]
    idle = [stage.name for stage, n in zip(stages, steps, strict=True) if n < 1]
    if idle:
        raise UserError(
            "train.epochs", f"{budget} steps leave none for the stage {', '.join(idle)}", "train for more steps"
        )
    return steps


def run_stages(job: Job, control: Control) -> Generator[Event, None, Stop | None]:
    """Trains through every stage, from the newest checkpoint if there is one. Returns how it was stopped, or None."""
    job.before_saving = before_saving(control)
    stages = job.method.stages()
    steps = stage_steps(stages, job.budget)
    found = checkpoint.newest(job.folder / "checkpoint")
    if found is not None:
        job.place = checkpoint.read_place(found)
        checkpoint.restore(found, job.modules(), {})
        job.method.restore_history(job.place.history)
    if job.snapshots:
        job.snapshots.begin(job.place.step if found else None)
    for module in job.modules().values():
        module.to(job.where.device)
    generator = torch.Generator()
    with ExitStack() as inside:
        for student in job.students.values():
            inside.enter_context(seeded_dropout(student, generator))
        for index in range(job.place.stage, len(stages)):
            stage = stages[index]
            first = job.place.step - job.place.stage_step
            yield StageStarted(stage.name, index, first, steps[index], stage.pilot)
            names = stage.teachers if stage.teachers is not None else tuple(job.ensemble.teachers)
            for progress in job.ensemble.ready(stage.needs.teacher, names):
                yield progress
                if stop := control.stop_requested():  # filling can take hours, and nothing of it is lost
                    return stop
            job.method.before_stage(stage.name, Answers(job))
            with _trained_words(job, stage):
                optimizer = _begin(job, stage, index, found)
                found = None
                stopped = yield from _run_stage(job, stage, steps, optimizer, generator, control)
            if stopped:
                return stopped
            _end(job, stage)
            yield Checkpointed(stage.name, job.place.step)
    return None


@dataclass(frozen=True)
class Answers:
    """The teachers' outputs on the training rows, for `Method.before_stage` (`records.TeacherAnswers`)."""

    job: Job

    def labels(self) -> torch.Tensor:
        return torch.from_numpy(self.job.rows.labels)

    def logits(self, teacher: str) -> torch.Tensor:
        asking = self.job.ensemble.logits(teacher, self.job.rows, f"teacher {teacher} on the training rows")
        while True:  # the outputs are there from `ready`, so there is no progress worth passing on
            try:
                next(asking)
            except StopIteration as done:
                return torch.from_numpy(done.value)

    def word_embeddings(self, teacher: str) -> torch.Tensor:
        return self.job.ensemble.word_embeddings(teacher)

    def vocabulary(self) -> list[str]:
        known: dict[str, int] = self.job.tokenizer.get_vocab()
        return sorted(known, key=known.__getitem__)


def _run_stage(
    job: Job,
    stage: Stage,
    planned: list[int],
    optimizer: torch.optim.Optimizer,
    dropout: torch.Generator,
    control: Control,
) -> Generator[Event, None, Stop | None]:
    train, place = job.train, job.place
    steps, whole = planned[place.stage], sum(planned)
    yield from _snapshot(job)
    logged, logged_at = place.stage_step, time.perf_counter()
    began = logged_at - place.seconds
    batches = _batches(job, place.stage_step if stage.pilot else place.spent + place.stage_step)
    while place.stage_step < steps:
        batch, epoch, epoch_ends = next(batches)
        lr = _set_rate(optimizer, stage, place.stage_step, steps, train)
        step = place.step + 1
        share_due = bool(job.gradient_share_every) and step % job.gradient_share_every == 0
        outcome = train_step(job, stage, optimizer, batch, (place.stage_step, steps, epoch), dropout, share_due)
        place.step, place.stage_step = step, place.stage_step + 1
        last = place.stage_step == steps
        if step % train.log_every == 0 or last or place.stage_step == 1:
            now = time.perf_counter()
            speed = (place.stage_step - logged) * train.batch_size / max(now - logged_at, 1e-9)
            yield outcome.event(stage.name, step, whole, epoch, lr, speed, now - began, job.method.notes())
            logged, logged_at = place.stage_step, time.perf_counter()
        paused = time.perf_counter()
        yield from _snapshot(job)
        due = epoch_ends if train.evaluate_every == "epoch" else place.stage_step % train.evaluate_every == 0
        if due or last:
            yield from _evaluate(job, stage)
            if train.early_stop and place.stale >= train.early_stop and not stage.pilot:
                break
        logged_at += time.perf_counter() - paused
        stop = control.stop_requested()
        place.seconds = time.perf_counter() - began
        if stop or (step % train.checkpoint_every == 0 and not last):
            _save(job, optimizer)
            yield Checkpointed(stage.name, step)
        if stop:
            return stop
    yield from _snapshot(job, ended=True)
    return None


def _snapshot(job: Job, ended: bool = False) -> Iterator[Event]:
    """Keeps this moment of the student, where one is due."""
    place = job.place
    if job.snapshots and job.snapshots.due(place.stage, place.stage_step, place.step, ended):
        yield job.snapshots.take(job.main, place.step)


def _batches(job: Job, start: int) -> Iterator[tuple[Batch, float, bool]]:
    """Batches from the `start`-th on, with the epoch reached after each and whether it ends one.

    The order follows from the seed and the epoch alone: it is the same for every method.
    """
    per_epoch = job.epoch_steps
    seed = seed_of(job.train.seed, "order")

    def rows() -> Iterator[Batch]:
        number = start
        while True:
            epoch, within = divmod(number, per_epoch)
            order = epoch_order(job.rows.lengths, job.train.batch_size, seed, epoch, job.train.bucket)
            for chosen in order[within:]:
                yield collate(job.rows, chosen, job.where.pad_to)
                number += 1

    for number, batch in enumerate(job.method.stream(rows()), start=start + 1):
        yield batch, number / per_epoch, number % per_epoch == 0


@contextmanager
def _trained_words(job: Job, stage: Stage) -> Iterator[None]:
    """Within the block the students of this stage train only the vectors of words that the training rows hold.

    A method whose stream brings other words (altered rows) trains the whole table.
    """
    unread: Iterator[Batch] = iter(())
    if job.method.stream(unread) is not unread:
        yield
        return
    used = torch.from_numpy(np.union1d(job.rows.input_ids, job.rows.pad_id).astype(np.int64))
    with ExitStack() as inside:
        for role, student in job.students.items():
            if stage.trains(role):
                inside.enter_context(used_words(student, used))
        yield


def _begin(job: Job, stage: Stage, index: int, resumed: Path | None) -> torch.optim.Optimizer:
    """Weights and optimiser at the start of a stage, or where a checkpoint inside it left them."""
    place = job.place
    if place.stage_step == 0:
        place.best, place.best_step, place.stale = None, 0, 0
        if stage.start == "fresh" and index:
            for role, model in job.fresh().items():
                job.students[role].load_state_dict(model.state_dict())
        elif stage.start == "best" and index:
            job.main.load_state_dict(load_classifier(job.folder / "student-best").state_dict())
    optimizer = _optimizer(job, stage)
    if resumed is not None and place.stage_step:
        checkpoint.restore(resumed, job.unused_words(), {"stage": optimizer})
    return optimizer


def _end(job: Job, stage: Stage) -> None:
    """Tells the method how the stage went and marks the next one as begun."""
    place = job.place
    best = math.nan if place.best is None else place.best
    scored = {"loss": -best} if stage.judge == "loss" else {job.task.main_metric: best}
    job.method.after_stage(stage.name, scored)
    if not stage.pilot:
        place.spent += place.stage_step
    place.stage, place.stage_step = place.stage + 1, 0
    _save(job, None)


def _optimizer(job: Job, stage: Stage) -> torch.optim.Optimizer:
    """AdamW over the roles this stage trains; everything else is frozen."""
    groups: list[dict[str, Any]] = []
    for role, module in job.modules().items():
        rate = stage.lr.get(role, 0.0)
        module.requires_grad_(stage.trains(role))
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        for decay in (True, False):
            chosen = [p for name, p in named if name.endswith(NO_DECAY) != decay]
            if chosen:
                weight_decay = job.train.weight_decay if decay else 0.0
                groups.append({"params": chosen, "lr": 0.0, "rate": rate, "weight_decay": weight_decay})
    optimizer = torch.optim.AdamW(groups, lr=job.train.lr, fused=True)
    for words in job.words().values():
        optimizer.register_step_post_hook(words.decay)
    return optimizer


def _set_rate(optimizer: torch.optim.Optimizer, stage: Stage, done: int, steps: int, train: TrainConfig) -> float:
    """Linear warm-up, then linear decay to zero or constant; returns the rate of a role with factor 1."""
    warm = max(1, round(train.warmup * steps))
    factor = min(1.0, (done + 1) / warm)
    if stage.schedule == "linear" and done >= warm:
        factor = (steps - done) / max(1, steps - warm)
    for group in optimizer.param_groups:
        group["lr"] = train.lr * factor * group["rate"]
    return train.lr * factor


def _evaluate(job: Job, stage: Stage) -> Generator[Event, None, None]:
    """Judges the student on `select`, which decides, and scores it on the dev splits, which are only reported."""
    if stage.judge == "loss":
        rows = job.splits["select"]
        loss = yield from stage_loss(job, stage, rows)
        yield Evaluated(stage.name, job.place.step, "select", "last", {"loss": loss}, len(rows))
        _decide(job, stage, -loss)
        return
    for split, rows in job.splits.items():
        if stage.pilot and split != "select":
            continue
        logits = yield from predict(job.scored(stage), rows, job.where, f"scoring {split}")
        if not np.isfinite(logits).all():
            raise UserError("train.lr", "the student's outputs are not numbers", "lower the learning rate")
        got = scores(job.task, logits, rows.labels)
        yield Evaluated(stage.name, job.place.step, split, "last", got, len(rows))
        if split == "select":
            _decide(job, stage, got[job.task.main_metric])


def _decide(job: Job, stage: Stage, score: float) -> None:
    """Keeps the student if it is the stage's best so far: the higher, the better."""
    place = job.place
    place.stale += 1
    if place.best is None or score > place.best:
        place.best, place.best_step, place.stale = score, place.step, 0
        if not stage.pilot:
            save_student(job.main, job.tokenizer, job.folder / "student-best", job.before_saving)


def _save(job: Job, optimizer: torch.optim.Optimizer | None) -> None:
    job.place.history = dict(job.method.history())
    job.place.facts = dict(job.facts)
    optimizers = {} if optimizer is None else {"stage": optimizer}
    modules = {**job.modules(), **job.unused_words()}
    checkpoint.save(job.folder / "checkpoint", job.place, modules, optimizers, job.before_saving)
