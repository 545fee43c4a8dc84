"""Several tasks and domains: what New run offers, what Running and Learn say."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from kdcore.engine.preflight import Report
from pages.parts.common import cached
from tests.helpers.store_factory import add, run_config, words


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks and forecast without reading any model."""
    guess: Any = SimpleNamespace(
        seconds=61.0, teacher_seconds=9.0, memory_bytes=3e8, disk_bytes=1e6, steps=700, basis="one layer timed"
    )
    monkeypatch.setattr(cached, "preflight", lambda settings: Report((), guess))


def settings(app: Any) -> dict[str, Any]:
    return yaml.safe_load(next(code.value for code in app.code if code.language == "yaml"))


def test_other_tasks_are_offered_where_the_method_learns_them(visit: Callable[..., Any]) -> None:
    app = visit("launch", method="kd")
    app.selectbox(key="launch.task").set_value("pocket-entailment").run()
    assert not [box for box in app.multiselect if box.key == "launch.also"]
    assert settings(app)["also"] == []
    app.selectbox(key="launch.method").set_value("mkd").run()
    box = app.multiselect(key="launch.also")
    assert len(box.options) == 5 and all("entailment" not in option for option in box.options)
    box.set_value(["pocket-similarity", "pocket-paraphrase"]).run()
    assert not app.exception and settings(app)["also"] == ["pocket-similarity", "pocket-paraphrase"]
    app.selectbox(key="launch.task").set_value("pocket-paraphrase").run()
    assert settings(app)["also"] == ["pocket-similarity"], "it cannot be its own task too"
    app.selectbox(key="launch.method").set_value("kd").run()
    assert settings(app)["also"] == []


def test_a_clone_brings_its_tasks_and_running_says_them(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("mkd", task="pocket-entailment", also=["pocket-similarity"]), end="queued")
    assert "learns also Pocket similarity" in words(visit("live", job=run))
    app = visit("launch", clone=run)
    assert app.multiselect(key="launch.also").value == ["pocket-similarity"]


def test_an_own_table_can_name_a_column_of_domains(visit: Callable[..., Any]) -> None:
    app = visit("launch")
    app.selectbox(key="launch.task").set_value("own").run()
    for name, value in {"path": "/tmp/none.csv", "text": "text", "label": "label", "domain": "where"}.items():
        app.text_input(key=f"launch.own.{name}").set_value(value)
    app.run()
    assert settings(app)["own"]["domain"] == "where"


@pytest.mark.parametrize(("method", "said"), [("mkd", "Other tasks"), ("meta-kd", "Domains")])
def test_learn_says_which_tasks_and_domains_it_takes(method: str, said: str, visit: Callable[..., Any]) -> None:
    text = words(visit("learn", method=method))
    assert said in text and ("on all tasks" in text) == (method == "mkd")
