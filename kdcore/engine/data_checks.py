"""What pre-flight says about the rows of a task: classes and counts, and what would make a score meaningless."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kdcore.config import DataConfig
from kdcore.data.damage import LearningRows
from kdcore.data.notes import Note, short
from kdcore.data.row_report import Lengths, RowReport, row_report, token_lengths
from kdcore.data.splits import TaskData
from kdcore.engine.plan import Plan
from kdcore.errors import UserError
from kdcore.formatting import data_text, listed, metric_label
from kdcore.tasks import Task

CUT = 0.02
"""Share of rows cut above which a person is warned."""

MAJORITY = 0.8
FEW_CLASS_ROWS = 5
FEW_ROWS = 4
COARSE_ROWS = 50
"""Fewer rows than this make a score that moves in steps of two points or more."""

LARGE_SCORE = 30.0
"""Mean and deviation together above which a new classifier, whose answers start near 0, is slow to get there."""


def about_rows(data: TaskData, rows: LearningRows, max_length: int, lengths: Lengths) -> Iterator[Note]:
    """What a person should know of the rows before the start.

    GLUE and the pocket suite are known data: of them only counts and cut rows are told.

    Args:
        rows: what the run learns from. max_length: tokens kept of a row.
        lengths: split -> tokens of rows before any are cut (`row_report.token_lengths`); empty where not known.
    """
    report = row_report(data, rows, max_length, lengths)
    yield from data.notes
    yield _contents(data.task, report)
    yield from _cut(report, max_length)
    if data.task.suite == "own":
        yield from _f1(data.task)
        yield from _rows_twice(report)
        yield from _balance(data.task, report)
        yield from _few_rows(report)
        yield from _large_scores(report)


def _contents(task: Task, report: RowReport) -> Note:
    if report.scores is not None:
        scores = report.scores
        return Note("ok", "task", f"scores from {scores.lowest:g} to {scores.highest:g}, {scores.mean:.4g} on average")
    counts = report.counts["train"]
    each = listed((f"{short(name)} {count:,}" for name, count in zip(task.labels, counts, strict=True)), limit=12)
    return Note("ok", "task", f"training rows by class: {each}")


def _cut(report: RowReport, max_length: int) -> Iterator[Note]:
    for split, share in report.cut.items():
        if share > 0:
            level = "warn" if share >= CUT else "ok"
            percent = f"{100 * share:.0f} %" if share >= 0.01 else "fewer than 1 %"
            remedy = "raise train.max_length, or shorten the texts" if level == "warn" else ""
            yield Note(
                level,  # type: ignore[arg-type]
                "train.max_length",
                f"{percent} of the {split} rows have more than {max_length} tokens and are cut",
                remedy,
            )


def _f1(task: Task) -> Iterator[Note]:
    if "f1" in task.metrics:
        yield Note("ok", "task", metric_label("f1", task.labels))


def _rows_twice(report: RowReport) -> Iterator[Note]:
    for split, rows in report.repeated.items():
        if rows:
            yield Note(
                "warn",
                "own.validation_path",
                f"{rows:,} of {report.rows[split]:,} {split} rows are also training rows, so their score says little",
                "remove them from one of the two",
            )
    if report.contradicting:
        yield Note(
            "warn",
            "own.label",
            f"{report.contradicting:,} training rows have the texts of another row and a different label",
            "correct or remove them",
        )


def _balance(task: Task, report: RowReport) -> Iterator[Note]:
    if report.majority is None:
        return
    counts = report.counts["train"]
    if report.majority >= MAJORITY:
        yield Note(
            "warn",
            "own.label",
            f"{100 * report.majority:.0f} % of the training rows are of the class "
            f"{short(task.labels[counts.argmax()])}: always answering it has that accuracy",
            "compare F1, or give more rows of the other classes",
        )
    rare = [f"{short(name)} {count}" for name, count in zip(task.labels, counts, strict=True) if count < FEW_CLASS_ROWS]
    if rare:
        yield Note(
            "warn" if len(rare) <= len(counts) / 2 else "ok",  # where most are, it is the kind of the table
            "own.label",
            f"fewer than {FEW_CLASS_ROWS} training rows for: {listed(rare)}",
            "give more rows of these classes, or join them with others",
        )
    for split, names in report.missing.items():
        only = (report.counts[split] > 0).sum() == 1
        held = " (all its rows are of one class)" if only else ""
        cannot = len(counts) > report.rows[split]  # so few rows cannot hold so many classes
        yield Note(
            "ok" if cannot else "warn",
            "train.select_fraction" if split == "select" else "own.validation_path",
            f"no {split} row has the class {listed(short(name) for name in names)}{held}, so what is learned of it is "
            f"not seen in the score",
            "give more rows of it" + (", or raise train.select_fraction" if split == "select" else ""),
        )


def _few_rows(report: RowReport) -> Iterator[Note]:
    for split, rows in report.rows.items():
        if split != "train" and rows < COARSE_ROWS:
            text = f"{split} has {rows} row{'s' if rows > 1 else ''}: one row is {100 / rows:.0f} points of accuracy"
            if report.scores is not None:
                text = f"{split} has {rows} row{'s' if rows > 1 else ''}: few for a correlation"
            if rows < FEW_ROWS:
                yield Note("warn", "task", text, "give more rows")
            else:
                yield Note("ok", "task", text)


def _large_scores(report: RowReport) -> Iterator[Note]:
    scores = report.scores
    if scores is not None and abs(scores.mean) + scores.std > LARGE_SCORE:
        yield Note(
            "warn",
            "own.label",
            f"the scores reach {max(abs(scores.lowest), abs(scores.highest)):,.6g}, and a model starts near 0: it may "
            f"never get there",
            f"standardise them: subtract the mean {scores.mean:.6g} and divide by the deviation {scores.std:.6g}",
        )


@dataclass(frozen=True)
class RowLook:
    """What a person is shown of the rows before the start.

    examples: the first training rows, texts and label (a class's name, or a score).
    """

    task: Task
    report: RowReport
    lengths: Lengths
    examples: tuple[tuple[tuple[str, ...], str], ...]


def look_at_rows(plan: Plan, examples: int = 3) -> RowLook:
    """Counts, lengths and a few rows of a run that is not started.

    Raises:
        UserError: the rows cannot be read.
    """
    data, lengths = plan.data, known_lengths(plan)
    report = row_report(data, plan.rows, plan.config.train.max_length, lengths)
    first = data.train.take(np.arange(min(examples, len(data.train))))
    labels = [data.task.labels[int(label)] if data.task.labels else f"{label:g}" for label in first.labels]
    return RowLook(data.task, report, lengths, tuple(zip(zip(*first.texts, strict=True), labels, strict=True)))


def about_labels(plan: Plan) -> Iterator[Note]:
    """What is wrong with the training data on purpose, and what the method makes of rows without a label."""
    rows = plan.rows
    if not plan.config.data.clean:
        yield from _damage(plan.config.data, rows, plan.data.task.outputs, bool(plan.config.teachers))
    if without := len(rows.train) - len(rows.train.labelled):
        title, kept = plan.method_class.title, len(rows.train) - without
        field = "own.unlabelled_path" if rows.added else "data.label_fraction"
        if plan.uses_unlabelled:
            yield Note("ok", field, f"{title} learns from {kept:,} rows with a label and {without:,} without")
        elif plan.config.data.unlabelled == "leave out":
            text = f"{without:,} rows without a label are left out: {title} sees {kept:,}, in as many steps as others"
            yield Note("ok", "data.unlabelled", text)
        else:
            text = f"{title} cannot use {without:,} rows without a label: it sees {kept:,}, in as many steps as others"
            yield Note("warn", field, text, "choose a method that learns from the teacher's answers, such as KD")


def _damage(damage: DataConfig, rows: LearningRows, outputs: int, taught: bool) -> Iterator[Note]:
    told = data_text(damage.model_dump(mode="json"), taught)
    yield Note("warn", "data", f"training data damaged on purpose: {told}", "name it wherever you report a score")
    if outputs > 1 and damage.label_noise >= 1 - 1 / outputs:
        text = f"of {outputs} classes, labels of which {100 * damage.label_noise:g} % are wrong tell nothing"
        yield Note("warn", "data.label_noise", text, f"stay below {1 - 1 / outputs:.2g}")
    if len(rows.select) < COARSE_ROWS:
        text = f"{len(rows.select)} labelled rows decide which student is the best"
        yield Note("warn", "data", text, "raise train.select_fraction, or keep more rows")


def known_lengths(plan: Plan) -> Lengths:
    """`token_lengths` of the run's rows; empty where no tokenizer can be had yet, which another check reports."""
    try:
        return token_lengths(plan.data, plan.tokenizer)
    except UserError:
        return {}
