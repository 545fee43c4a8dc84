"""The gap over layers and heads, beside that of training alone; what a doubling changes; the sizes that are missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.analysis.lost import HOW, Loss, slopes_by_task
from kdcore.figures import lost as figures
from kdcore.methods.catalog import title_of
from kdcore.store import Store
from pages.parts.common import cards
from pages.parts.common.plot import Click
from pages.parts.common.text import metric_title, plain, task_title

COLUMNS = {
    "layers": "layers", "heads": "heads", "n": "seeds", "teacher": "teacher", "score": "student", "gap": "gap",
    "low": "gap from", "high": "gap to", "retention": "retention", "alone": "training alone",
    "gain": "above training alone",
}  # fmt: skip


def show(store: Store, runs: pd.DataFrame, loss: Loss) -> None:
    """The maps. runs: rows of `Store.runs`, where other tasks are looked for."""
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
    _tasks(store, runs, loss)
    if click is not None:
        _open(loss, click)


def _tasks(store: Store, runs: pd.DataFrame, loss: Loss) -> None:
    """Which tasks are more sensitive to the size, where several have it."""
    table = slopes_by_task(store, runs, loss.row.id)
    if len(table) < 2:
        return
    shown = pd.DataFrame(
        {
            "task": [task_title(task) for task in table["task"]], "sizes": table["sizes"],
            "layers doubled": 100 * table["layers"], "heads doubled": 100 * table["heads"],
        }
    )  # fmt: skip
    points = st.column_config.NumberColumn(format="%+.1f")
    st.dataframe(
        shown, hide_index=True, key="lost_tasks", alt="Points that a doubling of the size brings on each task",
        column_config={"layers doubled": points, "heads doubled": points},
    )  # fmt: skip
    st.caption("Points of each task's main metric that a doubling brings, least squares over the sizes trained.")


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
    parts = []
    for name, slope in loss.slopes().items():
        interval = "" if np.isnan(slope.low) else f" (95 % {100 * slope.low:+.1f} to {100 * slope.high:+.1f})"
        parts.append(f"{name} changes the gap by {100 * slope.value:+.1f} points{interval}")
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
