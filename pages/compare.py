"""Compare: curves, final scores and settings of several runs."""

from __future__ import annotations

from typing import Any, cast

import pandas as pd
import streamlit as st

from kdcore.analysis import comparison, groups
from kdcore.figures import curves, scores
from kdcore.figures.template import plain as figure_plain
from kdcore.store import Store
from pages.parts.common import cards, queue_runs, shell
from pages.parts.common.run_picker import many_runs, the_store
from pages.parts.common.text import metric_title, plain, size, task_title
from pages.parts.compare import ablation, race, significance

MOST_METHODS = 6
REPORT_BYTES = 5_000_000


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
    queue_runs.confirm()
    chosen = everything[everything["id"].isin(picked)]
    tasks = list(dict.fromkeys(chosen["task"]))
    task = tasks[0]
    if len(tasks) > 1:
        with cards.guarded("The scores by task cannot be shown"):
            _by_task(store, chosen)
        task = st.selectbox(
            "Task",
            tasks,
            key="ctask",
            bind="query-params",
            format_func=task_title,
            help="Scores of different tasks do not share an axis",
        )
        task = task if task in tasks else tasks[0]
    # all runs of the task: an answer to what a page asks of methods must not hang on which runs are chosen above
    whole, configs = comparison.in_groups(store, everything[everything["task"] == task])
    runs = comparison.labelled(whole[whole["id"].isin(picked)], configs)
    left_out = sorted(set(chosen.loc[chosen["task"] == task, "id"]) - set(runs["id"]))
    if left_out:
        st.warning(f"Left out, their settings cannot be read: {', '.join(map(plain, left_out))}.")
    if runs.empty:
        cards.empty("None of the chosen runs can be read.")
        return
    with st.container(horizontal=True):
        cards.badges(task, comparison.partial_words(store, list(runs["id"])))
    if runs["group"].nunique() > MOST_METHODS:
        st.info(
            f"{runs['group'].nunique()} groups on one plot are hard to tell apart; choose fewer for a clear picture."
        )
    metrics = store.metrics(list(runs["id"]), kinds=["loss"])  # other kinds are read when their curve is asked for
    evaluations = store.evaluations(list(runs["id"]))
    metric = next((m for m in runs["metric"] if isinstance(m, str) and m), "accuracy")
    baseline = comparison.baseline_of(runs)
    with cards.guarded("The final scores cannot be shown"):
        baseline = _finals(runs, evaluations, metric)
    with cards.guarded("The verdict cannot be given"):
        significance.show(runs, whole, configs, baseline, metric)
    with cards.guarded("Where the gain comes from cannot be shown"):
        ablation.show(runs, whole, configs, comparison.teacher_score(evaluations, metric))
    with cards.guarded("The curves cannot be shown"):
        _curves(store, runs, configs, metrics, evaluations, metric)
    with cards.guarded("The race cannot be shown"):
        race.show(store, runs, metrics, evaluations, baseline, metric)
    with cards.guarded("The settings cannot be compared"):
        _settings(runs, configs)
    _report(store, picked, runs, baseline)


def _by_task(store: Store, chosen: pd.DataFrame) -> None:
    st.subheader("Scores by task", anchor=False)
    runs, configs = comparison.grouped(store, chosen)
    table, average = comparison.by_task(runs, configs)
    st.dataframe(table, hide_index=True, key="compare_tasks", alt="Mean and std of each method on each task")
    st.caption(
        "Each task's main metric on its dev split, mean ± sample std over N seeds. **Average**: "
        f"{plain(average)}, over the seeds that have all of them."
    )
    _download(table, "tasks")


def _finals(runs: pd.DataFrame, evaluations: pd.DataFrame, metric: str) -> str:
    """Scores and their distance to a marked baseline; returns the baseline's group."""
    st.subheader("Final scores", anchor=False)
    labels = dict(zip(runs["group"], runs["label"], strict=True))
    default = comparison.baseline_of(runs)
    baseline = st.selectbox(
        "Baseline",
        list(labels),
        index=list(labels).index(default),
        format_func=lambda group: labels.get(group, group),
        key="base",
        bind="query-params",
        help="Differences below are to the baseline's run of the same seed",
    )
    baseline = baseline if baseline in labels else default
    known = runs[runs["score"].notna()]
    if known.empty:
        cards.empty("No run has a score on the dev split yet; scores come with the first evaluation.")
    else:
        _dots(known, evaluations, metric, baseline, labels[baseline])
    table = comparison.table(runs, baseline)
    st.dataframe(table, hide_index=True, key="compare_table", alt="Mean and std of each group over its seeds")
    st.caption(
        f"{metric_title(metric)}, mean ± sample std over N seeds; Δ over the seeds that both have. This table names no "
        "winner: that takes a test, below."
    )
    _download(table, "comparison")
    return baseline


def _dots(known: pd.DataFrame, evaluations: pd.DataFrame, metric: str, baseline: str, name: str) -> None:
    """Scores on the left, differences to the baseline on the right; a click opens the run."""
    dark = cards.dark()
    columns = ["id", "name", "label", "method", "seed", "score", "select_score", "last_score"]
    teacher = comparison.teacher_score(evaluations, metric)
    dev = evaluations.loc[evaluations["split"] != "select", "rows"]
    rows = int(dev.max()) if len(dev) else 0
    gaps = comparison.deltas(known, baseline)
    left, right = (st.container(), None) if gaps.empty else st.columns(2)
    with left:
        first = cards.figure(
            lambda: scores.dots(known, f"{metric_title(metric)}, dev split", teacher=teacher, dark=dark),
            "compare_finals",
            f"Students chosen by *select*, scored once on up to {rows} dev rows. One dot a seed; the bar is the mean, "
            "the whisker ± std over seeds. Click a dot to open its run.",
            data=known[columns],
            how="The student with the best score on *select* (training rows kept aside) is scored on the dev split, "
            "which decides nothing. Std is the sample's (N − 1).",
            on_click="rerun",
        )
    second = None
    if right:
        with right:
            second = cards.figure(
                lambda: scores.dots(gaps, f"Δ {metric_title(metric)} to the baseline", baseline=name, dark=dark),
                "compare_deltas",
                f"One dot a seed: its score less that of **{plain(name)}** with the same seed.",
                data=gaps[columns[:-2]],
                how="Runs of one seed share data order and initial weights, so their difference has less chance in it "
                "than the difference of two means.",
                on_click="rerun",
            )
    if clicked := first or second:
        st.switch_page("pages/live.py", query_params={"job": str(clicked.custom[0])})


def _download(table: pd.DataFrame, name: str) -> None:
    st.download_button(
        "Download the table (CSV)",
        lambda: table.to_csv(index=False).encode(),
        f"{name}.csv",
        "text/csv",
        key=f"compare_csv_{name}",
        icon=":material/download:",
    )


def _curves(
    store: Store,
    runs: pd.DataFrame,
    configs: dict[str, dict[str, Any]],
    losses: pd.DataFrame,
    evaluations: pd.DataFrame,
    metric: str,
) -> None:
    st.subheader("Curves", anchor=False)
    quantities = {
        "dev": f"{metric_title(metric)}, dev split",
        "select": f"{metric_title(metric)}, select",
        "loss": "Loss (weighted sum)",
    }
    terms = [(kind, name) for kind, name in store.quantities(list(runs["id"])) if kind in ("raw", "weighted")]
    quantities |= {f"{kind}.{name}": f"Term {figure_plain(name)} ({kind})" for kind, name in terms}
    left, right = st.columns(2)
    what = left.selectbox(
        "Quantity",
        list(quantities),
        key="what",
        bind="query-params",
        format_func=lambda key: quantities.get(key, key),
    )
    band = right.selectbox(
        "Band over seeds",
        [*curves.BAND_WORDS, "none"],
        key="band",
        bind="query-params",
        format_func=lambda key: curves.BAND_WORDS.get(key, "every seed"),
    )
    x = st.segmented_control(
        "Horizontal axis",
        list(curves.X_TITLES),
        key="x",
        bind="query-params",
        default="step",
        required=True,
        format_func=lambda key: curves.X_TITLES.get(key, key),
    )
    left, middle, right = st.columns([2, 1, 1], vertical_alignment="bottom")
    smoothing = left.slider(
        "Smoothing",
        0.0,
        0.99,
        0.0,
        0.01,
        key="sm",
        bind="query-params",
        help="Exponential average, corrected at its start; raw lines stay visible behind",
    )
    log_y = middle.toggle("Log scale, vertical", key="logy", bind="query-params")
    log_x = right.toggle("Log scale, horizontal", key="logx", bind="query-params")
    what = what if what in quantities else "dev"
    x = x if x in curves.X_TITLES else "step"
    kind, _, name = what.partition(".")
    metrics = store.metrics(list(runs["id"]), kinds=[kind]) if name else losses
    metrics, evaluations = (comparison.with_rows_seen(points, configs) for points in (metrics, evaluations))
    if what in ("dev", "select"):
        lines = comparison.score_curves(runs, evaluations, metrics, metric, what == "select", x)
        scale = 100.0
    else:
        lines = comparison.loss_curves(runs, metrics, kind, name or "loss", x)
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
            log=bool(log_y),
            log_x=bool(log_x),
            band=cast(curves.Band, band) if band in curves.BAND_WORDS else None,
            scale=scale,
            dark=dark,
            markers=what in ("dev", "select"),
        ),
        "compare_curves",
        f"{len(lines)} runs. Groups of fewer than {curves.FEWEST_SEEDS} seeds are drawn seed by seed.",
        data=data,
        follows=f"{what} {x} {log_x} {log_y}",
        how="The numbers are raw, without smoothing. A line is the mean over a group's seeds at each point that any of "
        "them logged, each seed interpolated only inside its own range; its band is what the box *Band over seeds* "
        "says. Smoothing is an exponential average of each seed before the mean.",
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


def _report(store: Store, picked: list[str], runs: pd.DataFrame, baseline: str) -> None:
    """All of this page in one file, put together when it is asked for."""
    st.subheader("Report", anchor=False)
    first = str(runs.loc[runs["group"] == baseline, "id"].iloc[0])
    st.download_button(
        "Report (HTML)",
        lambda: _report_html(store, picked, first),
        "report.html",
        "text/html",
        key="compare_report",
        icon=":material/description:",
    )
    st.caption(
        "Scores, verdicts, curves, layers, speed, settings, equations and how all was computed, for all chosen runs. "
        f"One file of about {size(REPORT_BYTES)}, most of it plotly.js: it opens without a network."
    )


def _report_html(store: Store, picked: list[str], baseline: str) -> bytes:
    from kdcore import report  # reads the methods' words, and so brings torch: on the click, not with the page

    return report.html(store, picked, baseline).encode()


shell.show(main)
