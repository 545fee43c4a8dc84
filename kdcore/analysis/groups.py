"""Names and numbers of groups: runs that differ in nothing but the seed. In which settings groups differ."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from kdcore.formatting import start_text
from kdcore.identity import essential, flatten
from kdcore.models.count import parameters
from kdcore.records import ModelSize

_LISTED = re.compile(r"(\w+)\[(\d+)\]\.(.+)")
_ABSENT = object()
_START = "start"
MIN_BAND_SEEDS = 3
"""Fewer seeds than this are drawn one by one: a band over two points would look like knowledge."""


def labels(settings: Mapping[str, Mapping[str, Any]], short: Mapping[str, str]) -> dict[str, str]:
    """A label for each group that no other group has.

    Args:
        settings: group -> settings of one of its runs. short: group -> its short label (method and student).

    Where two short labels are equal, the settings in which those groups differ are added.
    """
    unique = dict(short)
    for label in {label for label in short.values() if list(short.values()).count(label) > 1}:
        twins = [group for group, text in short.items() if text == label]
        flat = {group: _with_start(essential(settings[group])) for group in twins}
        keys = sorted({key for values in flat.values() for key in values})
        differing = [key for key in keys if len({_text(values.get(key, "")) for values in flat.values()}) > 1]
        for group in twins:
            parts = [_setting(key.rsplit(".", 1)[-1], _text(flat[group].get(key))) for key in differing[:3]]
            unique[group] = f"{label}, {', '.join(parts)}" if parts else f"{label}, rows or weights {group[-4:]}"
    counts = list(unique.values())
    return {group: label if counts.count(label) == 1 else f"{label}, {group[-4:]}" for group, label in unique.items()}


def _with_start(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The student's start as one setting: layers say nothing where all weights are random."""
    keys = {key: f"student.{key}" for key in ("init", "init_layers")}
    if keys["init"] not in settings:
        return dict(settings)
    others = {key: value for key, value in settings.items() if key not in keys.values()}
    return others | {_START: start_text({key: settings.get(name) for key, name in keys.items()})}


def differences(settings: Mapping[str, Mapping[str, Any]], every: bool = False) -> pd.DataFrame:
    """Rows are settings, columns are the keys of `settings`. every: also settings that are equal everywhere.

    A part of the run that only some have (a teacher) differs by its name; its own settings are listed where two runs
    that have it differ in them.
    """
    flat = {run: _by_name(flatten(values)) for run, values in settings.items()}
    keys = sorted({key for values in flat.values() for key in values})
    rows = {
        key: [_text(values.get(key)) for values in flat.values()]
        for key in keys
        if every or _differ(key, [values.get(key, _ABSENT) for values in flat.values()])
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(flat)).rename_axis("setting")


def mean_and_std(values: Iterable[float | None]) -> tuple[float, float, int]:
    """Mean, sample standard deviation (NaN for one value) and count; missing values are not counted.

    >>> mean_and_std([1.0, 3.0, None])
    (2.0, 1.4142135623730951, 2)
    """
    known = [float(value) for value in values if value is not None and value == value]
    if not known:
        return float("nan"), float("nan"), 0
    spread = statistics.stdev(known) if len(known) > 1 else float("nan")
    return statistics.fmean(known), spread, len(known)


def format_mean(mean: float, std: float, count: int, digits: int = 1, sign: bool = False) -> str:
    """`87.3 ± 0.4 (N=3)`; one value has no spread to show. sign: of a difference, `+1.2`.

    >>> format_mean(1.24, 0.31, 3, sign=True)
    '+1.2 ± 0.3 (N=3)'
    """
    if not count:
        return "–"
    value = f"{mean:{'+' if sign else ''}.{digits}f}"
    return f"{value} (N=1)" if count == 1 else f"{value} ± {std:.{digits}f} (N={count})"


def _by_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`teachers[0].where` as `teachers (large).where`, and the names of each list in a row of their own."""
    names: dict[str, list[str]] = {}
    named: dict[str, Any] = {}
    for key, value in settings.items():
        match = _LISTED.match(key)
        if match is None:
            named[key] = ", ".join(map(str, value)) if isinstance(value, list) else value
            continue
        name = str(settings.get(f"{match[1]}[{match[2]}].name", match[2]))
        if match[3] == "name":
            names.setdefault(match[1], []).append(name)
        else:
            named[f"{match[1]} ({name}).{match[3]}"] = value
    return named | {key: ", ".join(items) for key, items in names.items()}


def _differ(key: str, values: Sequence[Any]) -> bool:
    """Whether a setting differs; of a listed part, among the runs that have it."""
    present = [value for value in values if value is not _ABSENT] if " (" in key else values
    return len({_text(value) for value in present}) > 1


def _setting(name: str, value: str) -> str:
    if name == _START:
        return value
    if name == "unlabelled":
        return "labelled rows alone" if value else "with rows without a label"
    return f"{name} {value}" if value else f"without {name}"


def _text(value: Any) -> str:
    if value is None or value is _ABSENT:
        return ""
    return json.dumps(value, default=str) if isinstance(value, list | dict) else str(value)


def word_share(facts: Iterable[Mapping[str, Any] | None]) -> float:
    """The part of a student's parameters that is in its table of words, from the facts of its runs; NaN where none has
    said its shape."""
    for each in facts:
        try:
            return parameters(ModelSize(**(each or {})["student"])).word_share
        except (KeyError, TypeError):  # not said, or by an older or newer program
            continue
    return float("nan")
