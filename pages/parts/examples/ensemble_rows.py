"""Rows by how far the teachers are apart, and one of them in full: each answer, its weight, and the mixture."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from kdcore.data.splits import IDS_PER_SPLIT
from kdcore.probes.ensemble import MIXTURE, STUDENT, Mixed
from pages.parts.common.keys import ENSEMBLE_ROWS, EXAMPLES_ROW
from pages.parts.examples import columns, ensemble_row, row_table
from pages.parts.examples.predictions import DevRows, Predictions

LISTS = {
    "split": "Teachers disagree",
    "wrong": "Mixture wrong",
    "lost": "Student against the mixture",
    "all": "All rows",
}
TEXT_WIDTH = 420
"""Pixels of the sentences together."""
TABLE_HEIGHT = 290
"""Pixels: a header and seven rows."""


def show(
    dev: DevRows, own: Predictions, mixed: Mixed, each: pd.DataFrame, student: NDArray[np.floating], kind: str
) -> None:
    """Args: each: `ensemble.rows`. student: logits at the mixture's temperature. kind: see
    `ensemble_row.show`."""
    options = ["all"] if mixed.regression else list(LISTS)
    by = st.segmented_control(
        "Rows", options, key=ENSEMBLE_ROWS, bind="query-params", default=options[0], required=True,
        format_func=lambda key: LISTS.get(key, key),
    )  # fmt: skip
    places = _places(by if by in options else options[0], own, mixed, each, student)
    if not len(places):
        st.caption("There are no rows of this kind.")
        return
    place = _list(dev, own, mixed, each, student, places)
    with st.container(border=True, key="ensemble_row"):
        ensemble_row.show(dev, own, mixed, student, place, kind)


def _places(
    by: str, own: Predictions, mixed: Mixed, each: pd.DataFrame, student: NDArray[np.floating]
) -> NDArray[np.intp]:
    """Places of the rows of this kind, those first whose teachers are farthest apart."""
    label = mixed.mixture.argmax(-1)
    kinds = {
        "split": ~each["agree"].to_numpy(),
        "wrong": label != own.gold,
        "lost": student.argmax(-1) != label,
    }
    order = np.argsort(-each["disagreement"].to_numpy(), kind="stable")
    chosen: NDArray[np.intp] = order if by not in kinds else order[kinds[by][order]]
    return chosen[: row_table.MOST_ROWS]


def _list(
    dev: DevRows, own: Predictions, mixed: Mixed, each: pd.DataFrame, student: NDArray[np.floating],
    places: NDArray[np.intp],
) -> int:  # fmt: skip
    """The list; the place of the row that is chosen in it."""
    ids = pd.Index(own.ids[places])
    table = pd.DataFrame({"row": ids % IDS_PER_SPLIT})
    for name in dev.texts:
        table[str(name)] = dev.texts[name].to_numpy()[places]
    answers = {"gold": own.gold, MIXTURE: mixed.mixture, STUDENT: student}
    for name, given in answers.items():
        table[name] = [ensemble_row.answer_text(dev, value) for value in np.asarray(given)[places]]
    if not mixed.regression:
        table["against"] = each["against"].to_numpy()[places]
    table["apart"] = each["disagreement"].to_numpy()[places]
    digest = hashlib.sha256(ids.to_numpy().tobytes()).hexdigest()[:12]
    number = st.column_config.NumberColumn
    selected = st.dataframe(
        table, key=f"ensemble_table_{digest}", hide_index=True, height=TABLE_HEIGHT, on_select="rerun",
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [row_table.row_of_address(ids)]}},
        alt="Rows of the dev split with gold label, mixture, student, and how far the teachers are apart",
        column_config={
            **{str(name): st.column_config.Column(width=TEXT_WIDTH // dev.texts.shape[1]) for name in dev.texts},
            "row": number(format="%d", width=55),
            "against": number(format="%d", width=70, help="Teachers whose label is not the mixture's"),
            "apart": number(format="%.3f", width=70, help=columns.MEASURES["disagreement"]),
        },
    )  # fmt: skip
    st.caption(f"{row_table.count(len(places))}, those first whose teachers are farthest apart.")
    rows = [position for position in selected["selection"]["rows"] if position < len(places)]
    position = rows[0] if rows else 0
    st.query_params[EXAMPLES_ROW] = str(int(ids[position]) % IDS_PER_SPLIT)
    return int(places[position])
