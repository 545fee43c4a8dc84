"""Two runs replayed on one clock: their curves grow together, and a line says who leads."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.analysis import race as clock
from kdcore.analysis.comparison import Comparison
from kdcore.figures import race
from kdcore.methods.catalog import title_of
from kdcore.store import Store
from pages.parts.common import cards
from pages.parts.common.run_labels import unique_labels
from pages.parts.common.text import listed, metric_title, plain

MACHINE = ("hardware", "device", "threads", "precision")
"""What two runs must share for their seconds to be alike."""
KEYS = ("race_first", "race_second")
CLOCKS: dict[clock.Clock, str] = {"step": "Training step", "seconds": "Training time (s)"}
BY_STEP = "After as many steps each. Scores are those of the last weights at each evaluation, not of the best."
HOW = (
    "By step, both have seen as many batches. By time, the clock is each run's own time in its training loop, "
    "evaluations included; fine-tuning a teacher and asking it beforehand are not counted. A run holds its last score "
    "until the next evaluation. Losses of two methods add up different terms, so only scores say who leads. One pair "
    "of runs shows how training went, not which method is better: that takes the test under *Scores*."
)


def show(store: Store, comparison: Comparison, metrics: pd.DataFrame, evaluations: pd.DataFrame) -> None:
    """The race of two runs that a person chooses."""
    runs, metric = comparison.runs, comparison.metric
    ran = runs[runs["id"].isin(metrics.loc[metrics["kind"] == "loss", "run"].unique())]
    if len(ran) < 2:
        st.caption("Choose two runs that have been trained to see them race.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first, second = _pair(ran, comparison.baseline)
        unit = _clock()
    if first == second:
        st.caption("Choose two different runs.")
        return
    pair = [ran[ran["id"] == run].iloc[0] for run in (first, second)]
    names = _names(pair)
    racers = (
        clock.racer(run["id"], run["method"], name, evaluations, metrics, metric, unit)
        for run, name in zip(pair, names, strict=True)
    )
    one, other = racers
    if one is None or other is None:
        cards.empty("One of the two has not noted its times, so it cannot race.")
        return
    table = clock.moments(one, other)
    replay = clock.replay(table)
    dark = cards.dark()
    cards.figure(
        lambda: race.figure(one, other, f"{metric_title(metric)}, dev split", dark),
        "compare_race",
        _machine(store, first, second) if unit == "seconds" else BY_STEP,
        data=table.rename(columns=dict(zip(("first", "second"), names, strict=True))),
        follows=f"{first} {second} {unit}",
        how=HOW,
        replay=replay,
    )


def _pair(ran: pd.DataFrame, baseline: str) -> tuple[str, str]:
    """Two list boxes, tied to `?race=first,second`; the runs of `_suggestion` until two are chosen."""
    ids = list(ran["id"])
    pair = tuple(st.query_params.get("race", "").split(","))
    if len(pair) != 2 or not set(pair) <= set(ids):
        st.query_params.pop("race", None)  # of other runs
        pair = _suggestion(ran, baseline)
    labels = unique_labels({run["id"]: f"{run['label']}, seed {run['seed']:.0f}" for _, run in ran.iterrows()})
    for key, run in zip(KEYS, pair, strict=True):
        st.session_state[key] = run
    first, second = (
        st.selectbox(label, ids, format_func=lambda run: labels.get(run, run), key=key, on_change=_remember)
        for label, key in zip(("First", "Second"), KEYS, strict=True)
    )
    return first, second


def _clock() -> clock.Clock:
    unit = st.segmented_control(
        "Clock", list(CLOCKS), default="step", key="clock", bind="query-params", required=True,
        format_func=lambda unit: CLOCKS.get(unit, unit),
    )  # fmt: skip
    return "seconds" if unit == "seconds" else "step"


def _remember() -> None:
    """Puts the chosen two into the address."""
    st.query_params["race"] = ",".join(st.session_state[key] for key in KEYS)


def _suggestion(ran: pd.DataFrame, baseline: str) -> tuple[str, str]:
    """The best group's first run, and the baseline's of the same seed."""
    others = ran[ran["group"] != baseline]
    best = (others if len(others) else ran).sort_values(["score", "seed"], ascending=[False, True]).iloc[0]
    rivals = ran[(ran["id"] != best["id"]) & ((ran["group"] == baseline) | (len(others) == 0))]
    rivals = rivals if len(rivals) else ran[ran["id"] != best["id"]]
    rival = rivals.loc[(rivals["seed"] - best["seed"]).abs().sort_values(kind="stable").index[0]]
    return str(best["id"]), str(rival["id"])


def _names(pair: list[pd.Series]) -> list[str]:
    """As short as tells the two apart: the methods, else all that the label says, and the seed."""
    for names in ([title_of(run["method"]) for run in pair], [run["label"] for run in pair]):
        if names[0] != names[1]:
            return names
    return list(unique_labels({run["id"]: f"{run['label']}, seed {run['seed']:.0f}" for run in pair}).values())


def _machine(store: Store, first: str, second: str) -> str:
    """Where the two were timed, or in what their machines differ."""
    facts = [store.get(run).facts for run in (first, second)]
    unlike = [name for name in MACHINE if facts[0].get(name) != facts[1].get(name)]
    if not unlike:
        hardware = listed(plain(facts[0][name]) for name in MACHINE[:1] if facts[0].get(name))
        return f"Both on {hardware or 'one machine'}, each by its own clock. Drag the clock, or let it run."
    differing = "; ".join(f"{name} {plain(facts[0].get(name))} and {plain(facts[1].get(name))}" for name in unlike)
    return f"**Timings are not comparable**: the runs differ in {differing}."
