"""How much of a property a linear probe reads out of each layer: teacher and student over relative depth."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from kdcore.figures import palette
from kdcore.figures.severity import band
from kdcore.figures.template import QUIET, frame, plain

TICKS = {0.0: "embeddings", 0.5: "half way", 1.0: "last"}


def panel(
    rows: pd.DataFrame, title: str, chance: float, method: str, *, lowest: float, dark: bool = False
) -> go.Figure:
    """Accuracy over depth, in percent; bands are the intervals, the dotted line is chance.

    Args:
        rows: of one property: model ("teacher", "student"), layer, depth, accuracy, low, high (fractions).
        method: of the student, whose colour it has. lowest: where the y axis begins (percent), the same in all panels.
    """
    figure = frame("", "Accuracy (%)", dark=dark, height=210, title=plain(title))
    for model, look in (("teacher", palette.teacher(dark)), ("student", palette.style(method, dark))):
        found = rows[rows["model"] == model].sort_values("layer")
        x, last = found["depth"].to_numpy(), int(found["layer"].max())
        low, high = (100 * found[end].to_numpy() for end in ("low", "high"))
        figure.add_trace(band(x, low, high, look.color, model))
        figure.add_trace(
            go.Scatter(
                x=x, y=100 * found["accuracy"], mode="lines+markers", name=model, legendgroup=model,
                line={"color": look.color, "dash": look.dash, "width": 2},
                marker={"symbol": look.marker, "size": 7, "color": look.color},
                customdata=[f"layer {layer} of {last}" if layer else "embeddings" for layer in found["layer"]],
                hovertemplate="%{y:.1f} at %{customdata}<extra>" + model + "</extra>",
            )
        )  # fmt: skip
    figure.add_hline(y=100 * chance, line={"color": QUIET[dark], "width": 1.5, "dash": "dot"})
    figure.add_annotation(
        x=1, y=100 * chance, text="chance", showarrow=False, xanchor="right", yanchor="bottom",
        font={"color": QUIET[dark], "size": 11},
    )  # fmt: skip
    figure.update_xaxes(
        tickvals=list(TICKS), ticktext=list(TICKS.values()), range=[-0.06, 1.06], ticklabeloverflow="allow"
    )
    figure.update_yaxes(range=[lowest, 101.5])
    return figure
