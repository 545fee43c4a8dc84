"""What a report says of the runs of one task. Each section is a few pieces of HTML; an empty one is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kdcore.analysis import cost_points as costs
from kdcore.analysis import fidelity as teacher_fidelity
from kdcore.analysis import groups, series, task_table
from kdcore.analysis import pareto as fronts
from kdcore.analysis.comparison import Comparison
from kdcore.analysis.cost_axes import AXES
from kdcore.analysis.cost_table import cost_table, length_of, timings
from kdcore.analysis.series import Curve
from kdcore.analysis.teacher_scores import best_teacher_score
from kdcore.figures import curves as curve_figures
from kdcore.figures import layers as layer_figures
from kdcore.figures import pareto
from kdcore.figures import scores as score_figures
from kdcore.formatting import amount, duration, listed, metric_title, task_title
from kdcore.identity import essential
from kdcore.layer_map import LayerMap
from kdcore.methods import matched_layers
from kdcore.report.parts import escape, figure, listing, paragraph, table
from kdcore.tasks import TASKS

if TYPE_CHECKING:
    from kdcore.store import RunRow, Store

AXIS = AXES["latency-1"]
MOST_ROWS = 20
"""Of the numbers under a curve; evenly taken."""


@dataclass(frozen=True)
class TaskReport:
    """What the sections of one task read. metrics: the logged losses of the runs that count."""

    store: Store
    comparison: Comparison
    metrics: pd.DataFrame
    evaluations: pd.DataFrame

    @classmethod
    def read(cls, store: Store, comparison: Comparison) -> TaskReport:
        ids = list(comparison.runs["id"])
        return cls(store, comparison, store.metrics(ids, ["loss"]), store.evaluations(ids))

    @property
    def title(self) -> str:
        return task_title(self.comparison.task)

    @property
    def anchor(self) -> str:
        task = self.comparison.task
        own = "own-" + "".join(filter(str.isalnum, task.rsplit(":", 1)[-1]))
        return f"task-{list(TASKS).index(task) if task in TASKS else own}"

    @property
    def metric(self) -> str:
        return self.comparison.metric

    @property
    def members(self) -> Mapping[str, pd.DataFrame]:
        """Label -> the group's runs, the baseline's first."""
        return {label: self.comparison.members(group) for group, label in self.comparison.labels.items()}

    def facts(self) -> list[Mapping[str, Any]]:
        return [self.comparison.facts[run] for run in self.comparison.runs["id"]]

    def badges(self) -> list[str]:
        """What kind of numbers these are, where they are not plain benchmark results."""
        task = self.comparison.task
        made = ["synthetic task: generated sentences, not a benchmark result"]
        synthetic = task in TASKS and TASKS[task].synthetic
        notes = dict.fromkeys(str(facts["partial"]) for facts in self.facts() if facts.get("partial"))
        return (made if synthetic else []) + [f"partial data: {note}" for note in notes]


def by_task(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Methods down, tasks across, and their average."""
    rows, average = task_table.by_task(comparisons)
    yield table(rows, "Main metric on each task's dev split, mean ± std over seeds")
    yield paragraph(f"The average is the {average}.", "quiet")


def conditions(report: TaskReport) -> Iterator[str]:
    """Groups, seeds, data and machine."""
    rows = []
    baseline = report.comparison.labels[report.comparison.baseline]
    for label, members in report.members.items():
        rows.append(
            {
                "method and student": label,
                "role": "baseline" if label == baseline else "",
                "teachers": members["teachers"].iloc[0] or "none",
                "initial weights": members["init"].iloc[0],
                "seeds": ", ".join(f"{seed:.0f}" for seed in members["seed"].dropna()),
                "unfinished": int((members["state"] != "done").sum()),
            }
        )
    yield table(pd.DataFrame(rows), "Runs that differ in nothing but the seed are one row")
    facts = report.facts()
    scored = report.evaluations[report.evaluations["split"] != "select"]
    splits = [f"{split}: {int(rows)} rows" for split, rows in scored.groupby("split")["rows"].max().items()]
    yield listing(
        [
            ("Data", _fact_list(facts, "source")),
            ("Training rows", _fact_list(facts, "rows")),
            ("Rows of select", _fact_list(facts, "select_rows")),
            ("Dev split", listed(splits)),
            ("Machine", _fact_list(facts, "hardware")),
            (
                "Device and arithmetic",
                listed(filter(None, (_fact_list(facts, key) for key in ("device", "precision")))),
            ),
            ("Threads", _fact_list(facts, "threads")),
        ]
    )


def scores(report: TaskReport) -> Iterator[str]:
    """One dot per seed, the table, and what it rests on."""
    comparison = report.comparison
    known = comparison.finished
    title = f"{metric_title(report.metric)}, dev split"
    if len(known):
        numbers = known.assign(score=(100 * known["score"]).round(2), select=(100 * known["select_score"]).round(2))
        teacher = best_teacher_score(report.evaluations, report.metric)
        draw = partial(score_figures.dots, known, title, teacher=teacher)
        yield figure(
            lambda dark: draw(dark=dark),
            f"{title}. One dot per seed; the bar is the mean, the whisker ± std over seeds.",
            numbers[["label", "seed", "score", "select", "name"]],
        )
    legend = "mean ± sample std over N seeds; Δ over pairs of like seed, version and machine"
    yield table(comparison.table(), f"{title}: {legend}")
    for label, topics in comparison.also_differs().items():
        details = "; ".join(f"{topic} ({text})" for topic, text in topics.items())
        yield paragraph(f"{label}: not only its method differs from the baseline's, but also {details}.", "quiet")
    for note in [*comparison.repeats(), *comparison.unpaired()]:
        yield paragraph(f"{note}.", "quiet")


def verdicts(report: TaskReport) -> Iterator[str]:
    """Each group against the baseline, in words, with what the words rest on."""
    baseline = report.comparison.labels[report.comparison.baseline]
    for label, answer in report.comparison.answers():
        basis = f'<br><span class="quiet">{escape(answer.basis)}</span>' if answer.basis else ""
        pair = f'<span class="quiet">{escape(label)} against {escape(baseline)}</span><br>'
        sentence = f"<strong>{escape(answer.headline)}</strong> {escape(answer.sentence, 600)}"
        yield f'<p class="verdict">{pair}{sentence}{basis}</p>'


def curves(report: TaskReport) -> Iterator[str]:
    """Dev score and loss over the steps."""
    title = f"{metric_title(report.metric)}, dev split"
    runs, evaluations, metrics = report.comparison.runs, report.evaluations, report.metrics
    scores = series.score_curves(runs, evaluations, metrics, report.metric, False, "step")
    losses = series.loss_curves(runs, metrics, "loss", "loss", "step")
    tracks = ((title, scores, 100.0, False), ("Loss (weighted sum)", losses, 1.0, True))
    for name, lines, scale, log in tracks:
        if lines:
            log = log and all(np.nanmin(line.y, initial=np.inf) > 0 for line in lines)
            draw = partial(curve_figures.compare, lines, "step", name, log=log, scale=scale, markers=scale > 1)
            yield figure(
                lambda dark, draw=draw: draw(dark=dark),  # type: ignore[misc]
                f"{name}, over training steps. From {groups.MIN_BAND_SEEDS} seeds on, a group is drawn as mean "
                "with band.",
                _numbers(lines, scale),
            )


def fidelity(report: TaskReport) -> Iterator[str]:
    """Agreement of students with their teachers, in answers and in the words that decide them."""
    found = teacher_fidelity.table(report.store, report.comparison)
    if len(found):
        yield table(found.round(3), "Means over a group's finished runs, first dev split")


def layers(report: TaskReport) -> Iterator[str]:
    """CKA of student and teacher layers: one run per group, the first that was measured."""
    for label, members in report.members.items():
        read = report.store.probes_of(list(members["id"]))
        probes = {run: read.get(run, {}).get("distances", {}) for run in members["id"]}
        run = next((run for run, probe in probes.items() if "cka" in probe), None)
        if run is None:
            continue
        probe = probes[run]
        values = np.asarray(probe["cka"], dtype=np.float64)
        matched = _layer_map(report.store.get(run), len(values) - 1)
        draw = partial(layer_figures.matrix, values, "cka", matched)
        numbers = pd.DataFrame(values.round(3), columns=[f"student {layer}" for layer in range(values.shape[1])])
        numbers.insert(0, "layer", [f"teacher {layer}" for layer in range(len(values))])
        yield figure(
            lambda dark, draw=draw: draw(dark=dark),  # type: ignore[misc]
            f"{label}, run {run}, against teacher {probe.get('teacher', '')}; {probe.get('tokens', '?')} "
            f"dev tokens. {layer_figures.describe_map(matched) if matched else ''}",
            numbers,
        )


def read_outs(report: TaskReport) -> Iterator[str]:
    """What the methods read out for each pair of layers: one run per group, the first that has any."""
    for label, members in report.members.items():
        read = report.store.probes_of(list(members["id"]))
        run = next((run for run in members["id"] if read.get(run, {}).get("matrices", {}).get("matrices")), None)
        if run is None:
            continue
        probe = read[run]["matrices"]
        for name, values in probe["matrices"].items():
            matrix = np.asarray(values, dtype=np.float64).round(3)
            numbers = pd.DataFrame(matrix, columns=[f"teacher {layer + 1}" for layer in range(matrix.shape[1])])
            numbers.insert(0, "layer", [f"student {layer + 1}" for layer in range(len(matrix))])
            draw = partial(layer_figures.read_out, name, values)
            yield figure(
                lambda dark, draw=draw: draw(dark=dark),  # type: ignore[misc]
                f"{label}, run {run}, {name.replace('_', ' ')} at step {probe['step']}.",
                numbers,
            )


def speed(report: TaskReport) -> Iterator[str]:
    """Quality against latency; size, training time and measured latency of each group, and of the teachers."""
    yield from _front(report)
    rows, timed = [], []
    for label, members in report.members.items():
        rows.append(
            {
                "method and student": label,
                "parameters": amount(members["parameters"].iloc[0]),
                "training": duration(members["training_seconds"].median()),
            }
        )
        for run in members["id"]:
            timed += [
                {"model": label, "row": length_of(record), **record}
                for record in timings(report.store.probes(run), "latency")
            ]
    yield table(pd.DataFrame(rows), "Size, and median time of a whole run")
    if timed:
        yield table(_latencies(pd.DataFrame(timed)), "Latency, median over runs")


def _front(report: TaskReport) -> Iterator[str]:
    """Quality against the latency of one row, under the condition that most students were measured in."""
    costs_read = cost_table(report.store, report.comparison.finished)
    timed = costs_read[costs_read["axis"] == AXIS.key]
    options = costs.conditions(timed, whole=True)
    if not options:
        return
    condition, (hardware, length) = next(iter(options.items()))
    seen = costs.of_task(timed, hardware, length or "", report.comparison.finished, costs.student_sizes(costs_read))
    points = fronts.points(seen)
    known = points.dropna(subset=["cost", "quality"])
    if len(known) < 2:
        return
    title = f"{metric_title(report.metric)}, dev split"
    words = AXIS.words.format(length=costs.length_text(length or "", costs_read))
    draw = partial(pareto.scatter, points, words, title, edges=fronts.band(seen))
    columns = {"label": "model", "cost": "ms", "quality": "dev score", "quality_spread": "std", "n": "seeds"}
    numbers = known[list(columns)].rename(columns=columns).round({"ms": 3, "dev score": 2, "std": 2})
    hollow = " Hollow: timed on a busy machine." if known["busy"].any() else ""
    yield figure(
        lambda dark: draw(dark=dark),
        f"Measured on {condition}. Means over seeds, whiskers ± std; students of one size share their times. Faint: "
        f"another is as fast and better, or as good and faster.{hollow}",
        numbers,
    )


def settings(report: TaskReport) -> Iterator[str]:
    """One column per group: only what differs."""
    comparison = report.comparison
    columns = {label: essential(comparison.settings_of(group)) for group, label in comparison.labels.items()}
    differing = groups.differences(columns).reset_index()
    if len(differing):
        yield table(differing, "Settings in which the groups differ")


def all_runs(store: Store, chosen: pd.DataFrame) -> Iterator[str]:
    """Each run by name and id, with its note."""
    notes = {run: row.note for run, row in store.rows(list(chosen["id"])).items()}
    rows = [
        {
            "run": row["name"],
            "id": row["id"],
            "task": task_title(row["task"]),
            "method": row["method"],
            "seed": "" if pd.isna(row["seed"]) else f"{row['seed']:.0f}",
            "state": row["state"],
            "score": "" if pd.isna(row["score"]) else f"{100 * row['score']:.1f}",
            "note": notes[row["id"]],
        }
        for _, row in chosen.iterrows()
    ]
    yield table(pd.DataFrame(rows), "Score: the task's main metric on the dev split, times 100")


def _fact_list(facts: Sequence[Mapping[str, Any]], key: str) -> str:
    """What the runs noted under this key, each word once."""
    return listed(dict.fromkeys(str(item[key]) for item in facts if item.get(key) is not None))


def _numbers(lines: Sequence[Curve], scale: float) -> pd.DataFrame:
    """Steps down, groups across, mean ± std over the seeds that have a value there."""
    steps = np.unique(np.concatenate([line.x for line in lines]))
    ticks = steps[np.unique(np.linspace(0, len(steps) - 1, min(MOST_ROWS, len(steps))).round().astype(int))]
    rows = pd.DataFrame({"step": [f"{step:.0f}" for step in ticks]})
    for label in dict.fromkeys(line.label for line in lines):
        members = [line for line in lines if line.label == label]
        digits = 1 if scale > 1 else 3
        values = [[scale * float(line.y[line.x == step][0]) for line in members if step in line.x] for step in ticks]
        rows[label] = [groups.format_mean(*groups.mean_and_std(seeds), digits=digits) for seeds in values]
    return rows


def _layer_map(row: RunRow, depth: int) -> LayerMap:
    """The layers that the method matched; only depths matter to it."""
    if not row.config.teachers:
        return {}
    return matched_layers(row.method, row.config.options, row.config.student.layers, depth)


def _latencies(timed: pd.DataFrame) -> pd.DataFrame:
    """One row a model and condition; `busy`, where there are any: how many of its times other work disturbed."""
    student = timed["name"] == "student"
    timed["model"] = timed["model"].where(student, "teacher " + timed["name"].astype(str))
    shared = ["model", "hardware", "precision", "threads", "batch", "row", "tokens"]
    timed["busy"] = timed["busy"].eq(True)
    rows = timed.groupby(shared, sort=False, dropna=False).agg(
        ms=("median_ms", "median"), runs=("median_ms", "count"), busy=("busy", "sum")
    )
    rows["ms"] = rows["ms"].map("{:.2f}".format)
    names = {"runs": "measured in runs", "busy": "on a busy machine"}
    unused = [] if rows["busy"].any() else ["busy"]
    return rows.reset_index().drop(columns=unused).rename(columns=names)
