"""Is the difference between two methods real? Runs are paired by seed; the test counts seeds and dev rows alike.

A test over dev rows alone (McNemar's) says whether two *students* differ; training again with another seed could turn
it round. A test over seeds alone forgets that another dev split would give other scores. With the gap of every seed on
every row both can be counted: seeds and rows are crossed random effects, as readers and cases are in studies of
diagnosis (Dorfman, Berbaum & Metz 1992, with the degrees of freedom of Hillis 2007).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from kdcore.probes.fidelity import pearson

Floats = NDArray[np.float64]

MIN_PAIRED_SEEDS = 6
"""Paired seeds below which nothing is called real."""
OVER_SEEDS = "paired t-test over seeds"
OVER_BOTH = "paired t-test over seeds and dev rows, both random (Dorfman-Berbaum-Metz, degrees of freedom by Hillis)"
HOW = (
    f"Runs are paired by seed: same task, initial weights, student and data order. {OVER_BOTH}: with MS of the two-way "
    "table seeds × rows of gaps, the squared standard error is (MS_seeds + max(MS_rows − MS_rest, 0)) / (S R). So an "
    "interval here speaks for other seeds and for other dev rows; not for another teacher, which all seeds "
    "share. Where a run's predictions are not kept, only its score is known and the test is the paired t-test over "
    "seeds. Testing many pairs will find some by chance."
)


@dataclass(frozen=True)
class Verdict:
    """What the paired runs say about first minus second.

    seeds: those that both have. rows: dev rows that the test counts, 0 where only scores are known. gap: mean
    difference of the scores, as fractions. low, high: its t interval at `level`; p: two-sided. These three are NaN
    where there are fewer than MIN_PAIRED_SEEDS.
    """

    seeds: tuple[int, ...]
    rows: int
    gap: float
    low: float
    high: float
    p: float
    test: str
    level: float

    @property
    def enough(self) -> bool:
        return len(self.seeds) >= MIN_PAIRED_SEEDS

    @property
    def real(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.enough and self.p < 1 - self.level


def compare(first: Mapping[int, ArrayLike], second: Mapping[int, ArrayLike], level: float = 0.95) -> Verdict:
    """Sets two groups of runs against each other that share task, initial weights and student.

    Args:
        first, second: seed -> score, or seed -> `contributions` [rows] of the same rows in the same order everywhere.

    Raises:
        ValueError: the arrays do not have the same rows.
    """
    seeds = tuple(sorted(set(first) & set(second)))
    if not seeds:
        return Verdict((), 0, np.nan, np.nan, np.nan, np.nan, OVER_SEEDS, level)
    gaps = np.stack([np.subtract(first[seed], second[seed], dtype=np.float64) for seed in seeds])
    rows = gaps.shape[1] if gaps.ndim == 2 else 0
    gap, test = float(gaps.mean()), OVER_BOTH if rows > 1 else OVER_SEEDS
    if len(seeds) < MIN_PAIRED_SEEDS:
        return Verdict(seeds, rows, gap, np.nan, np.nan, np.nan, test, level)
    error, freedom = _standard_error(gaps if rows > 1 else gaps.reshape(-1, 1))
    if error == 0:
        return Verdict(seeds, rows, gap, gap, gap, 1.0 if gap == 0 else 0.0, test, level)
    half = error * float(stats.t.ppf((1 + level) / 2, freedom))
    p = 2 * float(stats.t.sf(abs(gap) / error, freedom))
    return Verdict(seeds, rows, gap, gap - half, gap + half, p, test, level)


def describe(verdict: Verdict, first: str, second: str, scope: str = "") -> tuple[str, str]:
    """A headline and a sentence.

    Args:
        first, second: what the two are called. scope: what all runs share that is no part of either, such as `with this
            teacher`.
    """
    within = f", {scope}" if scope else ""
    gap = f"{abs(100 * verdict.gap):.1f} points"
    if not verdict.seeds:
        return "Not enough seeds.", f"{first} and {second} share no finished seed; a verdict needs {MIN_PAIRED_SEEDS}."
    ahead, behind = (first, second) if verdict.gap >= 0 else (second, first)
    if not verdict.enough:
        count = f"{len(verdict.seeds)} paired seed{'s' if len(verdict.seeds) > 1 else ''}"
        so_far = f"So far {ahead} is ahead by {gap}" if verdict.gap else "So far the two score the same"
        return "Not enough seeds.", f"{count}, a verdict needs {MIN_PAIRED_SEEDS}. {so_far}{within}."
    ends = sorted((verdict.low, verdict.high) if verdict.gap >= 0 else (-verdict.low, -verdict.high))
    interval = f"{verdict.level:.0%} interval {100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"
    if verdict.real:
        return "Yes.", f"{ahead} is better than {behind} by {gap} ({interval}){within}."
    return "Not shown.", f"A gap of {gap} can be chance ({interval}){within}: no winner between {first} and {second}."


def basis(verdict: Verdict) -> str:
    """What a verdict rests on: seeds, rows, the test, and its p where there is one."""
    rows = f"{verdict.rows} dev rows" if verdict.rows else "scores only"
    p = "" if not verdict.enough else "; p < 0.001" if verdict.p < 0.001 else f"; p = {verdict.p:.3f}"
    return f"seeds {', '.join(map(str, verdict.seeds))}; {rows}; {verdict.test}{p}"


def _standard_error(gaps: Floats) -> tuple[float, float]:
    """Of the mean of gaps [seeds, rows], and its degrees of freedom.

    The mean squares of a two-way table: MS_s = R var(seed means), MS_r = S var(row means), MS_sr of what is left.
    Var(mean) = (MS_s + max(MS_r - MS_sr, 0)) / (S R); degrees of freedom (S - 1) (1 + max(...) / MS_s)^2. With a single
    row this is the paired t-test.
    """
    seeds, rows = gaps.shape
    of_seed, of_row, mean = gaps.mean(1), gaps.mean(0), gaps.mean()
    between_seeds = rows * float(of_seed.var(ddof=1))
    between_rows = 0.0
    if rows > 1:
        left = gaps - of_seed[:, None] - of_row[None, :] + mean
        rest = float((left**2).sum()) / ((seeds - 1) * (rows - 1))
        between_rows = max(seeds * float(of_row.var(ddof=1)) - rest, 0.0)
    total = between_seeds + between_rows
    if between_seeds <= 1e-12 * max(total, np.finfo(float).tiny):
        return float(np.sqrt(total / (seeds * rows))), np.inf
    return float(np.sqrt(total / (seeds * rows))), (seeds - 1) * (total / between_seeds) ** 2


def contributions(metric: str, logits: ArrayLike, labels: ArrayLike) -> Floats | None:
    """What each row adds to a score: [rows], their mean is the score. None for metrics without a formula here.

    For accuracy: whether the row is right. For correlations: the jackknife's pseudo-values, R f - (R - 1) f_without_r,
    moved together so that their mean is f.

    Args:
        logits: [rows, outputs]; the class is the largest, a regression has one output. labels: [rows].
    """
    outputs, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if metric == "accuracy":
        result: Floats | None = (outputs.argmax(1) == truth).astype(np.float64)
        return result
    if metric == "matthews":
        return _pseudo(*_matthews(outputs.argmax(1), truth.astype(int)))
    if metric == "pearson":
        return _pseudo(*_pearson(outputs[:, 0], truth.astype(np.float64)))
    return None


def _pseudo(whole: float, without: Floats) -> Floats:
    values = len(without) * whole - (len(without) - 1) * without
    result: Floats = values + (whole - values.mean())
    return result


def _matthews(predicted: NDArray[np.int64], truth: NDArray[np.int64]) -> tuple[float, Floats]:
    """Matthews' correlation of all rows, and without each: rows of one cell of the confusion matrix are alike."""
    classes = int(max(predicted.max(), truth.max())) + 1
    table = np.zeros((classes, classes))
    np.add.at(table, (truth, predicted), 1)
    without = np.zeros_like(table)
    for cell in zip(*np.nonzero(table), strict=True):
        less = table.copy()
        less[cell] -= 1
        without[cell] = _correlation(less)
    return _correlation(table), without[truth, predicted]


def _correlation(table: Floats) -> float:
    """Matthews' correlation of a confusion matrix (rows: truth); 0 where one side is constant."""
    total, right = table.sum(), np.trace(table)
    true, predicted = table.sum(1), table.sum(0)
    scale = np.sqrt(total**2 - true @ true) * np.sqrt(total**2 - predicted @ predicted)
    return float((right * total - true @ predicted) / scale) if scale > 0 else 0.0


def _pearson(predicted: Floats, truth: Floats) -> tuple[float, Floats]:
    """Pearson's correlation of all rows, and without each, from sums that lack one row."""
    x, y = predicted - predicted.mean(), truth - truth.mean()
    n = len(x) - 1
    spread_x, spread_y = (_others(v * v) - _others(v) ** 2 / n for v in (x, y))
    together = _others(x * y) - _others(x) * _others(y) / n
    scale = np.sqrt(np.maximum(spread_x, 0) * np.maximum(spread_y, 0))
    return pearson(predicted, truth), np.divide(together, scale, out=np.zeros_like(scale), where=scale > 1e-12)


def _others(values: Floats) -> Floats:
    """For each row the sum over all others."""
    result: Floats = values.sum() - values
    return result
