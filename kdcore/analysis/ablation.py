"""Where a student's score comes from: its initial weights, a teacher, the method. One change a step, as far as run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from scipy import stats

from kdcore import identity
from kdcore.analysis.comparison import Comparison
from kdcore.config import RunConfig
from kdcore.formatting import listed
from kdcore.methods.catalog import title_of
from kdcore.runs.ablations import title_in

ALONE, LOGITS = "fine-tune", "kd"
LOGITS_SETTINGS = ("alpha", "temperature")
"""Settings of KD that a method may have under the same names."""
STARTS = {
    "random": "random initial weights",
    "base": "weights of the pretrained base",
    "teacher": "weights of the fine-tuned teacher",
    "checkpoint": "weights of a checkpoint",
}
LEVEL = 0.95
"""Of the intervals."""
CHANGES = "Each bar changes one thing against the one above it; all else (task, student, training) is the same."
HOW = (
    "The steps are found among the runs of this comparison, by their settings. A bar begins where the last run step "
    f"ended, so a step without a run is counted with the next one. The whisker is the {LEVEL:.0%} interval of the "
    "step's gain: a t interval of the differences seed by seed (Welch's, where the steps share no seed). Where it "
    "holds zero, other seeds may turn the step round."
)
TEACHER_STEP = "+ the teacher's answers (KD)"

Kind = Literal["start", "initialisation", "teacher", "method"]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Rung:
    """One step of the ladder. config: the settings that make it. group: the runs that are it, empty where none are."""

    kind: Kind
    label: str
    config: RunConfig
    group: str = ""


def best_taught(comparison: Comparison) -> str | None:
    """The group with the best mean among those that learned from a teacher: a whole method's, before one without a
    part. None where no run of such a group is finished."""
    done = comparison.finished
    taught = done[done["method"] != ALONE]
    whole = taught[[not title_in(tags) for tags in taught["tags"]]]
    means = (whole if len(whole) else taught).groupby("group")["score"].mean()
    return str(means.idxmax()) if len(means) else None


def seeds_text(rows: pd.DataFrame) -> str:
    """`the 3 seeds that all steps share`: what the means of `table` are over."""
    counts = sorted(set(rows.loc[rows["n"] > 0, "n"]))
    if len(counts) == 1:
        return f"the {f'{counts[0]} seeds' if counts[0] > 1 else 'one seed'} that all steps share"
    return "each step's own seeds: they share none"


def ladder(config: RunConfig) -> list[Rung]:
    """From random weights and gold labels to `config`, changing one thing at a time. Without runs yet."""
    starts = {"random": ["random"], "base": ["random", "base"], "checkpoint": ["random", "checkpoint"]}.get(
        config.student.init, ["random", "base", "teacher"]
    )
    if config.teachers and config.teachers[0].source == "pocket":
        starts = [start for start in starts if start != "base"]  # pocket teachers have no pretrained base
    alone: dict[str, Any] = {"method": ALONE, "method_source": None, "options": {}, "name": ""}
    rungs = [
        Rung(
            "initialisation" if index else "start",
            f"{'+ ' if index else 'Gold labels, '}{STARTS[start]}",
            config.model_copy(update=alone | {"student": config.student.model_copy(update={"init": start})}),
        )
        for index, start in enumerate(starts)
    ]
    if config.method not in (ALONE, LOGITS) and config.teachers:
        options = {key: config.options[key] for key in LOGITS_SETTINGS if key in config.options}
        update = {"method": LOGITS, "method_source": None, "options": options, "name": ""}
        rungs.append(Rung("teacher", TEACHER_STEP, config.model_copy(update=update)))
    if config.method == LOGITS:
        rungs.append(Rung("teacher", TEACHER_STEP, config))
    elif config.method != ALONE:
        rungs.append(Rung("method", f"+ {title_of(config.method)}", config))
    return rungs


def climb(comparison: Comparison, top: str) -> list[Rung]:
    """The ladder up to the group `top`, each rung with the group of the comparison that is it."""
    done = comparison.finished
    groups = {
        str(group): (RunConfig.model_validate(comparison.settings_of(str(group))), len(rows))
        for group, rows in done.groupby("group")
    }
    rungs = ladder(groups[top][0])
    return [*(_with_group(rung, groups) for rung in rungs[:-1]), replace(rungs[-1], group=top)]


def fits(wanted: RunConfig, config: RunConfig) -> bool:
    """Whether a run is this step: same protocol but for which layers fill the student; KD may ask fewer teachers."""
    if wanted.method != config.method:
        return False
    mine, theirs = identity.protocol(wanted), identity.protocol(config)
    for start in (mine["start"], theirs["start"]):
        start.pop("init_layers", None)
    if mine != theirs:
        return False
    return wanted.method != LOGITS or set(_names(config)) <= set(_names(wanted))


def table(rungs: Sequence[Rung], finished: pd.DataFrame) -> pd.DataFrame:
    """One row per rung, with what it adds and how sure that is.

    Columns: label, kind, method, mean (a fraction, NaN where not run), n, gain over the last rung that was run, low and
    high (its interval at `LEVEL`, NaN where there is one seed), over (that rung's label); total, total_low, total_high:
    the same over the first rung that was run.

    The means are over the seeds that all rungs have, and the intervals of their differences seed by seed; where they
    share none, over each rung's own.

    Args:
        finished: `Comparison.finished`.
    """
    runs = [finished[finished["group"] == rung.group] for rung in rungs]
    by_seed = [dict(zip(rows["seed"], rows["score"], strict=True)) for rows in runs]
    shared = set.intersection(*(set(scores) for scores in by_seed if scores)) if any(by_seed) else set()
    rows, nothing = [], (float("nan"),) * 3
    first: dict[float, float] = {}
    last, over = first, ""
    for rung, scores in zip(rungs, by_seed, strict=True):
        counted = {seed: score for seed, score in scores.items() if seed in shared or not shared}
        gain, low, high = difference(counted, last) if counted and last else nothing
        total, total_low, total_high = difference(counted, first) if counted and first else nothing
        rows.append(
            {
                "label": rung.label, "kind": rung.kind, "method": rung.config.method,
                "mean": sum(counted.values()) / len(counted) if counted else float("nan"), "n": len(counted),
                "gain": gain, "low": low, "high": high, "over": over,
                "total": total, "total_low": total_low, "total_high": total_high,
            }
        )  # fmt: skip
        if counted:
            first = first or counted
            last, over = counted, rung.label
    return pd.DataFrame(rows)


def difference(scores: Mapping[Key, float], before: Mapping[Key, float]) -> tuple[float, float, float]:
    """Mean of scores less that of others, and its t interval at `LEVEL`: of the differences by seed where all seeds are
    the same, else Welch's. The interval is NaN where one seed speaks for a side.

    Args:
        scores, before: seed, or whatever else makes two runs a pair -> score.
    """
    ours, theirs = np.array(list(scores.values())), np.array(list(before.values()))
    gain = float(ours.mean() - theirs.mean())
    if min(len(ours), len(theirs)) < 2:
        return gain, float("nan"), float("nan")
    if set(scores) == set(before):
        paired = np.array([scores[seed] - before[seed] for seed in scores])
        error, freedom = float(paired.std(ddof=1)) / len(paired) ** 0.5, float(len(paired) - 1)
    else:
        parts = [float(values.var(ddof=1)) / len(values) for values in (ours, theirs)]
        error = sum(parts) ** 0.5
        weights = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (ours, theirs), strict=True))
        freedom = sum(parts) ** 2 / weights if weights else float("inf")
    half = error * float(stats.t.ppf((1 + LEVEL) / 2, freedom)) if error else 0.0
    return gain, gain - half, gain + half


def doubt(low: float, high: float) -> str:
    """What is to be said of a difference with this interval: `within seed noise`, `one seed`, or nothing.

    >>> doubt(-0.01, 0.03), doubt(0.01, 0.03), doubt(float("nan"), float("nan"))
    ('within seed noise', '', 'one seed')
    """
    if low != low:
        return "one seed"
    return "within seed noise" if low <= 0 <= high else ""


def summary(rungs: pd.DataFrame) -> str:
    """`+5.3 points over ...: the initial weights +4.4, ...`, as far as every step was run, with its doubt.

    Args:
        rungs: the rows of `table`.
    """
    known = rungs.dropna(subset=["mean"])
    if len(known) < 2:
        return ""
    last = known.iloc[-1]
    parts = []
    names = {"initialisation": "the initial weights", "teacher": "the teacher", "method": "the method"}
    for kind, steps in rungs[1:].groupby("kind", sort=False):
        if steps["mean"].notna().all() and steps["over"].iloc[0] == rungs["label"][steps.index[0] - 1]:
            doubts = {doubt(low, high) for low, high in zip(steps["low"], steps["high"], strict=True)}
            parts.append((names[str(kind)], 100 * steps["gain"].sum(), doubts.pop() if len(doubts) == 1 else ""))
    start = known["label"].iloc[0].removeprefix("Gold labels, ").removeprefix("+ ")
    text = f"{100 * last['total']:+.1f} points"
    if whole := doubt(last["total_low"], last["total_high"]):
        text += f" ({whole})"
    text += f" over {start} without a teacher"
    if len(parts) == 1 and len(known) == 2:
        return f"{text}, all of it from {parts[0][0]}."
    told = (f"{name} {gain:+.1f}{f' ({why})' if why else ''}" for name, gain, why in parts)
    return f"{text}: {', '.join(told)}." if parts else f"{text}."


def _with_group(rung: Rung, groups: Mapping[str, tuple[RunConfig, int]]) -> Rung:
    """The rung with the group that fits it best; unchanged where none does."""
    fitting = [
        (_likeness(rung.config, config), n, group) for group, (config, n) in groups.items() if fits(rung.config, config)
    ]
    if not fitting:
        return rung
    group = max(fitting)[2]
    teachers = _names(groups[group][0])
    label = rung.label
    if rung.config.method == LOGITS and teachers != _names(rung.config):
        label = f"{label.removesuffix(')')} from {listed(teachers)})"
    return replace(rung, label=label, group=group)


def _likeness(wanted: RunConfig, config: RunConfig) -> int:
    """Of several groups that fit, the one with more of the wanted settings is taken."""
    same_teachers = _names(wanted) == _names(config)
    same_options = wanted.options.items() <= config.options.items()
    same_layers = wanted.student.init_layers == config.student.init_layers
    return 4 * same_teachers + 2 * same_options + same_layers


def _names(config: RunConfig) -> list[str]:
    return [teacher.name for teacher in config.teachers]
