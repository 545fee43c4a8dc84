"""The loss as an equation with its current numbers."""

from __future__ import annotations

import math
import re
from functools import partial

import pandas as pd
import streamlit as st

from pages.parts.common.text import plain

COLUMNS = ["term", "raw", "weight", "weighted", "share", "gradient"]


def latest_terms(metrics: pd.DataFrame) -> pd.DataFrame:
    """The last logged value of each term of a run's current stage.

    Columns: term, raw, weight, weighted, share (of the sum of sizes, 0..1), gradient (share of the student's gradient
    norm when it was last sampled, NaN where it never was). The weight is weighted / raw; where raw is 0 it is
    not known.

    Args:
        metrics: of one run, ordered by step, as `Store.metrics` gives them or the last rows of each quantity only.
    """
    now, stages = stage_of(metrics), metrics["stage"].tolist()
    columns = (metrics[column].tolist() for column in ("kind", "name", "value"))
    last = {(kind, name): value for stage, kind, name, value in zip(stages, *columns, strict=True) if stage == now}
    names = list(dict.fromkeys(name for kind, name in last if kind in ("raw", "weighted")))
    sizes = [abs(last.get(("weighted", name), math.nan)) for name in names]
    total = sum(size for size in sizes if not math.isnan(size))
    rows = []
    for name in names:
        raw, weighted, gradient = (last.get((kind, name), math.nan) for kind in ("raw", "weighted", "gradient_share"))
        weight, share = weighted / raw if raw else math.nan, abs(weighted) / total if total else math.nan
        rows.append((name, raw, weight, weighted, share, gradient))
    return pd.DataFrame(rows, columns=COLUMNS)


def stage_of(metrics: pd.DataFrame) -> str:
    """The stage of the last logged step: a run of several stages minimises another sum in each."""
    return str(metrics["stage"].iloc[int(metrics["step"].argmax())]) if len(metrics) else ""


def equation(terms: pd.DataFrame) -> str:
    """`L = 0.5 · hard + ... = 0.46 · 0.69 + ... = 0.93` in LaTeX."""
    parts = [
        (str(term), float(raw), _weight(float(weight)))
        for term, raw, weight in zip(terms["term"], terms["raw"], terms["weight"], strict=True)
    ]
    symbols = " + ".join(_factor(weight, r"\,") + rf"\text{{{_safe(term)}}}" for term, _, weight in parts)
    numbers = " + ".join(_factor(weight, r"\times ") + _number(raw) for _, raw, weight in parts)
    total = terms["weighted"].sum()
    return rf"\begin{{aligned}} L &= {symbols} \\ &= {numbers} = \mathbf{{{total:.4g}}} \end{{aligned}}"


def show(metrics: pd.DataFrame, key: str = "live") -> None:
    """The equation, and each term raw, weighted, as a share of the sum and of the gradient. key: unique on the page."""
    terms = latest_terms(metrics)
    if terms.empty:
        st.caption("The first loss values appear after the first logged step.")
        return
    with st.container(key=f"{key}_equation"):
        st.latex(equation(terms))
    now, step = stage_of(metrics), int(metrics["step"].max())
    sampled = metrics.loc[(metrics["kind"] == "gradient_share") & (metrics["stage"] == now), "step"]
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
                help="The norm of the term's own gradient on the student, over the sum of these norms: how much the "
                "term changes the weights, however large its value is",
            ),
        },
    )
    stages = metrics["stage"].nunique()
    stage = f" of stage {plain(now)}" if stages > 1 else ""
    text = f"Values at training step {step}{stage}, one batch (not smoothed)."
    if len(sampled):
        text += f" Gradients sampled at step {int(sampled.max())}."
    st.caption(text)


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
