"""Live reads a run once and then only what is new; what it draws is what it would draw from everything."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import streamlit as st

from kdcore.analysis.series import series
from kdcore.analysis.teacher_scores import teacher_scores
from kdcore.events import Evaluated, RunStarted, StepDone
from kdcore.figures import curves
from pages.parts.common import loss_equation, updates
from pages.parts.common.plot_data import plot_data
from pages.parts.live.point_cache import KINDS, CachedPoints, cached_points
from tests.helpers.store_factory import add, grow, run_config, words

TERMS = {"hard": 0.7, "soft": 0.3}


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session's state without a session."""
    monkeypatch.setattr(st, "session_state", {})


def _values(seen: CachedPoints) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    return {key: (x.tolist(), y.tolist()) for key, (x, y) in seen.series().items()}


@pytest.mark.usefixtures("session")
def test_what_is_followed_is_what_the_store_holds(store: Any) -> None:
    run = add(store, run_config("kd"), end="running")
    for step in (31, 32):
        grow(store, run, step, TERMS)
        seen = cached_points(store, store.get(run))
    metrics = store.metrics([run], kinds=KINDS)
    whole = series(metrics)
    assert list(seen.series()) == list(whole)
    assert all(np.array_equal(seen.series()[key], whole[key]) for key in whole)
    few, full = loss_equation.latest_terms(seen.latest()), loss_equation.latest_terms(metrics)
    assert few.equals(full) and loss_equation.stage_of(seen.latest()) == loss_equation.stage_of(metrics)


@pytest.mark.usefixtures("session")
def test_only_new_rows_are_read_and_none_where_nothing_is_new(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = add(store, run_config("kd"), end="running")
    asked: list[int] = []
    read = store.points

    def noted(run: str, after: int, kinds: Any) -> Any:
        asked.append(after)
        return read(run, after, kinds)

    monkeypatch.setattr(store, "points", noted)
    versions = []
    for step in (None, None, 31, None):
        if step is not None:
            grow(store, run, step, TERMS)
        versions.append(cached_points(store, store.get(run)).version)
    assert asked == [-1, 30] and versions == [1, 1, 2, 2]


@pytest.mark.usefixtures("session")
def test_a_resumed_run_is_read_anew(store: Any) -> None:
    run = add(store, run_config("kd"), end="running")
    cached_points(store, store.get(run))
    store.record(run, [RunStarted({"resumed_at": 20})])
    grow(store, run, 21, {"hard": 9.0, "soft": 0.0})
    seen = _values(cached_points(store, store.get(run)))
    assert seen["raw", "hard"][0] == list(range(1, 22)) and seen["raw", "hard"][1][-1] == 9.0
    grow(store, run, 30, {"hard": 8.0, "soft": 0.0})
    assert _values(cached_points(store, store.get(run)))["raw", "hard"][1][-1] == 8.0


@pytest.mark.usefixtures("session")
def test_another_run_in_the_same_session_starts_from_its_own_points(store: Any) -> None:
    first, second = (add(store, run_config("kd", seed), end="running") for seed in (0, 1))
    before = cached_points(store, store.get(first)).version
    seen = cached_points(store, store.get(second))
    whole = series(store.metrics([second], kinds=KINDS))
    assert np.array_equal(seen.series()["loss", "loss"], whole["loss", "loss"]) and seen.version != before


@pytest.mark.parametrize("log", [False, True])
def test_points_put_into_the_kept_figure_are_those_of_the_full_one(store: Any, log: bool) -> None:
    run = add(store, run_config("pkd"), steps=4000)
    metrics = store.metrics([run])
    full = plot_data(curves.terms(metrics, "weighted", smoothing=0.8, log=log))
    lines = curves.term_lines(series(metrics), "weighted", smoothing=0.8, log=log)
    kept = plot_data(curves.terms_figure([curves.bare(line.look) for line in lines], "weighted", log=log))
    again = kept.with_points((line.x, line.y) for line in lines)
    assert (again.summary, again.axes, again.height) == (full.summary, full.axes, full.height)
    shown, expected = again.in_full(), json.loads(full.figure)
    assert shown["layout"] == expected["layout"] and len(shown["data"]) == len(expected["data"]) == 8
    for one, other, line in zip(shown["data"], expected["data"], lines, strict=True):
        assert {**one, "x": 0, "y": 0} == {**other, "x": 0, "y": 0}
        assert 990 < len(line.x) <= 1500
        np.testing.assert_allclose(_numbers(one["x"]), line.x)
        np.testing.assert_allclose(_numbers(one["y"]), line.y, rtol=1e-6)


def _numbers(packed: dict[str, str]) -> Any:
    return np.frombuffer(base64.b64decode(packed["bdata"]), dtype=packed["dtype"])


def test_the_page_shows_new_points_scores_and_the_end(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"), end="running")
    app = visit("live", job=run)
    assert "Values at training step 30," in words(app)
    grow(store, run, 31, TERMS)
    store.record(run, [Evaluated("distil", 31, "validation", "best", {"accuracy": 0.875}, 1000)])
    app.run()
    said = words(app)
    assert not app.exception and not app.error
    assert "Values at training step 31," in said and "**87.5** (dev, 1000 rows, one seed)" in said
    assert r"\text{soft}" in app.get("latex")[0].value and "= \\mathbf{1}" in app.get("latex")[0].value
    store.record(run, [StepDone("other", 32, 60, 1.0, 2.0, {"rest": 2.0}, {"rest": 2.0}, 1e-3, 900.0, 1.0, 1.0)])
    app.run()
    assert "Values at training step 32 of stage other" in words(app)


def test_all_that_learned_are_named_and_are_no_teachers(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"), end="running")
    others = {"student": 0.71, "peer-2": 0.72, "mean of students": 0.74}
    for who, score in others.items():
        store.record(run, [Evaluated("end", 30, "validation", f"learner:{who}", {"accuracy": score}, 1000)])
    store.record(run, [Evaluated("start", 0, "validation", "teacher:large", {"accuracy": 0.9}, 1000)])
    line = "at its end: student **71.0** · peer\\-2 **72.0** · mean of students **74.0** (Accuracy (%), dev)."
    assert line in words(visit("live", job=run))
    assert "large" in (names := set(teacher_scores(store.evaluations(run), "accuracy")["teacher"]))
    assert not names & set(others)


@pytest.fixture
def paces(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The periods, in seconds, at which the followed part was to be drawn anew; None: not at all."""
    noted_paces: list[float | None] = []
    fragment = st.fragment

    def noted(function: Any, run_every: float | None = None) -> Any:
        if function.__name__ == "_follow":
            noted_paces.append(run_every)
        return fragment(function, run_every=run_every)

    monkeypatch.setattr(st, "fragment", noted)
    return noted_paces


def test_only_a_run_that_trains_and_is_followed_has_a_clock(
    store: Any, visit: Callable[..., Any], paces: list[float | None]
) -> None:
    app = visit("live", job=add(store, run_config("kd"), end="running"))
    assert not app.exception and paces[-1] == 1.0
    app.selectbox(key="live_every").set_value("5").run()
    assert not app.exception and paces[-1] == 5.0 and app.query_params["every"] == "5"
    assert "Live updates are off" not in words(app)
    app.selectbox(key="live_every").set_value("off").run()
    assert not app.exception and paces[-1] is None and app.query_params["every"] == "off"
    assert "Live updates are off. This is as of" in words(app)
    app = visit("live", job=add(store, run_config("kd")))
    assert paces[-1] is None and not any(one.key == "live_every" for one in app.selectbox)


@pytest.mark.parametrize(("asked", "seconds"), [("10", 10.0), ("off", None), ("0.001", 1.0), ("<b>", 1.0)])
def test_the_period_of_updates_is_kept_in_the_address(
    asked: str, seconds: float | None, store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    paces: dict[str, float | None] = {}
    fragment = st.fragment

    def noted(function: Any, run_every: float | None = None) -> Any:
        paces[function.__module__] = run_every
        return fragment(function, run_every=run_every)

    monkeypatch.setattr(st, "fragment", noted)
    app = visit("live", job=add(store, run_config("kd"), end="running"), every=asked)
    assert not app.exception and app.selectbox(key="live_every").value in updates.PERIODS
    assert paces["pages.parts.live.queue"] == (None if seconds is None else max(4.0, seconds))
    assert paces["pages.parts.common.sidebar"] == (None if seconds is None else max(5.0, seconds))
    assert updates.PERIODS[app.selectbox(key="live_every").value] == seconds
    if seconds is None:
        grow(store, store.runs()["id"].iloc[0], 31, TERMS)
        app.button(key="live_now").click().run()
        assert "Values at training step 31," in words(app)


def test_a_run_that_ended_is_followed_while_others_of_its_batch_wait(
    store: Any, visit: Callable[..., Any], paces: list[float | None]
) -> None:
    done, waits = add(store, run_config("kd")), add(store, run_config("kd", 1), end="queued")
    app = visit("live", job=done, runs=f"{done},{waits}")
    assert "**1 of 2 done.**" in words(app) and paces[-1] == 1.0
    store.cancel(waits)
    app.run()
    assert paces[-1] is None and not app.exception


def test_an_archived_run_that_still_trains_does_not_redraw_the_page_for_ever(
    store: Any, visit: Callable[..., Any]
) -> None:
    run = add(store, run_config("kd"), end="running")
    store.archive(run)
    app = visit("live", job=run)
    assert not app.exception and "The queue is empty." in words(app)
