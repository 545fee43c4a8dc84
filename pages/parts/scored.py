"""Two models on a task of scores: score against score, and the rows where they differ most."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.figures import examples as figures
from kdcore.probes import examples, fidelity
from pages.parts import cards, rows
from pages.parts.answered import Pair

LISTS = {
    "difference": "Largest differences",
    "farther": "Student farther from gold",
    "nearer": "Student nearer to gold",
}


def show(pair: Pair) -> None:
    scored = examples.scored(pair.answers.ids, pair.answers.gold, pair.other.logits, pair.student.logits)
    measures = scored[["difference", "farther"]].rename(columns={"farther": "farther from gold"})
    table = rows.table(pair, measures)
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
    dark = cards.dark()
    cards.figure(
        lambda: figures.scatter(
            scored, list(table["row"]), pair.other.name, pair.student.name, pair.student.method, dark
        ),
        "examples_scatter",
        f"{pair.about()}. On the dotted line the two agree.",
        data=table,
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
    st.subheader(f"{LISTS[by]}: {rows.count(len(found))}", anchor=False)
    rows.show(found, pair, measures)


def _order(scored: pd.DataFrame, by: str) -> pd.Index:
    """Ids of the list's rows, the largest first."""
    if by == "difference":
        return scored["difference"].abs().sort_values(ascending=False, kind="stable").index
    farther = scored["farther"]
    chosen = farther[farther > 0] if by == "farther" else farther[farther < 0]
    return chosen.sort_values(ascending=by == "nearer", kind="stable").index
