"""Where a student's score comes from: its initial weights, a teacher, the method. One change a step, as far as run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from kdcore import identity
from kdcore.analysis.comparison import Comparison
from kdcore.config import RunConfig
from kdcore.formatting import listed
from kdcore.methods.catalog import title_of

ALONE, LOGITS = "fine-tune", "kd"
LOGITS_SETTINGS = ("alpha", "temperature")
"""Settings of KD that a method may have under the same names."""
STARTS = {
    "random": "random initial weights",
    "base": "weights of the pretrained base",
    "teacher": "weights of the fine-tuned teacher",
    "checkpoint": "weights of a checkpoint",
}
TEACHER_STEP = "+ the teacher's answers (KD)"

Kind = Literal["start", "initialisation", "teacher", "method"]


@dataclass(frozen=True)
class Rung:
    """One step of the ladder. config: the settings that make it. group: the runs that are it, empty where none are."""

    kind: Kind
    label: str
    config: RunConfig
    group: str = ""


def ladder(config: RunConfig) -> list[Rung]:
    """From random weights and gold labels to `config`, changing one thing at a time. Without runs yet."""
    starts = {"random": ["random"], "base": ["random", "base"], "checkpoint": ["random", "checkpoint"]}.get(
        config.student.init, ["random", "base", "teacher"]
    )
    if config.teachers and config.teachers[0].source == "pocket":
        starts = [start for start in starts if start != "base"]  # pocket teachers have no pretrained base
    alone = {"method": ALONE, "options": {}, "name": ""}
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
        update = {"method": LOGITS, "options": options, "name": ""}
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
    return [*(_filled(rung, groups) for rung in rungs[:-1]), replace(rungs[-1], group=top)]


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
    """One row per rung: label, kind, mean (a fraction, NaN where not run), n, gain over the last rung that was run, and
    over: that rung's label.

    The means are over the seeds that all rungs have; where they share none, over each rung's own.

    Args:
        finished: `Comparison.finished`.
    """
    runs = [finished[finished["group"] == rung.group] for rung in rungs]
    by_seed = [dict(zip(rows["seed"], rows["score"], strict=True)) for rows in runs]
    shared = set.intersection(*(set(scores) for scores in by_seed if scores)) if any(by_seed) else set()
    rows, last, over = [], float("nan"), ""
    for rung, scores in zip(rungs, by_seed, strict=True):
        counted = [score for seed, score in scores.items() if seed in shared or not shared]
        mean = sum(counted) / len(counted) if counted else float("nan")
        rows.append(
            {"label": rung.label, "kind": rung.kind, "mean": mean, "n": len(counted), "gain": mean - last, "over": over}
        )
        if counted:
            last, over = mean, rung.label
    return pd.DataFrame(rows)


def summary(rungs: pd.DataFrame) -> str:
    """`Of +5.3 points, initialisation gives +4.4, ...`, as far as every step was run.

    Args:
        rungs: the rows of `table`.
    """
    known = rungs.dropna(subset=["mean"])
    if len(known) < 2:
        return ""
    whole = 100 * (known["mean"].iloc[-1] - known["mean"].iloc[0])
    parts = []
    names = {"initialisation": "the initial weights", "teacher": "the teacher", "method": "the method"}
    for kind, steps in rungs[1:].groupby("kind", sort=False):
        if steps["mean"].notna().all() and steps["over"].iloc[0] == rungs["label"][steps.index[0] - 1]:
            parts.append(f"{names[str(kind)]} {100 * steps['gain'].sum():+.1f}")
    start = known["label"].iloc[0].removeprefix("Gold labels, ").removeprefix("+ ")
    gain = f"{whole:+.1f} points over {start} without a teacher"
    if len(parts) == 1 and len(known) == 2:
        return f"{gain}, all of it from {parts[0].rpartition(' ')[0]}."
    return f"{gain}: {', '.join(parts)}." if parts else f"{gain}."


def _filled(rung: Rung, groups: Mapping[str, tuple[RunConfig, int]]) -> Rung:
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
