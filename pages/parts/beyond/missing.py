"""What the lines lack, one click away: runs on damaged data, a student as deep as its teacher, robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from kdcore.analysis.beyond import Curves
from kdcore.analysis.comparison import Comparison
from kdcore.config import RunConfig
from kdcore.engine.measure_process import OwnProcess
from kdcore.runs.remeasure import Order, best_teacher
from kdcore.runs.robustness import PROBE, unmeasured
from kdcore.store import Store
from pages.parts.beyond.question import DAMAGES, Question
from pages.parts.common import measurement, queue_runs
from pages.parts.common.read_only import action
from pages.parts.common.text import duration, plain

ALONE = "fine-tune"


def open_process() -> OwnProcess:
    return OwnProcess("kdcore.engine.robustness")


def show(store: Store, comparison: Comparison, curves: Curves, asked: Question) -> None:
    if asked.of_training:
        _levels(comparison, curves, asked)
        _as_deep(store, comparison)
    else:
        _measure(store, comparison)


def _levels(comparison: Comparison, curves: Curves, asked: Question) -> None:
    """The levels and seeds that no finished run has."""
    count = len(curves.missing)
    if not count:
        st.caption("No run is missing: every method has all levels for each of its seeds.")
        return
    st.markdown(
        f":material/help: **{count} runs** would fill the missing levels under {DAMAGES[asked.damage].lower()}."
    )
    if count > queue_runs.MOST_QUEUED:
        st.caption(f"That is more than the queue takes ({queue_runs.MOST_QUEUED}): choose fewer methods, or a sweep.")
        return
    queue_runs.offer(
        f"Queue {count} run{'' if count == 1 else 's'} ({_price(comparison, curves.missing)})",
        curves.missing,
        "beyond_queue",
        help="The same settings at the missing levels, for the seeds that there are; nothing is queued twice",
        join=False,
    )


def _as_deep(store: Store, comparison: Comparison) -> None:
    """A student as deep as its teacher, by the first method that has a smaller one: self-distillation."""
    taught = comparison.finished[comparison.finished["method"] != ALONE]
    if taught.empty:
        return
    row = store.get(str(taught["id"].iloc[0]))
    layers = _depth(row.facts, row.config, comparison.metric)
    settings = [RunConfig.model_validate(comparison.settings_of(group)) for group in comparison.labels]
    if layers is None or any(each.student.layers >= layers for each in settings if each.method != ALONE):
        return
    if isinstance(row.config.student.init_layers, tuple):
        return
    seeds = sorted({int(seed) for seed in taught.loc[taught["group"] == taught["group"].iloc[0], "seed"]})
    student = row.config.student.model_copy(update={"layers": layers})
    deep = row.config.model_copy(update={"name": "", "student": student})
    runs = [queue_runs.with_seed(deep, seed) for seed in seeds]
    label = plain(comparison.labels[str(taught["group"].iloc[0])], 80)
    st.markdown(f":material/help: No student here is as deep as its teacher ({layers} layers): self-distillation.")
    queue_runs.offer(
        f"Queue {label} with {layers} layers ({_price(comparison, runs, layers / max(1, row.config.student.layers))})",
        runs,
        "beyond_deep",
    )


def _depth(facts: Mapping[str, object], config: RunConfig, metric: str) -> int | None:
    """Layers of the run's best teacher, where the run has said them."""
    name = best_teacher(facts, [spec.name for spec in config.teachers], metric)
    teachers = facts.get("teachers")
    about = teachers.get(name) if isinstance(teachers, Mapping) else None
    shape = about.get("shape") if isinstance(about, Mapping) else None
    layers = shape.get("layers") if isinstance(shape, Mapping) else None
    return int(layers) if isinstance(layers, int) else None


def _price(comparison: Comparison, runs: Sequence[RunConfig], times: float = 1.0) -> str:
    """What these runs will take here, from what finished ones took; a teacher of each level is not counted."""
    seconds = pd.to_numeric(comparison.finished["training_seconds"]).median()
    if seconds != seconds:
        return "time unknown"
    return f"about {duration(float(seconds) * times * len(runs))} of training"


def _measure(store: Store, comparison: Comparison) -> None:
    """Robustness of the chosen students that is not known yet, measured in the background on a click."""
    background = measurement.remeasurer()
    if background.working:
        st.fragment(measurement.progress, run_every=measurement.REFRESH_SECONDS)(background)
        return
    measurement.problems(background, PROBE, set(comparison.finished["id"]))
    todo = unmeasured(store, list(comparison.finished["id"]))
    if not todo:
        return
    count = f"{len(todo)} student{'' if len(todo) == 1 else 's'}"
    st.markdown(
        f":material/help: The robustness of **{count}** is not measured under every damage: ten passes over the dev "
        "rows each, four more and a gradient for their embeddings, and as many of each teacher."
    )
    names = store.rows(todo)
    if action(f"Measure {count}", key="beyond_measure", icon=":material/science:"):
        measurement.remeasurer().begin(store, [Order(run, names[run].name) for run in todo], open_process, PROBE)
        st.rerun()
