"""Which runs are the same but for their seed, what they score together, and in which settings runs differ."""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

ASIDE = ("name", "train.seed", "train.threads", "probes")
"""Settings that do not make a run another run: its name, its seed, and what is measured beside it."""

_PARTS_ASIDE = tuple(f"{name}." for name in ASIDE)
_LISTED = re.compile(r"(\w+)\[(\d+)\]\.(.+)")
_ABSENT = object()


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
    return {key: value for key, value in flat(config).items() if key not in ASIDE and not key.startswith(_PARTS_ASIDE)}


def differences(configs: Mapping[str, Mapping[str, Any]], every: bool = False) -> pd.DataFrame:
    """Settings by run: rows are settings, columns are runs. every: also those that are equal everywhere.

    A part of the run that only some have (a teacher) differs by its name; its own settings are listed where two runs
    that have it differ in them.
    """
    flats = {run: _by_name(flat(config)) for run, config in configs.items()}
    keys = sorted({key for one in flats.values() for key in one})
    rows = {key: [_words(one.get(key)) for one in flats.values()] for key in keys}
    kept = {
        key: row
        for key, row in rows.items()
        if every or _differ(key, [one.get(key, _ABSENT) for one in flats.values()])
    }
    return pd.DataFrame.from_dict(kept, orient="index", columns=list(flats)).rename_axis("setting")


def _by_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`teachers[0].where` as `teachers (large).where`, and the names of each list in a row of their own."""
    names: dict[str, list[str]] = {}
    out: dict[str, Any] = {}
    for key, value in settings.items():
        place = _LISTED.match(key)
        if place is None:
            out[key] = ", ".join(map(str, value)) if isinstance(value, list) else value
            continue
        name = str(settings.get(f"{place[1]}[{place[2]}].name", place[2]))
        if place[3] == "name":
            names.setdefault(place[1], []).append(name)
        else:
            out[f"{place[1]} ({name}).{place[3]}"] = value
    return out | {key: ", ".join(found) for key, found in names.items()}


def _differ(key: str, values: Sequence[Any]) -> bool:
    """Whether a setting differs; of a listed part, among the runs that have it."""
    present = [value for value in values if value is not _ABSENT] if " (" in key else values
    return len({_words(value) for value in present}) > 1


def mean_and_std(values: Sequence[float]) -> tuple[float, float, int]:
    """Mean, sample standard deviation (NaN for one value) and count; missing values are not counted."""
    known = [float(value) for value in values if value is not None and value == value]
    if not known:
        return float("nan"), float("nan"), 0
    spread = statistics.stdev(known) if len(known) > 1 else float("nan")
    return statistics.fmean(known), spread, len(known)


def in_words(mean: float, std: float, count: int, digits: int = 1, sign: bool = False) -> str:
    """`87.3 ± 0.4 (N=3)`; one value has no spread to show. sign: of a difference, `+1.2`."""
    if not count:
        return "–"
    words = f"{mean:{'+' if sign else ''}.{digits}f}"
    return f"{words} (N=1)" if count == 1 else f"{words} ± {std:.{digits}f} (N={count})"


def _words(value: Any) -> str:
    if value is None or value is _ABSENT:
        return ""
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
            said = [_setting(key.rsplit(".", 1)[-1], _words(flats[group].get(key))) for key in differing[:3]]
            out[group] = f"{label}, {', '.join(said)}" if said else f"{label}, {group[:4]}"
    return out


def _setting(name: str, words: str) -> str:
    return f"{name} {words}" if words else f"without {name}"
