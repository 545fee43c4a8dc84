"""What a student learned from its teacher and what it lost, row by row.

The reference is a teacher, the mean of several, or another student. Tables are indexed by example id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp, rel_entr, softmax

from kdcore.data.splits import IDS_PER_SPLIT

OUTCOMES = ("both right", "lost", "gained", "both wrong")
"""Of a row: lost is where the reference is right and the student wrong, gained the other way round."""

Floats = NDArray[np.float64]


def compare_labels(ids: ArrayLike, gold: ArrayLike, reference: ArrayLike, student: ArrayLike) -> pd.DataFrame:
    """Reference against student on the same rows of a classification task.

    Args:
        ids, gold: int [rows]. reference, student: logits [rows, classes].

    Returns:
        gold, reference, student: class numbers; reference_p, student_p: probability of the gold class;
        drop: reference_p - student_p, -1..1; outcome: one of `OUTCOMES`.

    Raises:
        ValueError: the two differ in shape, or are not [rows, classes >= 2].
    """
    ours, theirs = np.asarray(student, np.float64), np.asarray(reference, np.float64)
    right = np.asarray(gold, np.int64)
    if ours.shape != theirs.shape or ours.ndim != 2 or ours.shape[1] < 2 or len(ours) != len(right):
        raise ValueError(f"reference {theirs.shape}, student {ours.shape}, {len(right)} rows: need [rows, classes]")
    rows = pd.DataFrame(
        {
            "gold": right,
            "reference": theirs.argmax(-1),
            "student": ours.argmax(-1),
            "reference_p": of_class(theirs, right),
            "student_p": of_class(ours, right),
        },
        index=pd.Index(np.asarray(ids), name="id"),
    )
    rows["drop"] = rows["reference_p"] - rows["student_p"]
    wrong = 2 * (rows["reference"] != rows["gold"]) + (rows["student"] != rows["gold"])
    rows["outcome"] = np.array(OUTCOMES)[wrong]
    return rows


def compare_scores(ids: ArrayLike, gold: ArrayLike, reference: ArrayLike, student: ArrayLike) -> pd.DataFrame:
    """Reference against student on the same rows of a regression task, in units of the score.

    Args:
        gold: [rows]. reference, student: [rows] or [rows, 1].

    Returns:
        gold, reference, student; difference: student - reference; farther: how much farther the student is from gold
        than the reference, |student - gold| - |reference - gold|.

    Raises:
        ValueError: lengths that differ.
    """
    given = {"gold": gold, "reference": reference, "student": student}
    columns = {name: np.asarray(values, np.float64).reshape(-1) for name, values in given.items()}
    rows = pd.DataFrame(columns, index=pd.Index(np.asarray(ids), name="id"))
    rows["difference"] = rows["student"] - rows["reference"]
    rows["farther"] = (rows["student"] - rows["gold"]).abs() - (rows["reference"] - rows["gold"]).abs()
    return rows


def count_outcomes(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `compare_labels`, counted: reference right and wrong (down) by student right and wrong (across)."""
    counts = [int((rows["outcome"] == outcome).sum()) for outcome in OUTCOMES]
    sides = ["right", "wrong"]
    return pd.DataFrame(np.reshape(counts, (2, 2)), index=sides, columns=sides)


def count_labels(rows: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Rows of `compare_labels`, counted: reference's label (down) by the student's (across), in order of `labels`."""
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(counts, (rows["reference"].to_numpy(), rows["student"].to_numpy()), 1)
    return pd.DataFrame(counts, index=list(labels), columns=list(labels))


def with_outcome(rows: pd.DataFrame, outcome: str) -> pd.DataFrame:
    """The rows of one outcome, largest fall of confidence first; among the gained the largest rise."""
    return rows[rows["outcome"] == outcome].sort_values("drop", ascending=outcome == "gained", kind="stable")


def with_answers(rows: pd.DataFrame, reference: int, student: int) -> pd.DataFrame:
    """The rows of one cell of `count_labels`, largest fall of confidence first."""
    cell = (rows["reference"] == reference) & (rows["student"] == student)
    return rows[cell].sort_values("drop", ascending=False, kind="stable")


def mean_answer(
    answers: Iterable[ArrayLike], weights: Sequence[float] | None = None, temperature: float = 1.0
) -> Floats:
    """The answer of several models together: the logarithm of their weighted mean probabilities, [rows, classes]; or,
    where they give one number per row, the weighted mean score [rows, 1].

    Args:
        answers: logits [rows, classes] of each model, at least one. weights: one a model, none negative, of sum 1;
            None: equal ones. temperature: T > 0, at which the probabilities are taken.
    """
    stacked = np.stack([np.asarray(logits, np.float64) for logits in answers])
    shares = np.full(len(stacked), 1 / len(stacked)) if weights is None else np.asarray(weights, np.float64)
    if stacked.shape[-1] == 1:
        return np.asarray(np.tensordot(shares, stacked, 1))
    logarithms = log_softmax(stacked / temperature, axis=-1)
    return np.asarray(logsumexp(logarithms, axis=0, b=shares[:, None, None]))


def disagreement(answers: Iterable[ArrayLike]) -> Floats:
    """How far several models are from one another on each row, [rows].

    Classification: their generalised Jensen-Shannon divergence in nats, the mean of KL(model || mean), from 0 to the
    logarithm of the number of models (Lin 1991). Regression: the range of their scores.

    Args:
        answers: logits [rows, classes] of each model, at least one.
    """
    stacked = np.stack([np.asarray(logits, np.float64) for logits in answers])
    if stacked.shape[-1] == 1:
        return np.asarray(np.ptp(stacked[..., 0], axis=0))
    p = probabilities(stacked)
    result: Floats = np.maximum(rel_entr(p, p.mean(0)).sum(-1).mean(0), 0.0)
    return result


def probabilities(logits: ArrayLike) -> Floats:
    """Softmax over the classes, the last axis."""
    return np.asarray(softmax(np.asarray(logits, np.float64), axis=-1))


def of_class(logits: ArrayLike, classes: ArrayLike) -> Floats:
    """The probability that each row's logits give to its class: [rows]."""
    return np.asarray(np.take_along_axis(probabilities(logits), np.asarray(classes, np.int64)[:, None], axis=-1)[:, 0])


def listing(
    texts: pd.DataFrame,
    gold: ArrayLike,
    answers: Mapping[str, ArrayLike],
    labels: Sequence[str],
    measures: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The rows in words: number in the split, sentences, gold label, what each model said, and the measures.

    Args:
        texts: the sentences by example id, one column each. gold: [rows]. answers: model -> logits [rows, outputs].
        labels: names of the classes; none for regression. measures: numbers by example id, in the same order.

    Returns:
        Classification: two columns a model, its label and the probability of the gold label. Regression: one, its
        score. Numbers are rounded to 4 digits; headers are distinct whatever columns and models are called.
    """
    columns: list[tuple[str, object]] = [("row", texts.index.to_numpy() % IDS_PER_SPLIT)]
    columns += [(str(name), texts[name].to_numpy()) for name in texts]
    right = np.asarray(gold)
    names = np.array(list(labels), dtype=object)
    columns += [("gold", names[right] if labels else np.round(right.astype(np.float64), 4))]
    for model, given in answers.items():
        logits = np.asarray(given, np.float64)
        if labels:
            columns += [(model, names[logits.argmax(-1)])]
            columns += [(f"{model}: p(gold)", np.round(of_class(logits, right), 4))]
        else:
            columns += [(model, np.round(logits.reshape(-1), 4))]
    if measures is not None:
        columns += [(str(name), measures[name].round(4).to_numpy()) for name in measures]
    headers = distinct([header for header, _ in columns])
    return pd.DataFrame({new: values for new, (_, values) in zip(headers, columns, strict=True)}, index=texts.index)


def distinct(names: Iterable[str]) -> list[str]:
    """The names, later ones numbered where an earlier one is called the same."""
    seen: Counter[str] = Counter()
    out: list[str] = []
    for name in names:
        new = name
        while new in out:
            seen[name] += 1
            new = f"{name} ({seen[name] + 1})"
        out.append(new)
    return out
