"""Learn and its lessons in a browser: pictures, formulas, a temperature, and steps that lead over pages."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kdcore.methods.catalog import catalog
from kdcore.store import open_store
from tests.helpers.store_factory import add, run_config

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)


@pytest.fixture(scope="module")
def runs(server: Any) -> dict[str, str]:
    """Written before the first visit, with the answers on four rows; none of Patient KD."""
    store = open_store(f"sqlite:///{server.cache / 'runs.db'}")
    made = {method: add(store, run_config(method)) for method in ("fine-tune", "kd", "skd")}
    answers = {
        "student": [[3.0, -1.0], [0.0, 0.5], [2.5, 1.0], [0.1, 0.0]],
        "large": [[4, -4], [0.2, 0], [1, 3], [2, 0]],
    }
    for method in ("kd", "skd"):
        folder = server.cache / "runs" / made[method] / "predictions"
        folder.mkdir(parents=True)
        for name, logits in answers.items():
            np.savez(folder / f"validation.{name}.npz", logits=np.array(logits, np.float32),
                     labels=np.array([0, 1, 1, 0]), ids=np.arange(4))  # fmt: skip
    return made


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def test_a_method_is_chosen_and_kept_in_the_address(open_page: Callable[..., Any], runs: dict[str, str]) -> None:
    page = open_page("learn?method=pkd")
    _expect(page.get_by_role("heading", name="Patient KD")).to_be_visible()
    _expect(page.locator(".st-key-learn_equation .katex").first).to_be_visible()
    _expect(page.locator(".st-key-learn_picture svg.main-svg").first).to_be_visible()
    words = " ".join(page.locator(".st-key-learn_picture svg text").all_text_contents())
    assert "[CLS] states" in words and "classifier" in words
    box = page.locator(".st-key-learn_method input")
    box.click()
    box.fill("Stochastic")
    page.get_by_role("option", name=re.compile("Stochastic")).first.click()
    _expect(page.get_by_role("heading", name="Stochastic KD")).to_be_visible()
    page.wait_for_url("**/learn?*method=skd*")
    _expect(page.locator(".st-key-learn_0_equation")).to_contain_text("soft")


def test_the_temperature_moves_the_numbers_and_the_address(open_page: Callable[..., Any], runs: dict[str, str]) -> None:
    page = open_page(f"learn?part=Temperature&job={runs['kd']}&T=4")
    values = page.locator(".st-key-learn_values")
    _expect(values).to_contain_text("T² · KL")
    before = values.inner_text()
    thumb = page.locator(".st-key-T").get_by_role("slider")
    _expect(thumb).to_have_value("4")
    thumb.focus()
    page.keyboard.press("ArrowRight")
    _expect(thumb).to_have_value("4.5")
    page.wait_for_url("**T=4.5*")
    page.wait_for_function("before => document.querySelector('.st-key-learn_values').innerText !== before", arg=before)
    _expect(page.locator(".st-key-learn_bars svg.main-svg").first).to_be_visible()


def test_a_lesson_leads_over_pages_and_hides_what_would_distract(
    open_page: Callable[..., Any], runs: dict[str, str]
) -> None:
    page = open_page("learn?part=Lessons")
    bar = page.locator(".st-key-lesson_bar")
    page.locator(".st-key-lesson_links_soft-targets").get_by_role("link").click()
    _expect(bar).to_contain_text("step 1 of 5")
    _expect(page.get_by_role("heading", name="KD", exact=True)).to_be_visible()
    for number, temperature in ((2, "1"), (3, "5")):  # on the same page: the address and the slider follow all the same
        bar.get_by_role("link", name="Next").click()
        _expect(bar).to_contain_text(f"step {number} of 5")
        _expect(page.locator(".st-key-T").get_by_role("slider")).to_have_value(temperature)
        page.wait_for_url(re.compile(rf"step={number}\b"))
        _expect(page.locator(".st-key-learn_source")).to_be_hidden()
    bar.get_by_role("link", name="Next").click()
    page.wait_for_url(f"**/live?*job={runs['kd']}*")
    _expect(bar).to_contain_text("step 4 of 5")
    _expect(page.locator(".st-key-live_run")).to_be_hidden()
    _expect(page.locator(".st-key-live_equation")).to_contain_text("hard")
    bar.get_by_text("What to look for").click()
    _expect(bar.get_by_text("A large share is no proof")).to_be_visible()

    again = open_page(page.url.split("/", 3)[3])  # the address alone brings the step back
    _expect(again.locator(".st-key-lesson_bar")).to_contain_text("step 4 of 5")
    _expect(again.locator(".st-key-live_run")).to_be_hidden()

    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Runs").click()
    _expect(page.get_by_role("heading", name="Runs", level=1)).to_be_visible()
    _expect(bar).to_have_count(0)


def test_a_lesson_says_what_is_missing(open_page: Callable[..., Any], runs: dict[str, str]) -> None:
    page = open_page("learn?lesson=patient-layers&step=1&method=pkd&part=Methods")
    bar = page.locator(".st-key-lesson_bar")
    _expect(bar).to_contain_text("needs a finished run of Patient KD")
    _expect(bar.get_by_role("button", name="Queue this lesson's own 4 runs")).to_be_enabled()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_scrolls_sideways(open_page: Callable[..., Any], runs: dict[str, str], dark: bool, width: int) -> None:
    page = open_page("learn?method=tinybert", dark=dark, width=width)
    home = page.url.split("/learn")[0]
    for path in ("learn?method=kd", "learn?part=Temperature", "learn?part=Lessons", "runs?lesson=one-or-many&step=4"):
        page.goto(f"{home}/{path}")
        _expect(page.locator("h1, .st-key-lesson_bar").first).to_be_visible()  # a lesson stands in the title's place
        _expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_attached()
        sizes = page.evaluate(
            "() => { const main = document.querySelector('[data-testid=stMain]');"
            " return [main.scrollWidth, main.clientWidth, document.documentElement.scrollWidth, window.innerWidth] }"
        )
        assert sizes[0] <= sizes[1] and sizes[2] <= sizes[3], (path, sizes)
        assert page.get_by_test_id("stException").count() == 0, path


def test_the_formula_of_every_method_is_set(open_page: Callable[..., Any], runs: dict[str, str]) -> None:
    page = open_page("learn?method=kd", width=1920)
    box, formula = page.locator(".st-key-learn_method input"), page.locator(".st-key-learn_formula")
    for key, method in catalog().items():
        box.click()
        box.fill(method.title)
        page.get_by_role("option", name=re.compile(rf"· {re.escape(method.title)}( ·|$)")).first.click()
        page.wait_for_url(re.compile(rf"method={key}(&|$)"))
        _expect(page.get_by_role("heading", name=method.title, exact=True)).to_be_visible()
        _expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_attached()
        _expect(formula.locator(".katex-display")).to_be_visible()
        assert formula.locator(".katex-error").count() == 0 and "\\" not in formula.inner_text(), key
        wide = formula.evaluate("found => found.scrollWidth - found.clientWidth")
        assert wide <= 0, f"{key}: {wide} px do not fit a lecture hall's screen"
