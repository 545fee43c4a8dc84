"""Launch keeps what was typed, names what it was filled from, and counts seeds and queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pages.parts.launch.draft import MOST_DRAFTS, Drafts
from tests.helpers.store_factory import add, run_config, words


def test_a_reload_loses_nothing(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("launch")
    app.text_input(key="launch.name").set_value("mine").run()
    app.number_input(key="launch.train.epochs").set_value(2.5).run()
    draft = app.query_params["draft"]
    again = visit("launch", draft=draft)
    assert not again.exception
    assert again.text_input(key="launch.name").value == "mine"
    assert again.number_input(key="launch.train.epochs").value == 2.5
    assert visit("launch", draft="nobody").text_input(key="launch.name").value == ""


def test_only_the_last_drafts_are_kept() -> None:
    drafts = Drafts()
    for number in range(MOST_DRAFTS + 1):
        drafts.put(str(number), {"launch.name": str(number)})
    assert drafts.get("0") == {} and drafts.get("1") == {"launch.name": "1"}


def test_a_clone_says_the_name_that_the_run_has_now(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd", name="before"))
    store.rename(run, "after")
    app = visit("launch", clone=run)
    assert "settings of after" in words(app) and app.text_input(key="launch.name").value == "after"


def test_a_clone_brings_what_is_wrong_with_the_data(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd", data={"label_fraction": 0.2, "label_noise": 0.1, "teacher_data": "clean"}))
    app = visit("launch", clone=run)
    assert not app.exception
    assert app.number_input(key="launch.data.label_fraction").value == 0.2
    assert app.selectbox(key="launch.data.teacher_data").value == "clean"
    said = words(app).replace("\\", "")
    assert "20 % of the labels, 10 % of the labels wrong (uniform), teachers on clean rows" in said, said


def test_time_counts_seeds_and_queue(store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.parts.common.text import duration
    from pages.parts.launch import start

    store.add_run(run_config("kd"), facts={"predicted": {"seconds": 300.0}})
    app = visit("launch")
    app.number_input(key=start.SEEDS).set_value(3).run()
    times = {tile.label: tile.value for tile in app.metric}
    assert "Starts after 1 run, in about 5 min 00 s" in words(app)
    assert "Time for 3 seeds" in times and times["Time for 3 seeds"] != duration(0)


def test_later_seeds_find_the_teachers_made() -> None:
    from types import SimpleNamespace

    from pages.parts.launch.start import seconds_of

    forecast = SimpleNamespace(seconds=70.0, teacher_seconds=60.0)
    assert [seconds_of(forecast, seeds) for seeds in (1, 2, 5)] == [70.0, 80.0, 110.0]
