"""Is the difference between two methods real? The answer in words, its numbers, and the runs it still needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.analysis import comparison
from kdcore.analysis.significance import FEWEST_SEEDS, HOW, Verdict, basis, in_words
from kdcore.config import RunConfig
from kdcore.store import UNFINISHED
from pages.parts.common import cards, queue_runs
from pages.parts.common.text import duration, plain

SHARED = ("task", "own", "student")
"""What the runs of a pair must share."""


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
                bind="query-params",
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
    done = [one[one["state"] == "done"] for one in pair]
    found = comparison.verdict(done[0], done[1], metric, _rows)
    _words(found, labels[first], labels[second])
    _numbers(found)
    _missing(found, pair, settings)


def seeds_to_run(have: tuple[set[int], set[int]], fewest: int = FEWEST_SEEDS) -> list[int]:
    """Seeds that bring two groups to `fewest` shared ones: first those that one has, then the smallest unused."""
    both, either = have[0] & have[1], have[0] | have[1]
    spare = [seed for seed in range(fewest + len(either)) if seed not in either]
    return [*sorted(either - both), *spare][: max(0, fewest - len(both))]


@st.cache_data(max_entries=512, show_spinner=False)
def _rows(run: str, task: str, metric: str) -> comparison.KeptRows | None:
    """Remembered: reading and taking apart the answers of many runs takes a moment."""
    return comparison.kept_rows(run, task, metric)


def _words(found: Verdict, first: str, second: str) -> None:
    headline, sentence = in_words(found, first, second)
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
        st.caption(f"First minus second, all finished runs of the two: {basis(found)}.")
    cards.numbers(None, "verdict", HOW)


def _missing(found: Verdict, pair: list[pd.DataFrame], settings: list[Mapping[str, Any]]) -> None:
    if found.enough:
        return
    done = [one[(one["state"] == "done") & one["score"].notna()] for one in pair]
    have = (set(done[0]["seed"].astype(int)), set(done[1]["seed"].astype(int)))
    seeds = seeds_to_run(have)
    runs = [
        queue_runs.with_seed(RunConfig.model_validate(config), seed)
        for config, there in zip(settings, have, strict=True)
        for seed in seeds
        if seed not in there
    ]
    under_way = sum(int(one["state"].isin(UNFINISHED).sum()) for one in pair)
    if under_way:
        st.caption(f"{under_way} runs of these two are queued or under way.")
    took = pd.concat(done)["seconds"].median()
    time = f" Each took about {duration(float(took))} here." if took == took else ""
    queue_runs.offer(
        f"Queue the missing seeds ({len(runs)} run{'s' if len(runs) != 1 else ''})",
        runs,
        "verdict_queue",
        help=f"Seeds {', '.join(map(str, seeds))}, with the settings of the runs above.{time}",
    )
