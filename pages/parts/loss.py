"""The loss as an equation with its present numbers."""

from __future__ import annotations

import re
from functools import partial

import pandas as pd
import streamlit as st

from kdcore.figures.curves import term_names
from pages.parts.text import plain


def latest_terms(metrics: pd.DataFrame) -> pd.DataFrame:
    """The last logged value of each term of a run's present stage.

    Columns: term, raw, weight, weighted, share (of the sum of sizes, 0..1), gradient (share of the student's gradient
    norm when it was last sampled, NaN where it never was). The weight is weighted / raw; where raw is 0 it cannot be
    told.
    """
    now = metrics[metrics["stage"] == stage_of(metrics)]
    rows = []
    for name in term_names(now):
        raw, weighted, gradient = (_last(now, kind, name) for kind in ("raw", "weighted", "gradient_share"))
        weight = weighted / raw if raw else float("nan")
        rows.append({"term": name, "raw": raw, "weight": weight, "weighted": weighted, "gradient": gradient})
    table = pd.DataFrame(rows, columns=["term", "raw", "weight", "weighted", "gradient"])
    sizes = table["weighted"].abs()
    table.insert(4, "share", sizes / sizes.sum() if sizes.sum() else float("nan"))
    return table


def stage_of(metrics: pd.DataFrame) -> str:
    """The stage of the last logged step: a run of several stages minimises another sum in each."""
    return str(metrics["stage"].iloc[int(metrics["step"].argmax())]) if len(metrics) else ""


def equation(terms: pd.DataFrame) -> str:
    """`L = 0.5 · hard + ... = 0.46 · 0.69 + ... = 0.93` in LaTeX."""
    parts = [
        (str(term), float(raw), _weight(float(weight)))
        for term, raw, weight in zip(terms["term"], terms["raw"], terms["weight"], strict=True)
    ]
    words = " + ".join(_factor(weight, r"\,") + rf"\text{{{_safe(term)}}}" for term, _, weight in parts)
    numbers = " + ".join(_factor(weight, r"\times ") + _number(raw) for _, raw, weight in parts)
    total = terms["weighted"].sum()
    return rf"\begin{{aligned}} L &= {words} \\ &= {numbers} = \mathbf{{{total:.4g}}} \end{{aligned}}"


def show(metrics: pd.DataFrame, key: str = "live") -> None:
    """The equation, and each term raw, weighted, as a share of the sum and of the gradient. key: unique on the page."""
    terms = latest_terms(metrics)
    if terms.empty:
        st.caption("The first loss values appear after the first logged step.")
        return
    with st.container(key=f"{key}_equation"):
        st.latex(equation(terms))
    sampled = metrics.loc[(metrics["kind"] == "gradient_share") & (metrics["stage"] == stage_of(metrics)), "step"]
    bar = partial(st.column_config.ProgressColumn, format="percent", min_value=0, max_value=1)
    st.dataframe(
        terms if len(sampled) else terms.drop(columns="gradient"),
        hide_index=True,
        key=f"{key}_terms",
        alt="Loss terms at the last logged step",
        column_config={
            "term": "term",
            "raw": st.column_config.NumberColumn("raw value", format="%.4g", help="In the term's own unit"),
            "weight": st.column_config.NumberColumn("weight", format="%.4g"),
            "weighted": st.column_config.NumberColumn("weighted", format="%.4g"),
            "share": bar("share of the loss"),
            "gradient": bar(
                "share of the gradient",
                help="The norm of the term's own gradient on the student, over the sum of these norms: what the term "
                "really moves, however large its value is",
            ),
        },
    )
    stages = metrics["stage"].nunique()
    stage = f" of stage {plain(stage_of(metrics))}" if stages > 1 else ""
    words = f"Values at training step {int(metrics['step'].max())}{stage}, one batch (not smoothed)."
    if len(sampled):
        words += f" Gradients sampled at step {int(sampled.max())}."
    st.caption(words)


def _last(metrics: pd.DataFrame, kind: str, name: str) -> float:
    rows = metrics[(metrics["kind"] == kind) & (metrics["name"] == name)]
    return float(rows.sort_values("step")["value"].iloc[-1]) if len(rows) else float("nan")


def _weight(weight: float) -> str:
    return "?" if weight != weight else _number(weight)


def _number(value: float) -> str:
    """Three digits; powers of ten as TeX writes them."""
    digits, exponent, power = f"{value:.3g}".partition("e")
    return rf"{digits} \cdot 10^{{{int(power)}}}" if exponent else digits


def _factor(weight: str, sign: str) -> str:
    """The weight before a term; a weight of 1 is not written."""
    return "" if weight == "1" else f"{weight}{sign}"


def _safe(term: str) -> str:
    return re.sub(r"[^A-Za-z0-9 .-]", " ", term)[:40]
