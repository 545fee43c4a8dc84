"""What each layer of student and teacher tells of a row, by linear probes that are fitted on a click."""

from __future__ import annotations

from functools import partial

import streamlit as st

from kdcore.analysis.linear_probe import HOW, PROBE, Gap, LinearProbes, Property, read_probes
from kdcore.analysis.lost import Loss
from kdcore.engine.measure_process import OwnProcess
from kdcore.figures import linear_probe as figures
from kdcore.probes.linear_probe import LEAST_ROWS, MOST_ROWS
from kdcore.runs.remeasure import Order, models_on_disk
from kdcore.store import Store
from pages.parts.common import cards, measurement
from pages.parts.common.numbers import numbers
from pages.parts.common.read_only import action
from pages.parts.common.text import listed, plain

POOLINGS = {"mean": "Mean of its tokens", "cls": "[CLS]"}
PANELS = 3
"""Side by side."""


def open_process() -> OwnProcess:
    return OwnProcess("kdcore.engine.linear_probe")


def show(store: Store, loss: Loss) -> None:
    st.subheader("What each layer tells of a row", anchor=False)
    st.caption("Can a linear classifier tell a row's length, a word in it or its label from the states of one layer?")
    if read_probes(store, loss.row.id, loss.teacher, "mean") is not None:
        _results(store, loss)
        return
    rows = len(next(iter(loss.answers.values())).ids)
    if rows < LEAST_ROWS:
        st.caption(f"The dev split has {rows} rows. A probe takes {LEAST_ROWS}, so nothing is told.")
        return
    background = measurement.remeasurer()
    if background.working:
        st.fragment(measurement.progress, run_every=measurement.REFRESH_SECONDS)(background)
        return
    measurement.problems(background, PROBE, {loss.row.id})
    if not models_on_disk(loss.row.id, loss.teacher):
        st.caption("Student or teacher is no longer on this disk, so their layers cannot be probed.")
        return
    if action(
        "Probe the layers", key="lost_probe", icon=":material/science:",
        help=f"A pass of student and teacher over at most {MOST_ROWS:,} dev rows, then a few classifiers a layer: "
        "seconds for small models, some minutes for BERT-base on a CPU",
    ):  # fmt: skip
        order = Order(loss.row.id, loss.row.name, loss.teacher)
        background.begin(store, [order], open_process, PROBE)
        st.rerun()


def _results(store: Store, loss: Loss) -> None:
    pooling = st.segmented_control(
        "Vector of a row", list(POOLINGS), key="probed", bind="query-params", default="mean", required=True,
        format_func=lambda key: POOLINGS.get(key, key),
        help="The classifier of a BERT reads [CLS] of the last layer; the mean is of all tokens",
    )  # fmt: skip
    probes = read_probes(store, loss.row.id, loss.teacher, pooling if pooling in POOLINGS else "mean")
    if probes is None:
        return
    if not probes.told():
        st.caption(f"Nothing can be told of these rows. {_untold(probes)}")
        return
    st.markdown(_gaps(probes))
    _panels(probes, loss.row.method)
    st.caption(
        f"How often a linear classifier on one layer's states is right, over {probes.score:,} dev rows that it was not "
        f"fitted on. Bands: 95 % intervals over rows; dotted: chance. Layers by relative depth, {_depths(probes)}; one "
        f"seed. {_untold(probes)}"
    )
    numbers(probes.rows, "lost_probes", HOW, {"task": loss.row.task, "units": {"accuracy": "fraction of 1"}})


def _panels(probes: LinearProbes, method: str) -> None:
    dark, told = cards.dark(), probes.told()
    floor = min(float(probes.rows["low"].min()), min(one.chance for one in told))
    lowest = 10.0 * int(10 * floor)
    for start in range(0, len(told), PANELS):
        for place, one in zip(st.columns(PANELS), told[start : start + PANELS], strict=False):
            rows = probes.rows[probes.rows["property"] == one.key]
            with place:
                draw = partial(figures.panel, rows, one.title, one.chance, method, lowest=lowest, dark=dark)
                cards.figure(draw, f"lost_probe_{one.key}")


def _gaps(probes: LinearProbes) -> str:
    """Where the last layers differ, in words."""
    shown = {one: probes.gaps[one.key] for one in probes.told() if probes.gaps[one.key].shown}
    if not shown:
        return "Between the last layers of student and teacher no gap is shown: every interval includes 0."
    less, more = (
        [_points(one, gap) for one, gap in shown.items() if (gap.value > 0) is lost] for lost in (True, False)
    )
    parts = [f"{word} of {listed(found)}" for word, found in (("less", less), ("more", more)) if found]
    others = [_title(one) for one in probes.told() if one not in shown]
    rest = f" No gap is shown for {listed(others, len(others))}." if others else ""
    return f"In the last layers a probe reads {', and '.join(parts)} from the student than from its teacher.{rest}"


def _points(one: Property, gap: Gap) -> str:
    ends = sorted(abs(100 * end) for end in (gap.low, gap.high))
    return f"**{_title(one)}** ({abs(100 * gap.value):.1f} points, 95 % {ends[0]:.1f} to {ends[1]:.1f})"


def _title(one: Property) -> str:
    """As it stands inside a sentence."""
    return plain(one.title[:1].lower() + one.title[1:])


def _depths(probes: LinearProbes) -> str:
    return f"{probes.layers('teacher')} in the teacher and {probes.layers('student')} in the student"


def _untold(probes: LinearProbes) -> str:
    return " ".join(f"Not told: {plain(one.title)}, {plain(one.absent)}." for one in probes.properties if one.absent)
