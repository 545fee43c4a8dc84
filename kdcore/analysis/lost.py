"""What a student lost against its teacher, over all its trained sizes, and what training alone would have lost.

All of it comes from dev predictions that finished runs kept; nothing is run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdcore.analysis import significance
from kdcore.analysis.comparison import counting
from kdcore.analysis.relatives import relatives
from kdcore.analysis.significance import MIN_PAIRED_SEEDS, contributions
from kdcore.engine.run_files import model_predictions
from kdcore.errors import UserError
from kdcore.paths import run_dir
from kdcore.probes import fidelity, lost_rows
from kdcore.probes.examples import of_class
from kdcore.probes.lost_rows import Cells, Slope
from kdcore.runs.remeasure import best_teacher
from kdcore.store import RunRow, Store
from kdcore.tasks import TASKS

ALONE = "fine-tune"
SIZE = ("student.layers", "student.heads", "student.init_layers")
"""Settings in which the students of one grid may differ."""
HOW = (
    "Teacher and student on the first dev split, from predictions that the runs kept. Gap: the teacher's score less "
    f"the student's, mean over seeds. Its interval: with {MIN_PAIRED_SEEDS} seeds or more that of a paired t-test over "
    f"seeds and dev rows, as on Compare; with fewer, the 95 % percentiles of {lost_rows.RESAMPLES:,} paired resamples "
    "of the dev rows, which speak for other rows and not for other seeds. Retention: the student's score over the "
    "teacher's. Training alone: fine-tuning of the same size under the same protocol. Where the width stays, "
    "more heads are narrower ones."
)

Floats = NDArray[np.float64]


class Answers(NamedTuple):
    """Of one run on the first dev split. ids, gold: [rows]. student, teacher: logits [rows, outputs]."""

    ids: NDArray[np.int64]
    gold: NDArray[Any]
    student: NDArray[np.float32]
    teacher: NDArray[np.float32]


@dataclass(frozen=True)
class Loss:
    """A run's student and its kin against their teacher.

    sizes: one row for each size, see `_size`. size: (layers, heads) of the run. answers: seed -> answers at that size.
    """

    row: RunRow
    teacher: str
    metric: str
    sizes: pd.DataFrame
    size: tuple[int, int]
    answers: Mapping[int, Answers]

    @property
    def own(self) -> pd.Series:
        """The row of `sizes` of the run's own size."""
        layers, heads = self.size
        return self.sizes[(self.sizes["layers"] == layers) & (self.sizes["heads"] == heads)].iloc[0]

    @property
    def classes(self) -> bool:
        """Whether the answers are classes, which can be right or wrong."""
        return bool(next(iter(self.answers.values())).student.shape[1] > 1)

    @cached_property
    def cells(self) -> dict[int, Cells]:
        """Seed -> its rows in four cells; classification only."""
        return {seed: lost_rows.four_cells(a.gold, a.teacher, a.student) for seed, a in self.answers.items()}

    def seeds(self) -> pd.DataFrame:
        """One row a seed: four cells with McNemar's p, loyalties; of scores correlation and mean distance."""
        return pd.DataFrame([{"seed": seed, **_closeness(a)} for seed, a in sorted(self.answers.items())])

    def slopes(self) -> dict[str, Slope]:
        """What a doubling of layers, or of heads, changes of the gap; empty with too few sizes."""
        return lost_rows.slopes(self.sizes["layers"], self.sizes["heads"], self.sizes["gap"])

    def odds_ratios(self, texts: Sequence[Sequence[str]], labels: Sequence[str]) -> pd.DataFrame:
        """What predicts a lost row among those that the teacher has right, over all seeds of the size.

        Args:
            texts: the text columns of the dev split, in the order of the answers. labels: names of the classes.
        """
        first = next(iter(self.answers.values()))
        known = first.teacher.argmax(-1) == first.gold
        lost = sum((a.student.argmax(-1) != a.gold).astype(int) for a in self.answers.values())
        marks = lost_rows.features(texts, first.gold, of_class(first.teacher, first.gold), labels)
        return lost_rows.odds_ratios(marks[known], np.asarray(lost)[known], len(self.answers))


def read_loss(store: Store, runs: pd.DataFrame, run: str) -> Loss | None:
    """The loss of a finished run and of its other sizes; None where it kept no answers of a teacher.

    Args:
        runs: rows of `Store.runs`, where other sizes and training alone are looked for.

    Raises:
        UserError: no such run, or kept predictions that cannot be read.
    """
    row = store.get(run)
    metric = str(runs.loc[runs["id"] == run, "metric"].iloc[0])
    teacher = best_teacher(row.facts, [spec.name for spec in row.config.teachers], metric)
    kin = _kin(store, runs, run)
    answers = {each: found for each in kin["id"] if teacher and (found := read_answers(each, row.task, teacher))}
    if teacher is None or run not in answers:
        return None
    same = [each for each, a in answers.items() if np.array_equal(a.ids, answers[run].ids)]
    kin = kin[kin["id"].isin(same)]
    kin = kin[kin["rows"] == kin.loc[kin["id"] == run, "rows"].iloc[0]]
    alone = runs[(runs["method"] == ALONE) & (runs["state"] == "done") & runs["score"].notna()]
    alone = alone[alone["rows"].isin(kin["rows"])]
    groups = [_size(part, answers, alone, metric) for _, part in kin.groupby(["layers", "heads"])]
    own = kin.loc[kin["id"] == run, ["layers", "heads"]].iloc[0]
    size = (int(own["layers"]), int(own["heads"]))
    there = kin[(kin["layers"] == size[0]) & (kin["heads"] == size[1])]
    mine = {int(seed): answers[each] for each, seed in zip(there["id"], there["seed"], strict=True)}
    return Loss(row, teacher, metric, pd.DataFrame(groups), size, mine)


def slopes_by_task(store: Store, runs: pd.DataFrame, run: str) -> pd.DataFrame:
    """What a doubling of layers, or of heads, changes of the score, on each task with these settings in several sizes.

    One row a task: task, sizes, layers, heads (fractions a doubling; NaN where it never varies). Of one teacher a slope
    of the gap is that of the score with the other sign.
    """
    kin = runs[runs["id"].isin([run, *relatives(store, runs, [run], (*SIZE, "task"))])]
    own = str(kin.loc[kin["id"] == run, "group"].iloc[0])
    kin = kin[counting(kin) | (kin["id"] == run)]
    facts = store.rows(list(kin["id"]))
    sizes = pd.DataFrame([_size_of(facts[each]) for each in kin["id"]], columns=["layers", "heads"], index=kin.index)
    table = []
    for task, several in kin.join(sizes).groupby("task", sort=False):
        part = _one_setting(several, own)
        means = part.groupby(["layers", "heads"], as_index=False)["score"].mean()
        slopes = lost_rows.slopes(means["layers"], means["heads"], means["score"])
        if slopes:
            found = {name: slopes[name].value if name in slopes else np.nan for name in ("layers", "heads")}
            table.append({"task": str(task), "sizes": len(means), **found})
    return pd.DataFrame(table, columns=["task", "sizes", "layers", "heads"])


def read_answers(run: str, task: str, teacher: str) -> Answers | None:
    """What student and teacher of a run said on the first dev split; None where one of them was not kept."""
    split = TASKS[task].splits[0] if task in TASKS else "validation"
    student, other = (model_predictions(run_dir(run), split, model) for model in ("student", teacher))
    if student is None or other is None or not np.array_equal(student["ids"], other["ids"]):
        return None
    return Answers(student["ids"], student["labels"], student["logits"], other["logits"])


def _kin(store: Store, runs: pd.DataFrame, run: str) -> pd.DataFrame:
    """The run and its other sizes and seeds, of each size and seed one, with the columns layers and heads."""
    kin = runs[runs["id"].isin([run, *relatives(store, runs, [run], SIZE)])]
    own = kin[kin["id"] == run].iloc[0]
    twins = (kin["group"] == own["group"]) & (kin["seed"] == own["seed"])
    kin = kin[(counting(kin) & ~twins) | (kin["id"] == run)]
    facts = store.rows(list(kin["id"]))
    sizes = [_size_of(facts[each]) for each in kin["id"]]
    return _one_setting(
        kin.assign(layers=[size[0] for size in sizes], heads=[size[1] for size in sizes]), str(own["group"])
    )


def _one_setting(sized: pd.DataFrame, own: str) -> pd.DataFrame:
    """Of each size the runs of one group: the own one, else the first that was run. Starts of one size are no seeds."""
    order = sized.sort_values("created", kind="stable").assign(mine=sized["group"] == own)
    first = order.sort_values("mine", ascending=False, kind="stable").groupby(["layers", "heads"])["group"].first()
    places = pd.MultiIndex.from_frame(sized[["layers", "heads"]])
    chosen: pd.DataFrame = sized[sized["group"].to_numpy() == first.reindex(places).to_numpy()]
    return chosen


def _size_of(row: RunRow) -> tuple[int, int]:
    """Layers and heads of the run's student, as it was built; as it was asked for where it has not said."""
    built = row.facts.get("student")
    built = built if isinstance(built, Mapping) else {}
    return (
        int(built.get("layers") or row.config.student.layers),
        int(built.get("heads") or row.config.student.heads or 1),
    )


def _size(part: pd.DataFrame, answers: Mapping[str, Answers], alone: pd.DataFrame, metric: str) -> dict[str, Any]:
    """One size: layers, heads, n (seeds), teacher, score, gap, low, high (of the gap), retention, retention_low,
    retention_high, alone (score of training alone), alone_gap, gain (over it, shared seeds), alone_n, run.

    Scores are fractions.
    """
    by_seed = {int(seed): answers[run] for run, seed in zip(part["id"], part["seed"], strict=True)}
    theirs, ours = ({s: _values(metric, a.gold, side(a)) for s, a in by_seed.items()} for side in (_teacher, _student))
    teacher, student = (np.mean(list(values.values()), axis=0) for values in (theirs, ours))
    low, high, ratio = _intervals(theirs, ours, teacher, student)
    others = alone[alone["protocol"] == part["protocol"].iloc[0]].drop_duplicates("seed").set_index("seed")["score"]
    shared = others[others.index.isin(by_seed)]
    scores = part.drop_duplicates("seed").set_index("seed")["score"]
    first = part.sort_values("seed", kind="stable").iloc[0]
    kept = float(student.mean() / teacher.mean()) if teacher.mean() > 0 and student.mean() > 0 else np.nan
    return {
        "layers": int(first["layers"]), "heads": int(first["heads"]), "n": len(by_seed),
        "teacher": float(teacher.mean()), "score": float(student.mean()),
        "gap": float(teacher.mean() - student.mean()), "low": low, "high": high,
        "retention": kept, "retention_low": ratio[0], "retention_high": ratio[1],
        "alone": float(shared.mean()), "alone_gap": float(teacher.mean() - shared.mean()),
        "gain": float((scores.reindex(shared.index) - shared).mean()), "alone_n": len(shared), "run": str(first["id"]),
    }  # fmt: skip


def _intervals(
    theirs: Mapping[int, Floats], ours: Mapping[int, Floats], teacher: Floats, student: Floats
) -> tuple[float, float, tuple[float, float]]:
    """Ends of the gap's interval, and those of the retention's."""
    gap, ratio = lost_rows.bootstrap(teacher, student)
    verdict = significance.compare(theirs, ours)
    return (verdict.low, verdict.high, ratio) if verdict.enough else (*gap, ratio)


def _values(metric: str, gold: NDArray[Any], logits: NDArray[Any]) -> Floats:
    values = contributions(metric, logits, gold)
    if values is None:
        raise UserError("metric", f"{metric} has no share of a row", "choose a run whose main metric is another")
    return values


def _teacher(answers: Answers) -> NDArray[np.float32]:
    return answers.teacher


def _student(answers: Answers) -> NDArray[np.float32]:
    return answers.student


def _closeness(answers: Answers) -> dict[str, Any]:
    scores = answers.student.shape[1] == 1
    near = fidelity.compare(answers.teacher, answers.student, scores)
    if scores:
        apart = float(np.abs(answers.teacher[:, 0] - answers.student[:, 0]).mean())
        return {"correlation with the teacher": near["pearson"], "mean absolute difference": apart}
    cells = lost_rows.four_cells(answers.gold, answers.teacher, answers.student)
    return {
        "both right": cells.both, "lost": cells.lost, "gained": cells.gained, "neither": cells.neither, "p": cells.p,
        "label loyalty": near["agreement"],
        "probability loyalty": fidelity.probability_loyalty(answers.teacher, answers.student),
    }  # fmt: skip
