"""Students that the engine trained within a second, in a store of their own."""

from collections.abc import Callable
from typing import Any

import pytest

from kdcore.config import RunConfig
from kdcore.paths import run_dir
from kdcore.store import Store, open_store
from tests.helpers import tiny_task


@pytest.fixture
def store(own_cache: Any) -> Store:
    return open_store()


@pytest.fixture
def trained(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[RunConfig], str]:
    """`trained(run)`: the id of a run that is done."""
    from kdcore.data import pocket
    from kdcore.engine.trainer import train

    monkeypatch.setattr(pocket, "load", tiny_task.data)

    def go(run: RunConfig) -> str:
        run_id = store.add_run(run)
        store.record(run_id, list(train(run, run_dir(run_id))))
        return run_id

    return go


@pytest.fixture
def student(trained: Callable[[RunConfig], str]) -> str:
    """The id of a run that trained alone for a few steps."""
    return trained(tiny_task.run("fine-tune", max_steps=3))
