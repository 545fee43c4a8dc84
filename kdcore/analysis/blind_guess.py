"""What always saying the same would score, beside what models score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from kdcore.engine.evaluate import is_blind_guess
from kdcore.store import Store


def blind_guess_of(facts: Mapping[str, Any], metric: str, split: str = "") -> float | None:
    """The metric of a blind guess as a run measured it; None for runs before this was measured.

    split: of the dev splits; empty: the first.

    >>> blind_guess_of({"blind_guess": {"select": {"accuracy": 0.6}, "validation": {"accuracy": 0.5}}}, "accuracy")
    0.5
    """
    measured = facts.get("blind_guess")
    if not isinstance(measured, Mapping):
        return None
    named = split or next((name for name in measured if name != "select"), "")
    score = measured.get(named, {}).get(metric)
    return float(score) if isinstance(score, (int, float)) else None


def groups_at_guess(finished: pd.DataFrame, metric: str, guess: float, rows: int) -> list[str]:
    """Labels of the groups whose mean score is no better than a blind guess, beyond chance (`is_blind_guess`).

    Args:
        finished: columns label and score (fraction), one row per seed. rows: dev rows that each seed was scored on.
    """
    means = finished.groupby("label", sort=False)["score"].mean()
    return [str(label) for label, mean in means.items() if is_blind_guess(metric, float(mean), guess, rows)]


def guess_of_all(store: Store, runs: pd.DataFrame) -> float | None:
    """The blind guess that all these runs stand beside; None over several tasks or metrics, or where none measured it.

    Args:
        runs: columns id, task and metric.
    """
    if runs["task"].nunique() != 1 or runs["metric"].nunique() != 1:
        return None
    metric = str(runs["metric"].iloc[0])
    guesses = (blind_guess_of(row.facts, metric) for row in store.rows(list(runs["id"])).values())
    return next((guess for guess in guesses if guess is not None), None)
