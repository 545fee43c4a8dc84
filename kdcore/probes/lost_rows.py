"""What a student lost against its teacher: rows in four cells, whether their numbers differ, and what marks lost rows.

The questions are those of Mohanty, Roosta and Passban 2023 (arXiv 2311.04142), of which only the abstract was read: the
measures are ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import expit

Floats = NDArray[np.float64]

RESAMPLES = 1000
_SEED = 20_231_104
FEWEST = 10
"""Lost rows, and kept ones, below which nothing is said of what marks them."""
_RIDGE = 1e-6
_SEPARATED = 10.0
"""Size of a coefficient from which on a feature separates lost rows from kept ones, so that no ratio can be told."""
_CONSTANT = 1e-9
"""Standard deviation of a feature that does not vary, but for rounding."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Cells:
    """Rows that both have right, that only the teacher has (lost), that only the student has (gained), that neither."""

    both: int
    lost: int
    gained: int
    neither: int

    @property
    def rows(self) -> int:
        return self.both + self.lost + self.gained + self.neither

    @property
    def lost_share(self) -> float:
        """Of the rows that the teacher has right; NaN where it has none."""
        return self.lost / (self.both + self.lost) if self.both + self.lost else np.nan

    @property
    def gained_share(self) -> float:
        """Of the rows that the teacher has wrong; NaN where it has none."""
        return self.gained / (self.gained + self.neither) if self.gained + self.neither else np.nan

    @property
    def p(self) -> float:
        """McNemar's test with continuity correction, (|b - c| - 1)^2 / (b + c) on chi-squared with one degree of
        freedom (McNemar 1947; Edwards 1948): whether these two models differ, not their methods."""
        differing = self.lost + self.gained
        if not differing:
            return 1.0
        return float(stats.chi2.sf(max(abs(self.lost - self.gained) - 1, 0) ** 2 / differing, 1))


def four_cells(gold: ArrayLike, teacher: ArrayLike, student: ArrayLike) -> Cells:
    """Rows counted by who is right.

    Args:
        gold: int [rows]. teacher, student: logits [rows, classes].
    """
    truth = np.asarray(gold)
    knows, learned = (np.asarray(logits).argmax(-1) == truth for logits in (teacher, student))
    return Cells(
        *(int(each.sum()) for each in (knows & learned, knows & ~learned, ~knows & learned, ~knows & ~learned))
    )


def bootstrap(teacher: ArrayLike, student: ArrayLike, level: float = 0.95) -> tuple[tuple[float, float], ...]:
    """Percentile intervals of mean(teacher) - mean(student) and of mean(student) / mean(teacher), over dev rows.

    Both means are taken over the same `RESAMPLES` resamples of the rows (paired bootstrap, Efron 1979). The ratio is
    NaN where the teacher's mean is not above 0 in all of them.

    Args:
        teacher, student: what each row adds to the score [rows].
    """
    theirs, ours = _resample_means(np.stack([np.asarray(values, np.float64) for values in (teacher, student)]))
    edges = [(1 - level) / 2, (1 + level) / 2]
    gap = np.quantile(theirs - ours, edges)
    ratio = np.quantile(ours / theirs, edges) if theirs.min() > 0 else np.full(2, np.nan)
    return (float(gap[0]), float(gap[1])), (float(ratio[0]), float(ratio[1]))


def _resample_means(values: Floats) -> Floats:
    """Means over resamples of the rows, the same for all that are given: [models, rows] to [models, RESAMPLES]."""
    rng, rows = np.random.default_rng(_SEED), values.shape[1]
    return np.stack([values[:, rng.integers(0, rows, rows)].mean(axis=1) for _ in range(RESAMPLES)], axis=1)


@dataclass(frozen=True)
class Slope:
    """What a doubling changes, with its t interval; NaN ends where there are no more sizes than a plane needs."""

    value: float
    low: float
    high: float


def slopes(layers: ArrayLike, heads: ArrayLike, gaps: ArrayLike, level: float = 0.95) -> dict[str, Slope]:
    """Least-squares slope of the gap on log2(layers) and log2(heads), both together: what a doubling changes.

    Args:
        layers, heads, gaps: one of each size of student. Sizes that never vary have no slope.
    """
    given = {"layers": np.log2(np.asarray(layers, np.float64)), "heads": np.log2(np.asarray(heads, np.float64))}
    varying = {name: values for name, values in given.items() if np.ptp(values) > 0}
    if not varying:
        return {}
    design = np.column_stack([np.ones(len(given["layers"])), *varying.values()])
    values = np.asarray(gaps, np.float64)
    found, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    if rank < design.shape[1]:
        return {}
    freedom = len(values) - rank
    rest = float(((values - design @ found) ** 2).sum()) / freedom if freedom else np.nan
    half = stats.t.ppf((1 + level) / 2, max(freedom, 1)) * np.sqrt(rest * np.diag(np.linalg.inv(design.T @ design)))
    ends = zip(varying, found[1:], half[1:], strict=True)
    return {name: Slope(float(value), float(value - by), float(value + by)) for name, value, by in ends}


def features(
    texts: Sequence[Sequence[str]], gold: ArrayLike, confidence: ArrayLike, labels: Sequence[str]
) -> pd.DataFrame:
    """What may mark a row: one column each, one row each.

    Words of the row; the teacher's probability of the gold class; of a pair, the share of words that both sentences
    have (Jaccard); the label, 0 or 1 for each class but the first.

    Args:
        texts: the text columns, each [rows]. gold: int [rows]. confidence: [rows]. labels: names of the classes.
    """
    words = [[_WORD.findall(text.lower()) for text in column] for column in texts]
    columns: dict[str, ArrayLike] = {
        "length (words)": [float(sum(map(len, row))) for row in zip(*words, strict=True)],
        "teacher's confidence": np.asarray(confidence, np.float64),
    }
    if len(words) == 2:
        columns["words in both sentences"] = [_overlap(set(a), set(b)) for a, b in zip(*words, strict=True)]
    truth = np.asarray(gold)
    columns |= {f"label {name}": (truth == k).astype(np.float64) for k, name in enumerate(labels) if k}
    return pd.DataFrame(columns)


def _overlap(first: set[str], second: set[str]) -> float:
    return len(first & second) / len(first | second) if first | second else 0.0


def odds_ratios(features: pd.DataFrame, lost: ArrayLike, trials: int = 1, level: float = 0.95) -> pd.DataFrame:
    """Logistic regression of being lost on all features together: by how much the odds grow.

    A number counts by its standard deviation, a label against the first one. Rows are the independent unit: where a row
    was answered by several seeds, its answers count together (Huber's sandwich, by row), so that more seeds do not make
    rows more certain. Features that never vary are left out.

    Args:
        features: numbers [rows, features]. lost: how often each row was lost, 0 to `trials` [rows].

    Returns:
        feature, unit, ratio, low, high; no rows with fewer than `FEWEST` lost or kept rows. ratio, low and high are NaN
        where a feature separates the two.
    """
    count = np.asarray(lost, np.float64)
    columns = ["feature", "unit", "ratio", "low", "high"]
    varying = features.loc[:, features.std(ddof=0) > _CONSTANT]
    if min((count > 0).sum(), (count < trials).sum()) < FEWEST or varying.empty:
        return pd.DataFrame(columns=columns)
    scale = {name: 1.0 if _is_label(name) else float(varying[name].std(ddof=0)) for name in varying}
    design = np.column_stack([np.ones(len(varying)), *((varying[n] - varying[n].mean()) / scale[n] for n in varying)])
    found, error = _logistic(design, count, trials)
    z = float(stats.norm.ppf((1 + level) / 2))
    known = np.where((np.abs(found) < _SEPARATED) & np.isfinite(error), 1.0, np.nan)
    ends = [np.exp(found + side * z * error * known)[1:] for side in (-1, 1)]
    units = ["against the first label" if _is_label(name) else f"+{scale[name]:.2g}, one std" for name in varying]
    return pd.DataFrame(
        dict(zip(columns, (list(varying), units, np.exp(found * known)[1:], *ends), strict=True)), columns=columns
    )


def _is_label(feature: object) -> bool:
    return str(feature).startswith("label ")


def _logistic(design: Floats, count: Floats, trials: int) -> tuple[Floats, Floats]:
    """Coefficients by Newton's steps, and their standard errors, robust to answers of one row that hang together."""
    ridge = np.diag([0.0, *[_RIDGE] * (design.shape[1] - 1)])
    found = np.zeros(design.shape[1])
    for _ in range(100):
        share = expit(design @ found)
        step = np.linalg.solve(
            _information(design, share, trials) + ridge, design.T @ (count - trials * share) - ridge @ found
        )
        found = found + step
        if np.abs(step).max() < 1e-9 or np.abs(found).max() > 2 * _SEPARATED:
            break
    share = expit(design @ found)
    bread = np.linalg.pinv(_information(design, share, trials) + ridge)
    scores = design * (count - trials * share)[:, None]
    variance = np.diag(bread @ (scores.T @ scores) @ bread)
    return found, np.sqrt(np.where(variance > 0, variance, np.nan))


def _information(design: Floats, share: Floats, trials: int) -> Floats:
    result: Floats = design.T @ (design * (trials * share * (1 - share))[:, None])
    return result
