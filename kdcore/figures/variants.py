"""What is lost without each part of a method: a point and its interval for each run that lacks one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from kdcore.figures import palette
from kdcore.figures.template import INK, QUIET, frame, plain

MIN_POINTS = 4.0
"""Least width of the scale: a tenth of a point must look like little."""


def variants(
    rows: pd.DataFrame, title: str, whole: str, method: str, *, scale: float = 100.0, dark: bool = False
) -> go.Figure:
    """One row a variant: its score less that of the whole method, which lies at zero.

    Args:
        rows: see `analysis.variants.variants`. whole: name of what lies at zero. method: key, for the colour.
    """
    known = rows[rows["change"].notna()]
    change, low, high = (scale * known[name].to_numpy(dtype=np.float64) for name in ("change", "low", "high"))
    figure = frame(f"{title}: points over the whole method", "", dark=dark, height=120 + 40 * max(2, len(known)))
    look = palette.style(method, dark)
    figure.add_trace(
        go.Scatter(
            x=change,
            y=list(range(len(known))),
            mode="markers",
            marker={"symbol": look.marker, "size": 11, "color": look.color},
            error_x={
                "type": "data", "array": high - change, "arrayminus": change - low, "color": INK[dark],
                "thickness": 1.5, "width": 5,
            },
            name="",
            customdata=np.stack([scale * known["mean"], known["n"]], axis=1) if len(known) else None,
            hovertemplate="%{x:+.2f} → %{customdata[0]:.2f} (N=%{customdata[1]})<extra></extra>",
        )
    )  # fmt: skip
    edges = np.concatenate([change, low, high, [-MIN_POINTS / 2, MIN_POINTS / 2]])
    least, most = float(np.nanmin(edges)), float(np.nanmax(edges))
    span = most - least
    figure.add_trace(
        go.Scatter(
            x=np.fmax(change, high),
            y=list(range(len(known))),
            mode="text",
            text=[f"\u2003{_interval_text(*row)}" for row in zip(change, high, known["n"], strict=True)],
            textposition="middle right",
            textfont={"color": INK[dark], "size": 12},
            cliponaxis=False,
            hoverinfo="skip",
            name="",
        )
    )
    about = {"text": plain(whole), "font": {"color": QUIET[dark], "size": 11}}
    figure.add_vline(x=0, line={"color": QUIET[dark], "width": 2}, annotation=about, annotation_position="top")
    figure.update_xaxes(range=[least - 0.1 * span, most + 0.6 * span])
    figure.update_yaxes(
        tickvals=list(range(len(known))),
        ticktext=[plain(label) for label in known["label"]],
        range=[len(known) - 0.4, -0.6],
        autorange=False,
        showgrid=False,
        zeroline=False,
    )
    figure.update_layout(showlegend=False, margin={"t": 32})
    return figure


def _interval_text(change: float, high: float, n: int) -> str:
    """`-2.1 ± 0.9`; without an interval why there is none."""
    if not np.isfinite(high):
        return f"{change:+.1f}, {'one seed' if n == 1 else 'no interval'}"
    return f"{change:+.1f} ± {high - change:.1f}"
