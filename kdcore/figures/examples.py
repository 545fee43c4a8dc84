"""Answers of two models on the same rows: who says what, how sure, and whether the confidence can be believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from kdcore.figures import palette
from kdcore.figures.template import GRID, INK, PAGE, QUIET, frame, outline, plain
from kdcore.probes.calibration import Bin, Calibration

CHOSEN = "#E11D48"
OUTCOME_COLORS = ((0, 1), (2, 0))
"""Of the cells of `OUTCOMES`: places in their colour scale."""
MOST_LABELS = 6
"""Segments of a bar that can be told apart; further labels are drawn as one."""


FEWEST_ROWS = 5
"""Rows of a bin that a line of the reliability diagram leads to; the share of right answers of fewer is chance."""


def matrix(
    counts: pd.DataFrame,
    reference: str,
    student: str,
    *,
    outcomes: Sequence[str] = (),
    chosen: tuple[int, int] | None = None,
    dark: bool = False,
) -> go.Figure:
    """How often reference (down) and student (across) answer what: a heat map with its numbers.

    Args:
        counts: [answers, answers], headers in words. outcomes: what the cells are called where they are `OUTCOMES`;
            what only one of the two has right then has a colour, whatever its number.
        chosen: (row, column) of the cell to outline.
    """
    z = counts.to_numpy()
    down, across = ([plain(_short(name)) for name in names] for names in (counts.index, counts.columns))
    figure = frame(
        plain(_short(student)),
        plain(_short(reference)),
        dark=dark,
        height=340 if outcomes else min(900, 180 + 44 * max(3, len(down))),
    )
    figure.add_trace(
        go.Heatmap(
            z=OUTCOME_COLORS if outcomes else z,
            x=list(range(len(across))),
            y=list(range(len(down))),
            text=_cell_texts(z, outcomes),
            texttemplate="%{text}" if z.size <= 200 else None,
            textfont={"size": 15},
            customdata=[[f"{row} · {column}" for column in across] for row in down],
            hovertemplate=f"%{{customdata}}<br>%{{{'text' if outcomes else 'z'}}} rows<extra></extra>",
            colorscale=_outcome_scale(dark) if outcomes else palette.SEQUENTIAL,
            zmin=0,
            zmax=2 if outcomes else max(1, int(z.max(initial=0))),
            showscale=False,
            xgap=3,
            ygap=3,
        )
    )
    if chosen is not None:
        outline(figure, *chosen, {"color": CHOSEN, "width": 3})
    figure.update_xaxes(tickvals=list(range(len(across))), ticktext=across, showgrid=False, zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(down))), ticktext=down, autorange="reversed", showgrid=False, zeroline=False
    )
    return figure


def reliability(models: Sequence[tuple[str, str, Calibration]], dark: bool = False) -> go.Figure:
    """Share of right answers by confidence; on the diagonal the confidence can be believed. Larger marks: more rows.

    Args:
        models: name, method ('teacher' for teachers) and calibration of each.
    """
    figure = frame("Confidence (%)", "Right answers (%)", dark=dark, height=420)
    lowest = min((bin.low for *_, calibration in models for bin in calibration.bins if bin.rows), default=0.0)
    figure.add_trace(
        go.Scatter(
            x=[100 * lowest, 100],
            y=[100 * lowest, 100],
            mode="lines",
            line={"color": QUIET[dark], "width": 1, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    for name, method, calibration in models:
        look = palette.teacher(dark) if method == "teacher" else palette.style(method, dark)
        label = f"{plain(_short(name))}: ECE {100 * calibration.ece:.1f} %, Brier {calibration.brier:.3f}"
        _bins(figure, [bin for bin in calibration.bins if bin.rows >= FEWEST_ROWS], look, label)
        _bins(figure, [bin for bin in calibration.bins if 0 < bin.rows < FEWEST_ROWS], look)
    figure.update_xaxes(range=[100 * lowest - 2, 102])
    figure.update_yaxes(range=[-3, 103])
    figure.update_layout(margin={"t": 60})
    return figure


def _bins(figure: go.Figure, bins: Sequence[Bin], look: palette.Style, name: str = "") -> None:
    """Bins of one model: with a name as a line, without as faint marks that no line leads to."""
    figure.add_trace(
        go.Scatter(
            x=[100 * bin.confidence for bin in bins],
            y=[100 * bin.accuracy for bin in bins],
            customdata=[bin.rows for bin in bins],
            mode="lines+markers" if name else "markers",
            line={"color": look.color, "width": look.width, "dash": look.dash},
            marker={"symbol": look.marker, "color": look.color, "size": [min(20, 5 + bin.rows**0.5) for bin in bins]},
            opacity=1.0 if name else 0.4,
            name=name,
            showlegend=bool(name),
            hovertemplate="confidence %{x:.1f} %, right %{y:.1f} %<br>%{customdata} rows<extra></extra>",
        )
    )


def scatter(
    rows: pd.DataFrame,
    numbers: Sequence[int],
    reference: str,
    student: str,
    method: str,
    dark: bool = False,
    chosen: int | None = None,
) -> go.Figure:
    """The student's score over the reference's, one dot a row; on the line they agree.

    Args:
        rows: those of `probes.examples.compare_scores`. numbers: of the rows in their split, for the hover.
        chosen: id of the row that is ringed.
    """
    figure = frame(f"{plain(_short(reference))}: score", f"{plain(_short(student))}: score", dark=dark, height=460)
    values = rows[["reference", "student"]].to_numpy()
    ends = [float(values.min(initial=0.0)), float(values.max(initial=1.0))]
    figure.add_trace(
        go.Scatter(
            x=ends,
            y=ends,
            mode="lines",
            line={"color": QUIET[dark], "width": 1, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    look = palette.style(method, dark)
    figure.add_trace(
        go.Scatter(
            x=rows["reference"],
            y=rows["student"],
            mode="markers",
            marker={"symbol": "circle", "size": 7, "color": look.color, "opacity": 0.45},
            customdata=np.column_stack([np.asarray(numbers), rows["gold"]]),
            hovertemplate="row %{customdata[0]}, gold %{customdata[1]:.2f}<br>reference %{x:.2f}, student %{y:.2f}"
            "<extra></extra>",
            showlegend=False,
        )
    )
    if chosen in rows.index:
        ring = {"symbol": "circle-open", "size": 16, "color": CHOSEN, "line": {"width": 3}}
        marked = rows.loc[[chosen]]
        figure.add_trace(
            go.Scatter(
                x=marked["reference"],
                y=marked["student"],
                mode="markers",
                marker=ring,
                hoverinfo="skip",
                showlegend=False,
                name="chosen row",
            )
        )
    return figure


def probabilities(answers: pd.DataFrame, dark: bool = False) -> go.Figure:
    """One bar a model, cut into the probabilities of the labels.

    Args:
        answers: [models, labels], rows sum to 1.
    """
    shown = _fewer(answers)
    figure = frame("Probability (%)", "", dark=dark, height=110 + 54 * len(shown))
    models = [plain(_short(name)) for name in shown.index]
    for index, label in enumerate(shown.columns):
        values = 100 * shown.iloc[:, index].to_numpy(dtype=np.float64)
        color = palette.term_color(index, dark)
        figure.add_trace(
            go.Bar(
                x=values,
                y=list(range(len(models))),
                orientation="h",
                name=plain(_short(label)),
                marker={"color": color, "line": {"color": PAGE[dark], "width": 1.5}},
                text=[f"{value:.1f}" if value >= 8 else "" for value in values],
                textposition="inside",
                insidetextfont={"color": PAGE[dark], "size": 12},
                insidetextanchor="middle",
                textangle=0,
                hovertemplate="%{x:.2f} %<extra>" + plain(_short(label)) + "</extra>",
            )
        )
    figure.update_layout(barmode="stack", bargap=0.5, legend={"traceorder": "normal"}, margin={"t": 36})
    figure.update_xaxes(range=[0, 100.4], showgrid=False)
    figure.update_layout(margin={"r": 20})
    _names_above(figure, models, dark)
    return figure


def scores(answers: pd.Series, dark: bool = False) -> go.Figure:
    """One dot a model at its score. answers: model -> score."""
    figure = frame("Score", "", dark=dark, height=90 + 54 * len(answers))
    figure.add_trace(
        go.Scatter(
            x=answers.to_numpy(dtype=np.float64),
            y=list(range(len(answers))),
            mode="markers+text",
            marker={"size": 12, "color": palette.term_color(1, dark)},
            text=[f"{value:.2f}" for value in answers],
            textposition="middle right",
            textfont={"color": INK[dark]},
            hovertemplate="%{x:.3f}<extra></extra>",
            showlegend=False,
        )
    )
    low, high = float(answers.min()), float(answers.max())
    margin = 0.1 * max(high - low, 0.1)
    figure.update_xaxes(range=[low - margin, high + 2 * margin])  # the number stands at the right of its dot
    _names_above(figure, [plain(_short(name)) for name in answers.index], dark)
    return figure


def _names_above(figure: go.Figure, models: list[str], dark: bool) -> None:
    """Each name over its bar: beside it, long names would leave no room on a narrow screen."""
    for index, name in enumerate(models):
        figure.add_annotation(
            x=0,
            xref="paper",
            xanchor="left",
            y=index - 0.27,
            yanchor="bottom",
            text=name,
            showarrow=False,
            font={"color": INK[dark], "size": 12},
        )
    figure.update_yaxes(showticklabels=False, range=[len(models) - 0.6, -0.7], showgrid=False, zeroline=False)


def _cell_texts(z: np.ndarray, outcomes: Sequence[str]) -> list[list[str]]:
    if not outcomes:
        return [[f"{count:,}" for count in row] for row in z]
    return [[f"<b>{z[row, column]:,}</b><br>{outcomes[2 * row + column]}" for column in range(2)] for row in range(2)]


def _outcome_scale(dark: bool) -> list[tuple[float, str]]:
    """Of `OUTCOME_COLORS`: quiet where both are right or wrong."""
    return [(0.0, GRID[dark]), (0.5, palette.LOST[dark]), (1.0, palette.GAINED[dark])]


def _fewer(answers: pd.DataFrame) -> pd.DataFrame:
    """The labels that some model finds likely; the others as one, where there are too many to tell apart."""
    if answers.shape[1] <= MOST_LABELS:
        return answers
    places = np.sort(np.argsort(-answers.max().to_numpy(), kind="stable")[: MOST_LABELS - 1])
    fewer = answers.iloc[:, places]
    return fewer.assign(**{"all others": 1.0 - fewer.sum(axis=1)})


def _short(name: object, longest: int = 40) -> str:
    short = str(name)
    return short if len(short) <= longest else f"{short[: longest - 1]}…"
