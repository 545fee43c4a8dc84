"""Whether the confidence of two classifiers matches how often they are right."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.figures import examples as figures
from kdcore.probes import calibration
from pages.parts.common import cards
from pages.parts.common.keys import CALIBRATION
from pages.parts.examples.predictions import Pair

HOW = (
    "ECE is the mean over rows of |share right − mean confidence| of the row's bin, 15 bins of equal width (Guo et al. "
    "2017, equation 3). Brier score: squared distance between the probabilities and the one-hot gold label, summed "
    "over labels, mean over rows (Brier 1950)."
)


def show(pair: Pair) -> None:
    """One click below: nothing is computed until it is opened."""
    place = st.expander(
        "Calibration: does confidence match accuracy?", key=CALIBRATION, on_change="rerun", bind="query-params"
    )
    if place.open:
        with place:
            _draw(pair)


def _draw(pair: Pair) -> None:
    measured = [
        (model.name, model.method, calibration.measure(model.logits, pair.predictions.gold))
        for model in (pair.other, pair.student)
    ]
    bins = [{"model": name, **vars(bin)} for name, _, result in measured for bin in result.bins if bin.rows]
    dark = cards.dark()
    cards.figure(
        lambda: figures.reliability(measured, dark),
        "examples_reliability",
        f"{pair.data_text()}; larger marks have more rows, faint ones fewer than {figures.FEWEST_ROWS}. Below the "
        "dotted line a model is more confident than it is accurate. ECE: mean distance from that line. Brier: squared "
        "error of the probabilities, 0 is perfect.",
        data=pd.DataFrame(bins),
        how=HOW,
    )
