"""The training loop, read from top to bottom. It knows stages and terms, never a method by name."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kdcore.engine import checkpoint
from kdcore.engine.batches import batches
from kdcore.engine.control import Control, Stop, before_saving
from kdcore.engine.dropout import seeded_dropout
from kdcore.engine.evaluate import scores
from kdcore.engine.job import Job, TrainingAnswers
from kdcore.engine.optimizer import make_optimizer, set_rate, trained_parameters
from kdcore.engine.own_teachers import adopt, adopt_again
from kdcore.engine.predict import predict
from kdcore.engine.results import keep_probe
from kdcore.engine.schedule import stage_steps
from kdcore.engine.sparse_embedding import sparse_embedding
from kdcore.engine.step import StepClock, stage_loss, train_step
from kdcore.errors import UserError
from kdcore.events import Checkpointed, Evaluated, Event, Progress, StageStarted
from kdcore.models.label_names import name_labels
from kdcore.models.students import load_classifier, save_student
from kdcore.records import Stage

BEST = "stage-best"
"""Folder in a run's while a stage trains: the learners beside the student as they were when it was best."""


class Stopwatch:
    """Seconds of a training, and of each lap between two logged steps, pauses left out of laps.

    Args:
        seconds: taken before a resume.
    """

    def __init__(self, seconds: float) -> None:
        self._lap = time.perf_counter()
        self._start = self._lap - seconds

    @property
    def seconds(self) -> float:
        """Since the training began, evaluations included."""
        return time.perf_counter() - self._start

    def lap(self) -> float:
        """Seconds of the lap that ends here; the next one begins."""
        now = time.perf_counter()
        seconds, self._lap = now - self._lap, now
        return seconds

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What happens in the block does not count in the lap."""
        start = time.perf_counter()
        yield
        self._lap += time.perf_counter() - start


def run_stages(job: Job, control: Control) -> Generator[Event, None, Stop | None]:
    """Trains through every stage, from the newest checkpoint if there is one. Returns how it was stopped, or None."""
    job.before_saving = before_saving(control)
    for student in job.students.values():
        name_labels(student.config, job.task.labels)
    stages = job.method.stages()
    steps = stage_steps(stages, job.budget)
    resumed = checkpoint.newest(job.folder / "checkpoint")
    if resumed is not None:
        checkpoint.check(resumed)
        job.state = checkpoint.read_state(resumed)
        checkpoint.restore(resumed, job.modules(), {})
        job.method.restore_history(job.state.history)
    if job.snapshots:
        job.snapshots.begin(job.state.step if resumed else None)
    for module in job.modules().values():
        module.to(job.compute.device)
    job.method.optimizers = job.method.own_optimizers()
    if resumed is not None:
        checkpoint.restore(resumed, {}, job.own_optimizers())
        adopt_again(job, stages[: job.state.stage])
    generator = torch.Generator()
    with ExitStack() as dropouts:
        for student in job.students.values():
            dropouts.enter_context(seeded_dropout(student, generator))
        for index in range(job.state.stage, len(stages)):
            stage = stages[index]
            first = job.state.step - job.state.stage_step
            yield StageStarted(stage.name, index, first, steps[index], stage.pilot)
            for progress in _prepare(job, stage):
                yield progress
                if stop := control.stop_requested():  # filling can take hours, and nothing of it is lost
                    return stop
            with _sparse_embeddings(job, stage):
                optimizer = _begin(job, stage, index, resumed)
                resumed = None
                stopped = yield from _run_stage(job, stage, steps, optimizer, generator, control)
            if stopped:
                return stopped
            _end(job, stage)
            yield Checkpointed(stage.name, job.state.step)
    return None


def _prepare(job: Job, stage: Stage) -> Iterator[Progress]:
    """Gets ready who teaches in a stage, task by task, and then the method."""
    for ensemble in job.ensembles(stage):
        yield from ensemble.ready(stage.needs, stage.asks(ensemble.teachers))
    yield from job.method.before_stage(stage.name, TrainingAnswers(job)) or ()


def _run_stage(
    job: Job, stage: Stage, planned: list[int], optimizer: torch.optim.Optimizer, dropout: torch.Generator,
    control: Control,
) -> Generator[Event, None, Stop | None]:  # fmt: skip
    train, state = job.train, job.state
    steps, all_steps = planned[state.stage], sum(planned)
    yield from _snapshot(job)
    watch, logged = Stopwatch(state.seconds), state.stage_step
    upcoming = batches(job, stage, state.stage_step if stage.pilot else state.spent + state.stage_step)
    while state.stage_step < steps:
        # One optimiser step on the next batch, at the rate that the schedule has reached.
        batch, epoch, epoch_ends = next(upcoming)
        clock = StepClock(done=state.stage_step, steps=steps, epoch=epoch)
        lr = set_rate(optimizer, stage, clock.done, clock.steps, train)
        step = state.step + 1
        share_due = bool(job.gradient_share_every) and step % job.gradient_share_every == 0
        outcome = train_step(job, stage, optimizer, batch, clock, dropout, share_due)
        state.step, state.stage_step = step, state.stage_step + 1
        last = state.stage_step == steps

        # Some steps are logged: their values are read from the device, which has to finish them for that.
        if step % train.log_every == 0 or last or state.stage_step == 1:
            speed = (state.stage_step - logged) * train.batch_size / max(watch.lap(), 1e-9)
            logged = state.stage_step
            with watch.pause():
                yield outcome.event(
                    stage=stage.name, step=step, steps=all_steps, epoch=epoch, lr=lr, speed=speed,
                    seconds=watch.seconds, notes=job.method.notes(),
                )  # fmt: skip

        # What is due looks at the student and does not change it; `select` decides the best and an early end.
        with watch.pause():
            yield from _snapshot(job)
            due = epoch_ends if train.evaluate_every == "epoch" else state.stage_step % train.evaluate_every == 0
            if due or last:
                yield from _evaluate(job, stage)
                yield from _matrices(job, stage)
        state.seconds = watch.seconds
        if (due or last) and train.early_stop and state.stale >= train.early_stop and not stage.pilot:
            break

        # A stop is obeyed between steps, and leaves a checkpoint to go on from.
        stop = control.stop_requested()
        if stop or (step % train.checkpoint_every == 0 and not last):
            _save(job, optimizer)
            yield Checkpointed(stage.name, step)
        if stop:
            return stop
    yield from _snapshot(job, ended=True)
    return None


def _snapshot(job: Job, ended: bool = False) -> Iterator[Event]:
    """Keeps this moment of the student, where one is due."""
    state = job.state
    if job.snapshots and job.snapshots.due(state.stage, state.stage_step, state.step, ended):
        yield job.snapshots.take(job.main, state.step)


@contextmanager
def _sparse_embeddings(job: Job, stage: Stage) -> Iterator[None]:
    """Within the block the students of this stage train only the vectors of words that the training rows hold.

    A method whose stream alters words trains the whole table, and so do students that share one.
    """
    if job.method.alters_words:
        yield
        return
    words = [rows.input_ids for rows in (job.rows, *(other.rows for other in job.others.values()))]
    used = torch.from_numpy(np.unique(np.concatenate([*words, [job.rows.pad_id]])).astype(np.int64))
    with ExitStack() as embeddings:
        for role, weight in job.word_tables().items():
            if any(parameter is weight for parameter in trained_parameters(job, stage, role).values()):
                embeddings.enter_context(sparse_embedding(job.students[role], used))
        yield


def _begin(job: Job, stage: Stage, index: int, resumed: Path | None) -> torch.optim.Optimizer:
    """Weights and optimiser at the start of a stage, or where a checkpoint inside it left them."""
    state = job.state
    if state.stage_step == 0:
        state.best, state.best_step, state.stale = None, 0, 0
        if stage.start == "fresh" and index:
            for role, model in job.fresh().items():
                if stage.trains(role):
                    job.students[role].load_state_dict(model.state_dict())
    optimizer = make_optimizer(job, stage)
    if resumed is not None and state.stage_step:
        checkpoint.restore(resumed, job.unused_words(), {"stage": optimizer})
    return optimizer


def _end(job: Job, stage: Stage) -> None:
    """Leaves the learners with the weights to go on with, tells the method, and marks the next stage as begun."""
    state = job.state
    if stage.ends == "best":
        _go_back(job, stage)
    adopt(job, stage)
    best = math.nan if state.best is None else state.best
    metrics = {"loss": -best} if stage.judge == "loss" else {job.task.main_metric: best}
    job.method.after_stage(stage.name, metrics)
    if not stage.pilot:
        state.spent += state.stage_step
    state.stage, state.stage_step = state.stage + 1, 0
    _save(job, None)
    shutil.rmtree(job.folder / BEST, ignore_errors=True)


def _go_back(job: Job, stage: Stage) -> None:
    """Gives the stage's learners the weights that they had when it was best."""
    if not stage.pilot:
        job.main.load_state_dict(load_classifier(job.folder / "student-best").state_dict())
    if (others := _others(job, stage)) and (kept := checkpoint.newest(job.folder / BEST)):
        checkpoint.restore(kept, others, {})


def _others(job: Job, stage: Stage) -> dict[str, nn.Module]:
    """The learners whose best weights `student-best` does not hold."""
    learners = {role: model for role, model in job.students.items() if stage.trains(role)}
    return {role: model for role, model in learners.items() if stage.pilot or model is not job.main}


def _evaluate(job: Job, stage: Stage) -> Generator[Event, None, None]:
    """Judges the student on `select`, which decides, and scores it on the dev splits, which are only reported."""
    if stage.judge == "loss":
        rows = job.splits["select"]
        loss = yield from stage_loss(job, stage, rows)
        yield Evaluated(stage.name, job.state.step, "select", "last", {"loss": loss}, len(rows))
        _decide(job, stage, -loss)
        return
    for split, rows in job.splits.items():
        if stage.pilot and split != "select":
            continue
        logits = yield from predict(job.learner(stage), rows, job.compute, f"scoring {split}")
        if not np.isfinite(logits).all():
            raise UserError("train.lr", "the student's outputs are not numbers", "lower the learning rate")
        metrics = scores(job.task, logits, rows.labels)
        yield Evaluated(stage.name, job.state.step, split, "last", metrics, len(rows))
        if split == "select":
            _decide(job, stage, metrics[job.task.main_metric])


def _matrices(job: Job, stage: Stage) -> Iterator[Event]:
    """Keeps what the method reads out as matrices at this moment, where it reads any."""
    if not stage.pilot and (read := job.method.matrices()):
        data = {"step": job.state.step, "matrices": {name: matrix.tolist() for name, matrix in read.items()}}
        yield keep_probe(job.folder, "matrices", job.state.step, data)


def _decide(job: Job, stage: Stage, score: float) -> None:
    """Keeps the student if it is the stage's best so far, and who else goes on from there: the higher, the better."""
    state = job.state
    state.stale += 1
    if state.best is None or score > state.best:
        state.best, state.best_step, state.stale = score, state.step, 0
        if not stage.pilot:
            save_student(job.main, job.tokenizer, job.folder / "student-best", job.before_saving)
        if stage.ends == "best" and (others := _others(job, stage)):
            checkpoint.save(job.folder / BEST, state, others, {}, job.before_saving)


def _save(job: Job, optimizer: torch.optim.Optimizer | None) -> None:
    job.state.history = dict(job.method.history())
    job.state.facts = dict(job.facts)
    optimizers = job.own_optimizers() | ({} if optimizer is None else {"stage": optimizer})
    modules = {**job.modules(), **job.unused_words()}
    checkpoint.save(job.folder / "checkpoint", job.state, modules, optimizers, job.before_saving)
