"""What a report says of the runs of one task. Each section is a few pieces of HTML; an empty one is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kdcore.analysis import comparison, groups, significance
from kdcore.analysis import cost_points as costs
from kdcore.analysis.cost_axes import AXES
from kdcore.analysis.cost_table import readings
from kdcore.figures import curves as curve_figures
from kdcore.figures import layers as layer_figures
from kdcore.figures import pareto
from kdcore.figures import scores as score_figures
from kdcore.figures.curves import Curve
from kdcore.formatting import amount, duration, listed, metric_title, task_title
from kdcore.methods import matched_layers
from kdcore.report.parts import figure, listing, paragraph, said, table
from kdcore.tasks import TASKS

if TYPE_CHECKING:
    from kdcore.store import RunRow, Store

AXIS = AXES["latency-1"]
MOST_ROWS = 20
"""Of the numbers under a curve; evenly taken."""


@dataclass(frozen=True)
class Compared:
    """The runs of one task, the baseline's first.

    baseline: a label. members: label -> runs that differ in nothing but the seed. metrics: the logged losses.
    """

    store: Store
    task: str
    runs: pd.DataFrame
    configs: Mapping[str, Mapping[str, Any]]
    baseline: str
    members: Mapping[str, pd.DataFrame]
    metrics: pd.DataFrame
    evaluations: pd.DataFrame

    @classmethod
    def of(cls, store: Store, chosen: pd.DataFrame, wanted: str | None) -> Compared:
        """chosen: the task's runs, as the store lists them. wanted: a run of the baseline."""
        runs, configs = comparison.grouped(store, chosen)
        others = runs["group"] != comparison.baseline_of(runs, wanted)
        runs = runs.assign(other=others).sort_values(["other", "seed"], kind="stable").drop(columns="other")
        members = {str(label): rows for label, rows in runs.groupby("label", sort=False)}
        ids = list(runs["id"])
        read = (store.metrics(ids, ["loss"]), store.evaluations(ids))
        return cls(store, str(runs["task"].iloc[0]), runs, configs, next(iter(members)), members, *read)

    @property
    def title(self) -> str:
        return task_title(self.task)

    @property
    def anchor(self) -> str:
        return f"task-{list(TASKS).index(self.task) if self.task in TASKS else 'own'}"

    @property
    def metric(self) -> str:
        return next((one for one in self.runs["metric"] if isinstance(one, str) and one), "accuracy")

    def facts(self) -> list[dict[str, Any]]:
        rows = self.store.rows(list(self.runs["id"]))
        return [rows[run].facts for run in self.runs["id"]]

    def badges(self) -> list[str]:
        """What kind of numbers these are, where they are no plain benchmark results."""
        made = ["synthetic task: generated sentences, no benchmark result"]
        synthetic = self.task in TASKS and TASKS[self.task].synthetic
        partial_ = dict.fromkeys(str(one["partial"]) for one in self.facts() if one.get("partial"))
        return (made if synthetic else []) + [f"partial data: {words}" for words in partial_]


def by_task(runs: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Methods down, tasks across, and their average."""
    found, average = comparison.by_task(runs, configs)
    yield table(found, "Main metric on each task's dev split, mean ± std over seeds")
    yield paragraph(f"The average is the {average}.", "quiet")


def conditions(one: Compared) -> Iterator[str]:
    """Groups, seeds, data and machine."""
    rows = []
    for label, members in one.members.items():
        rows.append(
            {
                "method and student": label,
                "role": "baseline" if label == one.baseline else "",
                "teachers": members["teachers"].iloc[0] or "none",
                "initial weights": members["init"].iloc[0],
                "seeds": ", ".join(f"{seed:.0f}" for seed in members["seed"].dropna()),
                "unfinished": int((members["state"] != "done").sum()),
            }
        )
    yield table(pd.DataFrame(rows), "Runs that differ in nothing but the seed are one row")
    facts = one.facts()
    scored = one.evaluations[one.evaluations["split"] != "select"]
    splits = [f"{split}: {int(rows)} rows" for split, rows in scored.groupby("split")["rows"].max().items()]
    yield listing(
        [
            ("Data", _known(facts, "source")),
            ("Training rows", _known(facts, "rows")),
            ("Rows of select", _known(facts, "select_rows")),
            ("Dev split", listed(splits)),
            ("Machine", _known(facts, "hardware")),
            ("Device and arithmetic", listed(filter(None, (_known(facts, key) for key in ("device", "precision"))))),
            ("Threads", _known(facts, "threads")),
        ]
    )


def scores(one: Compared) -> Iterator[str]:
    """One dot a seed, and the table."""
    known = one.runs[one.runs["score"].notna()]
    title = f"{metric_title(one.metric)}, dev split"
    if len(known):
        shown = known.assign(score=(100 * known["score"]).round(2), select=(100 * known["select_score"]).round(2))
        draw = partial(score_figures.dots, known, title, teacher=comparison.teacher_score(one.evaluations, one.metric))
        yield figure(
            lambda dark: draw(dark=dark),
            f"{title}. One dot a seed; the bar is the mean, the whisker ± std over seeds.",
            shown[["label", "seed", "score", "select", "name"]],
        )
    rows = comparison.table(one.runs, str(one.runs["group"].iloc[0]))
    yield table(rows, f"{title}: mean ± sample std over N seeds")


def verdicts(one: Compared) -> Iterator[str]:
    """Each group against the baseline, in words, with what the words rest on."""
    done = {label: members[members["state"] == "done"] for label, members in one.members.items()}
    for label, members in done.items():
        if label == one.baseline:
            continue
        if any(_settings(one, label).get(key) != _settings(one, one.baseline).get(key) for key in ("own", "student")):
            yield paragraph(f"{label}: its student or data differ from the baseline's, so their runs do not pair.")
            continue
        found = comparison.verdict(members, done[one.baseline], one.metric)
        headline, sentence = significance.in_words(found, label, one.baseline)
        rest = f'<br><span class="quiet">{said(significance.basis(found))}</span>' if found.seeds else ""
        pair = f'<span class="quiet">{said(label)} against {said(one.baseline)}</span><br>'
        yield f'<p class="verdict">{pair}<strong>{said(headline)}</strong> {said(sentence)}{rest}</p>'


def curves(one: Compared) -> Iterator[str]:
    """Dev score and loss over the steps."""
    title = f"{metric_title(one.metric)}, dev split"
    tracks = (
        (
            title,
            comparison.score_curves(one.runs, one.evaluations, one.metrics, one.metric, False, "step"),
            100.0,
            False,
        ),
        ("Loss (weighted sum)", comparison.loss_curves(one.runs, one.metrics, "loss", "loss", "step"), 1.0, True),
    )
    for words, lines, scale, log in tracks:
        if lines:
            log = log and all(np.nanmin(line.y, initial=np.inf) > 0 for line in lines)
            draw = partial(curve_figures.compare, lines, "step", words, log=log, scale=scale, markers=scale > 1)
            yield figure(
                lambda dark, draw=draw: draw(dark=dark),  # type: ignore[misc]
                f"{words}, over training steps. From {curve_figures.FEWEST_SEEDS} seeds on, a group is drawn as mean "
                "with band.",
                _numbers(lines, scale),
            )


def layers(one: Compared) -> Iterator[str]:
    """CKA of student and teacher layers: one run a group, the first that was measured."""
    for label, members in one.members.items():
        read = one.store.probes_of(list(members["id"]))
        probes = {run: read.get(run, {}).get("distances", {}) for run in members["id"]}
        run = next((run for run, probe in probes.items() if "cka" in probe), None)
        if run is None:
            continue
        probe = probes[run]
        values = np.asarray(probe["cka"], dtype=np.float64)
        matched = _layer_map(one.store.get(run), len(values) - 1)
        draw = partial(layer_figures.matrix, values, "cka", matched)
        numbers = pd.DataFrame(values.round(3), columns=[f"student {at}" for at in range(values.shape[1])])
        numbers.insert(0, "layer", [f"teacher {at}" for at in range(len(values))])
        yield figure(
            lambda dark, draw=draw: draw(dark=dark),  # type: ignore[misc]
            f"{label}, run {run}, against teacher {probe.get('teacher', '')}; {probe.get('tokens', '?')} "
            f"dev tokens. {layer_figures.map_words(matched) if matched else ''}",
            numbers,
        )


def speed(one: Compared) -> Iterator[str]:
    """Quality against latency; size, training time and measured latency of each group, and of the teachers."""
    yield from _front(one)
    rows, timed = [], []
    for label, members in one.members.items():
        rows.append(
            {
                "method and student": label,
                "parameters": amount(members["parameters"].iloc[0]),
                "training": duration(members["seconds"].median()),
            }
        )
        for run in members["id"]:
            timed += [{"model": label, **record} for record in comparison.timings(one.store.probes(run), "latency")]
    yield table(pd.DataFrame(rows), "Size, and median time of a whole run")
    if timed:
        yield table(_latencies(pd.DataFrame(timed)), "Latency, median over runs")


def _front(one: Compared) -> Iterator[str]:
    """Quality against the latency of one row, under the condition that most students were measured in."""
    found = readings(one.store, one.runs)
    timed = found[found["axis"] == AXIS.key]
    options = costs.conditions(timed, whole=True)
    if not options:
        return
    where, (place, tokens) = next(iter(options.items()))
    seen = costs.of_task(timed, place, tokens or 0, one.runs, costs.student_sizes(found))
    points = pareto.points(seen)
    known = points.dropna(subset=["cost", "quality"])
    if len(known) < 2:
        return
    title = f"{metric_title(one.metric)}, dev split"
    draw = partial(pareto.scatter, points, AXIS.words.format(length=f"{tokens} tokens"), title, edges=pareto.band(seen))
    columns = {"label": "model", "cost": "ms", "quality": "dev score", "quality_spread": "std", "n": "seeds"}
    numbers = known[list(columns)].rename(columns=columns).round({"ms": 3, "dev score": 2, "std": 2})
    hollow = " Hollow: timed on a busy machine." if known["busy"].any() else ""
    yield figure(
        lambda dark: draw(dark=dark),
        f"Measured on {where}. Means over seeds, whiskers ± std; students of one size share their times. Faint: "
        f"another is as fast and better, or as good and faster.{hollow}",
        numbers,
    )


def settings(one: Compared) -> Iterator[str]:
    """One column a group: only what differs."""
    one_of = {label: groups.essential(_settings(one, label)) for label in one.members}
    found = groups.differences(one_of).reset_index()
    if len(found):
        yield table(found, "Settings in which the groups differ")


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


def _settings(one: Compared, label: str) -> Mapping[str, Any]:
    """The settings of a group's first run: the group's, but for the seed."""
    return one.configs[one.members[label]["id"].iloc[0]]


def _known(facts: Sequence[Mapping[str, Any]], key: str) -> str:
    """What the runs noted under this key, each word once."""
    return listed(dict.fromkeys(str(one[key]) for one in facts if one.get(key) is not None))


def _numbers(lines: Sequence[Curve], scale: float) -> pd.DataFrame:
    """Steps down, groups across, mean ± std over the seeds that have a value there."""
    steps = np.unique(np.concatenate([line.x for line in lines]))
    kept = steps[np.unique(np.linspace(0, len(steps) - 1, min(MOST_ROWS, len(steps))).round().astype(int))]
    rows = pd.DataFrame({"step": [f"{step:.0f}" for step in kept]})
    for label in dict.fromkeys(line.label for line in lines):
        members = [line for line in lines if line.label == label]
        at = [[scale * float(line.y[line.x == step][0]) for line in members if step in line.x] for step in kept]
        rows[label] = [groups.in_words(*groups.mean_and_std(values), digits=1 if scale > 1 else 3) for values in at]
    return rows


def _layer_map(row: RunRow, depth: int) -> dict[int, int]:
    """The layers that the method matched; only depths matter to it."""
    if not row.config.teachers:
        return {}
    return matched_layers(row.method, row.config.options, row.config.student.layers, depth)


def _latencies(timed: pd.DataFrame) -> pd.DataFrame:
    """One row a model and condition."""
    student = timed["name"] == "student"
    timed["model"] = timed["model"].where(student, "teacher " + timed["name"].astype(str))
    shared = ["model", "hardware", "precision", "threads", "batch", "tokens"]
    found = timed.groupby(shared, sort=False, dropna=False)["median_ms"].agg(["median", "count"]).reset_index()
    found["median"] = found["median"].map("{:.2f}".format)
    return found.rename(columns={"median": "ms", "count": "measured in runs"})
