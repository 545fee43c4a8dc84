"""Two models on a task of scores: score against score, and the rows where they differ most."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from kdcore.data.splits import IDS_PER_SPLIT
from kdcore.figures import examples as figures
from kdcore.probes import examples, fidelity
from pages.parts.common import cards
from pages.parts.common.plot import Click
from pages.parts.examples import row_table
from pages.parts.examples.predictions import Pair

CLICKED = "examples_clicked_row"
LISTS = {
    "difference": "Largest differences",
    "farther": "Student farther from gold",
    "nearer": "Student nearer to gold",
}


def show(pair: Pair) -> None:
    scored = examples.scored(pair.answers.ids, pair.answers.gold, pair.other.logits, pair.student.logits)
    measures = scored[["difference", "farther"]].rename(columns={"farther": "farther from gold"})
    table = row_table.table(pair, measures)
    same = fidelity.compare(pair.other.logits, pair.student.logits, regression=True)
    missed = {name: (scored[name] - scored["gold"]).abs().mean() for name in ("student", "reference")}
    numbers = (
        ("Student's error", missed["student"], "Mean |score − gold|"),
        ("Other's error", missed["reference"], "Mean |score − gold| on the same rows"),
        ("Pearson of the two", same["pearson"], "Correlation of the two models' scores"),
    )
    with st.container(horizontal=True, key="examples_facts"):
        for label, value, words in numbers:
            st.metric(label, f"{value:.3f}", help=words, border=True, width="stretch")
    dark, chosen = cards.dark(), _chosen(pair)
    cards.figure(
        lambda: figures.scatter(
            scored, list(table["row"]), pair.other.name, pair.student.name, pair.student.method, dark, chosen
        ),
        "examples_scatter",
        f"{pair.about()}. On the dotted line the two agree. Click a dot to put its row first below.",
        data=table,
        on_click=partial(_take, pair),
    )
    by = st.segmented_control(
        "Rows",
        list(LISTS),
        key="gap",
        bind="query-params",
        default="difference",
        required=True,
        format_func=lambda key: LISTS.get(key, key),
    )
    by = by if by in LISTS else "difference"
    found = _order(scored, by)
    st.subheader(f"{LISTS[by]}: {row_table.count(len(found))}", anchor=False)
    if chosen is not None:
        found = pd.Index([chosen, *found[found != chosen]])
        with st.container(horizontal=True, vertical_alignment="center", key="examples_clicked"):
            st.markdown(f"First, ringed in the plot: **row {chosen % IDS_PER_SPLIT}**.")
            st.button("Take the ring off", key="examples_unclick", icon=":material/close:", on_click=_forget)
    row_table.show(found, pair, measures)


def _take(pair: Pair, click: Click) -> None:
    """The clicked dot's row; dots are drawn in the order of the rows."""
    if click.point is not None and click.custom and click.point < len(pair.answers.ids):
        st.session_state[CLICKED] = (pair.dev.task.key, int(pair.answers.ids[click.point]))


def _forget() -> None:
    st.session_state.pop(CLICKED, None)


def _chosen(pair: Pair) -> int | None:
    """Id of the row that was clicked, where these models answered it."""
    task, row = st.session_state.get(CLICKED, ("", None))
    return row if task == pair.dev.task.key and row in pair.answers.ids else None


def _order(scored: pd.DataFrame, by: str) -> pd.Index:
    """Ids of the list's rows, the largest first."""
    if by == "difference":
        return scored["difference"].abs().sort_values(ascending=False, kind="stable").index
    farther = scored["farther"]
    chosen = farther[farther > 0] if by == "farther" else farther[farther < 0]
    return chosen.sort_values(ascending=by == "nearer", kind="stable").index
