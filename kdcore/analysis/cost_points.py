"""From readings to the points of one plot: one axis, one condition, one task or the average over several."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from kdcore.analysis.cost_table import TOKENS
from kdcore.analysis.task_average import by_seed, common_tasks

SEEN = ("key", "label", "method", "kind", "seed", "condition", "cost", "quality", "busy")


def conditions(costs: pd.DataFrame, whole: bool) -> dict[str, tuple[str, str | None]]:
    """Words -> (place, length) under which students were measured on one axis, the most frequent first.

    Args:
        costs: `readings` of one axis. whole: the length belongs to the condition; else, for an average over tasks, only
            the place does, and length is None.
    """
    students = costs[(costs["kind"] == "student") & costs["cost"].notna()]
    if not whole:
        return {str(hardware): (str(hardware), None) for hardware in students["place"].value_counts().index}
    return {
        condition_name(hardware, length): (str(hardware), str(length))
        for hardware, length in students[["place", "length"]].value_counts().index
    }


def of_task(costs: pd.DataFrame, hardware: str, length: str, runs: pd.DataFrame, sizes: dict[str, str]) -> pd.DataFrame:
    """What was seen on one axis and task under one condition, as `pareto.points` takes it: a row a student's run.

    Models of one size cost the same, whatever their weights: each has the size's cost, see `prices`, also where it was
    not measured itself. Where no model of its size was, it has none.

    Args:
        costs: `readings` of the axis. runs: of the task, with group and label. sizes: run -> its student's size.
    """
    measured = costs[(costs["place"] == hardware) & (costs["length"] == length) & costs["task"].isin(runs["task"])]
    price = prices(measured)
    students = runs.assign(key=runs["group"], kind="student", quality=100 * runs["score"], size=runs["id"].map(sizes))
    others = measured[measured["kind"] != "student"].drop_duplicates("label").assign(key="", method="teacher", seed=0)
    seen = pd.concat([students, others]) if len(others) else students
    seen = seen.drop(columns=["cost", "busy"], errors="ignore").join(price, on="size")
    seen = seen.assign(condition=condition_name(hardware, length), busy=seen["busy"].eq(True))
    return seen[list(SEEN)].reset_index(drop=True)


def prices(here: pd.DataFrame) -> pd.DataFrame:
    """Size -> cost and busy: the median of what was taken on a quiet machine, else of what there is.

    Latency depends on size and length, not on weights, so runs of one size are repeats of one measurement; they are
    `steady` first.
    """
    known = steady(here.dropna(subset=["cost"]))
    calm = known.loc[~known["busy"].astype(bool), "size"]
    best = known[~known["busy"].astype(bool) | ~known["size"].isin(calm)]
    return best.groupby("size").agg(cost=("cost", "median"), busy=("busy", "any"))


def steady(known: pd.DataFrame) -> pd.DataFrame:
    """The readings of one axis without what the machine did from one session to the next.

    The model that took a turn in most quiet sessions is the reference, and a session's costs are scaled so that the
    reference costs in it what it does in the median of them. Without a session the cost stays.

    Args:
        known: readings of one axis, place and length, each with a cost.
    """
    turns = known[(known["session"] != "") & (known["kind"] != "student") & known["cost"].gt(0)]
    turns = turns.drop_duplicates(["label", "session"])
    quiet = turns[~turns["busy"].astype(bool)]
    if quiet.empty:
        return known
    reference = quiet["label"].value_counts().index[0]
    of_session = turns[turns["label"] == reference].set_index("session")["cost"]
    usual = quiet.loc[quiet["label"] == reference, "cost"].median()
    return known.assign(cost=known["cost"] * (usual / known["session"].map(of_session)).fillna(1.0))


def speed_ratio(
    costs: pd.DataFrame, where: str, lengths_of: Mapping[str, str], sizes: Collection[str], other: str
) -> tuple[float, bool] | None:
    """How many times what the other model costs is of what students of these sizes cost, and whether it was busy.

    Only models that took turns in one session are set against each other: what a machine does from one session to
    the next would pass for a property of the model. Per task the median over quiet sessions, else over all; over tasks
    the geometric mean. None where some task has no common session.

    Args:
        costs: `readings` of one timed axis. lengths_of: task -> length of the rows. sizes: of students. other: label
            of a teacher or of a compressed one.
    """
    here = costs[(costs["place"] == where) & costs["cost"].gt(0)]
    logs, busy = [], False
    for task, length in lengths_of.items():
        of_task = here[(here["task"] == task) & (here["length"] == length)]
        mine = of_task[(of_task["kind"] == "student") & of_task["size"].isin(list(sizes))]
        theirs = of_task[(of_task["kind"] != "student") & (of_task["label"] == other)]
        pairs = mine.merge(theirs, on=["run", "session"], suffixes=("", "_other"))
        if pairs.empty:
            return None
        loud = pairs["busy"].astype(bool) | pairs["busy_other"].astype(bool)
        busy |= bool(loud.all())
        counted = pairs if loud.all() else pairs[~loud]
        logs.append(math.log((counted["cost_other"] / counted["cost"]).median()))
    return (math.exp(sum(logs) / len(logs)), busy) if logs else None


def task_means(
    costs: pd.DataFrame, hardware: str, runs: pd.DataFrame, sizes: dict[str, str], tasks: tuple[str, ...]
) -> pd.DataFrame:
    """What was seen on one axis as means over tasks, taken within each seed: cost and quality alike.

    Rows of different tasks have different lengths. Per task only the length that most students were measured at counts,
    so that every model is averaged over the same lengths. A model that lacks one of the tasks has no row.

    Args:
        runs: with groups and labels that hold over tasks. tasks: to average over.
    """
    length = lengths(costs[costs["place"] == hardware])
    parts = [
        of_task(costs, hardware, length.get(task, ""), runs[runs["task"] == task], sizes).assign(task=task)
        for task in tasks
    ]
    each = pd.concat(parts, ignore_index=True)
    of_label = each.groupby("label").agg({"key": "first", "method": "first", "kind": "first", "busy": "any"})
    quality, cost = (
        by_seed(each.rename(columns={"label": "setting", value: "score"}), tasks).rename(columns={"average": value})
        for value in ("quality", "cost")
    )
    table = quality.merge(cost, on=["setting", "seed"], how="left").rename(columns={"setting": "label"})
    return table.join(of_label, on="label").assign(condition=hardware)[list(SEEN)]


def lengths(costs: pd.DataFrame) -> dict[str, str]:
    """Task -> length of the rows that most students were measured at."""
    students = costs[(costs["kind"] == "student") & costs["cost"].notna()]
    return {str(task): str(rows["length"].mode().iloc[0]) for task, rows in students.groupby("task", sort=False)}


def costs_beside(table: pd.DataFrame, where: str, lengths_of: Mapping[str, str], axes: Sequence[str]) -> pd.DataFrame:
    """Label -> what the model costs on each of these axes under one condition, over tasks the mean; NaN: not measured.

    Args:
        table: see `cost_table.cost_table`. where, lengths_of (task -> length): the condition; "" (of an axis that is
            the same everywhere): the one that most students were timed under.
    """
    if not where:
        timed = table[table["axis"] == "latency-1"]
        where = next(iter(conditions(timed, whole=False)), "")
        lengths_of = lengths(timed[timed["place"] == where])
    found = {}
    for axis in axes:
        here = table[(table["axis"] == axis) & table["place"].isin([where, ""])]
        here = here[(here["length"] == here["task"].map(lengths_of)) | (here["length"] == "")]
        parts = [
            models.assign(cost=models["size"].map(prices(here[here["task"] == task])["cost"]))
            for task, models in table[["task", "label", "size"]].drop_duplicates().groupby("task", sort=False)
        ]
        found[axis] = pd.concat(parts).groupby("label")["cost"].mean()
    return pd.DataFrame(found)


def student_sizes(costs: pd.DataFrame) -> dict[str, str]:
    """Run -> size of its student."""
    students = costs[costs["kind"] == "student"].drop_duplicates("run")
    return dict(zip(students["run"], students["size"], strict=True))


def shared_tasks(runs: pd.DataFrame) -> tuple[str, ...]:
    """The tasks on which every setting (column group) has a score."""
    return common_tasks(runs.rename(columns={"group": "setting"})[["setting", "task", "score"]])


def condition_name(hardware: str, length: str) -> str:
    return ", ".join(part for part in (hardware, length) if part)


def length_text(length: str, costs: pd.DataFrame) -> str:
    """A length for people, with the tokens that the models read it as: `39 words, 53 to 61 tokens`.

    Args:
        length: as `cost_table.length_of` has it. costs: the `cost_table` of the models that are compared.
    """
    tokens = costs[(costs["axis"] == TOKENS) & (costs["length"] == length)]["cost"]
    if tokens.empty or length.endswith("tokens"):
        return length
    least, most = int(tokens.min()), int(tokens.max())
    return f"{length}, {least} tokens" if least == most else f"{length}, {least} to {most} tokens"
