"""When a waiting run starts and how long it takes, as far as earlier runs and forecasts tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdcore.store import ACTIVE, UNFINISHED, Store

ALIKE = ("group", "protocol")
"""Whose finished runs tell how long a run without a forecast takes; the first that has any."""


@dataclass(frozen=True)
class Turn:
    """Seconds until a run starts, and those that it then takes. NaN: not known."""

    starts: float
    takes: float

    @property
    def ends(self) -> float:
        return self.starts + self.takes


def turns(unfinished: pd.DataFrame, done: pd.DataFrame, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Turn]:
    """Each run that trains or waits, in the order of the queue, one after the other as a single worker takes them.

    Args:
        unfinished, done: rows of `Store.runs`. facts: of the unfinished runs.
    """
    running = unfinished[unfinished["state"].isin(ACTIVE)]
    waiting = unfinished[unfinished["state"] == "queued"].sort_values("position", kind="stable")
    result: dict[str, Turn] = {}
    free = 0.0
    for _, row in running.iterrows():
        left = float(row["eta_s"]) if pd.notna(row["eta_s"]) else _takes(row, done, facts.get(row["id"], {}))
        result[row["id"]] = Turn(0.0, left)
        free = left if math.isnan(free) or math.isnan(left) else max(free, left)
    for _, row in waiting.iterrows():
        result[row["id"]] = Turn(free, _takes(row, done, facts.get(row["id"], {})))
        free = result[row["id"]].ends
    return result


def queue_turns(store: Store) -> dict[str, Turn]:
    """`turns` of all runs that train or wait."""
    unfinished = store.runs(states=UNFINISHED)
    if unfinished.empty:
        return {}
    facts = {run: row.facts for run, row in store.rows(list(unfinished["id"])).items()}
    return turns(unfinished, store.runs(states=["done"], include_archived=True), facts)


def _takes(row: pd.Series, done: pd.DataFrame, facts: Mapping[str, Any]) -> float:
    forecast = facts.get("predicted")
    seconds = forecast.get("seconds") if isinstance(forecast, Mapping) else None
    if isinstance(seconds, int | float) and seconds > 0:
        return float(seconds)
    for key in ALIKE:
        like = done.loc[(done[key] == row[key]) & (done[key] != ""), "seconds"].dropna()
        if len(like):
            return float(like.median())
    return math.nan
