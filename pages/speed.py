"""Speed: quality against latency, and what nobody beats."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.figures import groups, pareto
from pages.parts import cards, compared, entry, probed
from pages.parts.plot import Click
from pages.parts.selection import many_runs, the_store
from pages.parts.text import hundredfold, listed, metric_title, plain, task_title

HOW = (
    "**Latency**: median over repeats of one forward pass in eval mode, student and teachers measured in turn so that "
    "a slow moment of the machine meets all of them; tokenisation is not counted. **Quality**: dev score of the "
    "student that `select` chose. A point is on the line where no other is at least as fast and at least as good, and "
    "better in one of both."
)


def main() -> None:
    cards.title("Speed", "What a student costs to run, and what it is worth. Up and to the left is better.")
    store = the_store()
    everything = store.runs(include_archived=True)
    done = everything[everything["state"] == "done"]
    if done.empty:
        cards.empty("**No finished run yet.** Latency is measured when a run ends.", "start", "Go to Start")
        return
    first = done[done["task"] == done["task"].iloc[0]]["id"].tolist()
    picked = many_runs(everything, "Runs", "speed_runs", first[:30])
    chosen = done[done["id"].isin(picked)]
    if chosen.empty:
        cards.empty("**Choose finished runs** above.", "runs", "Go to Runs")
        return
    tasks = list(dict.fromkeys(chosen["task"]))
    task = tasks[0]
    if len(tasks) > 1:
        task = st.selectbox("Task", tasks, key="stask", bind="query-params", format_func=task_title)
        task = task if task in tasks else tasks[0]
    runs, _ = compared.grouped(store, chosen[chosen["task"] == task])
    timed = probed.latencies(store, runs)
    if timed.empty:
        cards.empty("None of the chosen runs has been timed: they were started without the latency probe, or stopped.")
        return
    with st.container(horizontal=True):
        cards.badges(task)
    timed["setting"] = [_setting(row) for _, row in timed.iterrows()]
    with cards.guarded("Quality against latency cannot be shown"):
        _scatter(timed, runs, store.evaluations(list(runs["id"])))


def _setting(row: pd.Series) -> str:
    threads = row.get("threads")
    return (
        f"{row.get('hardware')}, {row.get('precision')}, {threads} thread{'' if threads == 1 else 's'}, "
        f"batch {row.get('batch')}, {row.get('tokens')} tokens"
    )


def _scatter(timed: pd.DataFrame, runs: pd.DataFrame, evaluations: pd.DataFrame) -> None:
    counts = timed["setting"].value_counts()
    setting = st.selectbox(
        "Measured on",
        list(counts.index),
        key="speed_setting",
        help="Latencies of different hardware, batch, length or precision do not share a plot",
    )
    setting = setting if setting in counts.index else counts.index[0]
    here = timed[timed["setting"] == setting]
    metric = next((m for m in runs["metric"] if isinstance(m, str) and m), "accuracy")
    points = _points(here, evaluations, metric)
    missing = points[~(np.isfinite(points["cost"]) & np.isfinite(points["quality"]))]
    batch, tokens = int(here["batch"].iloc[0]), int(here["tokens"].iloc[0])
    x_title = f"Latency per {'sentence' if batch == 1 else 'batch'} (ms, batch {batch}, {tokens} tokens, median)"
    if len(points) - len(missing) < 3:
        st.info("A front needs at least three points; these are shown as they are.")
    dark = cards.dark()
    elsewhere = sorted(set(runs["label"]) - set(here["label"]))
    click = cards.figure(
        lambda: pareto.scatter(points, x_title, f"{metric_title(metric)}, dev split", dark=dark),
        "speed_scatter",
        f"{plain(setting, 300)}. Points are means over seeds, whiskers ± std. Faint: another is as fast and better, or "
        "as good and faster. The line is drawn for the chosen runs only. Click a point to go to its run.",
        data=points.drop(columns="key"),
        follows=setting,
        how=HOW,
        on_click="rerun",
    )
    _open(click, runs)
    if bool(here["busy"].fillna(False).any()):
        st.warning(
            "Other work held the machine while some of these were timed; trust the order, not the numbers.",
            icon=":material/warning:",
        )
    if len(missing):
        st.caption(f"Without a score or a time, so not drawn: {listed(map(plain, missing['label']))}.")
    if elsewhere:
        st.caption(f"Measured on other hardware or not at all: {listed(map(plain, elsewhere))}.")


def _open(click: Click | None, runs: pd.DataFrame) -> None:
    """Goes to the run of a clicked point; a point over several seeds offers each of them."""
    if click is not None and len(click.custom) > 1:
        st.session_state["speed_open"] = click.custom[1]
    members = runs[runs["group"] == st.session_state.get("speed_open")]
    if click is not None and len(members) == 1:
        st.switch_page("pages/live.py", query_params={"job": members["id"].iloc[0]})
    if members.empty:
        if click is not None:
            st.caption("A teacher has no run of its own; click a student.")
        return
    with st.container(border=True, key="speed_seeds"):
        st.markdown(f"**{plain(members['label'].iloc[0])}** is the mean of {len(members)} runs:")
        with st.container(horizontal=True):
            for _, run in members.sort_values("seed").iterrows():
                words = f"seed {run['seed']:.0f}: {hundredfold(run['score'])}"
                st.page_link(
                    "pages/live.py", label=words, icon=":material/monitoring:", query_params={"job": run["id"]}
                )


def _points(timed: pd.DataFrame, evaluations: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One point a group of students and one a teacher, as `pareto.scatter` takes them."""
    rows = []
    students = timed[timed["model"] == "student"]
    for group, members in students.groupby("group", sort=False):
        quality, spread, count = groups.mean_and_std(list(100 * members["score"]))
        point = _point(members, members["label"].iloc[0], members["method"].iloc[0], quality, spread, count)
        rows.append({"key": group, **point})
    dev = compared.of_teachers(evaluations, metric)
    for name, members in timed[timed["model"] != "student"].groupby("model", sort=False):
        known = dev[(dev["teacher"] == name) & dev["run"].isin(members["id"])]["value"]
        quality = 100 * float(known.mean()) if len(known) else float("nan")
        rows.append({"key": "", **_point(members, f"teacher {name}", "teacher", quality, float("nan"), 1)})
    return pd.DataFrame(rows)


def _point(members: pd.DataFrame, label: str, method: str, quality: float, spread: float, n: int) -> dict[str, object]:
    cost, cost_spread, _ = groups.mean_and_std(list(members["median_ms"]))
    return {
        "label": label,
        "method": method,
        "cost": cost,
        "quality": quality,
        "cost_spread": 0.0 if np.isnan(cost_spread) else cost_spread,
        "quality_spread": 0.0 if np.isnan(spread) else spread,
        "n": n,
        "hardware": members["hardware"].iloc[0],
    }


entry.show(main)
