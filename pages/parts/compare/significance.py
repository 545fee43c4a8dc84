"""Is the difference between two methods real? The answer in words, its numbers, and the runs it still needs."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis.comparison import Answer, Comparison
from kdcore.analysis.row_scores import Contributions, contributions_of
from kdcore.analysis.significance import HOW, MIN_PAIRED_SEEDS, Verdict
from kdcore.config import RunConfig
from kdcore.store import UNFINISHED
from pages.parts.common import queue_runs
from pages.parts.common.numbers import numbers
from pages.parts.common.text import duration, plain


def show(comparison: Comparison) -> None:
    """The question, for two groups that a person chooses."""
    st.subheader("Is this difference real?", anchor=False)
    if len(comparison.labels) < 2:
        st.caption("Choose runs of two methods to ask.")
        return
    first, second = _pair(comparison)
    if first == second:
        st.caption("Choose two different groups.")
        return
    answer = comparison.answer(first, second, read_contributions)
    with st.container(border=True, key="verdict"):
        icon = ":material/check_circle:" if answer.verdict and answer.verdict.real else ":material/help:"
        st.markdown(f"{icon} **{answer.headline}** {plain(answer.sentence, 600)}")
    if answer.verdict is not None:
        _numbers(answer, answer.verdict)
        _missing(comparison, answer.verdict, first, second)


def seeds_to_run(have: tuple[set[int], set[int]], fewest: int = MIN_PAIRED_SEEDS) -> list[int]:
    """Seeds that bring two groups to `fewest` shared ones: first those that one has, then the smallest unused."""
    both, either = have[0] & have[1], have[0] | have[1]
    spare = [seed for seed in range(fewest + len(either)) if seed not in either]
    return [*sorted(either - both), *spare][: max(0, fewest - len(both))]


def _pair(comparison: Comparison) -> list[str]:
    """Two list boxes: the best group and the baseline until two are chosen."""
    labels = comparison.labels
    means = comparison.finished.groupby("group")["score"].mean().drop(comparison.baseline, errors="ignore")
    others = [group for group in labels if group != comparison.baseline]
    best = str(means.idxmax()) if len(means) else others[0]
    with st.container(horizontal=True):
        return [
            st.selectbox(
                label,
                list(labels),
                index=list(labels).index(group),
                format_func=lambda group: labels.get(group, group),
                key=key,
                bind="query-params",
            )
            for label, key, group in (
                ("First", "verdict_first", best),
                ("Second", "verdict_second", comparison.baseline),
            )
        ]


@st.cache_data(max_entries=512, show_spinner=False)
def read_contributions(run: str, task: str, metric: str) -> Contributions | None:
    """Remembered: reading and taking apart the predictions of many runs takes a moment."""
    return contributions_of(run, task, metric)


def _numbers(answer: Answer, verdict: Verdict) -> None:
    def points(value: float) -> str:
        return f"{100 * value:+.2f}"

    if verdict.enough:
        metrics = (
            ("Paired seeds", str(len(verdict.seeds))),
            ("Mean gap (points)", points(verdict.gap)),
            (f"{verdict.level:.0%} interval (t)", f"{points(verdict.low)} to {points(verdict.high)}"),
            ("p, two-sided", "< 0.001" if verdict.p < 0.001 else f"{verdict.p:.3f}"),
        )
        with st.container(horizontal=True):
            for label, value in metrics:
                st.metric(label, value, border=True, width="stretch")
    if answer.basis:
        st.caption(f"First minus second, the finished runs of the two in this comparison: {answer.basis}.")
    numbers(None, "verdict", HOW)


def _missing(comparison: Comparison, verdict: Verdict, first: str, second: str) -> None:
    """The seeds that a verdict still lacks, as runs to queue."""
    if verdict.enough:
        return
    done = [comparison.finished[comparison.finished["group"] == group] for group in (first, second)]
    have = (set(done[0]["seed"].astype(int)), set(done[1]["seed"].astype(int)))
    seeds = seeds_to_run(have)
    runs = [
        queue_runs.with_seed(RunConfig.model_validate(comparison.settings_of(group)), seed)
        for group, there in zip((first, second), have, strict=True)
        for seed in seeds
        if seed not in there
    ]
    members = pd.concat([comparison.members(group) for group in (first, second)])
    if under_way := int(members["state"].isin(UNFINISHED).sum()):
        st.caption(f"{under_way} runs of these two are queued or under way.")
    seconds = pd.concat(done)["seconds"].median()
    time = f" Each took about {duration(float(seconds))} here." if seconds == seconds else ""
    if runs:
        queue_runs.offer(
            f"Queue the missing seeds ({len(runs)} run{'s' if len(runs) != 1 else ''})",
            runs,
            "verdict_queue",
            help=f"Seeds {', '.join(map(str, seeds))}, with the settings of the runs above.{time}",
        )
