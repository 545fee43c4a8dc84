"""The tour: five steps over real pages, kept in the address, left at any time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest

from kdcore.runs import example
from pages.parts.start.tour import INSTEAD, STEPS
from tests.helpers.store_factory import add, fill, run_config, words


def links(app: Any) -> dict[str, Any]:
    """Label -> link, of those in the page."""
    return {link.proto.label: link.proto for link in app.get("page_link")}


def test_an_empty_store_shows_all_steps(visit: Callable[..., Any]) -> None:
    app = visit("start")
    assert not app.exception and "New here?" in words(app)
    shown = links(app)
    for number, step in enumerate(STEPS, start=1):
        link = shown[f"{number}. {step.title}"]
        assert parse_qs(link.query_string)["tour"] == [str(number)] and step.text in words(app)


def test_later_there_is_a_link(store: Any, visit: Callable[..., Any]) -> None:
    fill(store, seeds=1)
    app = visit("start")
    assert "New here?" not in words(app)
    assert parse_qs(links(app)["Take the tour"].query_string) == {"tour": ["1"]}


def test_the_first_step_opens_the_example(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("start", tour="1")
    assert "step 1 of 5" in words(app) and "New here?" not in words(app)
    app.button(key="tour_example").click().run()
    assert not app.exception and len(example.example_runs(store)) == len(example.about()["compared"])


@pytest.mark.parametrize("number", range(2, len(STEPS) + 1))
def test_each_step_stands_on_its_page(number: int, store: Any, visit: Callable[..., Any]) -> None:
    fill(store, seeds=1)
    step = STEPS[number - 1]
    app = visit(step.page, tour=str(number))
    assert not app.exception
    assert f"Tour, step {number} of {len(STEPS)}: {step.title}" in words(app) and step.text in words(app)
    assert app.query_params["tour"] in (str(number), [str(number)])
    shown = links(app)
    following = [label for label in shown if label.startswith("Next: ")]
    assert len(following) == (number < len(STEPS))
    app.button(key="tour_leave").click().run()
    assert not app.exception and "Tour, step" not in words(app) and "tour" not in app.query_params


def test_why_is_asked_of_the_best_distilled_run(store: Any, visit: Callable[..., Any]) -> None:
    add(store, run_config("fine-tune"), score=0.95)
    best = add(store, run_config("pkd"), score=0.9)
    add(store, run_config("kd"), score=0.8)
    ids = list(store.runs()["id"])
    app = visit("compare", runs=",".join(ids), tour="2")
    assert parse_qs(links(app)[f"Next: {STEPS[2].title}"].query_string)["job"] == [best]


@pytest.mark.parametrize("typed", ["0", "99", "x", "-1", "1 "])
def test_nonsense_is_no_step(typed: str, store: Any, visit: Callable[..., Any]) -> None:
    fill(store, seeds=1)
    app = visit("compare", tour=typed)
    assert not app.exception and "Tour, step" not in words(app) and "tour" not in app.query_params


def test_nothing_is_started_where_nothing_may_be(
    store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, seeds=1)
    monkeypatch.setenv("KD_READ_ONLY", "1")
    app = visit("learn", tour="5")
    assert not app.exception and INSTEAD.title in words(app)


def test_a_page_of_the_tour_shows_its_own_step(store: Any, visit: Callable[..., Any]) -> None:
    """Back may bring the number of the page that was left along."""
    fill(store, seeds=1)
    app = visit("layers", tour="5")
    assert "step 3 of 5" in words(app) and app.query_params["tour"] in ("3", ["3"])
    app = visit("runs", tour="3")
    assert "step 3 of 5" in words(app) and "Go to Layers" in links(app)
