"""What the probes of a run found, in the form the pages draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from kdcore.store import Store

SETTING = ("hardware", "precision", "threads", "batch", "tokens")
"""What two latencies must share to stand on one axis."""


def latencies(store: Store, runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each model of each run that was timed: run, group, label, method, name, and the probe's numbers."""
    rows = []
    for _, run in runs.iterrows():
        found = store.probes(run["id"]).get("latency", {})
        about = {key: run[key] for key in ("id", "name", "group", "label", "method", "seed", "score")}
        rows += [{**about, "run": about["name"], **record, "model": record.get("name")} for record in _records(found)]
    return pd.DataFrame(rows)


def distances(probe: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Teacher -> its matrices (cka, cosine, mse: [teacher layers + 1, student layers + 1]; tokens), the first first."""
    found = {str(probe.get("teacher", "teacher")): probe} if "cka" in probe else {}
    others = probe.get("others")
    return found | {str(name): one for name, one in (others.items() if isinstance(others, Mapping) else ())}


def _records(data: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(data, Mapping):
        if "median_ms" in data:
            yield data
            return
        data = list(data.values())
    if isinstance(data, list):
        for value in data:
            yield from _records(value)
