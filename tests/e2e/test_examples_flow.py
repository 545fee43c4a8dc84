"""Examples and System in the browser: a cell of the matrix is its list, and what is freed was confirmed."""

from __future__ import annotations

import csv
import os
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from kdcore.config import RunConfig
from kdcore.store import Store, open_store

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)

STUDENT = {"layers": 1, "width": 16, "heads": 2, "init": "random"}
TRAIN = {"epochs": 1, "lr": 1e-3, "max_length": 32, "threads": 1}
FATES = ("both right", "lost", "gained", "both wrong")


@pytest.fixture(scope="module")
def run(server: Any, browser: Any) -> str:
    """A student that learned from an earlier student, so that nothing large is trained."""
    visit = browser.new_page()  # the worker starts with the first visit
    visit.goto(server.url)
    visit.get_by_role("heading", level=1).wait_for(timeout=1000 * PATIENCE)
    visit.close()
    store = open_store(f"sqlite:///{server.cache / 'runs.db'}")
    settings = {"task": "pocket-sentiment", "student": STUDENT, "train": TRAIN}
    first = _trained(store, settings | {"name": "earlier", "method": "fine-tune"})
    teacher = {"name": "earlier", "source": "run", "where": first}
    return _trained(store, settings | {"name": "distilled", "method": "kd", "teachers": [teacher]})


def _trained(store: Store, settings: dict[str, Any]) -> str:
    run = store.add_run(RunConfig.model_validate(settings | {"probes": {"latency": False}}))
    until = time.monotonic() + 3 * PATIENCE
    while store.get(run).state not in ("done", "failed"):
        assert time.monotonic() < until, "the run did not end"
        time.sleep(0.2)
    assert store.get(run).state == "done", store.get(run).detail
    return run


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def _click_cell(matrix: Any, down: int, across: int) -> None:
    """Clicks one of the four cells where it is now."""
    area = matrix.locator(".nsewdrag").first.bounding_box()
    x, y = area["x"] + area["width"] * (0.25 + across / 2), area["y"] + area["height"] * (0.25 + down / 2)
    matrix.page.mouse.move(x, y - 3)
    matrix.page.mouse.click(x, y)


def test_a_cell_and_its_list_are_the_same_rows(open_page: Callable[..., Any], run: str, insist: Any) -> None:
    page = open_page(f"examples?runs={run}")
    matrix = page.locator(".st-key-examples_fates .kd-plot-figure")
    _expect(matrix.locator(".main-svg").first).to_be_visible()
    cells = matrix.evaluate("plot => plot.data[0].text.flat()")  # such as <b>1,024</b><br>both right
    counts = [int(re.sub(r"\D", "", cell)) for cell in cells]
    assert sum(counts) == 1000
    for fate, count, (down, across) in zip(FATES, counts, [(0, 0), (0, 1), (1, 0), (1, 1)], strict=True):
        if fate == "lost":
            continue  # listed at the start: a click would change nothing
        title = page.get_by_role("heading", name=re.compile(f"^{fate}", re.IGNORECASE))
        insist(partial(_click_cell, matrix, down, across), title)
        _expect(title).to_contain_text(f"{count:,} row")
    rows = -1
    for _ in range(5):  # the heading is there a moment before the button has the rows below it
        with page.expect_download() as download:
            page.locator(".st-key-examples_csv").get_by_role("button").click()
        with open(download.value.path(), encoding="utf-8", newline="") as file:
            rows = len(list(csv.DictReader(file)))
        if rows == counts[-1]:
            break
    assert rows == counts[-1]
    assert "fate=Both+wrong" in page.url

    page.locator(".st-key-examples_copy").get_by_role("button").click()
    _expect(page.locator(".st-key-examples_asked .main-svg").first).to_be_visible()
    page.locator(".st-key-examples_attention").get_by_role("button").click()
    _expect(page.get_by_role("heading", name="Attention", level=1)).to_be_visible()
    assert page.url.endswith(run)


def test_teacher_outputs_are_freed_on_the_second_click(open_page: Callable[..., Any], run: str, server: Any) -> None:
    outputs = server.cache / "outputs"
    assert list(outputs.glob("*/*.values"))
    page = open_page("system")
    _expect(page.get_by_text("Nothing is training and nothing is waiting")).to_be_visible()
    page.locator(".st-key-system_free").get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    _expect(dialog).to_contain_text("no result changes")
    assert list(outputs.glob("*/*.values"))
    dialog.locator(".st-key-system_yes").get_by_role("button").click()
    _expect(dialog).to_have_count(0)
    assert not list(outputs.glob("*/*.values"))
