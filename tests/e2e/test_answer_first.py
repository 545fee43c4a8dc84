"""What a page is for stands on its first screen, no page is endless, and one press of Back goes back one page.

Measured in pixels over the example that comes with the program, on a screen of 1280 x 800.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from kdcore.runs import example
from kdcore.search import record
from kdcore.store import Store, open_store
from pages.parts.common.menu import PAGES

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)

SCREEN = {"width": 1280, "height": 800}
LONGEST = 2400
TEXTS = ("learn", "system")
"""Pages that may be longer: one is read, the other rarely looked at."""
ANSWERS = {
    "": ".st-key-start_demo, .st-key-start_example",
    "launch": ".st-key-launch_go",
    "live": ".st-key-run_tiles",
    "runs": "[data-testid=stDataFrame]",
    "compare": ".st-key-compare_answer",
    "speed": ".st-key-speed_answer",
    "layers": ".st-key-layers_cka .kd-plot-figure",
    "attention": ".kd-plot-figure",
    "examples": ".st-key-examples_fates",
    "beyond": ".st-key-beyond_answer",
    "lost": ".st-key-lost_answer",
    "learn": ".st-key-method_equation, .katex",
    "system": "[data-testid=stMain] h3",
}
"""Page -> what it is for."""
PART = {"attention": 0.2, "layers": 0.9, "runs": 0.9}
"""How much of it must be seen where not all of it is: of a map its first rows show the pattern."""
HEIGHT = "document.querySelector('[data-testid=stMain]').scrollHeight"


@pytest.fixture(scope="module")
def store(server: Any) -> Store:
    return open_store(f"sqlite:///{server.cache / 'runs.db'}")


@pytest.fixture
def opened(store: Store, server: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The example in the server's store."""
    monkeypatch.setenv("KD_CACHE_DIR", str(server.cache))
    return example.open_study(store)


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def _still(page: Any) -> None:
    _expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_attached()


@pytest.mark.parametrize("path", ANSWERS)
def test_the_answer_is_on_the_first_screen_and_the_page_has_an_end(
    path: str, opened: list[str], visit: Callable[..., Any]
) -> None:
    page = visit(path)
    page.set_viewport_size(SCREEN)
    answer = page.locator(ANSWERS[path]).first
    _expect(answer).to_be_visible()
    _still(page)
    box = answer.bounding_box()
    seen = min(box["y"] + box["height"], SCREEN["height"]) - box["y"]
    assert seen >= PART.get(path, 1.0) * box["height"], (path, box)
    assert page.locator("h1").bounding_box()["y"] < 80, "the title stands at the top"
    assert path in TEXTS or page.evaluate(HEIGHT) < LONGEST, path


@pytest.mark.parametrize("tab", ["Scores", "Curves", "Race", "Settings", "Report"])
def test_no_part_of_compare_is_endless(tab: str, opened: list[str], visit: Callable[..., Any]) -> None:
    page = visit(f"compare?runs={','.join(opened)}&tab={tab}")
    page.set_viewport_size(SCREEN)
    _expect(page.locator(ANSWERS["compare"])).to_contain_text("ahead of")
    _still(page)
    assert page.evaluate(HEIGHT) < LONGEST


def test_the_trials_of_a_search_have_an_end(
    opened: list[str], server: Any, visit: Callable[..., Any], insist: Any
) -> None:
    trials: list[dict[str, Any]] = [
        {"number": number, "state": "complete", "size": f"{number} layers", "start": "first layers of the teacher",
         "method": "kd", "options": {}, "predicted": 60.0, "reused": False, "run": run}
        for number, run in enumerate(opened)
    ]  # fmt: skip
    costs = {trial["size"]: {"parameters": 1000 + trial["number"], "disk_mib": 1.0} for trial in trials}
    question = {"name": "fast", "run": {"task": "pocket-sentiment"}, "bound": {"parameters": 1e6}, "minutes": 5.0}
    record.folder_of("fast").mkdir(exist_ok=True)
    record.write("fast", record.SearchRecord(question, costs, trials=trials, chosen=0, seeds=opened[:1]))
    page = visit("speed?search=fast")
    page.set_viewport_size(SCREEN)
    _expect(page.locator(".st-key-speed_search_answer")).to_be_visible()
    for part in ("Plot", "Table"):
        tab = page.get_by_role("tab", name=part)
        if part == "Plot":
            insist(page.locator(".st-key-speed_search_open label").click, tab)
        tab.click()
        _still(page)
        assert page.evaluate(HEIGHT) < LONGEST, part


def test_one_press_of_back_goes_back_one_page(opened: list[str], open_page: Callable[..., Any]) -> None:
    page = open_page("")
    page.set_viewport_size(SCREEN)
    menu = page.get_by_test_id("stSidebarNav")
    for key in ("compare", "layers", "attention", "live"):
        menu.get_by_role("link", name=PAGES[key][0], exact=True).click()
        page.wait_for_url(re.compile(rf"/{key}\?"))
        _still(page)
    for key in ("attention", "layers", "compare"):
        page.go_back()
        _expect(page).to_have_url(re.compile(rf"/{key}\?"))
        _expect(page.get_by_role("heading", name=PAGES[key][0], level=1)).to_be_visible()


def test_the_pages_of_a_run_are_tabs_of_it(opened: list[str], open_page: Callable[..., Any]) -> None:
    run = next(run for run in opened if run.startswith("kd-"))
    page = open_page(f"live?job={run}")
    for title, key in (
        ("Layers", "layers"),
        ("Attention", "attention"),
        ("Examples", "examples"),
        ("What was lost", "lost"),
        ("Overview", "live"),
    ):
        page.locator(".st-key-run_tabs").get_by_role("link", name=title).click()
        _expect(page).to_have_url(re.compile(rf"/{key}\?.*job={run}"))
        _expect(page.locator(".st-key-run_tabs").get_by_role("link", name=title)).to_be_visible()
        _still(page)


def test_the_open_part_and_its_controls_survive_a_reload(opened: list[str], open_page: Callable[..., Any]) -> None:
    page = open_page(f"compare?runs={','.join(opened)}")
    _expect(page.locator(ANSWERS["compare"])).to_be_visible()
    page.locator(".st-key-compare_tab").get_by_text("Race").click()
    _expect(page.locator(".st-key-compare_race")).to_be_visible()
    _expect(page).to_have_url(re.compile("tab=Race"))
    page.locator(".st-key-clock").get_by_text("Training time").click()
    _expect(page).to_have_url(re.compile("clock="))
    page.reload()
    _expect(page.locator(".st-key-compare_race .kd-replay-now")).to_contain_text(re.compile(r"\d s"))
