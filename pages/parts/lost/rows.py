"""Rows in four cells, how loyal the answers are, and what predicts a lost row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.analysis.lost import Loss
from kdcore.figures import lost as figures
from pages.parts.common import cached, cards
from pages.parts.common.text import plain

CELLS_HOW = (
    "Each dev row by who has it right. p: McNemar's test with continuity correction, for this seed's two models alone. "
    "Label loyalty: share of rows with the teacher's label. Probability loyalty: mean of 1 − √JSD over rows, with the "
    "Jensen-Shannon divergence in bits; 1: the same answers."
)
ODDS_HOW = (
    "Logistic regression over the rows that the teacher has right: lost or kept, on all features at once, over all "
    "seeds of this size. Standard errors are clustered by row, so the interval speaks for other rows. A feature that "
    "predicts a loss need not be its cause."
)


def show(loss: Loss) -> None:
    seeds = loss.seeds()
    left, right = st.columns(2)
    with left:
        st.subheader("Row by row", anchor=False)
        if loss.classes:
            _cells(loss)
            tests = ["< 0.001" if p < 0.001 else f"{p:.3f}" for p in seeds["p"]]
            seeds = seeds[["seed", "label loyalty", "probability loyalty"]].assign(**{"McNemar's p": tests})
        st.dataframe(
            seeds,
            hide_index=True, key="lost_seeds", alt="Loyalty of each seed's student to the teacher",
            column_config={str(name): st.column_config.NumberColumn(format="%.3f") for name in list(seeds)[1:3]},
        )  # fmt: skip
        st.page_link("pages/examples.py", label="Read the rows on Examples", query_params={"job": loss.row.id})
    with right, cards.guarded("What predicts a lost row cannot be computed"):
        st.subheader("What predicts a lost row", anchor=False)
        _odds(loss)


def _cells(loss: Loss) -> None:
    dark = cards.dark()
    seeds = loss.seeds()
    cards.figure(
        lambda: figures.four_cells(seeds, dark=dark),
        "lost_cells",
        "Lost: the teacher has the row right, the student not. Gained: the other way round.",
        data=seeds,
        how=CELLS_HOW,
    )


def _odds(loss: Loss) -> None:
    if not loss.classes:
        st.caption("Scores are neither right nor wrong; the Examples page lists the rows that are farthest off.")
        return
    own = loss.row.config.own
    data = cached.rows(loss.row.task, own.model_dump_json() if own else None)
    split = data.splits[data.task.splits[0]]
    if list(split.ids) != list(next(iter(loss.answers.values())).ids):
        st.caption("The rows on this machine are not those that the run was scored on.")
        return
    table = loss.odds_ratios(split.texts, data.task.labels)
    if table.empty:
        st.caption("Fewer than ten lost rows, or fewer than ten kept ones: too few to say what marks them.")
        return
    st.markdown(_strongest(table))
    dark = cards.dark()
    cards.figure(
        lambda: figures.odds(table, dark=dark),
        "lost_odds",
        "Right of the line: the more of it, the more of the teacher's right rows the student loses. 95 % intervals.",
        data=table,
        how=ODDS_HOW,
    )


def _strongest(table: pd.DataFrame) -> str:
    """The mark whose interval is farthest from 1, in words."""
    clear = table[(table["low"] > 1) | (table["high"] < 1)]
    if clear.empty:
        return "No mark is shown: every interval includes 1."
    first = clear.loc[np.maximum(np.log(clear["low"]), -np.log(clear["high"])).idxmax()]
    ratio = float(first["ratio"])
    times = f"{ratio:.1f} times as high" if ratio > 1 else f"{1 / ratio:.1f} times lower"
    return f"**{plain(first['feature'])}** tells most: the odds of being lost are {times} ({plain(first['unit'])})."
