"""Runs as deployed: what each runtime takes, with the score that it has, and what int8 does to the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.analysis.runtime_table import PROBE, absent, int8_table, runtime_table, survivals, unmeasured
from kdcore.engine.measure_process import OwnProcess
from kdcore.export.runtimes import runtime_title
from kdcore.figures import runtimes as figures
from kdcore.runs.remeasure import order_of
from kdcore.store import Store
from pages.parts.common import cards, measurement
from pages.parts.common.read_only import action
from pages.parts.common.text import metric_title, plain, task_title
from pages.parts.speed import remeasure

ABOUT = (
    "Student, best teacher and that teacher cut to the student's depth, on this machine's CPU, by torch, ONNX Runtime "
    "and OpenVINO: all take turns in a process of their own, batches of 1, 8 and 32 rows, dev rows of mean, 95th "
    "percentile and largest length in each model's own tokens, one thread and all. Each runtime answers the dev rows "
    "itself: a point that is fast and wrong shows. Minutes a run; `kdcore runtimes RUN` does the same."
)
HOW = (
    "**Latency**: of one forward pass over a batch, tokenisation not counted; median and 95th percentile of up to 40 "
    "rounds, in which every model in every runtime answers once. **Score**: of that runtime's own answers, on at most "
    "1,000 dev rows. **Memory**: what loading the model and answering batches of 32 of the longest rows adds to a "
    "process of its own, at the highest. **Size**: of the file that the runtime reads. **bf16**: matrices in bf16. "
    "**int8**: weights of matrix products and embeddings in 8 bits, activations scaled as they come; OpenVINO computes "
    "in float32."
)
MOST_SENTENCES = 6
"""The table below them has all."""
LENGTHS = {"mean": "mean", "p95": "95th percentile", "maximum": "largest"}
TIMES = {"p50_ms": "median", "p95_ms": "95th percentile"}


def open_process() -> OwnProcess:
    return OwnProcess("kdcore.export.runtime_costs")


def show(store: Store, runs: pd.DataFrame) -> None:
    """Args: runs: the chosen ones, with group and label."""
    st.caption(ABOUT)
    tasks = list(dict.fromkeys(runs["task"]))
    if len(tasks) > 1:  # an average over tasks: scores and lengths are each task's own
        task = st.selectbox("Task of the runtimes", tasks, format_func=task_title, key="speed_runtimes_task")
        runs = runs[runs["task"] == task]
    background = measurement.remeasurer()
    if background.working:
        st.fragment(measurement.progress, run_every=measurement.REFRESH_SECONDS)(background)
    else:
        _button(store, runs)
        measurement.problems(background, PROBE, set(runs["id"]))
    table = runtime_table(store, runs)
    if table.empty:
        st.caption("None of the chosen runs was measured in these runtimes yet.")
        return
    _plot(table, metric_title(str(runs["metric"].iloc[0])))
    _survival(int8_table(store, runs))
    for (model, runtime), why in list(absent(store, list(runs["id"])).items())[:4]:
        st.caption(f"{plain(model, 60)}, {plain(runtime_title(runtime))}: not measured, {plain(why, 300)}.")


def _button(store: Store, runs: pd.DataFrame) -> None:
    """One run of each group that was not measured, else the other seeds, else all once more."""
    new = unmeasured(store, runs)
    chosen = runs[runs["id"].isin(new)] if new else runs
    here = [order_of(store, run) for _, run in chosen.iterrows() if remeasure.kept(run["id"])]
    if not here:
        st.caption("Their students are no longer on this disk, so they cannot be measured here.")
        return
    count = f"{len(here)} run{'' if len(here) == 1 else 's'}"
    label = f"Measure the runtimes ({count})" if new else f"Measure again ({count})"
    if action(label, key="speed_runtimes", icon=":material/timer:"):
        measurement.remeasurer().begin(store, here, open_process, PROBE)
        st.rerun()


def _plot(table: pd.DataFrame, y_title: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        time = _choice("Latency", list(TIMES), "speed_rt_time", TIMES.__getitem__)
        batch = _choice("Batch", sorted(table["batch"].unique()), "speed_rt_batch")
        machines = list(dict.fromkeys(table["hardware"]))
        if len(machines) > 1:  # times of two machines are no times of one
            table = table[table["hardware"] == _choice("Measured on", machines, "speed_rt_machine")]
        length = _choice("Length of the rows", list(dict.fromkeys(table["length"])), "speed_rt_length", _length_title)
        seen = table[(table["batch"] == batch) & (table["length"] == length)]
        if seen.empty:
            st.caption("Nothing was measured under this choice.")
            return
        threads = _choice("Threads", sorted(seen["threads"].unique()), "speed_rt_threads")
    seen = seen[seen["threads"] == threads]
    seen = seen.assign(method=seen["method"].where(seen["kind"] == "student", ""))  # several methods share a teacher
    models = seen.groupby(["model", "kind", "method", "runtime"], sort=False)
    means = models.agg({"score": "mean", time: "median", "busy": "any"}).reset_index()
    busy = " Hollow: other work used the machine." if means["busy"].any() else ""
    cards.figure(
        lambda: figures.scatter(
            means, time, f"Latency per batch (ms, {TIMES[time]})", f"{y_title}, dev split", dark=cards.dark()
        ),
        "speed_runtimes_plot",
        f"{plain(seen['hardware'].iloc[0], 120)}, {_tokens(seen)}. One marker a runtime, one colour a model; means "
        f"over seeds.{busy}",
        data=table, how=HOW, follows=f"{time} {batch} {length} {threads}",
    )  # fmt: skip


def _length_title(length: str) -> str:
    return LENGTHS.get(length, length)


def _tokens(seen: pd.DataFrame) -> str:
    """How many tokens the models read a row as: `53 tokens a row`, `53 to 61 tokens a row`."""
    least, most = int(seen["tokens"].min()), int(seen["tokens"].max())
    return f"{least if least == most else f'{least} to {most}'} tokens a row"


def _choice(label: str, options: Sequence[Any], key: str, words: Callable[[Any], str] = str) -> Any:
    return st.selectbox(label, options, key=key, format_func=words, width=150)


def _survival(pairs: pd.DataFrame) -> None:
    if pairs.empty:
        return
    st.markdown("**Does the student survive int8?**")
    sentences = [f"* {plain(one.sentence(), 400)}" for one in survivals(pairs)]
    st.markdown("\n".join(sentences[:MOST_SENTENCES]))
    with st.expander("Every seed, in ONNX Runtime"):
        st.dataframe(pairs.drop(columns="kind").round(4), hide_index=True, key="speed_int8", alt="float32 against int8")
