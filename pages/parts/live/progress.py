"""How far a run is, how long it takes, and the request to stop it."""

from __future__ import annotations

import streamlit as st

from kdcore.errors import UserError
from kdcore.store import RunRow, Store
from pages.parts.common.read_only import action
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import duration, one_line, plain


def show(store: Store, row: RunRow) -> None:
    progress = row.progress
    step, steps = int(progress.get("step") or 0), int(progress.get("steps") or 0)
    if row.state == "queued":
        st.info("In the queue. It starts when the device is free.", icon=":material/schedule:")
    elif row.active:
        _bar(row, step, steps)
    speed, eta = progress.get("examples_per_second"), progress.get("eta_s")
    numbers = [
        ("Step", f"{step} / {steps}" if steps else "–"),
        ("Time left" if row.active else "Time", duration(eta) if row.active else _time_taken(row)),
        ("Rows per second", f"{speed:.0f}" if speed else "–"),
        ("Device", _device(row)),
    ]
    with st.container(horizontal=True, key="live_numbers"):
        for label, value in numbers:
            st.metric(label, value, border=True, width="stretch")
    if text := forecast_text(row):
        st.caption(text)
    if row.active:
        _stop(store, row)


def _bar(row: RunRow, step: int, steps: int) -> None:
    """Of a long pass such as scoring where there is one, else of the training steps."""
    what, done, total = (row.progress.get(name) for name in ("what", "done", "total"))
    if what:
        share = min(1.0, (done or 0) / total) if total else 0.0
        st.progress(share, text=f"{plain(what, 80)}: {done or 0} of {total}" if total else plain(what, 80))
    else:
        text = f"Step {step} of {steps}" if steps else "Getting ready: data and teachers"
        st.progress(min(1.0, step / steps) if steps else 0.0, text=text)


def forecast_text(row: RunRow) -> str:
    """What was predicted before the start, and how it compares with the time taken."""
    prediction = row.facts.get("predicted")
    seconds = prediction.get("seconds") if isinstance(prediction, dict) else None
    if not isinstance(seconds, int | float) or seconds <= 0:
        return ""
    taken = row.summary.get("seconds")
    text = f"Predicted before the start: {duration(seconds)}"
    if row.state != "done" or not isinstance(taken, int | float):
        return f"{text}."
    if row.facts.get("resumed_at"):
        return f"{text}. It was resumed, so its last part took {duration(taken)}."
    error = taken / seconds - 1
    comparison = "as predicted" if abs(error) < 0.05 else f"{abs(error):.0%} {'longer' if error > 0 else 'less'}"
    return f"{text}; took {duration(taken)} ({comparison})."


def _device(row: RunRow) -> str:
    device, precision = row.facts.get("device"), row.facts.get("precision")
    return f"{one_line(device, 20)}, {one_line(precision, 10)}" if device else "–"


def _time_taken(row: RunRow) -> str:
    seconds = row.summary.get("seconds")
    return duration(seconds if isinstance(seconds, int | float) else None)


def _stop(store: Store, row: RunRow) -> None:
    stop = store.stop_requested(row.id)
    if stop is None:
        action(
            "Stop and keep the student",
            key="live_stop",
            icon=":material/stop:",
            on_click=_request_stop,
            args=(row.id, True),
        )
    elif stop == "keep":
        st.warning("Stopping after this step; the student is saved.", icon=":material/hourglass:")
        action(
            "Discard the student instead",
            key="live_discard",
            icon=":material/delete:",
            on_click=_request_stop,
            args=(row.id, False),
        )
    else:
        st.warning("Stopping after this step; the student is not kept.", icon=":material/hourglass:")


def _request_stop(run: str, keep: bool) -> None:
    try:
        the_store().request_stop(run, keep=keep)
    except UserError as error:  # it ended in this very moment
        st.toast(plain(error.problem))
