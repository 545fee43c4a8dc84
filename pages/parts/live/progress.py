"""How far a run is, how long it takes, and the request to stop it."""

from __future__ import annotations

import streamlit as st

from kdcore.errors import UserError
from kdcore.runs.capability import has_own_worker
from kdcore.store import RunRow, Store
from pages.parts.common.read_only import action, read_only
from pages.parts.common.run_picker import the_store
from pages.parts.common.sidebar import worker
from pages.parts.common.text import duration, one_line, place, plain


def show(store: Store, row: RunRow) -> None:
    progress = row.progress
    step, steps = int(progress.get("step") or 0), int(progress.get("steps") or 0)
    speed, eta = progress.get("examples_per_second"), progress.get("eta_s")
    rows = f"{speed:.0f}" if speed else "–"
    if row.state == "queued":
        st.info(_waiting(store, row), icon=":material/schedule:")
    elif row.active:
        st.progress(min(1.0, step / steps) if steps else 0.0, text=bar_text(row))
        numbers = (
            ("Step", f"{step} / {steps}" if steps else "–"),
            ("Time left", duration(eta)),
            ("Rows per second", rows),
            ("Device", _device(row)),
        )
        with st.container(horizontal=True, key="live_numbers"):
            for label, value in numbers:
                st.metric(label, value, border=True, width="stretch")
    elif steps:
        st.caption(f"Step {step} of {steps} · {_time_taken(row)} · {rows} rows per second · {_device(row)}")
    if text := forecast_text(row):
        st.caption(text)
    if row.active:
        _stop(store, row)


def _waiting(store: Store, row: RunRow) -> str:
    if not has_own_worker():
        return "In the queue. This dashboard trains nothing itself: `kdcore work` does."
    can = None if read_only() else getattr(worker(), "can", None)
    if can is None or row.id in store.waiting(can):
        return "In the queue. It starts when a worker is free."
    device = row.config.train.device
    lacking = "more memory than this computer has" if device in can else f"the device {device}"
    return f"In the queue. It waits for a worker with {lacking} (`kdcore work` on another computer)."


def bar_text(row: RunRow) -> str:
    """How far the run is, and in words what it does beside training steps: the bar is of the whole run."""
    step, steps, what, done, total = (row.progress.get(name) for name in ("step", "steps", "what", "done", "total"))
    at = f"Step {step or 0} of {steps}" if steps else "Getting ready"
    if not what:
        return at if steps else f"{at}: data and teachers"
    return f"{at} · {plain(what, 80)}" + (f", {done or 0} of {total}" if total else "")


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
    if not device:
        return "–"
    return f"{one_line(place(str(device), row.node), 40)}, {one_line(precision, 10)}"


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
