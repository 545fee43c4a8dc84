"""The batches of a stage, in an order that follows from the seed and the passes over the rows alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from kdcore.data.encode import Encoded, collate, epoch_order
from kdcore.data.task_order import task_order, task_steps
from kdcore.engine.job import Job
from kdcore.engine.schedule import epoch_steps
from kdcore.engine.seeds import seed_of
from kdcore.records import Batch, Stage

OfNumber = Callable[[int], Batch]
"""Number of a batch, counted from 0 -> the batch."""


def batches(job: Job, stage: Stage, start: int) -> Iterator[tuple[Batch, float, bool]]:
    """Batches from the `start`-th on, with the epoch reached after each and whether it ends one.

    The order is the same for every method. Where rows have no label, a stage that learns from labels alone passes more
    often over the others within an epoch; so does one that learns other tasks too (`Stage.task_power`) over small ones.
    """
    seen = job.labelled if stage.labelled else job.rows
    draw = _of_task(job, "", seen) if stage.task_power is None else _of_all_tasks(job, seen, stage.task_power)
    per_epoch = job.epoch_steps
    drawn = (draw(number) for number in count(start))
    for number, batch in enumerate(job.method.stream(drawn), start=start + 1):
        yield batch, number / per_epoch, number % per_epoch == 0


def _of_task(job: Job, task: str, rows: Encoded) -> OfNumber:
    """Pass after pass over the rows of one task, each in an order of its own."""
    train, per_pass = job.train, epoch_steps(job.train, len(rows))
    seed = seed_of(train.seed, "order", *([task] if task else []))
    orders: dict[int, list[NDArray[np.int64]]] = {}

    def draw(number: int) -> Batch:
        passes, within = divmod(number, per_pass)
        if passes not in orders:
            orders.clear()
            orders[passes] = epoch_order(rows.lengths, train.batch_size, seed, passes, train.bucket)
        return collate(rows, orders[passes][within], job.compute.pad_to, task)

    return draw


def _of_all_tasks(job: Job, rows: Encoded, power: float) -> OfNumber:
    """Each batch of one task, the run's own (of these rows) or another."""
    every = {"": rows} | {key: other.rows for key, other in job.others.items()}
    of_task = {task: _of_task(job, task, encoded) for task, encoded in every.items()}
    steps = task_steps({task: epoch_steps(job.train, len(encoded)) for task, encoded in every.items()}, power)
    per_epoch, seed = sum(steps.values()), seed_of(job.train.seed, "tasks")
    orders: dict[int, list[tuple[str, int]]] = {}

    def draw(number: int) -> Batch:
        epoch, within = divmod(number, per_epoch)
        if epoch not in orders:
            orders.clear()
            orders[epoch] = task_order(steps, seed, epoch)
        task, nth = orders[epoch][within]
        return of_task[task](nth)

    return draw
