"""A person's own method in the browser: chosen with its form, trained, and compared with a shipped one."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kdcore.store import UNFINISHED, Store, open_store
from tests.helpers import own_method, pocket_teachers

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)


@pytest.fixture(scope="module", autouse=True)
def folder_of_methods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the person named when the dashboard was started."""
    file = own_method.write(tmp_path_factory.mktemp("methods"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_METHODS_DIR", str(file.parent))
        yield


@pytest.fixture
def store(server: Any) -> Store:
    return open_store(f"sqlite:///{server.cache / 'runs.db'}")


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def _until_done(store: Store) -> None:
    until = time.monotonic() + 5 * PATIENCE
    while not store.runs(states=UNFINISHED).empty:
        assert time.monotonic() < until, "the runs do not end"
        time.sleep(0.5)
    assert set(store.runs()["state"]) == {"done"}


def test_it_is_launched_from_its_form_and_compared_with_pkd(
    open_page: Callable[..., Any], server: Any, store: Store
) -> None:
    pocket_teachers.put_into(server.cache)
    page = open_page("launch")
    box = page.locator(".st-key-launch-method input")
    box.click()
    box.fill("Angle")
    page.get_by_role("option", name=re.compile("Angle KD")).first.click()
    badge = page.get_by_text("from outside: angle_kd.py").first
    _expect(badge).to_be_visible()
    beta = page.locator(".st-key-launch-options-angle-kd-beta input")
    beta.fill("2")
    beta.press("Enter")
    epochs = page.locator(".st-key-launch-train-epochs input")
    epochs.fill("1")
    epochs.press("Enter")
    start = page.locator(".st-key-launch_go").get_by_role("button")
    _expect(page.get_by_test_id("stMetric").filter(has_text="Steps")).to_be_visible()
    _expect(start).to_be_enabled()
    start.click()
    page.wait_for_url("**/live?job=*")
    _expect(page.locator(".st-key-live_head")).to_contain_text("from outside: angle_kd.py")
    mine = store.runs().iloc[0]["id"]
    settings = store.get(mine).config
    assert settings.method == own_method.KEY and settings.options["beta"] == 2.0
    shipped = {"method": "pkd", "options": {}, "method_source": None, "name": ""}
    pkd = store.add_run(settings.model_copy(update=shipped))
    _until_done(store)
    page = open_page(f"compare?runs={mine},{pkd}")
    _expect(page.get_by_text("from outside: angle_kd.py").first).to_be_visible()
    _expect(page.get_by_text("Angle KD").first).to_be_attached()
    names = "document.querySelector('.kd-plot-figure')?._fullLayout?.yaxis.ticktext?.join()"
    page.wait_for_function(f"() => {names}?.includes('Angle KD') && {names}.includes('Patient KD')")
