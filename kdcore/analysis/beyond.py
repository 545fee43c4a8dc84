"""What distillation gives beyond a smaller model: scores and calibration of several methods as the data get worse.

Damage is of two kinds. Training data: the same settings trained again with wrong labels, rare classes or few labels,
as the runs of the store have it. Sentences: kept students on damaged dev rows, as the probe "robustness" measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdcore.analysis import significance
from kdcore.analysis.comparison import ENVIRONMENT, Comparison, counting, group_runs
from kdcore.analysis.lost import ALONE, read_answers
from kdcore.analysis.relatives import relatives
from kdcore.analysis.significance import Verdict
from kdcore.config import DataConfig, RunConfig
from kdcore.engine.run_files import model_predictions
from kdcore.paths import run_dir
from kdcore.probes.calibration import confidence
from kdcore.runs.remeasure import best_teacher
from kdcore.runs.robustness import PROBE
from kdcore.store import Store
from kdcore.tasks import TASKS

TRAINING = {"label_noise": (0.0, 0.1, 0.2, 0.4), "imbalance": (1.0, 0.2, 0.05), "label_fraction": (1.0, 0.25, 0.1)}
"""Setting of the training data -> its levels, from undamaged on."""
TEACHER = "teacher"
QUALITIES = {"score": True, "ece": False, "brier": False, "nll": False}
"""Quality -> whether more of it is better."""
AREA = ["label", "area", "rank", "first", "worst", "seeds"]
_FREE = tuple(f"data.{name}" for name in (*TRAINING, "noise_kind", "seed", "teacher_data"))
HOW = (
    "One point a level: the mean over seeds; the band is ± the sample's standard deviation, from three seeds on. Area: "
    "the mean height of the line from the first to the worst level that all methods of the table have (trapezoids; "
    "over the share of wrong labels or damaged words or the size of a step, or over the logarithm of a rare class's "
    "share or of the labels left). Mean rank: of the means at those levels, 1 the best. ECE: 15 bins of equal width. "
    "Brier: squared distance of the probabilities from the one-hot label. NLL: nats. Calibration is that of the "
    "answers as they are, without a temperature fitted: soft targets change how sure a student is."
)


@dataclass(frozen=True)
class Curves:
    """rows: one a run and level: label, key (of the family), method, run, seed, version, machine and rows (empty of
    teachers), severity (place on the x axis), level, score, ece, brier, nll; the teacher's have the method "teacher".
    missing: runs that would complete the levels.
    """

    rows: pd.DataFrame
    missing: tuple[RunConfig, ...] = ()

    @property
    def levels(self) -> dict[float, float]:
        """Place on the x axis -> level, from undamaged on."""
        pairs = self.rows[["severity", "level"]].drop_duplicates().sort_values("severity")
        return dict(zip(pairs["severity"], pairs["level"], strict=True))


@dataclass(frozen=True)
class SeedPairs:
    """Seeds at the levels that all students have.

    paired: every student has them, all levels on one version and machine that they share. apart: every student has
    them, but not so. partial: some students have them.
    """

    paired: tuple[int, ...]
    apart: tuple[int, ...]
    partial: tuple[int, ...]


def place(damage: str, level: float) -> float:
    """Where a level stands on the x axis: shares of wrong labels or damaged words as they are, else log2(1 / level)."""
    return float(np.log2(1 / level)) + 0.0 if damage in ("imbalance", "label_fraction") else level


def of_training(
    store: Store, everything: pd.DataFrame, comparison: Comparison, damage: str, clean_teacher: bool = False
) -> Curves:
    """The groups of a comparison with their training data damaged in one way, all else equal.

    Args:
        everything: rows of `Store.runs`, among which other levels are found. damage: a key of `TRAINING`.
        clean_teacher: of runs whose teachers are trained here, those whose teachers learned from clean rows.
    """
    of_chosen = store.settings(list(comparison.finished["id"]))
    chosen = sorted(of_chosen, key=lambda run: not of_chosen[run].data.clean)
    kin = relatives(store, everything, chosen, _FREE)
    runs = everything[everything["id"].isin(kin) & everything["rows"].isin(comparison.finished["rows"])]
    runs = runs[counting(runs)] if len(runs) else runs
    settings = store.settings(list(runs["id"]))
    labels = _labels(store, everything, kin)
    found = []
    for run in runs.to_dict("records"):
        config = settings[run["id"]]
        level = _level(config, damage, clean_teacher)
        if level is not None:
            first = kin[str(run["id"])]
            about = {"label": labels[first], "key": first, "method": run["method"], "run": run["id"]}
            about |= {"seed": int(run["seed"]), **{name: run[name] for name in ENVIRONMENT}}
            found.append(about | {"level": level, "score": run["score"]} | _sure(run))
    rows = _frame(found, damage)
    missing = tuple(_missing(rows, settings, damage, clean_teacher))
    return Curves(_with_teachers(store, rows, comparison, damage), missing)


def of_sentences(store: Store, comparison: Comparison, kind: str) -> Curves:
    """The finished runs of a comparison, as far as their robustness was measured, on sentences damaged in one way."""
    probes = store.probes_of(list(comparison.finished["id"]), (PROBE,))
    found = []
    for run in comparison.finished.to_dict("records"):
        models = probes.get(str(run["id"]), {}).get(PROBE, {}).get("models", {})
        for name, kinds in models.items():
            ours = name == "student"
            about = {
                "label": run["label"] if ours else f"teacher {name}", "key": run["group"] if ours else name,
                "method": run["method"] if ours else TEACHER, "run": run["id"], "seed": int(run["seed"]),
                **{name: run[name] if ours else "" for name in ENVIRONMENT},
            }  # fmt: skip
            found += [about | record | {"level": record["severity"]} for record in kinds.get(kind, ())]
    rows = _frame(found, kind)
    students = rows["method"] != TEACHER
    once = rows[~students].drop_duplicates(["label", "severity"])
    return Curves(pd.concat([rows[students], once], ignore_index=True))


def shared_levels(curves: Curves, quality: str) -> list[float]:
    """The levels at which every student has this quality, from undamaged on."""
    rows = curves.rows.dropna(subset=[quality])
    return [] if rows.empty else [curves.levels[float(severity)] for severity in _means(rows, quality).columns]


def areas(curves: Curves, quality: str) -> pd.DataFrame:
    """One row a label, the best area first: area (mean height over the levels that all have), rank (mean of the means'
    ranks), first and worst (means at the ends), seeds (those with all levels).
    """
    rows = curves.rows.dropna(subset=[quality])
    if rows.empty:
        return pd.DataFrame(columns=AREA)
    means = _means(rows, quality)
    if means.empty:
        return pd.DataFrame(columns=AREA)
    methods = rows.drop_duplicates("label").set_index("label")["method"]
    students = means[methods.reindex(means.index) != TEACHER]
    ranks = students.rank(ascending=not QUALITIES[quality]).mean(axis=1)
    by_seed = {label: _by_seed(members, quality, means.columns) for label, members in rows.groupby("label")}
    result = pd.DataFrame(
        {
            "label": means.index, "area": [_height(means.columns, values) for values in means.to_numpy()],
            "rank": ranks.reindex(means.index).to_numpy(), "first": means.iloc[:, 0].to_numpy(),
            "worst": means.iloc[:, -1].to_numpy(), "seeds": [len(by_seed[label]) for label in means.index],
        }
    )  # fmt: skip
    return result.sort_values("area", ascending=not QUALITIES[quality], kind="stable", ignore_index=True)


def area_verdict(curves: Curves, first: str, second: str, quality: str = "score") -> Verdict:
    """First less second, area by area: a paired t-test over the seeds that both have at all levels, of one version and
    machine, as everywhere.
    """
    rows = curves.rows.dropna(subset=[quality])
    shared = _means(rows, quality).columns
    ours, theirs = (_by_seed(rows[rows["label"] == label], quality, shared) for label in (first, second))
    pairs = sorted(ours.keys() & theirs.keys(), reverse=True)  # of several of one seed the first counts
    first_areas, second_areas = ({key[0]: heights[key] for key in pairs} for heights in (ours, theirs))
    return significance.compare(first_areas, second_areas)


def seed_pairs(curves: Curves, quality: str) -> SeedPairs:
    """Which seeds can be set against each other over all students, and which not."""
    rows = curves.rows.dropna(subset=[quality])
    students = rows[rows["method"] != TEACHER]
    if students.empty:
        return SeedPairs((), (), ())
    shared = _means(rows, quality).columns
    of_each = [members for _, members in students.groupby("label")]
    alike = set.intersection(*(set(_by_seed(members, quality, shared)) for members in of_each))
    whole = [_with_all_levels(members, shared) for members in of_each]
    paired = {int(key[0]) for key in alike}
    there = set.intersection(*whole)
    return SeedPairs(*(tuple(sorted(seeds)) for seeds in (paired, there - paired, set.union(*whole) - there)))


def _with_all_levels(members: pd.DataFrame, severities: Any) -> set[int]:
    """Seeds that have all these levels, on whatever machine."""
    levels = members[members["severity"].isin(severities)].groupby("seed")["severity"].nunique()
    return {int(seed) for seed in levels.index[levels == len(severities)]}


def _means(rows: pd.DataFrame, quality: str) -> pd.DataFrame:
    """Means over seeds, [label, severity], at the levels that all students have."""
    table = rows.pivot_table(index="label", columns="severity", values=quality, sort=False).sort_index(axis=1)
    students = table.index.isin(rows.loc[rows["method"] != TEACHER, "label"])
    return table.loc[:, table[students].notna().all()]


def _by_seed(members: pd.DataFrame, quality: str, severities: Any) -> dict[tuple[Any, ...], float]:
    """Seed and `ENVIRONMENT` -> the area, where there are all of these levels."""
    table = members.pivot_table(index=["seed", *ENVIRONMENT], columns="severity", values=quality)
    table = table.reindex(columns=severities).dropna()
    heights = (_height(severities, values) for values in table.to_numpy())
    return dict(zip(table.index, heights, strict=True))


def _height(x: Any, values: Any) -> float:
    """Mean height of a line through these points."""
    places = np.asarray(x, np.float64)
    return float(np.trapezoid(values, places) / np.ptp(places)) if np.ptp(places) else float(np.mean(values))


def _frame(found: Sequence[Mapping[str, Any]], damage: str) -> pd.DataFrame:
    columns = ["label", "key", "method", "run", "seed", *ENVIRONMENT, "level", *QUALITIES]
    rows = pd.DataFrame(found, columns=columns)
    rows = rows.fillna(dict.fromkeys(ENVIRONMENT, ""))
    rows = rows.assign(severity=[place(damage, level) for level in rows["level"]])
    return rows.sort_values(["severity", "seed"], kind="stable", ignore_index=True)


def _labels(store: Store, everything: pd.DataFrame, kin: Mapping[str, str]) -> dict[str, str]:
    """The first chosen run of each family -> a label that no other family has."""
    named, _ = group_runs(store, everything[everything["id"].isin(set(kin.values()))])
    return dict(zip(named["id"], named["label"], strict=True))


def _learns_from_its_teacher(config: RunConfig) -> bool:
    """Whether it matters which rows the teachers learned from: they were trained here, and the student asks them."""
    from kdcore.engine.teacher_source import needs_training  # brings torch, which undamaged runs are drawn without

    return config.method != ALONE and any(needs_training(teacher) for teacher in config.teachers)


def _level(config: RunConfig, damage: str, clean_teacher: bool) -> float | None:
    """The level of this damage; None where the data are damaged otherwise, or the teacher had other rows."""
    data = config.data
    others = {name: levels[0] for name, levels in TRAINING.items() if name != damage}
    if any(getattr(data, name) != clean for name, clean in others.items()):
        return None
    level = float(getattr(data, damage))
    if level == TRAINING[damage][0]:
        return level
    if data.noise_kind != "uniform" or data.seed:
        return None
    other_teacher = (data.teacher_data == "clean") != clean_teacher
    return None if other_teacher and _learns_from_its_teacher(config) else level


def _sure(run: Mapping[Any, Any]) -> dict[str, float]:
    """How far the run's answers on the first dev split can be believed; nothing where they are not here, or scores."""
    task = str(run["task"])
    split = TASKS[task].splits[0] if task in TASKS else "validation"
    kept = model_predictions(run_dir(str(run["id"])), split, "student")
    return {} if kept is None else confidence(kept["logits"], kept["labels"])


def _with_teachers(store: Store, rows: pd.DataFrame, comparison: Comparison, damage: str) -> pd.DataFrame:
    """The rows, and for each level the best teacher of one of its runs."""
    facts = store.rows(list(rows["run"]))
    found = []
    for level, members in rows.groupby("level", sort=False):
        for run, seed in zip(members["run"], members["seed"], strict=True):
            row = facts[run]
            name = best_teacher(row.facts, [spec.name for spec in row.config.teachers], comparison.metric)
            answers = read_answers(run, row.task, name) if name else None
            if name is None or answers is None:
                continue
            values = significance.contributions(comparison.metric, answers.teacher, answers.gold)
            score = np.nan if values is None else float(values.mean())
            about = {"label": f"teacher {name}", "key": name, "method": TEACHER, "run": run, "seed": seed}
            found.append(about | {"level": level, "score": score} | confidence(answers.teacher, answers.gold))
            break
    return pd.concat([rows, _frame(found, damage)], ignore_index=True) if found else rows


def _missing(
    rows: pd.DataFrame, settings: Mapping[str, RunConfig], damage: str, clean_teacher: bool
) -> Iterator[RunConfig]:
    """Each family's levels and seeds that have no finished run, as runs."""
    for _, members in rows.groupby("key", sort=False):
        there = set(zip(members["seed"], members["level"], strict=True))
        example = settings[members["run"].iloc[0]]
        for level in TRAINING[damage]:
            for seed in sorted(set(members["seed"])):
                if (seed, level) not in there:
                    yield _at(example, damage, level, int(seed), clean_teacher)


def _at(example: RunConfig, damage: str, level: float, seed: int, clean_teacher: bool) -> RunConfig:
    """The same run with this seed and level."""
    clean = clean_teacher and _learns_from_its_teacher(example)
    data = DataConfig.model_validate(
        {damage: level, "unlabelled": example.data.unlabelled, "teacher_data": "clean" if clean else "same"}
    )
    train = example.train.model_copy(update={"seed": seed})
    return example.model_copy(update={"name": "", "data": data, "train": train})
