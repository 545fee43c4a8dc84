"""From a run to what it lost, and what Beyond compression is asked stays in its address."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from kdcore.runs import example
from kdcore.store import open_store

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)


@pytest.fixture
def opened(server: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The example in the server's store."""
    monkeypatch.setenv("KD_CACHE_DIR", str(server.cache))
    return example.open_study(open_store(f"sqlite:///{server.cache / 'runs.db'}"))


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def test_from_a_run_to_its_losses_and_on_to_all_methods(opened: list[str], open_page: Callable[..., Any]) -> None:
    run = next(run for run in opened if run.startswith("kd-"))
    page = open_page(f"live?job={run}")
    page.locator(".st-key-run_tabs").get_by_role("link", name="What was lost").click()
    _expect(page.locator(".st-key-lost_answer")).to_contain_text(re.compile("teacher"))
    _expect(page).to_have_url(re.compile(rf"/lost\?.*job={run}"))
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Beyond compression", exact=True).click()
    _expect(page.locator(".st-key-beyond_answer")).to_contain_text("only undamaged runs")
    page.locator(".st-key-quality").get_by_text("ECE", exact=True).click()
    _expect(page).to_have_url(re.compile("quality=ECE"))
    page.reload()
    _expect(page.locator(".st-key-beyond_answer")).to_contain_text("ECE (%), dev split")
