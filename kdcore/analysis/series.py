"""Logged values as curves: of one run, or one curve for each run of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Curve:
    """One line before it is drawn. x ascending, y may hold NaN; both [points]."""

    run: str
    group: str
    method: str
    label: str
    seed: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """Two quantities of one run at the same steps, in the order of these; all [points], y may hold NaN."""

    run: str
    group: str
    method: str
    label: str
    seed: int
    step: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


Series = Mapping[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Kind and name of a logged quantity, in the order they were logged -> its x, ascending, and its values."""


def series(metrics: pd.DataFrame, x: str = "step") -> Series:
    """The quantities of one run from `Store.metrics`."""
    return {
        (str(kind), str(name)): curve(rows, x)
        for (kind, name), rows in metrics.groupby(["kind", "name"], sort=False)
    }  # fmt: skip


def curve(points: pd.DataFrame, x: str, y: str = "value") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The columns `x` and `y` as floats in the order of x; rows without an x are left out."""
    rows = points[points[x].notna()].sort_values(x, kind="stable")
    return rows[x].to_numpy(dtype=np.float64), rows[y].to_numpy(dtype=np.float64)


def with_rows_seen(
    points: pd.DataFrame, settings: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """Metrics or evaluations with two columns more.

    examples: steps times rows per step. tokens: these times the mean length of a training row, without padding; NaN
    where the run's facts do not say it.
    """
    sizes = {run: values["train"]["batch_size"] for run, values in settings.items()}
    examples = points["step"] * points["run"].map(sizes)
    return points.assign(examples=examples, tokens=examples * points["run"].map(mean_tokens(facts)).astype("float64"))


def mean_tokens(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Run -> tokens of its mean training row, for the runs that have said it."""
    known = {run: said.get("mean_tokens") for run, said in facts.items()}
    return {run: float(value) for run, value in known.items() if isinstance(value, int | float)}


def loss_curves(runs: pd.DataFrame, metrics: pd.DataFrame, kind: str, name: str, x: str) -> list[Curve]:
    """One curve per run for a logged value."""
    chosen = metrics[(metrics["kind"] == kind) & (metrics["name"] == name)]
    return _curves(runs, chosen, x)


def score_curves(
    runs: pd.DataFrame, evaluations: pd.DataFrame, metrics: pd.DataFrame, metric: str, select: bool, x: str
) -> list[Curve]:
    """One curve per run for its score: on `select`, or on the first dev split."""
    return _curves(runs, with_clock(student_scores(evaluations, metric, select), metrics, x), x)


def student_scores(evaluations: pd.DataFrame, metric: str, select: bool) -> pd.DataFrame:
    """The student's score at each evaluation: on `select`, or on the first dev split."""
    chosen = evaluations[(evaluations["metric"] == metric) & (evaluations["which"] == "last")]
    chosen = chosen[(chosen["split"] == "select") == select].drop_duplicates(["run", "split", "step"], keep="last")
    if not select and len(chosen):
        chosen = chosen[chosen["split"] == chosen["split"].iloc[0]]
    return chosen


def join(x: pd.DataFrame, y: pd.DataFrame, latest: Literal["", "x", "y"] = "") -> pd.DataFrame:
    """Two quantities at the same step of the same run: columns run, step, x, y, by run and step.

    Steps that only one has are left out.

    Args:
        x, y: columns run, step, value; of each run and step one row. latest: the one that need not have been written
            down at that very step: its last value before counts. Scores come at the end of an epoch, losses every so
            many steps.
    """
    sides = {
        name: rows[["run", "step", "value"]].rename(columns={"value": name}) for name, rows in {"x": x, "y": y}.items()
    }
    if x.empty or y.empty:
        return pd.DataFrame(columns=["run", "step", "x", "y"])
    if not latest:
        return sides["x"].merge(sides["y"], on=["run", "step"]).sort_values(["run", "step"], ignore_index=True)
    base = sides["y" if latest == "x" else "x"].sort_values("step", kind="stable")
    before = sides[latest].sort_values("step", kind="stable")
    found = pd.merge_asof(base, before, on="step", by="run", direction="backward").dropna(subset=["x"])
    return found[["run", "step", "x", "y"]].sort_values(["run", "step"], ignore_index=True)


def tracks(runs: pd.DataFrame, rows: pd.DataFrame) -> list[Track]:
    """One track per run. rows: of `join`."""
    found = []
    for _, run in runs.iterrows():
        mine = rows[(rows["run"] == run["id"]) & rows["x"].notna()]
        if len(mine):
            columns = [mine[name].to_numpy(dtype=np.float64) for name in ("step", "x", "y")]
            found.append(Track(run["name"], run["group"], run["method"], run["label"], _seed(run), *columns))
    return found


def _seed(run: pd.Series) -> int:
    return 0 if pd.isna(run["seed"]) else int(run["seed"])


def _curves(runs: pd.DataFrame, rows: pd.DataFrame, x: str) -> list[Curve]:
    curves = []
    for _, run in runs.iterrows():
        xs, ys = curve(rows[rows["run"] == run["id"]], x)
        if len(xs):
            curves.append(Curve(run["name"], run["group"], run["method"], run["label"], _seed(run), xs, ys))
    return curves


def with_clock(evaluations: pd.DataFrame, metrics: pd.DataFrame, x: str) -> pd.DataFrame:
    """Evaluations know their step and the rows seen; epoch and time are read off the run's logged steps."""
    if x in evaluations:
        return evaluations
    parts = []
    for run, rows in evaluations.groupby("run"):
        logged = metrics[(metrics["run"] == run) & (metrics["kind"] == "loss")].sort_values("step")
        clock = np.interp(rows["step"], logged["step"], logged[x]) if len(logged) else np.nan
        parts.append(rows.assign(**{x: clock}))
    return pd.concat(parts) if parts else evaluations.assign(**{x: np.nan})
