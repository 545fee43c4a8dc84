"""The lines that the pages of one run share, and what a running run says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kdcore.analysis.run_result import RunResult
from pages.parts.common.run_header import result_text
from pages.parts.common.text import ago, time_left
from pages.parts.live.progress import bar_text
from tests.helpers.store_factory import add, run_config, words


def test_all_that_is_known_in_one_line() -> None:
    whole = RunResult("accuracy", 0.884, "large", 0.915, 0.344, 1.61)
    line = "Accuracy (%): **88.4** · **97%** of teacher large (91.5) · **+34.4** over training alone · **1.6× faster**"
    assert result_text(whole) == line
    assert result_text(replace(whole, busy=True)) == line.rpartition(" · ")[0], "a busy machine says nothing"
    assert result_text(RunResult("accuracy", 0.5)) == "Accuracy (%): **50.0**"
    assert result_text(RunResult("accuracy")) == "No score was kept."


@pytest.mark.parametrize("page", ["layers", "attention"])
def test_the_pages_of_one_run_share_its_result(page: str, store: Any, visit: Callable[..., Any]) -> None:
    add(store, run_config("fine-tune"), score=0.70)
    run = add(store, run_config("kd"), score=0.744)
    said = words(visit(page, job=run))
    assert "Accuracy (%): **74.4** · **80%** of teacher large (93.0) · **+4.4** over training alone" in said


def test_damage_of_the_training_data_stands_beside_the_result(store: Any, visit: Callable[..., Any]) -> None:
    noisy = {"label_noise": 0.2}
    ids = [add(store, run_config("kd", seed, data=noisy), score=0.7) for seed in (0, 1)]
    said = words(visit("live", job=ids[0])).replace("\\", "")
    assert "20 % of the labels wrong (uniform), teachers on the same" in said
    assert "damaged on purpose: 20 % of the labels wrong" in words(visit("compare", runs=",".join(ids)))


def test_a_finished_run_shows_its_result_first(store: Any, visit: Callable[..., Any]) -> None:
    add(store, run_config("fine-tune"), score=0.70)
    run = add(store, run_config("kd"), score=0.744)
    shown = [(tile.label, tile.value) for tile in visit("live", job=run).metric]
    assert shown == [
        ("Accuracy (%)", "74.4"),
        ("Of the teacher", "80%"),
        ("Over training alone", "+4.4"),
        ("Against the teacher", "3.4× faster"),
    ]


# --- a run under way -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        ({}, "Getting ready: data and teachers"),
        (
            {"what": "training teacher large", "done": 20, "total": 90},
            "Getting ready · training teacher large, 20 of 90",
        ),
        ({"step": 220, "steps": 3390}, "Step 220 of 3390"),
        (
            {"step": 220, "steps": 3390, "what": "scoring validation", "done": 16, "total": 16},
            "Step 220 of 3390 · scoring validation, 16 of 16",
        ),
    ],
)
def test_the_phase_is_told_in_words(progress: dict[str, Any], text: str, store: Any) -> None:
    row = store.get(add(store, run_config("kd"), end="running"))
    assert bar_text(replace(row, progress=progress)) == text


def test_live_opens_the_last_that_ended_not_what_waits_or_was_cancelled(store: Any, visit: Callable[..., Any]) -> None:
    done = add(store, run_config("kd"))
    add(store, run_config("kd", 1), end="failed")
    cancelled = add(store, run_config("kd", 2), end="queued")
    store.cancel(cancelled)
    add(store, run_config("kd", 3), end="queued")
    assert visit("live").query_params["job"] == done


# --- runs that were queued together --------------------------------------------------------------------------------


def test_a_batch_says_how_far_it_is_and_what_is_next(store: Any, visit: Callable[..., Any]) -> None:
    first = add(store, run_config("fine-tune"))
    second = add(store, run_config("kd"), end="running")
    third = add(store, run_config("pkd", name="the third"), end="queued")
    app = visit("live", job=second, runs=f"{first},{second},{third}")
    assert "1 of 3 done.** Next: the third" in words(app)
    assert "of 3 done" not in words(visit("live", job=second)), "only where the address names them"


def test_a_batch_that_is_over_leads_to_its_comparison(store: Any, visit: Callable[..., Any]) -> None:
    made = [
        add(store, run_config("fine-tune")),
        add(store, run_config("kd")),
        add(store, run_config("pkd"), end="failed"),
    ]
    app = visit("live", job=made[1], runs=",".join(made))
    assert "2 of 3 done.** 1 ended without a score." in words(app)
    assert "See which is better" in [link.label for link in app.get("page_link")]


def test_the_next_run_of_a_batch_is_followed(store: Any, visit: Callable[..., Any]) -> None:
    """The page has seen the first run train; meanwhile it has ended and the second has begun."""
    from kdcore.events import RunFinished

    first = add(store, run_config("fine-tune"), end="running")
    second = add(store, run_config("kd"), end="queued")
    app = visit("live", job=first, runs=f"{first},{second}")
    _end_within_fragment(app, lambda: store.record(first, [RunFinished({"seconds": 1.0})]))
    assert app.query_params["job"] == second


def _end_within_fragment(app: Any, end: Callable[[], None]) -> None:
    """Ends the run between the page's look at the state and the fragment's."""
    import pages.parts.live.header  # noqa: F401
    from kdcore.store import Store

    get, looks = Store.get, [0]

    def late(self: Store, run: str) -> Any:
        looks[0] += 1
        if looks[0] == 2:
            end()
        return get(self, run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "get", late)
        app.run()
    assert not app.exception


# --- small words ---------------------------------------------------------------------------------------------------


def test_long_ago_is_told_in_days() -> None:
    import time

    now = time.time()
    assert ago(now - 134 * 3600) == "6 days ago" and ago(now - 2 * 3600 - 5) == "2 h 00 min ago"


def test_what_is_left() -> None:
    assert [time_left(seconds) for seconds in (None, float("nan"), 0.4, 5.0)] == [
        "",
        "",
        "almost done",
        "about 5 s left",
    ]
