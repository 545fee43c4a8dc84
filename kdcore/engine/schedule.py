"""How many steps a training takes: in an epoch, in the whole run, in each of its stages."""

from __future__ import annotations

import math

import numpy as np

from kdcore.config import TrainConfig
from kdcore.errors import UserError
from kdcore.records import Stage


def epoch_steps(train: TrainConfig, *rows: int) -> int:
    """Steps in which so many rows are seen once, those of each task in batches of their own."""
    return sum(math.ceil(of_task / train.batch_size) for of_task in rows)


def student_steps(train: TrainConfig, *rows: int) -> int:
    """The run's student steps, all stages but pilots, for so many training rows of each task."""
    return train.max_steps or max(1, round(train.epochs * epoch_steps(train, *rows)))


def stage_steps(stages: list[Stage], budget: int) -> list[int]:
    """Steps of each stage: its share of the budget; rounding never changes the sum of the stages that are not pilots.

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
