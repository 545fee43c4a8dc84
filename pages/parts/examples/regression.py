"""Two models on a regression task: score against score, and the rows where they differ most."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from kdcore.data.splits import IDS_PER_SPLIT
from kdcore.figures import examples as figures
from kdcore.probes import examples, fidelity
from pages.parts.common import cards
from pages.parts.common.keys import CLICKED_ROW, GAP
from pages.parts.common.plot import Click
from pages.parts.examples import row_table
from pages.parts.examples.predictions import Pair

LISTS = {
    "difference": "Largest differences",
    "farther": "Student farther from gold",
    "nearer": "Student nearer to gold",
}


def show(pair: Pair) -> None:
    rows = examples.compare_scores(pair.predictions.ids, pair.predictions.gold, pair.other.logits, pair.student.logits)
    measures = rows[["difference", "farther"]].rename(columns={"farther": "farther from gold"})
    table = row_table.table(pair, measures)
    likeness = fidelity.compare(pair.other.logits, pair.student.logits, regression=True)
    errors = {name: (rows[name] - rows["gold"]).abs().mean() for name in ("student", "reference")}
    numbers = (
        ("Student's error", errors["student"], "Mean |score − gold|"),
        ("Other's error", errors["reference"], "Mean |score − gold| on the same rows"),
        ("Pearson of the two", likeness["pearson"], "Correlation of the two models' scores"),
    )
    with st.container(horizontal=True, key="examples_facts"):
        for label, value, text in numbers:
            st.metric(label, f"{value:.3f}", help=text, border=True, width="stretch")
    dark, chosen = cards.dark(), _clicked_row(pair)
    cards.figure(
        lambda: figures.scatter(
            rows, list(table["row"]), pair.other.name, pair.student.name, pair.student.method, dark, chosen
        ),
        "examples_scatter",
        f"{pair.data_text()}. On the dotted line the two agree. Click a dot to put its row first below.",
        data=table,
        on_click=partial(_choose, pair),
    )
    by = st.segmented_control(
        "Rows",
        list(LISTS),
        key=GAP,
        bind="query-params",
        default="difference",
        required=True,
        format_func=lambda key: LISTS.get(key, key),
    )
    by = by if by in LISTS else "difference"
    ids = _order(rows, by)
    st.subheader(f"{LISTS[by]}: {row_table.count(len(ids))}", anchor=False)
    if chosen is not None:
        ids = pd.Index([chosen, *ids[ids != chosen]])
        with st.container(horizontal=True, vertical_alignment="center", key="examples_clicked"):
            st.markdown(f"First, ringed in the plot: **row {chosen % IDS_PER_SPLIT}**.")
            st.button("Clear selection", key="examples_unclick", icon=":material/close:", on_click=_clear)
    row_table.show(ids, pair, measures)


def _choose(pair: Pair, click: Click) -> None:
    """The clicked dot's row; dots are drawn in the order of the rows."""
    if click.point is not None and click.custom and click.point < len(pair.predictions.ids):
        st.session_state[CLICKED_ROW] = (pair.dev.task.key, int(pair.predictions.ids[click.point]))


def _clear() -> None:
    st.session_state.pop(CLICKED_ROW, None)


def _clicked_row(pair: Pair) -> int | None:
    """Id of the row that was clicked, where these models have predicted it."""
    task, row = st.session_state.get(CLICKED_ROW, ("", None))
    return row if task == pair.dev.task.key and row in pair.predictions.ids else None


def _order(rows: pd.DataFrame, by: str) -> pd.Index:
    """Ids of the list's rows, the largest first."""
    if by == "difference":
        return rows["difference"].abs().sort_values(ascending=False, kind="stable").index
    farther = rows["farther"]
    chosen = farther[farther > 0] if by == "farther" else farther[farther < 0]
    return chosen.sort_values(ascending=by == "nearer", kind="stable").index
