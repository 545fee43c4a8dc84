"""Attention in the browser: a sentence of one's own, the number under the cursor, the slider through the training."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from kdcore.store import open_store
from tests.helpers import model_factory as at
from tests.helpers.store_factory import add, run_config

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)

SENTENCE = "the film was very good"
TOKENS = ["[CLS]", *SENTENCE.split(), "[SEP]"]
DETAIL = ".st-key-attention_head_s .kd-plot-figure"
OVERVIEW = ".st-key-attention_heads_s .kd-plot-figure"


@pytest.fixture(scope="module")
def run(server: Any) -> str:
    """Models and moments on disk, as a run of PKD would have left them; none is trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_CACHE_DIR", str(server.cache))
        made = add(open_store(f"sqlite:///{server.cache / 'runs.db'}"), run_config("pkd"))
        at.leave(made, at.model(2, 1), {"large": at.model(4, 2)})
    return made


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def _cell(page: Any, plot: str, row: int, column: int) -> tuple[float, float]:
    """Where a cell is on the screen, now."""
    page.locator(plot).scroll_into_view_if_needed()
    x, y = page.locator(plot).evaluate(
        """(element, [row, column]) => {
            const layout = element._fullLayout, box = element.getBoundingClientRect()
            const at = (axis, value) => axis._offset + axis.l2p(value)
            return [box.left + at(layout.xaxis, column), box.top + at(layout.yaxis, row)]
        }""",
        [row, column],
    )
    return x, y


def _point(page: Any, plot: str, row: int, column: int) -> None:
    x, y = _cell(page, plot, row, column)
    page.mouse.move(x - 2, y - 2)
    page.mouse.move(x, y)


def _click(page: Any, plot: str, row: int, column: int) -> None:
    _point(page, plot, row, column)
    page.mouse.click(*_cell(page, plot, row, column))


def test_a_typed_sentence_and_the_number_under_the_cursor(open_page: Callable[..., Any], run: str, insist: Any) -> None:
    page = open_page(f"attention?job={run}")
    box = page.locator(".st-key-s input")
    box.fill(SENTENCE)
    box.press("Enter")
    _expect(page.locator(DETAIL).get_by_text("film").first).to_be_visible()
    _expect(page).to_have_url(re.compile(r"s=the(\+|%20)film"))
    third = page.get_by_text("Student head 2.2 beside")
    insist(lambda: _click(page, OVERVIEW, 2, 2), third)
    _expect(third).to_be_visible()
    expected = at.attentions(at.model(2, 1), TOKENS)[1, 1]
    row, column = 2, 5
    said = page.locator(".st-key-attention_head_s .kd-plot-readout")
    insist(lambda: _point(page, DETAIL, row, column), said.filter(has_text="film → good"))
    _expect(said).to_contain_text(f"student {expected[row, column]:.3f}")
    assert page.locator(f"{DETAIL} .hoverlayer .hovertext").count() == 0
    _expect(page).to_have_url(re.compile("layer=2"))


def test_the_slider_goes_through_the_training(open_page: Callable[..., Any], run: str) -> None:
    page = open_page(f"attention?job={run}")
    page.get_by_text("Through the training").click()
    thumb = page.locator(".st-key-moment input[type=range]")
    _expect(thumb).to_have_attribute("aria-valuetext", "60")
    numbers = f"() => JSON.stringify(document.querySelector('{DETAIL}')?.data?.[0].z)"
    page.wait_for_function(numbers)
    seen = {page.evaluate(numbers)}
    for step in ("40", "20", "0"):
        before = page.evaluate(numbers)
        thumb.press("ArrowLeft")
        _expect(page.get_by_text(f"kept in half precision at step {step}")).to_be_visible()
        page.wait_for_function(f"before => ({numbers})() !== before", arg=before)
        seen.add(page.evaluate(numbers))
    assert len(seen) == 4
    _expect(page).to_have_url(re.compile("moment=0"))
    again = open_page(page.url.split("/", 3)[3])
    _expect(again.get_by_text("kept in half precision at step 0")).to_be_visible()
    again.goto(page.url.replace("attention", "layers").replace("look=", "was="))
    _expect(again.get_by_text("at step 0, against teacher large")).to_be_visible()


def test_which_words_decide(open_page: Callable[..., Any], run: str) -> None:
    page = open_page(f"attention?job={run}&s={SENTENCE.replace(' ', '+')}")
    page.get_by_text("Which words decide").click()
    plot = ".st-key-attention_words .kd-plot-figure"
    _expect(page.locator(plot).get_by_text("film").first).to_be_visible()
    _expect(page.get_by_text("agree with a rank correlation of")).to_be_visible()
    numbers = f"() => JSON.stringify(document.querySelector('{plot}')?.data?.[0].z)"
    before = page.evaluate(numbers)
    page.locator(".st-key-attribution").get_by_role("combobox").click()
    page.get_by_role("option", name="integrated gradients").click()
    page.wait_for_function(f"before => ({numbers})() !== before", arg=before)
    _expect(page).to_have_url(re.compile("attribution=integrated"))
    after = page.evaluate(numbers)
    again = open_page(page.url.split("/", 3)[3])
    again.wait_for_function(f"after => ({numbers})() === after", arg=after)
