"""The loss as an equation with its present numbers."""

from __future__ import annotations

import re

import pandas as pd
import streamlit as st

from kdcore.figures.curves import term_names


def latest_terms(metrics: pd.DataFrame) -> pd.DataFrame:
    """The last logged value of each term of one run: term, raw, weight, weighted, share (of the sum, 0..1).

    The weight is weighted / raw; where raw is 0 it cannot be told.
    """
    rows = []
    for name in term_names(metrics):
        raw, weighted = (_last(metrics, kind, name) for kind in ("raw", "weighted"))
        weight = weighted / raw if raw else float("nan")
        rows.append({"term": name, "raw": raw, "weight": weight, "weighted": weighted})
    table = pd.DataFrame(rows, columns=["term", "raw", "weight", "weighted"])
    total = table["weighted"].sum()
    table["share"] = table["weighted"] / total if total else float("nan")
    return table


def equation(terms: pd.DataFrame) -> str:
    """`L = 0.5 · hard + ... = 0.46 · 0.69 + ... = 0.93` in LaTeX."""
    parts = [
        (str(term), float(raw), _weight(float(weight)))
        for term, raw, weight in zip(terms["term"], terms["raw"], terms["weight"], strict=True)
    ]
    words = " + ".join(_factor(weight, r"\,") + rf"\text{{{_safe(term)}}}" for term, _, weight in parts)
    numbers = " + ".join(_factor(weight, r"\times ") + f"{raw:.3g}" for _, raw, weight in parts)
    total = terms["weighted"].sum()
    return rf"\begin{{aligned}} L &= {words} \\ &= {numbers} = \mathbf{{{total:.4g}}} \end{{aligned}}"


def show(metrics: pd.DataFrame) -> None:
    """The equation, and each term raw, weighted and as a share of the sum."""
    terms = latest_terms(metrics)
    if terms.empty:
        st.caption("The first loss values appear after the first logged step.")
        return
    step = int(metrics["step"].max())
    with st.container(key="live_equation"):
        st.latex(equation(terms))
    st.dataframe(
        terms,
        hide_index=True,
        key="live_terms",
        alt="Loss terms at the last logged step",
        column_config={
            "term": "term",
            "raw": st.column_config.NumberColumn("raw value", format="%.4g", help="In the term's own unit"),
            "weight": st.column_config.NumberColumn("weight", format="%.4g"),
            "weighted": st.column_config.NumberColumn("weighted", format="%.4g"),
            "share": st.column_config.ProgressColumn("share of the loss", format="percent", min_value=0, max_value=1),
        },
    )
    st.caption(f"Values at training step {step}, one batch (not smoothed).")


def _last(metrics: pd.DataFrame, kind: str, name: str) -> float:
    rows = metrics[(metrics["kind"] == kind) & (metrics["name"] == name)]
    return float(rows.sort_values("step")["value"].iloc[-1]) if len(rows) else float("nan")


def _weight(weight: float) -> str:
    return "?" if weight != weight else f"{weight:.3g}"


def _factor(weight: str, sign: str) -> str:
    """The weight before a term; a weight of 1 is not written."""
    return "" if weight == "1" else f"{weight}{sign}"


def _safe(term: str) -> str:
    return re.sub(r"[^A-Za-z0-9 .-]", " ", term)[:40]
