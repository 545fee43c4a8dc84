"""Compare: curves, final scores and settings of several runs."""

from __future__ import annotations

from typing import Any, cast

import pandas as pd
import streamlit as st

from kdcore.figures import curves, groups, scores
from kdcore.figures.template import plain as figure_plain
from pages.parts import cards, compared, entry
from pages.parts.selection import many_runs, the_store
from pages.parts.text import metric_title, plain, task_title

MOST_METHODS = 6


def main() -> None:
    cards.title(
        "Compare",
        "Same data order, same start, same steps: what differs is the method. Colour tells the family.",
    )
    store = the_store()
    everything = store.runs(include_archived=True)
    if everything.empty:
        cards.empty(
            "**Nothing to compare yet.** The one-minute demo makes runs with and without a teacher.",
            "start",
            "Go to Start",
        )
        return
    ended = everything[everything["state"] == "done"]
    suggestion = ended[ended["task"] == ended["task"].iloc[0]]["id"].tolist()[:12] if len(ended) else []
    picked = many_runs(
        everything,
        "Runs",
        "compare_runs",
        suggestion,
        help="Runs that differ in nothing but the seed are drawn as one mean with a band",
    )
    if not picked:
        cards.empty("**Choose two or more runs** above, or tick rows on the page Runs.", "runs", "Go to Runs")
        return
    chosen = everything[everything["id"].isin(picked)]
    tasks = list(dict.fromkeys(chosen["task"]))
    task = tasks[0]
    if len(tasks) > 1:
        task = st.selectbox(
            "Task",
            tasks,
            key="ctask",
            bind="query-params",
            format_func=task_title,
            help="Scores of different tasks do not share an axis",
        )
        task = task if task in tasks else tasks[0]
    runs, configs = compared.grouped(store, chosen[chosen["task"] == task])
    left_out = sorted(set(chosen.loc[chosen["task"] == task, "id"]) - set(runs["id"]))
    if left_out:
        st.warning(f"Left out, their settings cannot be read: {', '.join(map(plain, left_out))}.")
    if runs.empty:
        cards.empty("None of the chosen runs can be read.")
        return
    with st.container(horizontal=True):
        cards.badges(task, "; ".join(sorted(_partial(store, runs))) or None)
    if runs["group"].nunique() > MOST_METHODS:
        st.info(
            f"{runs['group'].nunique()} groups on one plot are hard to tell apart; choose fewer for a clear picture."
        )
    metrics = store.metrics(list(runs["id"]))
    evaluations = store.evaluations(list(runs["id"]))
    metric = next((m for m in runs["metric"] if isinstance(m, str) and m), "accuracy")
    with cards.guarded("The final scores cannot be shown"):
        _finals(runs, evaluations, metric)
    with cards.guarded("The curves cannot be shown"):
        _curves(runs, metrics, evaluations, metric)
    with cards.guarded("The settings cannot be compared"):
        _settings(runs, configs)


def _partial(store: object, runs: pd.DataFrame) -> set[str]:
    found = (store.get(run).facts.get("partial") for run in runs["id"])  # type: ignore[attr-defined]
    return {str(words) for words in found if words}


def _finals(runs: pd.DataFrame, evaluations: pd.DataFrame, metric: str) -> None:
    st.subheader("Final scores", anchor=False)
    labels = dict(zip(runs["group"], runs["label"], strict=True))
    default = next(
        (group for group, method in zip(runs["group"], runs["method"], strict=True) if method == "fine-tune"),
        next(iter(labels)),
    )
    known = runs[runs["score"].notna()]
    teacher = compared.teacher_score(evaluations, metric)
    if known.empty:
        cards.empty("No run has a score on the dev split yet; scores come with the first evaluation.")
    else:
        dark = cards.dark()
        rows = int(evaluations.loc[evaluations["split"] != "select", "rows"].max())
        cards.figure(
            lambda: scores.dots(known, f"{metric_title(metric)}, dev split", teacher=teacher, dark=dark),
            "compare_finals",
            f"Students chosen by *select*, scored once on up to {rows} dev rows. One dot a seed; the bar is the mean, "
            "the whisker ± std over seeds.",
            data=known[["id", "name", "label", "method", "seed", "score", "select_score", "last_score"]],
        )
    baseline = st.selectbox(
        "Baseline of the column Δ",
        list(labels),
        index=list(labels).index(default),
        format_func=lambda group: labels.get(group, group),
        key="compare_baseline",
    )
    table = compared.table(runs, baseline)
    st.dataframe(table, hide_index=True, key="compare_table", alt="Mean and std of each group over its seeds")
    st.caption(
        f"{metric_title(metric)}, mean ± sample std over N seeds. A difference is called real only with a named "
        "test over at least six paired seeds; this table names no winner."
    )
    st.download_button(
        "Download the table (CSV)",
        lambda: table.to_csv(index=False).encode(),
        "comparison.csv",
        "text/csv",
        key="compare_csv",
        icon=":material/download:",
    )


def _curves(runs: pd.DataFrame, metrics: pd.DataFrame, evaluations: pd.DataFrame, metric: str) -> None:
    st.subheader("Curves", anchor=False)
    quantities = {
        "dev": f"{metric_title(metric)}, dev split",
        "select": f"{metric_title(metric)}, select",
        "loss": "Loss (weighted sum)",
    }
    for kind, word in (("raw", "raw"), ("weighted", "weighted")):
        names = dict.fromkeys(metrics.loc[metrics["kind"] == kind, "name"])
        quantities |= {f"{kind}.{name}": f"Term {figure_plain(name)} ({word})" for name in names}
    left, right = st.columns(2)
    what = left.selectbox(
        "Quantity",
        list(quantities),
        key="what",
        bind="query-params",
        format_func=lambda key: quantities.get(key, key),
    )
    x = right.segmented_control(
        "Horizontal axis",
        list(curves.X_TITLES),
        key="x",
        bind="query-params",
        default="step",
        required=True,
        format_func=lambda key: curves.X_TITLES.get(key, key),
    )
    band = left.selectbox(
        "Band over seeds",
        [*curves.BAND_WORDS, "none"],
        key="band",
        bind="query-params",
        format_func=lambda key: curves.BAND_WORDS.get(key, "every seed"),
    )
    smoothing = right.slider(
        "Smoothing",
        0.0,
        0.99,
        0.0,
        0.01,
        key="sm",
        bind="query-params",
        help="Exponential average, corrected at its start; raw lines stay visible behind",
    )
    log = st.toggle("Logarithmic axis", key="logy", bind="query-params")
    what = what if what in quantities else "dev"
    x = x if x in curves.X_TITLES else "step"
    if what in ("dev", "select"):
        lines = compared.score_curves(runs, evaluations, metrics, metric, what == "select", x)
        scale = 100.0
    else:
        kind, _, name = what.partition(".")
        lines = compared.loss_curves(runs, metrics, kind, name or "loss", x)
        scale = 1.0
    if not lines:
        cards.empty("None of the chosen runs has logged this quantity yet.")
        return
    dark = cards.dark()
    data = pd.concat([pd.DataFrame({"run": c.run, "group": c.label, "seed": c.seed, x: c.x, what: c.y}) for c in lines])
    cards.figure(
        lambda: curves.compare(
            lines,
            cast(curves.X, x),
            quantities[what],
            smoothing=float(smoothing or 0.0),
            log=bool(log),
            band=cast(curves.Band, band) if band in curves.BAND_WORDS else None,
            scale=scale,
            dark=dark,
            markers=what in ("dev", "select"),
        ),
        "compare_curves",
        f"{len(lines)} runs. Groups of fewer than {curves.FEWEST_SEEDS} seeds are drawn seed by seed. The numbers "
        "below are raw, without smoothing.",
        data=data,
    )


def _settings(runs: pd.DataFrame, configs: dict[str, dict[str, Any]]) -> None:
    """One column a group: runs of a group differ in nothing but seed and name."""
    st.subheader("Settings", anchor=False)
    every = st.toggle("Show equal settings too", key="compare_every")
    one_of = {row["label"]: groups.essential(configs[row["id"]]) for _, row in runs.iterrows()}
    table = groups.differences(one_of, every)
    if table.empty:
        st.caption("The chosen runs differ in nothing but their seeds.")
        return
    st.dataframe(table, key="compare_settings", alt="Settings in which the chosen groups differ")


entry.show(main)
