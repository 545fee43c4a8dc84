"""The blind guess that several runs stand beside."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from kdcore.analysis.blind_guess import guess_of_all
from kdcore.events import RunStarted
from tests.helpers.store_factory import run_config


def _begun(store: Any, method: str, guess: float | None) -> str:
    run: str = store.add_run(run_config(method))
    store.claim("written", "cpu", run)
    facts = {} if guess is None else {"blind_guess": {"select": {"accuracy": 0.6}, "validation": {"accuracy": guess}}}
    store.record(run, [RunStarted(facts)])
    return run


def _table(runs: list[str], tasks: str = "aa", metrics: str = "xx") -> pd.DataFrame:
    names = {"x": "accuracy", "y": "f1"}
    return pd.DataFrame({"id": runs, "task": list(tasks), "metric": [names[each] for each in metrics]})


def test_it_comes_from_the_runs_that_measured_it(store: Any) -> None:
    runs = [_begun(store, "fine-tune", None), _begun(store, "kd", 0.52)]
    assert guess_of_all(store, _table(runs)) == pytest.approx(0.52)


def test_older_runs_have_none(store: Any) -> None:
    runs = [_begun(store, "fine-tune", None), _begun(store, "kd", None)]
    assert guess_of_all(store, _table(runs)) is None


@pytest.mark.parametrize(("tasks", "metrics"), [("ab", "xx"), ("aa", "xy")])
def test_several_tasks_or_metrics_share_none(store: Any, tasks: str, metrics: str) -> None:
    runs = [_begun(store, "fine-tune", 0.5), _begun(store, "kd", 0.5)]
    assert guess_of_all(store, _table(runs, tasks, metrics)) is None
