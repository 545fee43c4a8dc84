"""What a linear classifier reads out of frozen states: simple properties of a row that nobody has to label by hand.

Probing as Conneau et al. 2018 (arXiv 1805.01070) do it for sentence vectors: length, the words of a sentence, and
others; a classifier on the vector, its regularisation chosen on rows kept apart, accuracy on rows it never saw. Classes
and words are chosen here, since a dev split has hundreds of rows and not a hundred thousand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from kdcore.data.splits import spread

MEAN, CLS = "mean", "cls"
POOLINGS = (MEAN, CLS)
"""A row's vector: the mean of its tokens' states, or the state of [CLS]."""
MOST_ROWS = 2000
"""Dev rows that are used at most."""
LEAST_ROWS = 100
"""Dev rows below which nothing is told: half of them are scored."""
FEWEST = 10
"""Rows outside the most frequent class, among those fitted on and those scored, below which nothing is told."""
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""scikit-learn's C, from strong to weak regularisation, on standardised states."""
NEGATION = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|nowhere|neither|nor|cannot|without|hardly)\b|n['’]t\b", re.IGNORECASE
)

_SEED = 18_051_070
_WORD = re.compile(r"\w+")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Truths = NDArray[np.bool_]


@dataclass(frozen=True)
class Parts:
    """Numbers of the rows that a classifier is fitted on, and of those that it is scored on; none is in both."""

    fit: Integers
    score: Integers


@dataclass(frozen=True)
class Property:
    """Something that a row is. values: the class of each row, int64 [rows]. classes: their names."""

    key: str
    title: str
    values: Integers
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Share:
    """A share of rows with its 95 % interval over rows (Wilson 1927)."""

    value: float
    low: float
    high: float


def sample(rows: int) -> Integers:
    """Numbers of the rows of a split that are used: all, or `MOST_ROWS` drawn by a fixed seed."""
    return np.sort(np.random.default_rng(_SEED).permutation(rows)[:MOST_ROWS])


def parts(rows: int) -> Parts:
    """Two halves of so many rows, drawn by a fixed seed."""
    drawn = np.random.default_rng((_SEED, rows)).permutation(rows)
    return Parts(np.sort(drawn[: rows // 2]), np.sort(drawn[rows // 2 :]))


def properties(texts: Sequence[Sequence[str]], labels: ArrayLike, names: Sequence[str]) -> list[Property]:
    """What is asked of the rows.

    Length in words, in thirds; whether a word is in the row, of all the one that is nearest to being in half of them;
    whether it negates (English); of a pair, how many of their words both sentences have (Jaccard), in thirds; the label
    of the task, scores in thirds.

    Args:
        texts: the text columns, each [rows]. labels: classes or scores [rows]. names: of the classes; none: scores.
    """
    words = [[_WORD.findall(text.lower()) for text in column] for column in texts]
    rows = list(zip(*words, strict=True))
    found = [_thirds("length", "Length in words", [sum(map(len, row)) for row in rows], "{:.0f}")]
    held = [set().union(*row) for row in rows]
    if word := _common_word(held):
        found.append(_either("word", f"The word “{word}”", [word in row for row in held]))
    negated = [any(NEGATION.search(text) for text in row) for row in zip(*texts, strict=True)]
    found.append(_either("negation", "Negation", negated))
    if len(texts) == 2:
        shares = [_overlap(set(first), set(second)) for first, second in rows]
        found.append(_thirds("overlap", "Words in both sentences", shares, "{:.0%}"))
    truth = np.asarray(labels)
    if names:
        found.append(Property("label", "The task's label", truth.astype(np.int64), tuple(names)))
    else:
        found.append(_thirds("label", "The task's score", truth, "{:.2g}"))
    return found


def absence(asked: Property, chosen: Parts) -> str:
    """Why nothing can be told of a property; empty where something can."""
    for rows, what in ((chosen.fit, "to fit on"), (chosen.score, "to score")):
        values = asked.values[rows]
        others = len(values) - int(np.unique(values, return_counts=True)[1].max())
        if others < FEWEST:
            return f"{others} of {len(values)} rows {what} are not of the most frequent class, {FEWEST} are needed"
    return ""


def chance(asked: Property, chosen: Parts) -> float:
    """The share of scored rows that are right without any state: all are given the most frequent class of the rows
    fitted on."""
    classes, counts = np.unique(asked.values[chosen.fit], return_counts=True)
    return float((asked.values[chosen.score] == classes[counts.argmax()]).mean())


def right_rows(states: ArrayLike, asked: Property, chosen: Parts) -> Truths:
    """Which scored rows a logistic regression on the states has right, bool [scored rows].

    States are standardised by the rows fitted on. The strength is chosen on a third of these rows, among equals the
    strongest, and the classifier is fitted again on all of them. One thread: the same on any number of cores.

    Args:
        states: one vector a row [rows, width].
    """
    from threadpoolctl import threadpool_limits

    vectors = np.asarray(states, np.float64)
    train = vectors[chosen.fit]
    scale = train.std(axis=0)
    scale[scale < 1e-12] = np.inf
    vectors = (vectors - train.mean(axis=0)) / scale
    values = asked.values
    order = chosen.fit[spread(values[chosen.fit], stratified=True, seed=_SEED)]
    third = len(order) // 3
    with threadpool_limits(limits=1):
        tried = [_answers(vectors, values, order[third:], order[:third], strength) for strength in STRENGTHS]
        best = int(np.argmax([(each == values[order[:third]]).mean() for each in tried]))
        answers = _answers(vectors, values, chosen.fit, chosen.score, STRENGTHS[best])
    right: Truths = answers == values[chosen.score]
    return right


def share(right: ArrayLike, level: float = 0.95) -> Share:
    """The share of rows that are right. The interval speaks for other rows to score, not for other rows to fit on."""
    truths = np.asarray(right, bool)
    ends = stats.binomtest(int(truths.sum()), len(truths)).proportion_ci(level, method="wilson")
    return Share(float(truths.mean()), float(ends.low), float(ends.high))


def _answers(vectors: Floats, values: Integers, fit: Integers, score: Integers, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=1000).fit(vectors[fit], values[fit]).predict(vectors[score])


def _thirds(key: str, title: str, numbers: ArrayLike, form: str) -> Property:
    """Classes of about as many rows each, named by their ends; fewer than three where many rows are equal."""
    given = np.asarray(numbers, np.float64)
    edges = np.quantile(given, [1 / 3, 2 / 3], method="inverted_cdf")
    _, values = np.unique(np.searchsorted(edges, given), return_inverse=True)
    ends = [(given[values == k].min(), given[values == k].max()) for k in range(int(values.max()) + 1)]
    names = (dict.fromkeys((form.format(low), form.format(high))) for low, high in ends)
    return Property(key, title, values.astype(np.int64), tuple(" to ".join(name) for name in names))


def _either(key: str, title: str, there: Sequence[bool]) -> Property:
    return Property(key, title, np.asarray(there).astype(np.int64), ("absent", "there"))


def _common_word(rows: Sequence[set[str]]) -> str:
    """The word that is nearest to being in half of the rows, the first by the alphabet among equals; "" without one."""
    counts = Counter(word for row in rows for word in row)
    return min(counts, key=lambda word: (abs(2 * counts[word] - len(rows)), word), default="")


def _overlap(first: set[str], second: set[str]) -> float:
    return len(first & second) / len(first | second) if first | second else 0.0
