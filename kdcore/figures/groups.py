"""Which runs are the same but for their seed, what they score together, and in which settings runs differ."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

ASIDE = ("name", "train.seed", "train.threads", "probes")
"""Settings that do not make a run another run: its name, its seed, and what is measured beside it."""


def flat(config: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """A nested config as `train.lr` -> value; lists of settings get an index."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{at}{key}"
        if isinstance(value, Mapping):
            out.update(flat(value, f"{name}."))
        elif isinstance(value, list | tuple) and value and all(isinstance(one, Mapping) for one in value):
            for index, one in enumerate(value):
                out.update(flat(one, f"{name}[{index}]."))
        else:
            out[name] = list(value) if isinstance(value, tuple) else value
    return out


def group_of(config: Mapping[str, Any]) -> str:
    """The same short word for runs that differ in nothing but the seed."""
    kept = essential(config)
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:10]


def essential(config: Mapping[str, Any]) -> dict[str, Any]:
    """The flat settings that make a run what it is: all but name, seed, threads and probes."""
    return {key: value for key, value in flat(config).items() if not _aside(key)}


def differences(configs: Mapping[str, Mapping[str, Any]], every: bool = False) -> pd.DataFrame:
    """Settings by run: rows are settings, columns are runs. every: also those that are equal everywhere."""
    flats = {run: flat(config) for run, config in configs.items()}
    keys = sorted({key for one in flats.values() for key in one})
    rows = {key: [_words(one.get(key, "")) for one in flats.values()] for key in keys}
    kept = {key: row for key, row in rows.items() if every or len(set(row)) > 1}
    return pd.DataFrame.from_dict(kept, orient="index", columns=list(flats)).rename_axis("setting")


def mean_and_std(values: Sequence[float]) -> tuple[float, float, int]:
    """Mean, sample standard deviation (NaN for one value) and count; missing values are not counted."""
    known = [float(value) for value in values if value is not None and value == value]
    if not known:
        return float("nan"), float("nan"), 0
    spread = statistics.stdev(known) if len(known) > 1 else float("nan")
    return statistics.fmean(known), spread, len(known)


def in_words(mean: float, std: float, count: int, digits: int = 1) -> str:
    """`87.3 ± 0.4 (N=3)`; one value has no spread to show."""
    if not count:
        return "–"
    if count == 1:
        return f"{mean:.{digits}f} (N=1)"
    return f"{mean:.{digits}f} ± {std:.{digits}f} (N={count})"


def _aside(key: str) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in ASIDE)


def _words(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, list | dict) else str(value)


def labels(configs: Mapping[str, Mapping[str, Any]], words: Mapping[str, str]) -> dict[str, str]:
    """A label for each group that no other group has.

    Args:
        configs: group -> settings of one of its runs. words: group -> its short label (method and student).

    Where two short labels are equal, the settings in which those groups differ are added.
    """
    out = dict(words)
    for label in {label for label in words.values() if list(words.values()).count(label) > 1}:
        twins = [group for group, one in words.items() if one == label]
        flats = {group: essential(configs[group]) for group in twins}
        keys = sorted({key for one in flats.values() for key in one})
        differing = [key for key in keys if len({_words(one.get(key, "")) for one in flats.values()}) > 1]
        for group in twins:
            said = [f"{key.rsplit('.', 1)[-1]} {_words(flats[group].get(key, ''))}" for key in differing[:3]]
            out[group] = f"{label}, {', '.join(said)}" if said else f"{label}, {group[:4]}"
    return out
