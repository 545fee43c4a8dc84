"""The gap over layers and heads, beside that of training alone; what a doubling changes; the sizes that are missing."""

from __future__ import annotations

import streamlit as st

from kdcore.analysis.lost import HOW, Loss
from kdcore.figures import lost as figures
from kdcore.methods.catalog import title_of
from pages.parts.common import cards
from pages.parts.common.plot import Click
from pages.parts.common.text import metric_title, plain

COLUMNS = {
    "layers": "layers", "heads": "heads", "n": "seeds", "teacher": "teacher", "score": "student", "gap": "gap",
    "low": "gap from", "high": "gap to", "retention": "retention", "alone": "training alone", "gain": "over alone",
}  # fmt: skip


def show(loss: Loss) -> None:
    st.subheader("By size of the student", anchor=False)
    if len(loss.sizes) < 2:
        st.caption(
            "One size was trained with these settings. A sweep over layers and heads fills this in: "
            "bench/studies/pocket-lost.yaml is one."
        )
        return
    if said := _slopes(loss):
        st.markdown(said)
    top = 100 * float(loss.sizes[["gap", "alone_gap"]].max().max())
    left, right = st.columns(2)
    with left:
        click = _map(loss, "gap", "lost_gap", "Gap to the teacher", top)
    with right:
        if loss.row.method != "fine-tune" and loss.sizes["alone_n"].any():
            _map(loss, "alone_gap", "lost_alone", "Gap of training alone", top)
    if click is not None:
        _open(loss, click)


def _map(loss: Loss, value: str, key: str, title: str, top: float) -> Click | None:
    dark = cards.dark()
    metric = metric_title(loss.metric).partition(" (")[0]
    own = value == "gap"
    text = (
        f"Points of {metric} below the teacher, 95 % interval. Outlined: this run's size. Click a cell to open it."
        if own
        else "The same students without distillation, on the same colour scale: what their size loses."
    )
    return cards.figure(
        lambda: figures.size_map(loss.sizes, value, title, top=top, own=loss.size, dark=dark),
        key,
        text,
        data=loss.sizes.rename(columns=COLUMNS)[list(COLUMNS.values())] if own else None,
        how=HOW if own else "",
        on_click="rerun" if own else "ignore",
        about={"task": loss.row.task, "metric": loss.metric, "units": {"gap": "fraction of 1"}} if own else None,
    )


def _slopes(loss: Loss) -> str:
    """What a doubling changes, over the sizes that were trained."""
    slopes = loss.slopes()
    parts = [
        f"{'layers' if name == 'layers' else 'heads'} {'narrows' if slope < 0 else 'widens'} the gap by "
        f"{abs(100 * slope):.1f} points"
        for name, slope in slopes.items()
    ]
    if not parts:
        return ""
    sizes, said = f"{len(loss.sizes)} sizes of {plain(title_of(loss.row.method))}", ", doubling the ".join(parts)
    return f"Over these {sizes}, doubling the {said}."


def _open(loss: Loss, click: Click) -> None:
    """Makes the clicked size's run the one that the page shows."""
    layers, heads = (sorted(set(loss.sizes[name])) for name in ("layers", "heads"))
    if click.row is None or click.column is None or not (click.row < len(layers) and click.column < len(heads)):
        return
    found = loss.sizes[(loss.sizes["layers"] == layers[click.row]) & (loss.sizes["heads"] == heads[click.column])]
    if len(found) and (run := str(found["run"].iloc[0])) != loss.row.id:
        st.query_params["job"] = run
        st.rerun()
