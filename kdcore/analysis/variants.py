"""Groups that are another one but for one setting: what each part of a method brings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kdcore.analysis.ablation import difference
from kdcore.analysis.comparison import ENVIRONMENT, Comparison
from kdcore.formatting import option_text
from kdcore.identity import essential
from kdcore.runs.ablations import title_in
from kdcore.store import UNFINISHED

COLUMNS = ["group", "label", "setting", "whole_value", "value", "n", "seeds", "mean", "change", "low", "high"]
_START = "student.init"
_OPTION = "options."


def variants(comparison: Comparison, whole: str) -> pd.DataFrame:
    """One row a group that differs from the group `whole` in one option of the method, or in where its student starts.

    The change that costs most comes first, groups without a finished run last.

    Columns: group; label (`without patience (beta 0)`); setting, whole_value, value (empty where options that one side
    left at their defaults hide it); n and seeds (how many and which finished ones count); mean (a fraction); change
    (mean less that of `whole`), low and high (its interval at `ablation.LEVEL`, NaN where there is one seed).

    Change and interval are over the seeds that both have on one version, machine and rows, seed by seed; where they
    share none, over all of each.
    """
    reference = _scores(comparison, whole)
    rows = []
    for group in comparison.labels:
        found = _one_setting(comparison, whole, group)
        if group == whole or found is None:
            continue
        scores = _scores(comparison, group)
        shared = scores.keys() & reference.keys()
        ours, theirs = ({key: side[key] for key in sorted(shared or side)} for side in (scores, reference))
        change, low, high = difference(ours, theirs) if ours and theirs else (float("nan"),) * 3
        rows.append(
            {
                "group": group, "label": _label(comparison, group, *found), "setting": found[0],
                "whole_value": found[1], "value": found[2], "n": len(ours),
                "seeds": ", ".join(f"{key[0]:.0f}" for key in ours),
                "mean": float(np.mean(list(ours.values()))) if ours else float("nan"),
                "change": change, "low": low, "high": high,
            }
        )  # fmt: skip
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values("change", kind="stable", na_position="last", ignore_index=True)


def _scores(comparison: Comparison, group: str) -> dict[tuple[float, str, str, str], float]:
    """Seed, version, machine and rows -> score of the group's finished runs."""
    done = comparison.finished[comparison.finished["group"] == group]
    keys = zip(*(done[name] for name in ("seed", *ENVIRONMENT)), strict=True)
    return dict(zip(keys, done["score"], strict=True))


def _one_setting(comparison: Comparison, whole: str, group: str) -> tuple[str, Any, Any] | None:
    """The only setting in which the two differ, its value there and here; None where there are more, or others.

    A run may leave an option at its default: then only the tag of an ablation tells that it is one.
    """
    ours, theirs = (essential(comparison.settings_of(name)) for name in (whole, group))
    unsaid = {key for key in ours.keys() ^ theirs.keys() if key.startswith(_OPTION)}
    keys = sorted((ours.keys() | theirs.keys()) - unsaid)
    differing = [key for key in keys if ours.get(key) != theirs.get(key)]
    if not differing:
        return ("", "", "") if unsaid and _title(comparison, group) else None
    (key, *more) = differing
    named = key == _START or key.startswith(_OPTION)
    return (key, option_text(ours[key]), option_text(theirs[key])) if named and not more else None


def _title(comparison: Comparison, group: str) -> str:
    """What the group's runs are called as an ablation, if any was queued as one."""
    return next(filter(None, map(title_in, comparison.members(group)["tags"])), "")


def _label(comparison: Comparison, group: str, setting: str, whole_value: Any, value: Any) -> str:
    """`without patience (beta 0)`; `beta 0` where nobody said what it leaves out."""
    title, name = _title(comparison, group), f"{_word(setting)} {value}"
    if not setting or not title:
        return title or name
    return title if setting == _START else f"{title} ({name})"


def _word(setting: str) -> str:
    """`beta` of `options.beta`; where a student starts has a name of its own."""
    return "initial weights" if setting == _START else setting.removeprefix(_OPTION).replace("_", " ")


def unfinished(comparison: Comparison, rows: pd.DataFrame) -> int:
    """How many runs of these variants wait or are under way. rows: of `variants`."""
    members = comparison.runs[comparison.runs["group"].isin(rows["group"])]
    return int(members["state"].isin(UNFINISHED).sum())
