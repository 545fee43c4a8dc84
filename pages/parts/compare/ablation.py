"""Where a student's score comes from: its initial weights, a teacher, the method. One change a step, as far as run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
import streamlit as st

from kdcore.config import RunConfig
from kdcore.figures import palette, waterfall
from kdcore.methods import METHODS
from pages.parts.common import cards, queue_runs
from pages.parts.common.text import listed, metric_title, plain

ALONE, LOGITS = "fine-tune", "kd"
STARTS = {
    "random": "random initial weights",
    "base": "weights of the pretrained base",
    "teacher": "weights of the fine-tuned teacher",
    "checkpoint": "weights of a checkpoint",
}
FREE = ("seed", "device", "threads", "log_every", "checkpoint_every", "teacher_cache", "accumulate", "precision")
"""Training settings that do not make two steps unlike."""

Kind = Literal["start", "initialisation", "teacher", "method"]


@dataclass(frozen=True)
class Rung:
    """One step of the ladder. run: the settings that would make it; ids: the finished runs that are it."""

    kind: Kind
    label: str
    run: RunConfig
    ids: tuple[str, ...] = ()


def ladder(run: RunConfig) -> list[Rung]:
    """From random weights and gold labels to `run`, changing one thing at a time. Without runs yet."""
    starts = {"random": ["random"], "base": ["random", "base"], "checkpoint": ["random", "checkpoint"]}.get(
        run.student.init, ["random", "base", "teacher"]
    )
    if run.teachers and run.teachers[0].source == "pocket":
        starts = [start for start in starts if start != "base"]  # pocket teachers have no pretrained base
    alone = {"method": ALONE, "options": {}}
    rungs = [
        Rung(
            "start" if place == 0 else "initialisation",
            f"{'Gold labels, ' if place == 0 else '+ '}{STARTS[start]}",
            run.model_copy(update=alone | {"student": run.student.model_copy(update={"init": start}), "name": ""}),
        )
        for place, start in enumerate(starts)
    ]
    if run.method not in (ALONE, LOGITS) and run.teachers:
        config = METHODS[LOGITS].Config
        options = config.model_validate({key: run.options[key] for key in config.model_fields if key in run.options})
        changes = {"method": LOGITS, "options": options.model_dump(mode="json"), "name": ""}
        rungs.append(Rung("teacher", "+ the teacher's answers (KD)", run.model_copy(update=changes)))
    if run.method != ALONE:
        label = palette.style(run.method).label
        kind: Kind = "teacher" if run.method == LOGITS else "method"
        rungs.append(Rung(kind, "+ the teacher's answers (KD)" if kind == "teacher" else f"+ {label}", run))
    return rungs


def climbed(rungs: Sequence[Rung], groups: Mapping[str, tuple[RunConfig, tuple[str, ...]]], top: str) -> list[Rung]:
    """The rungs with the finished runs that are theirs.

    Args:
        groups: group -> one of its configs and the ids of its finished runs. top: the group that the last rung is.
    """
    found = []
    for rung in rungs[:-1]:
        fits = [
            (_likeness(rung.run, run), len(ids), group) for group, (run, ids) in groups.items() if _fits(rung.run, run)
        ]
        if not fits:
            found.append(rung)
            continue
        run, ids = groups[max(fits)[2]]
        asked = _names(run) if run.method == LOGITS and _names(run) != _names(rung.run) else []
        label = f"{rung.label.removesuffix(')')} from {listed(asked)})" if asked else rung.label
        found.append(replace(rung, label=label, ids=ids))
    return [*found, replace(rungs[-1], ids=groups[top][1])]


def table(rungs: Sequence[Rung], scores: Mapping[str, float], seeds: Mapping[str, int]) -> pd.DataFrame:
    """One row a rung: label, kind, mean (NaN where not run), n, gain over the last rung that was run, over (its label).

    The means are over the seeds that all rungs have; where they share none, over each rung's own.
    """
    climbed_ = [{seeds[run]: scores[run] for run in rung.ids} for rung in rungs]
    shared = set.intersection(*(set(one) for one in climbed_ if one)) if any(climbed_) else set()
    rows, last, over = [], float("nan"), ""
    for rung, by_seed in zip(rungs, climbed_, strict=True):
        kept = [score for seed, score in by_seed.items() if seed in shared or not shared]
        mean = sum(kept) / len(kept) if kept else float("nan")
        row = {"label": rung.label, "kind": rung.kind, "mean": mean, "n": len(kept), "gain": mean - last, "over": over}
        rows.append(row)
        if kept:
            last, over = mean, rung.label
    return pd.DataFrame(rows)


def summary(rungs: pd.DataFrame) -> str:
    """`Of +5.3 points, initialisation gives +4.4, ...`, as far as every step was run."""
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
    words = f"{whole:+.1f} points over {start} without a teacher"
    if len(parts) == 1 and len(known) == 2:
        return f"{words}, all of it from {parts[0].rpartition(' ')[0]}."
    return f"{words}: {', '.join(parts)}." if parts else f"{words}."


def show(
    runs: pd.DataFrame, whole: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]], teacher: float | None
) -> None:
    """The waterfall of one group of the comparison.

    Args:
        runs: the comparison's, with group and label. whole: all runs of the task with group, among which the steps are
            found; configs: their settings. teacher: the best teacher's score.
    """
    st.subheader("Where the gain comes from", anchor=False)
    whole = whole[(whole["state"] == "done") & whole["score"].notna() & whole["method"].isin(list(METHODS))]
    labels = {
        row["group"]: row["label"]
        for _, row in runs.iterrows()
        if row["method"] != ALONE and row["group"] in set(whole["group"])
    }
    if not labels:
        st.caption("Choose a finished run that learned from a teacher to see what gave its score.")
        return
    means = whole[whole["group"].isin(list(labels))].groupby("group")["score"].mean()
    top = st.selectbox(
        "Student",
        list(labels),
        index=list(labels).index(str(means.idxmax())),
        format_func=lambda group: labels.get(group, group),
        key="gains_of",
        bind="query-params",
    )
    rungs, rows = _found(whole, configs, top)
    metric = next((m for m in whole["metric"] if isinstance(m, str) and m), "accuracy")
    if said := summary(rows):
        st.markdown(f"**{plain(labels[top])}**: {said}")
    dark = cards.dark()
    cards.figure(
        lambda: waterfall.waterfall(rows, f"{metric_title(metric)}, dev split", teacher=teacher, dark=dark),
        "gains",
        "Each bar changes one thing against the one above it; all else (task, student, training) is the same. "
        f"Means over {_seed_words(rows)}.",
        data=rows,
        follows=top,
        how="The steps are found among all finished runs of this task, by their settings. A bar begins where the last "
        "run step ended, so a step without a run is counted with the next one. Compare a step with the spread over "
        "seeds before you believe it; the question above tests two steps against each other.",
    )
    _offer(rungs, sorted(set(whole.loc[whole["group"] == top, "seed"].astype(int))))


def _found(whole: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]], top: str) -> tuple[list[Rung], pd.DataFrame]:
    groups = {
        str(group): (RunConfig.model_validate(configs[members["id"].iloc[0]]), tuple(members["id"]))
        for group, members in whole.groupby("group")
    }
    rungs = climbed(ladder(groups[top][0]), groups, top)
    scores = dict(zip(whole["id"], whole["score"], strict=True))
    seeds = dict(zip(whole["id"], whole["seed"].astype(int), strict=True))
    return rungs, table(rungs, scores, seeds)


def _seed_words(rows: pd.DataFrame) -> str:
    counts = sorted(set(rows.loc[rows["n"] > 0, "n"]))
    if len(counts) == 1:
        return f"the {f'{counts[0]} seeds' if counts[0] > 1 else 'one seed'} that all steps share"
    return "each step's own seeds: they share none"


def _offer(rungs: Sequence[Rung], seeds: list[int]) -> None:
    """The steps that were not run, each with a button."""
    for place, rung in enumerate(rungs):
        if rung.ids:
            continue
        with st.container(horizontal=True, vertical_alignment="center", key=f"gains_missing_{place}"):
            st.markdown(f":material/help: No run yet: **{plain(rung.label.removeprefix('+ '))}**")
            runs = [queue_runs.with_seed(rung.run, seed) for seed in seeds]
            words = f"seed{'s' if len(seeds) > 1 else ''} {listed(map(str, seeds), 6)}"
            queue_runs.offer(f"Queue it ({words})", runs, f"gains_queue_{place}")


def _fits(wanted: RunConfig, run: RunConfig) -> bool:
    """Whether a run is this step: same task, student size, kind of start and training; KD may ask fewer teachers."""
    if (wanted.task, wanted.own, wanted.method) != (run.task, run.own, run.method):
        return False
    sizes = ("layers", "width", "heads", "intermediate", "init", "checkpoint")
    if any(getattr(wanted.student, name) != getattr(run.student, name) for name in sizes):
        return False
    if _training(wanted) != _training(run):
        return False
    if wanted.method == LOGITS:
        return set(_names(run)) <= set(_names(wanted))
    source = [one.teachers[0].name if one.teachers else "" for one in (wanted, run)]
    return wanted.student.init != "teacher" or source[0] == source[1]


def _likeness(wanted: RunConfig, run: RunConfig) -> int:
    """Of several groups that fit, the one with more of the wanted settings is taken."""
    same_teachers = _names(wanted) == _names(run)
    same_layers = wanted.student.init_layers == run.student.init_layers
    return 4 * same_teachers + 2 * (wanted.options == run.options) + same_layers


def _names(run: RunConfig) -> list[str]:
    return [teacher.name for teacher in run.teachers]


def _training(run: RunConfig) -> dict[str, Any]:
    return run.train.model_dump(exclude=set(FREE))
