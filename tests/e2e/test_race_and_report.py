"""The race of two runs, played in the browser, and the report that opens without a server. No run is trained."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdcore.store import open_store
from tests.helpers.store_factory import add, run_config

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(10 * PATIENCE)

RACE = ".st-key-compare_race"
DRAWN = f"document.querySelector('{RACE} .kd-plot-figure')"
POINTS = f"{DRAWN}.data.filter(trace => trace.meta === 'race line').map(trace => trace.x.length)"


@pytest.fixture(scope="module")
def link(server: Any) -> str:
    """Compare, on two runs of one seed."""
    store = open_store(f"sqlite:///{server.cache / 'runs.db'}")
    made = [add(store, run_config(method), score=score) for method, score in (("kd", 0.8), ("fine-tune", 0.7))]
    return f"compare?runs={','.join(made)}"


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def test_the_race_is_played_in_the_browser(open_page: Callable[..., Any], browser: Any, link: str) -> None:
    calm = open_page(f"{link}&tab=Race")
    words, slider = calm.locator(f"{RACE} .kd-replay-words"), calm.locator(f"{RACE} .kd-replay-clock")
    _expect(words).to_contain_text("KD is ahead at the end by 9.5")
    _expect(calm.locator(f"{RACE} .kd-replay-play")).to_be_hidden()  # the browser asks for no motion
    slider.focus()
    calm.keyboard.press("Home")
    _expect(words).to_have_text("No score yet.")
    calm.wait_for_function(f"() => {POINTS}.every(points => points < 3)")
    assert "step 0" in (slider.get_attribute("aria-valuetext") or "")
    calm.keyboard.press("End")
    calm.wait_for_function(f"() => Math.max(...{POINTS}) > 50")
    calm.close()

    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="no-preference")
    context.set_default_timeout(1000 * PATIENCE)
    page = open_page(f"{link}&tab=Race", context=context)
    words, slider = page.locator(f"{RACE} .kd-replay-words"), page.locator(f"{RACE} .kd-replay-clock")
    play = page.locator(f"{RACE} .kd-replay-play")
    _expect(words).to_contain_text("at the end")
    slider.focus()
    page.keyboard.press("Home")
    _expect(words).to_have_text("No score yet.")
    play.click()
    _expect(words).to_contain_text("KD is ahead at the end by 9.5")
    _expect(play).to_have_text("Play")
    page.wait_for_function(f"() => Math.max(...{POINTS}) > 50")
    context.close()


def test_the_report_opens_without_a_server(
    open_page: Callable[..., Any], browser: Any, link: str, tmp_path: Path
) -> None:
    page = open_page(f"{link}&tab=Report")
    button = page.get_by_role("button", name="Report (HTML)")
    with page.expect_download() as download:
        button.click()
    file = tmp_path / "report.html"
    download.value.save_as(file)
    page.close()
    for dark in (False, True):
        context = browser.new_context(color_scheme="dark" if dark else "light", offline=True)
        context.set_default_timeout(1000 * PATIENCE)
        asked: list[str] = []
        wrong: list[str] = []
        report = context.new_page()
        report.on("request", lambda call, asked=asked: asked.append(call.url))
        report.on("console", lambda message, wrong=wrong: wrong.append(message.text))
        report.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
        report.goto(file.as_uri())
        plots = "[...document.querySelectorAll('.plot')]"
        report.wait_for_function(f"() => {plots}.length > 2 && {plots}.every(plot => plot.querySelector('.main-svg'))")
        _expect(report.get_by_role("heading", level=1)).to_contain_text("Pocket sentiment")
        assert report.evaluate("() => getComputedStyle(document.body).backgroundColor") == (
            "rgb(14, 17, 23)" if dark else "rgb(255, 255, 255)"
        )
        report.locator("summary").first.click()
        _expect(report.locator("details table").first).to_be_visible()
        assert asked == [file.as_uri()] and not wrong, (asked, wrong)
        context.close()
