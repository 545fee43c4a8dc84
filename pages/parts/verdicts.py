"""Is the difference between two methods real? The answer in words, its numbers, and the runs it still needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.paths import run_dir
from kdcore.probes.verdict import FEWEST_SEEDS, OVER_BOTH, Verdict, compare, contributions
from kdcore.tasks import TASKS
from pages.parts import cards, queued
from pages.parts.text import duration, plain

SHARED = ("task", "own", "student")
"""What the runs of a pair must share."""
HOW = (
    f"Runs are paired by seed: same task, initial weights, student and data order. {OVER_BOTH}: with MS of the two-way "
    "table seeds × rows of gaps, the squared standard error is (MS_seeds + max(MS_rows − MS_rest, 0)) / (S R). So an "
    "interval here speaks for other seeds and for other dev rows. Where a run's predictions are not kept, only its "
    "score is known and the test is the paired t-test over seeds. Testing many pairs will find some by chance."
)


def show(
    runs: pd.DataFrame, whole: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]], baseline: str, metric: str
) -> None:
    """The question, for two groups that a person chooses.

    Args:
        runs: the comparison's, of one task, with group and label. whole: all runs of the task with group, which the
            answer rests on; configs: their settings.
    """
    st.subheader("Is this difference real?", anchor=False)
    labels = dict(zip(runs["group"], runs["label"], strict=True))
    if len(labels) < 2:
        st.caption("Choose runs of two methods to ask.")
        return
    means = runs.groupby("group")["score"].mean().drop(baseline, errors="ignore")
    best = str(means.idxmax()) if means.notna().any() else next(group for group in labels if group != baseline)
    with st.container(horizontal=True):
        first, second = (
            st.selectbox(
                label,
                list(labels),
                index=list(labels).index(at),
                format_func=lambda group: labels.get(group, group),
                key=key,
            )
            for label, key, at in (("First", "verdict_first", best), ("Second", "verdict_second", baseline))
        )
    if first == second:
        st.caption("Choose two different groups.")
        return
    pair = [whole[whole["group"] == group] for group in (first, second)]
    settings = [configs[one["id"].iloc[0]] for one in pair]
    unlike = [name for name in SHARED if settings[0].get(name) != settings[1].get(name)]
    if unlike:
        words = " and ".join(
            {"own": "data", "student": "student or its initial weights"}.get(one, one) for one in unlike
        )
        st.info(f"These two differ in {words}, not only in the method, so their runs do not pair.")
        return
    found = _verdict(pair[0], pair[1], metric)
    _words(found, labels[first], labels[second])
    _numbers(found)
    _missing(found, pair, settings)


def answer(found: Verdict, first: str, second: str) -> tuple[str, str]:
    """The verdict as a headline and a sentence."""
    gap = f"{abs(100 * found.gap):.1f} points"
    if not found.seeds:
        return "Not enough seeds.", f"{first} and {second} share no finished seed; a verdict needs {FEWEST_SEEDS}."
    ahead, behind = (first, second) if found.gap >= 0 else (second, first)
    if not found.enough:
        count = f"{len(found.seeds)} paired seed{'s' if len(found.seeds) > 1 else ''}"
        return "Not enough seeds.", f"{count}, a verdict needs {FEWEST_SEEDS}. So far {ahead} is ahead by {gap}."
    ends = sorted((found.low, found.high) if found.gap >= 0 else (-found.low, -found.high))
    interval = f"{found.level:.0%} interval {100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"
    if found.real:
        return "Yes.", f"{ahead} is better than {behind} by {gap} ({interval})."
    return "Not shown.", f"A gap of {gap} can be chance ({interval}): no winner between {first} and {second}."


def seeds_to_run(have: tuple[set[int], set[int]], fewest: int = FEWEST_SEEDS) -> list[int]:
    """Seeds that bring two groups to `fewest` shared ones: first those that one has, then the smallest unused."""
    both, either = have[0] & have[1], have[0] | have[1]
    spare = [seed for seed in range(fewest + len(either)) if seed not in either]
    return [*sorted(either - both), *spare][: max(0, fewest - len(both))]


def _verdict(first: pd.DataFrame, second: pd.DataFrame, metric: str) -> Verdict:
    """From the rows where every run kept its predictions on the same rows, else from the scores."""
    done = [one[(one["state"] == "done") & one["score"].notna()].drop_duplicates("seed") for one in (first, second)]
    rows = [{int(run["seed"]): _rows(run["id"], run["task"], metric) for _, run in one.iterrows()} for one in done]
    known = [found for one in rows for found in one.values()]
    if known and all(found is not None and np.array_equal(found[0], known[0][0]) for found in known):  # type: ignore[index]
        values = [{seed: found[1] for seed, found in one.items() if found is not None} for one in rows]
        return compare(values[0], values[1])
    scores = [dict(zip(one["seed"].astype(int), one["score"], strict=True)) for one in done]
    return compare(scores[0], scores[1])


@st.cache_data(max_entries=512, show_spinner=False)
def _rows(run: str, task: str, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Ids of the dev rows and what each adds to the run's score; None where that is not known."""
    from kdcore.engine.results import predictions

    try:
        kept = predictions(run_dir(run))
    except UserError:
        return None
    split = TASKS[task].splits[0] if task in TASKS else "validation"
    said = kept.get((split, "student"))
    if said is None:
        return None
    values = contributions(metric, said["logits"], said["labels"])
    return None if values is None else (said["ids"], values)


def _words(found: Verdict, first: str, second: str) -> None:
    headline, sentence = answer(found, first, second)
    icon = ":material/check_circle:" if found.real else ":material/help:"
    with st.container(border=True, key="verdict"):
        st.markdown(f"{icon} **{headline}** {plain(sentence, 400)}")


def _numbers(found: Verdict) -> None:
    def points(value: float) -> str:
        return f"{100 * value:+.2f}"

    if found.enough:
        numbers = (
            ("Paired seeds", str(len(found.seeds))),
            ("Mean gap (points)", points(found.gap)),
            (f"{found.level:.0%} interval (t)", f"{points(found.low)} to {points(found.high)}"),
            ("p, two-sided", "< 0.001" if found.p < 0.001 else f"{found.p:.3f}"),
        )
        with st.container(horizontal=True):
            for label, value in numbers:
                st.metric(label, value, border=True, width="stretch")
    if found.seeds:
        rows = f"{found.rows} dev rows" if found.rows else "scores only"
        seeds = ", ".join(map(str, found.seeds))
        st.caption(f"First minus second, all finished runs of the two: seeds {seeds}; {rows}. Test: {found.test}.")
    cards.numbers(None, "verdict", HOW)


def _missing(found: Verdict, pair: list[pd.DataFrame], settings: list[Mapping[str, Any]]) -> None:
    if found.enough:
        return
    done = [one[(one["state"] == "done") & one["score"].notna()] for one in pair]
    have = (set(done[0]["seed"].astype(int)), set(done[1]["seed"].astype(int)))
    seeds = seeds_to_run(have)
    runs = [
        queued.with_seed(RunConfig.model_validate(config), seed)
        for config, there in zip(settings, have, strict=True)
        for seed in seeds
        if seed not in there
    ]
    under_way = sum(int(one["state"].isin(["queued", "starting", "running", "evaluating"]).sum()) for one in pair)
    if under_way:
        st.caption(f"{under_way} runs of these two are queued or under way.")
    took = pd.concat(done)["seconds"].median()
    time = f" Each took about {duration(float(took))} here." if took == took else ""
    queued.offer(
        f"Queue the missing seeds ({len(runs)} run{'s' if len(runs) != 1 else ''})",
        runs,
        "verdict_queue",
        help=f"Seeds {', '.join(map(str, seeds))}, with the settings of the runs above.{time}",
    )
