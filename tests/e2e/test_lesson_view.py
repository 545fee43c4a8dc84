"""A lesson in front of a room: text, question and figure of each step on one screen, arrow keys between the steps."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from kdcore.runs.example import open_study
from kdcore.store import open_store
from pages.parts.learn.lesson_address import address, runs_of
from pages.parts.learn.lessons import lessons

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)
READY = "[data-testid=stApp][data-test-script-state=notRunning]"


@pytest.fixture(scope="module")
def frame(server: Any) -> Any:
    """The runs of the study that comes with the program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_CACHE_DIR", str(server.cache))
        store = open_store(f"sqlite:///{server.cache / 'runs.db'}")
        open_study(store)
        return store.runs(include_archived=True)


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def _path(key: str, number: int, frame: Any) -> str:
    from urllib.parse import urlencode

    page, query = address(key, number, runs_of(lessons()[key], frame))
    return f"{page.removeprefix('pages/').removesuffix('.py')}?{urlencode(query | {'present': 'true'})}"


def _in_view(page: Any, selector: str, width: int, height: int) -> None:
    page.wait_for_function(
        "([selector, width, height]) => { const found = document.querySelector(selector); if (!found) return false;"
        " const box = found.getBoundingClientRect(); return box.width > 50 && box.top >= 0 && box.left >= 0"
        " && box.right <= width && box.bottom <= height }",
        arg=[selector, width, height],
        timeout=1000 * PATIENCE,
    )


@pytest.mark.parametrize("key", lessons())
def test_figure_and_question_of_each_step_are_on_the_screen(
    key: str, open_page: Callable[..., Any], frame: Any
) -> None:
    page = open_page("learn?part=Lessons", width=1920)
    page.set_viewport_size({"width": 1920, "height": 1080})
    home = page.url.split("/learn")[0]
    by_name = runs_of(lessons()[key], frame)
    for number, step in enumerate(lessons()[key].steps, start=1):
        assert all(by_name[name] for name in step.names), "the study has a run of each"
        page.goto(f"{home}/{_path(key, number, frame)}")
        _expect(page.locator(".st-key-lesson_bar")).to_contain_text(step.question[:30])
        _in_view(page, ".st-key-lesson_question", 1920, 1080)
        _in_view(page, f".st-key-{step.figure}", 1920, 1080)
        _expect(page.get_by_test_id("stSidebar")).to_be_hidden()
        _expect(page.locator(".st-key-lesson_question p").first).to_have_css("font-size", "22px")


def test_arrow_keys_go_through_the_steps_and_stay_in_present_mode(open_page: Callable[..., Any], frame: Any) -> None:
    page = open_page(_path("soft-targets", 1, frame))
    bar = page.locator(".st-key-lesson_bar")
    _expect(bar).to_contain_text("step 1 of")
    _expect(page.locator(".st-key-lesson_next a").first).to_be_visible()
    page.wait_for_function("window.kdLessonKeys", timeout=1000 * PATIENCE)
    page.keyboard.press("ArrowRight")
    _expect(bar).to_contain_text("step 2 of")
    page.wait_for_url(re.compile("present=true"))
    _expect(page.locator(READY)).to_be_attached()
    _expect(page.locator(".st-key-lesson_previous a").first).to_be_visible()
    page.keyboard.press("ArrowLeft")
    _expect(bar).to_contain_text("step 1 of")


def test_an_arrow_key_in_a_slider_moves_the_slider(open_page: Callable[..., Any], frame: Any) -> None:
    page = open_page(_path("soft-targets", 3, frame))
    thumb = page.locator(".st-key-T").get_by_role("slider")
    _expect(thumb).to_have_value("5")
    thumb.focus()
    page.keyboard.press("ArrowRight")
    _expect(thumb).to_have_value("5.5")
    _expect(page.locator(".st-key-lesson_bar")).to_contain_text("step 3 of")
