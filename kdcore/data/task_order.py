"""Which task's rows come next, where a run learns several."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def task_steps(batches: Mapping[str, int], power: float) -> dict[str, int]:
    """Task -> its steps in an epoch, which has as many as all tasks have batches.

    A task's share is proportional to its batches to this power, rounded by the largest remainder: 1 sees every row
    once, 0 has all tasks alike; between, small tasks come again before large ones are through. Each has a step.

    >>> task_steps({"large": 90, "small": 10}, 1.0), task_steps({"large": 90, "small": 10}, 0.5)
    ({'large': 90, 'small': 10}, {'large': 75, 'small': 25})

    Args:
        batches: of each task, 1 at least. power: 0 to 1.
    """
    total, weights = sum(batches.values()), {task: count**power for task, count in batches.items()}
    exact = {task: total * weight / sum(weights.values()) for task, weight in weights.items()}
    steps = {task: int(share) for task, share in exact.items()}
    by_remainder = sorted(steps, key=lambda task: steps[task] - exact[task])
    for task in by_remainder[: total - sum(steps.values())]:
        steps[task] += 1
    return steps


def task_order(steps: Mapping[str, int], seed: int, epoch: int) -> list[tuple[str, int]]:
    """Task and number of its batch for each step of an epoch, a function of (seed, epoch) alone.

    Batches are numbered through all epochs.

    Args:
        steps: of each task in an epoch.
    """
    tasks = [task for task, count in steps.items() for _ in range(count)]
    order = [tasks[place] for place in np.random.default_rng((seed, epoch)).permutation(len(tasks))]
    numbers = {task: epoch * count for task, count in steps.items()}
    drawn = []
    for task in order:
        drawn.append((task, numbers[task]))
        numbers[task] += 1
    return drawn
