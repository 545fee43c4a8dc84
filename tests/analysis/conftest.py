"""Finished runs with the facts that comparisons read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from kdcore.config import RunConfig
from kdcore.events import Evaluated, RunFinished, RunStarted
from kdcore.store import Store
from tests.pages.conftest import store, visit

__all__ = ["finish", "store", "visit"]

HERE = {"kdcore": "0.2.0", "hardware": "EPYC (2 cores)", "device": "cpu"}


@pytest.fixture
def finish(store: Store) -> Callable[..., str]:
    def _finish(config: RunConfig, score: float | None, facts: Mapping[str, Any] = HERE) -> str:
        """Writes a finished run with this dev score. None: it ended without one."""
        run = store.add_run(config)
        store.claim("test", "cpu", run)
        scores = [] if score is None else [
            Evaluated("distil", 1, "select", "best", {"accuracy": score}, 40),
            Evaluated("distil", 1, "validation", "best", {"accuracy": score}, 100),
        ]  # fmt: skip
        store.record(run, [RunStarted(dict(facts)), *scores, RunFinished({"seconds": 2.0})])
        return run

    return _finish
