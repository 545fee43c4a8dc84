"""From a finished method to the same without one of its parts, with one click, and what that part brings. Nothing is
trained: the runs that the click queues are cancelled at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from kdcore.store import Store, open_store
from tests.helpers.store_factory import add, run_config

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(10 * PATIENCE)
WHOLE = {"alpha": 0.5, "temperature": 10.0, "beta": 500.0}


@pytest.fixture(scope="module")
def store(server: Any) -> Store:
    return open_store(f"sqlite:///{server.cache / 'runs.db'}")


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def test_a_method_is_repeated_without_a_part_and_the_part_is_drawn(store: Store, open_page: Callable[..., Any]) -> None:
    made = [add(store, run_config("pkd", seed, options=WHOLE), score=0.80 + 0.01 * seed) for seed in range(3)]
    page = open_page(f"compare?runs={','.join(made)}")
    page.locator(".st-key-gains_repeat").get_by_role("button").click()
    page.get_by_role("button", name="without patience").click()
    _expect(page.get_by_text("3 of these runs are not finished yet")).to_be_visible()
    queued = [run for run in store.runs()["id"] if run not in made]
    configs = [store.get(run).config for run in queued]
    assert sorted(config.train.seed for config in configs) == [0, 1, 2]
    assert {config.options["beta"] for config in configs} == {0.0}
    for run in queued:
        store.request_stop(run, keep=False)

    lesser = [add(store, config, score=0.77 + 0.01 * config.train.seed) for config in configs]
    page = open_page(f"compare?runs={','.join([*made, *lesser])}")
    figure = page.locator(".st-key-gains_variants")
    _expect(figure.locator(".main-svg").first).to_be_visible()
    _expect(figure).to_contain_text("beta 0")
    _expect(figure).to_contain_text("-3.0")
