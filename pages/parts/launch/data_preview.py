"""The rows that a run would learn from: classes and counts, lengths, and the first few."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.figures.row_lengths import histogram
from pages.parts.common import cached, cards
from pages.parts.common.plot import plot
from pages.parts.common.text import one_line

LONGEST_TEXT = 300


def show(run: RunConfig) -> None:
    """Draws nothing where the rows cannot be read: the checks say why."""
    with cards.guarded("The rows cannot be shown"):
        try:
            look = _look(run.model_dump_json())
        except UserError:
            return
        with st.expander("The rows", icon=":material/table_rows:", key="launch_rows"):
            st.dataframe(_counts(look), key="launch_counts", alt="Rows of each split, by class or score")
            if look.lengths:
                plot(histogram(look.lengths, run.train.max_length, cards.dark()), key="launch_lengths")
                st.caption("Tokens of a row before it is cut, from up to 2,000 rows of each split.")
            st.dataframe(_examples(look), hide_index=True, key="launch_examples", alt="The first training rows")


@st.cache_data(max_entries=16, ttl=60, show_spinner=False)
def _look(settings: str) -> Any:
    from kdcore.engine.data_checks import look_at_rows

    return look_at_rows(cached.plan(settings))


def _counts(look: Any) -> pd.DataFrame:
    """One row a class and one for all, one column a split; of scores their range."""
    report = look.report
    if report.scores is None:
        names = [one_line(name, 60) for name in look.task.labels]
        table = pd.DataFrame(dict(report.counts), index=names)
        return pd.concat([table, pd.DataFrame({split: [rows] for split, rows in report.rows.items()}, ["all rows"])])
    scores = {"lowest score": report.scores.lowest, "mean": report.scores.mean, "highest": report.scores.highest}
    cells = {name: f"{score:.6g}" for name, score in scores.items()}
    cells |= {f"{split} rows": f"{rows:,}" for split, rows in report.rows.items()}
    return pd.DataFrame({"value": list(cells.values())}, index=list(cells))


def _examples(look: Any) -> pd.DataFrame:
    columns = [*look.task.columns, "label" if "label" not in look.task.columns else "its label"]
    rows = [[*(one_line(text, LONGEST_TEXT) for text in texts), label] for texts, label in look.examples]
    return pd.DataFrame(rows, columns=pd.Index(columns))
