"""Runs set against one another: which count, how they group, what they score, and whether a difference is shown.

The page Compare, the report, `kdcore compare` and the table after a sweep all draw one `Comparison`, so that they
cannot disagree. It rests on the runs that were chosen, and on no others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from kdcore import identity
from kdcore.analysis import groups, significance
from kdcore.analysis.blind_guess import blind_guess_of
from kdcore.analysis.differences import differing_topics
from kdcore.analysis.option_choice import option_choices
from kdcore.analysis.row_scores import Contributions, contributions_of
from kdcore.analysis.significance import Verdict
from kdcore.config import RunConfig
from kdcore.formatting import amount, listed
from kdcore.methods.catalog import title_of
from kdcore.runs.ablations import title_in
from kdcore.store import Store

ENVIRONMENT = ["version", "machine", "rows"]
"""Columns in which two runs of one seed must be alike to be a pair."""
REFUSED = ("data", "size", "start", "steps", "training", "weights", "teachers", "base")
"""Topics of `Comparison.differs` in which two groups must be alike for a gap to be the method's."""

Reader = Callable[[str, str, str], Contributions | None]
"""Run, task and metric -> what each dev row adds to the run's score."""


@dataclass(frozen=True)
class Answer:
    """Whether one group beats another. verdict: None where the two cannot be set against each other."""

    headline: str
    sentence: str
    verdict: Verdict | None = None

    @property
    def basis(self) -> str:
        """What the answer rests on; empty where there is nothing."""
        return significance.basis(self.verdict) if self.verdict and self.verdict.seeds else ""


@dataclass(frozen=True)
class Comparison:
    """Runs of one task.

    chosen: rows of `Store.runs` with the columns group (equal but for the seed), label (no two groups share one),
    counts (see `counting`) and training_seconds (the loop alone). settings, facts: of each run. baseline: the group
    that the others are set against.
    unreadable: chosen runs whose settings cannot be read.
    """

    task: str
    chosen: pd.DataFrame
    settings: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Mapping[str, Any]]
    baseline: str
    unreadable: tuple[str, ...] = ()

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The runs that count: of each group and seed one, the baseline's first."""
        counted = self.chosen[self.chosen["counts"]]
        order = pd.DataFrame({"other": counted["group"] != self.baseline, "seed": counted["seed"]})
        return counted.loc[order.sort_values(["other", "seed"], kind="stable").index]

    @cached_property
    def finished(self) -> pd.DataFrame:
        """The runs whose scores count: a run under way or stopped early has no final score."""
        return self.runs[(self.runs["state"] == "done") & self.runs["score"].notna()]

    @property
    def metric(self) -> str:
        return next((metric for metric in self.chosen["metric"] if isinstance(metric, str) and metric), "accuracy")

    @cached_property
    def labels(self) -> dict[str, str]:
        """Group -> label, the baseline first."""
        return dict(zip(self.runs["group"], self.runs["label"], strict=True))

    @cached_property
    def blind_guess(self) -> float | None:
        """The metric of always saying the same, on the first dev split, as these runs measured it."""
        guesses = (blind_guess_of(self.facts.get(str(run), {}), self.metric) for run in self.runs["id"])
        return next((guess for guess in guesses if guess is not None), None)

    def members(self, group: str) -> pd.DataFrame:
        return self.runs[self.runs["group"] == group]

    def settings_of(self, group: str) -> Mapping[str, Any]:
        """The group's settings, but for the seed."""
        return self.settings[str(self.members(group)["id"].iloc[0])]

    def with_baseline(self, group: str) -> Comparison:
        return Comparison(self.task, self.chosen, self.settings, self.facts, group, self.unreadable)

    def gaps(self) -> pd.DataFrame:
        """The finished runs of the other groups, their score less that of the baseline's run that pairs with each.

        A run without a pair is left out: see `unpaired`.
        """
        others = self.finished[self.finished["group"] != self.baseline]
        return others.assign(score=over(others, self.finished[self.finished["group"] == self.baseline])).dropna(
            subset=["score"]
        )

    def unpaired(self) -> list[str]:
        """Which seeds of which group have a run of the baseline that is of another version or machine."""
        seeds = set(self.finished.loc[self.finished["group"] == self.baseline, "seed"])
        paired = set(self.gaps()["id"])
        notes = []
        for group, label in self.labels.items():
            rows = self.finished[(self.finished["group"] == group) & self.finished["seed"].isin(seeds)]
            alone = [f"{seed:.0f}" for seed in rows.loc[~rows["id"].isin(paired), "seed"]]
            if group != self.baseline and alone:
                seeds_text = f"seed{'s' if len(alone) > 1 else ''} {listed(alone, 8)}"
                notes.append(
                    f"{label}: {seeds_text} ran on another version or machine than the baseline's, "
                    "so no difference counts them"
                )
        return notes

    def repeats(self) -> list[str]:
        """Which chosen runs do not count since another of the same settings and seed does, and why that one."""
        notes = []
        for _, row in self.chosen[~self.chosen["counts"]].iterrows():
            twin = self.runs[(self.runs["group"] == row["group"]) & (self.runs["seed"] == row["seed"])].iloc[0]
            if row["state"] != "done" or pd.isna(row["score"]):
                why = f"is {row['state']}" if row["state"] != "done" else "has no score"
            elif [row[name] for name in ENVIRONMENT[:2]] != [twin[name] for name in ENVIRONMENT[:2]]:
                why = "ran on another version or machine than most"
            else:
                why = "is older"
            notes.append(f"{row['label']}, seed {row['seed']:.0f}: {twin['id']} counts; {row['id']} {why} and does not")
        return notes

    def more(self, everything: pd.DataFrame) -> pd.DataFrame:
        """Finished runs of these groups that were not chosen, of seeds that the groups lack.

        Args:
            everything: rows of `Store.runs`.
        """
        rest = everything[~everything["id"].isin(self.chosen["id"]) & everything["group"].isin(list(self.labels))]
        rest = rest[(rest["state"] == "done") & rest["score"].notna()]
        have = set(zip(self.finished["group"], self.finished["seed"], strict=True))
        missing = [key not in have for key in zip(rest["group"], rest["seed"], strict=True)]
        return rest[missing].drop_duplicates(["group", "seed"])

    def differs(self, first: str, second: str) -> dict[str, str]:
        """What else than the method two groups differ in: topic -> `epochs 1 against 2`.

        Topics are those of `identity.protocol`, base and teachers where both have some, and weights under one name.
        """
        configs = [RunConfig.model_validate(self.settings_of(group)) for group in (first, second)]
        topics = differing_topics(*configs)
        return topics | self._other_content(first, second)

    def _other_content(self, first: str, second: str) -> dict[str, str]:
        """Topics in which two groups saw something else under one name, as far as both have said what they saw."""
        mine, theirs = (self.facts[str(self.members(group)["id"].iloc[0])] for group in (first, second))
        rows = [identity.content(facts).rows for facts in (mine, theirs)]
        topics = {"data": "other rows under the same name"} if all(rows) and rows[0] != rows[1] else {}
        models = [identity.model_contents(facts) for facts in (mine, theirs)]
        if other := sorted(name for name in models[0] if models[1].get(name, models[0][name]) != models[0][name]):
            topics["weights"] = f"other weights of {listed(other)} under the same name"
        return topics

    def also_differs(self) -> dict[str, dict[str, str]]:
        """Label -> `differs` from the baseline, for the groups where there is something."""
        topics_of = {label: self.differs(group, self.baseline) for group, label in self.labels.items()}
        return {label: topics for label, topics in topics_of.items() if topics}

    def summary(self) -> pd.DataFrame:
        """One row per group, the baseline first, then the best first.

        Columns: group, label, n, mean, std (sample; NaN: one seed), gap, gap_std, gap_n (to the baseline, over pairs),
        select, select_std, last, last_std (fractions), parameters, words (the table of words' share of them),
        seconds, seconds_std, seconds_n (of the training loop, over runs that kept it), seeds, unfinished, differs
        (topics, comma-separated), options (in words, where one group was tuned).
        """
        gaps = self.gaps()
        rows = [self._summary_row(group, label, gaps[gaps["group"] == group]) for group, label in self.labels.items()]
        table = pd.DataFrame(rows)
        return pd.concat([table[:1], table[1:].sort_values("mean", ascending=False, kind="stable")], ignore_index=True)

    def _summary_row(self, group: str, label: str, gaps: pd.DataFrame) -> dict[str, Any]:
        members = self.members(group)
        done = self.finished[self.finished["group"] == group]
        mean, std, n = groups.mean_and_std(done["score"])
        gap, gap_std, gap_n = groups.mean_and_std(gaps["score"])
        select, select_std, _ = groups.mean_and_std(done["select_score"])
        last, last_std, _ = groups.mean_and_std(done["last_score"])
        seconds, seconds_std, seconds_n = groups.mean_and_std(done["training_seconds"].dropna())
        return {
            "group": group, "label": label, "n": n, "mean": mean, "std": std, "gap": gap, "gap_std": gap_std,
            "gap_n": gap_n, "select": select, "select_std": select_std, "last": last, "last_std": last_std,
            "parameters": members["parameters"].iloc[0], "words": groups.word_share(map(self.facts.get, members["id"])),
            "seconds": seconds, "seconds_std": seconds_std,
            "seconds_n": seconds_n, "seeds": ", ".join(f"{seed:.0f}" for seed in sorted(done["seed"].dropna())),
            "unfinished": int((members["state"] != "done").sum()),
            "differs": ", ".join(self.differs(group, self.baseline)), "options": self.options.get(group, ""),
        }  # fmt: skip

    @cached_property
    def options(self) -> dict[str, str]:
        """Group -> how its method's options were chosen, in words; empty where no group was tuned."""
        facts = {group: [self.facts[run] for run in self.members(group)["id"]] for group in self.labels}
        return option_choices(facts, {group: self.settings_of(group) for group in self.labels})

    def table(self) -> pd.DataFrame:
        """`summary` for people: scores times 100 with spread and number of seeds."""
        table = self.summary()

        def spread(value: str, count: str, **options: Any) -> list[str]:
            columns = (table[value], table[f"{value}_std" if value != "mean" else "std"], table[count])
            return [groups.format_mean(100 * a, 100 * b, int(n), **options) for a, b, n in zip(*columns, strict=True)]

        gaps = spread("gap", "gap_n", sign=True)
        times = zip(table["seconds"], table["seconds_std"], table["seconds_n"], strict=True)
        view = pd.DataFrame(
            {
                "method and student": table["label"],
                "dev score": spread("mean", "n"),
                "Δ to baseline": ["baseline", *gaps[1:]],
                "options": table["options"],
                "also differs in": table["differs"],
                "select score": spread("select", "n"),
                "last student": spread("last", "n"),
                "parameters": [amount(count) for count in table["parameters"]],
                "in word embeddings": [f"{share:.0%}" if share == share else "" for share in table["words"]],
                "training (s)": [groups.format_mean(mean, std, int(n), digits=0) for mean, std, n in times],
                "seeds": table["seeds"],
                "unfinished": table["unfinished"],
            }
        )
        said = {"options": "options", "also differs in": "differs"}
        return view.drop(columns=[title for title, column in said.items() if not table[column].any()])

    def answer(self, first: str, second: str, read: Reader = contributions_of) -> Answer:
        """Is the difference between two groups real? Over pairs of finished runs; refused where more than the method
        differs."""
        names = self.labels[first], self.labels[second]
        topics = [topic for topic in self.differs(first, second) if topic in REFUSED]
        if topics:
            details = "; ".join(f"{topic}: {self.differs(first, second)[topic]}" for topic in topics)
            also = f"{names[0]} and {names[1]} also differ in {listed(topics, 5)} ({details})"
            return Answer("Not the method alone.", f"{also}, so the gap is not the method's.")
        verdict = self.verdict(first, second, read)
        return Answer(*significance.describe(verdict, *names, self._scope(first, second)), verdict)

    def _scope(self, first: str, second: str) -> str:
        """What the runs of two groups share that others would have otherwise: no seed asks another teacher."""
        asked = [RunConfig.model_validate(self.settings_of(group)).teachers for group in (first, second)]
        count = max(len(teachers) for teachers in asked)
        return "" if not count else "with this teacher" if count == 1 else "with these teachers"

    def verdict(self, first: str, second: str, read: Reader = contributions_of) -> Verdict:
        """First less second over their pairs: from dev rows where every run has the same ones, else from scores."""
        rows = [self.finished[self.finished["group"] == group] for group in (first, second)]
        pairs = rows[0].merge(rows[1], on=["seed", *ENVIRONMENT], suffixes=("", "_second"))
        ids = [dict(zip(pairs["seed"].astype(int), pairs[column], strict=True)) for column in ("id", "id_second")]
        read_rows = [{seed: read(run, self.task, self.metric) for seed, run in side.items()} for side in ids]
        known = [item for side in read_rows for item in side.values() if item is not None]
        if known and len(known) == 2 * len(pairs) and all(np.array_equal(known[0].ids, item.ids) for item in known):
            values = [{seed: item.values for seed, item in side.items() if item} for side in read_rows]
            return significance.compare(values[0], values[1])
        scores = [
            dict(zip(pairs["seed"].astype(int), pairs[column], strict=True)) for column in ("score", "score_second")
        ]
        return significance.compare(scores[0], scores[1])

    def answers(self, read: Reader = contributions_of) -> list[tuple[str, Answer]]:
        """Label and answer of each other group against the baseline."""
        others = [group for group in self.labels if group != self.baseline]
        return [(self.labels[group], self.answer(group, self.baseline, read)) for group in others]


def compare(
    store: Store, runs: pd.DataFrame, baseline: str | None = None, names: Mapping[str, str] | None = None
) -> list[Comparison]:
    """A comparison per task, in the order of the rows; tasks of which no run can be read are left out.

    Args:
        runs: the chosen rows of `Store.runs`. baseline: a run of the group that the others are set against; by default
            training alone, else the first. names: group -> what to call it in place of its method's title.

    >>> from kdcore.store import open_store
    >>> store = open_store("sqlite://")
    >>> compare(store, store.runs())
    []
    """
    comparisons = []
    for task, rows in runs.groupby("task", sort=False):
        grouped, settings = group_runs(store, rows, names)
        if len(grouped):
            rows_of = store.rows(list(grouped["id"]))
            facts = {run: row.facts for run, row in rows_of.items()}
            seconds = [training_seconds(rows_of[run].summary) for run in grouped["id"]]
            unreadable = tuple(sorted(set(rows["id"]) - set(grouped["id"])))
            chosen = grouped.assign(counts=counting(grouped), training_seconds=seconds)
            base = baseline_of(grouped, baseline)
            comparisons.append(Comparison(str(task), chosen, settings, facts, base, unreadable))
    return comparisons


def training_seconds(summary: Mapping[str, Any]) -> float:
    """What a run's training loop took, evaluations included; NaN where that was not kept.

    The first run of several pays for making and asking the teachers, so its whole time says nothing of its method.
    """
    parts = summary.get("seconds_by_part")
    value = parts.get("training") if isinstance(parts, Mapping) else None
    return float(value) if isinstance(value, int | float) else float("nan")


def group_runs(
    store: Store, runs: pd.DataFrame, names: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """`runs` with the column label, no two groups' alike, and the settings of each; without those that have none."""
    settings = {run: config.model_dump(mode="json") for run, config in store.settings(list(runs["id"])).items()}
    readable = runs[[run in settings for run in runs["id"]]]
    first = readable.drop_duplicates("group")
    titles = [
        f"{title_of(method)} {title_in(tags)}".rstrip()
        for method, tags in zip(first["method"], first["tags"], strict=True)
    ]
    short = {
        group: f"{(names or {}).get(group.partition('-')[0]) or title}, {student}"
        for group, title, student in zip(first["group"], titles, first["student"], strict=True)
    }
    representative = {group: settings[run] for group, run in zip(first["group"], first["id"], strict=True)}
    return readable.assign(label=readable["group"].map(groups.labels(representative, short))), settings


def counting(runs: pd.DataFrame) -> pd.Series:
    """Which runs count: of those of one group and seed one, since N is a number of seeds.

    A finished one before others; of these one of the version and machine that most finished runs have; of these the
    newest.
    """
    done = (runs["state"] == "done") & runs["score"].notna()
    environments = pd.Series(list(zip(*(runs[name] for name in ENVIRONMENT), strict=True)), runs.index, dtype=object)
    usual = environments[done].value_counts(sort=True)
    newest_first = runs.assign(done=done, usual=environments.map(usual).fillna(0)).sort_values(
        ["done", "usual", "created"], ascending=False, kind="stable"
    )
    counted = newest_first.drop_duplicates(["group", "seed"]).index
    return pd.Series(runs.index.isin(counted), runs.index)


def over(runs: pd.DataFrame, reference: pd.DataFrame, by: Sequence[str] = ()) -> pd.Series:
    """Each run's score less that of the reference's run of the same seed, version and machine; NaN without one.

    Args:
        reference: finished runs; of several of one key the first. by: further columns that a pair shares.
    """
    keys = [*by, "seed", *ENVIRONMENT]
    scores = reference.drop_duplicates(keys).set_index(keys)["score"]
    result: pd.Series = runs["score"] - scores.reindex(pd.MultiIndex.from_frame(runs[keys])).to_numpy()
    return result


def over_fine_tuning(runs: pd.DataFrame) -> pd.Series:
    """Each finished run's score less that of fine-tuning alone under its protocol, by pairs; NaN without one.

    Args:
        runs: rows of `Store.runs`; fine-tuning alone is looked for among them.
    """
    done = runs[(runs["state"] == "done") & runs["score"].notna()]
    alone = done[done["method"] == "fine-tune"].sort_values("created", ascending=False, kind="stable")
    gain = over(done, alone, ["protocol"])
    return gain.where(done["method"] != "fine-tune").reindex(runs.index)


def baseline_of(runs: pd.DataFrame, wanted: str | None = None) -> str:
    """The group that the others are set against: that of the run `wanted`, else of training alone, else the first."""
    for candidates in (runs[runs["id"] == wanted], runs[runs["method"] == "fine-tune"], runs):
        if len(candidates):
            return str(candidates["group"].iloc[0])
    raise ValueError("there are no runs to choose a baseline from")


def partial_data(store: Store, runs: Sequence[str]) -> str:
    """On which part of the data these runs were trained; empty where all were on the whole."""
    notes = (row.facts.get("partial") for row in store.rows(runs).values())
    return "; ".join(sorted({str(note) for note in notes if note}))
