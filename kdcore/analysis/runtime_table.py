"""Runs as deployed: what each model takes in each runtime and scores there, and whether a student survives int8."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from kdcore.analysis.cost_axes import MIB
from kdcore.formatting import hundredfold
from kdcore.store import Store

PROBE = "runtimes"
COLUMNS = (
    "run", "task", "label", "method", "seed", "model", "kind", "runtime", "score", "rows", "batch", "length", "tokens",
    "threads", "p50_ms", "p95_ms", "per_second", "repeats", "disk_mib", "memory_mib", "busy", "hardware",
)  # fmt: skip
LEVEL = 0.05
"""Below it a change is called more than chance."""


def runtime_table(store: Store, runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run, model, runtime and condition; columns as in `COLUMNS`.

    model: the group's label for a student, else the model's name. length: of the dev rows, mean, p95 or maximum.
    tokens: as the model reads such a row. score: ×100, in this very runtime on `rows` dev rows. Times are of a batch.

    Args:
        runs: rows of `Store.runs` with group and label.
    """
    rows: list[dict[str, Any]] = []
    for run, probe in _measurements(store, runs):
        known = {(model["name"], model["runtime"]): model for model in probe["models"]}
        for record in probe["records"]:
            model = known[record["name"], record["runtime"]]
            rows.append(_about(run) | record | _of_model(run, model) | {
                "rows": probe["rows"], "hardware": probe["hardware"],
                "length": record.get("length") or _length(probe["tokens"], record["tokens"]),
            })  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def absent(store: Store, runs: Sequence[str]) -> dict[tuple[str, str], str]:
    """(model, runtime) -> why it was not measured, of the runs that were."""
    return {
        (str(one["name"]), str(one["runtime"])): str(one["why"])
        for probes in store.probes_of(list(runs), (PROBE,)).values()
        for one in probes.get(PROBE, {}).get("absent", [])
    }


def unmeasured(store: Store, runs: pd.DataFrame) -> list[str]:
    """Ids of the runs without a measurement, one of each group first."""
    there = store.probes_of(list(runs["id"]), (PROBE,))
    groups: dict[str, list[str]] = {}
    for run, group in zip(runs["id"], runs["group"], strict=True):
        groups.setdefault(group, []).append(run)
    new = [members[0] for members in groups.values() if not any(there.get(run, {}).get(PROBE) for run in members)]
    return new or [run for run in runs["id"] if not there.get(run, {}).get(PROBE)]


def int8_table(store: Store, runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run and model: the score of ONNX Runtime in float32 and in int8, and the paired rows that changed.

    Columns: model, seed, kind, fp32 and int8 (×100), difference, rows, changed, lost (right in float32, wrong in int8),
    gained, p (exact McNemar test; lost and gained are NaN for scores, and p too).
    """
    rows = []
    for run, probe in _measurements(store, runs):
        known = {(model["name"], model["runtime"]): model for model in probe["models"]}
        for name in dict.fromkeys(name for name, _ in known):
            whole, small = known.get((name, "onnx-fp32")), known.get((name, "onnx-int8"))
            if whole and small and small.get("answers"):
                rows.append(_pair(run, whole, small))
    columns = ["model", "seed", "kind", "fp32", "int8", "difference", "rows", "changed", "lost", "gained", "p"]
    frame = pd.DataFrame(rows, columns=columns)
    again = frame["kind"] != "student"
    return frame[~(again & frame.duplicated([name for name in columns if name != "seed"]))].reset_index(drop=True)


@dataclass(frozen=True)
class Survival:
    """Whether int8 changes the answers of one group's students, over its seeds."""

    label: str
    pairs: pd.DataFrame

    def sentence(self) -> str:
        """For people."""
        pairs, n = self.pairs, len(self.pairs)
        fp32, int8 = (hundredfold(pairs[name].mean() / 100) for name in ("fp32", "int8"))
        of_student = pairs["kind"].iloc[0] == "student"
        seeds = "" if not of_student else " (one seed)" if n == 1 else f" ({n} seeds)"
        changed, rows = int(pairs["changed"].sum()), int(pairs["rows"].sum())
        text = f"{self.label}{seeds}: {fp32} in float32, {int8} in int8; {changed:,} of {rows:,} answers changed"
        if pairs["lost"].isna().all():
            return f"{text}, by a hundredth or more."
        text += f", {int(pairs['lost'].sum())} from right to wrong and {int(pairs['gained'].sum())} from wrong to right"
        worse = int(((pairs["p"] < LEVEL) & (pairs["lost"] > pairs["gained"])).sum())
        if not worse:
            return f"{text}: no loss is shown."
        return f"{text}: it loses" + (f" with {worse} of them." if n > 1 else ".")


def survivals(pairs: pd.DataFrame) -> Iterator[Survival]:
    """One for each group of students in an `int8_table`, then one for each other model."""
    for kind in ("student", "teacher", "cut"):
        for label, members in pairs[pairs["kind"] == kind].groupby("model", sort=False):
            yield Survival(str(label), members)


def _pair(run: Mapping[str, Any], whole: Mapping[str, Any], small: Mapping[str, Any]) -> dict[str, Any]:
    answers = small["answers"]
    before, after = (_of_model(run, model)["score"] for model in (whole, small))
    lost, gained = (float("nan") if answers[name] is None else answers[name] for name in ("lost", "gained"))
    return {
        **{name: _of_model(run, small)[name] for name in ("model", "kind")}, "seed": run["seed"], "fp32": before,
        "int8": after, "difference": after - before, "rows": answers["rows"], "changed": answers["changed"],
        "lost": lost, "gained": gained, "p": mcnemar(lost, gained),
    }  # fmt: skip


def mcnemar(lost: float, gained: float) -> float:
    """Two-sided p of the exact test (McNemar 1947): of the rows that changed sides, half would go either way.

    >>> mcnemar(9, 1)
    0.021484375
    """
    if lost != lost or gained != gained:
        return float("nan")
    return float(binomtest(int(lost), int(lost + gained)).pvalue) if lost + gained else 1.0


def _measurements(store: Store, runs: pd.DataFrame) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
    probes = store.probes_of(list(runs["id"]), (PROBE,))
    for run in runs.to_dict("records"):
        probe = probes.get(str(run["id"]), {}).get(PROBE)
        if isinstance(probe, Mapping) and probe.get("models"):
            yield {str(name): value for name, value in run.items()}, probe


def _length(named: Mapping[str, int], tokens: int) -> str:
    """The name of a length in a measurement of an older version, which gave all models the student's tokens."""
    return next((name for name, length in named.items() if length == tokens), f"{tokens} tokens")


def _about(run: Mapping[str, Any]) -> dict[str, Any]:
    return {"run": run["id"], **{name: run[name] for name in ("task", "label", "method", "seed")}}


def _of_model(run: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """What the table says of a model beside its times."""
    score, memory = model["scores"].get(run["metric"]), model.get("memory")
    return {
        "model": run["label"] if model["kind"] == "student" else model["words"], "kind": model["kind"],
        "score": float("nan") if score is None else 100 * float(score), "disk_mib": model["disk"] / MIB,
        "memory_mib": float("nan") if memory is None else memory / MIB,
    }  # fmt: skip
