"""Read-only mode: nothing on any page changes the store, and what would is not there."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdcore.errors import UserError
from kdcore.store import Store
from kdcore.store.tables import metadata
from pages.parts.common.read_only import NOTICE, READS, ReadOnlyProxy, guarded, read_only
from tests.helpers.store_factory import PAGES, add, fill, run_config, words

ROOT = Path(__file__).resolve().parents[2]
OFFERS = [name for name, _ in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")]


@pytest.fixture(autouse=True)
def classroom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_READ_ONLY", "1")


def _content(store: Any) -> dict[str, list[Any]]:
    """Every row of every table."""
    with store.engine.connect() as connection:
        return {table.name: sorted(map(repr, connection.execute(table.select()))) for table in metadata.sorted_tables}


@pytest.mark.parametrize(("value", "on"), [("1", True), ("true", True), (" YES ", True), ("0", False), ("", False)])
def test_the_switch(value: str, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_READ_ONLY", value)
    assert read_only() is on
    monkeypatch.delenv("KD_READ_ONLY")
    assert read_only() is False


def test_what_reads_is_passed_on_and_all_else_refused(store: Any) -> None:
    run = add(store, run_config("kd"))
    only = guarded(store)
    assert isinstance(only, ReadOnlyProxy) and set(READS) < set(OFFERS)
    assert only.get(run).name == "kd seed 0" and len(only.runs()) == 1 and len(only.metrics([run]))
    before = _content(store)
    for name in set(OFFERS) - READS:
        with pytest.raises(UserError, match="read-only"):
            getattr(only, name)(run)
    with pytest.raises(UserError, match="read-only"):
        only.submit(run_config("kd"))  # type: ignore[attr-defined]  # the worker's word
    assert _content(store) == before


def test_what_counts_as_reading_writes_nothing(store: Any) -> None:
    run = add(store, run_config("kd"), end="running")
    before = _content(store)
    of_one = ("get", "metrics", "points", "quantities", "evaluated", "evaluations", "probes", "stop_requested")
    of_many = ("rows", "settings", "probes_of")
    of_all = ("runs", "busy", "abandoned", "waiting")
    asked: dict[str, list[Any]] = {"find": [["x"]], **{name: [] for name in of_all}}
    asked |= {name: [run] for name in of_one} | {name: [[run]] for name in of_many}
    assert set(asked) == set(READS)
    for name, words_ in asked.items():
        getattr(store, name)(*words_)
    assert _content(store) == before


@pytest.mark.parametrize("page", PAGES)
def test_no_button_of_any_page_changes_anything(page: str, store: Any, visit: Callable[..., Any]) -> None:
    from kdcore.runs.worker import jobs

    made = fill(store, seeds=1)
    running = add(store, run_config("kd", 7), end="running")
    before = _content(store)
    for run in (made[-1], running, made[-2], made[1]):
        app = visit(page, job=run, runs=",".join(made))
        assert not app.exception and NOTICE in words(app)
        for key in [button.key for button in app.button if not button.disabled]:
            again = visit(page, job=run, runs=",".join(made))
            again.button(key=key).click().run()
            assert not again.exception
            assert _content(store) == before, key
    assert jobs().started == 0, "no worker runs"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("page", "gone"),
    [
        ("start", {"start_demo", "start_example"}),
        ("launch", {"launch_go"}),
        ("live", {"live_stop", "live_resume", "live_discard"}),
        ("runs", {"runs_delete", "runs_archive", "runs_edit", "runs_resume", "runs_clone"}),
    ],
)
def test_what_would_change_something_is_not_there(
    page: str, gone: set[str], store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fill(store, seeds=1)
    shown = {button.key for button in visit(page, job=made[-2]).button}
    assert not shown & gone and not any(str(key).startswith(("up_", "cancel_")) for key in shown)
    if page == "launch":
        assert "Nothing can be launched here" in words(visit(page))


def test_a_click_that_comes_all_the_same_is_refused(store: Any, visit: Callable[..., Any], monkeypatch: Any) -> None:
    """A page that was opened before the switch still has its buttons."""
    run = add(store, run_config("kd"), end="running")
    monkeypatch.delenv("KD_READ_ONLY")
    app = visit("live", job=run)
    monkeypatch.setenv("KD_READ_ONLY", "1")
    app.button(key="live_stop").click().run()
    assert store.stop_requested(run) is None and not app.exception
    monkeypatch.delenv("KD_READ_ONLY")
    app = visit("start")
    monkeypatch.setenv("KD_READ_ONLY", "1")
    app.button(key="start_demo").click().run()
    assert len(store.runs()) == 1 and not app.exception


def test_a_lesson_shows_the_shipped_runs_and_offers_no_queue(store: Any, visit: Callable[..., Any]) -> None:
    """An empty store lends the example, so that a class has all that a lesson needs."""
    app = visit("live", lesson="soft-targets", step="4")
    assert not app.exception and "This step needs" not in words(app) and "Scores" in words(app)
    assert not [button for button in app.button if str(button.key).startswith("lesson_queue")]


def _calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_there_is_one_door_to_the_store_and_one_to_the_worker() -> None:
    """What does not come through them would not be guarded."""
    doors = {"kdcore.store.open_store": "run_picker.py", "kdcore.runs.worker.jobs": "sidebar.py"}
    for path in [ROOT / "app.py", *(ROOT / "pages").rglob("*.py")]:
        for name in _calls(path):
            assert doors.get(name, path.name) == path.name, f"{path.name} imports {name}"
            assert not name.startswith(("kdcore.store.store", "kdcore.store.database", "kdcore.runs.bundle")), path.name
