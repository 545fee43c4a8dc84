"""List boxes of runs stand still while runs train; the limit of open files; dead runs on a read-only dashboard."""

import resource
from typing import Any

import pytest
from sqlalchemy import text

from kdcore.store import Store, open_store
from pages.parts.common import run_picker
from pages.parts.common.file_limit import raise_file_limit
from pages.parts.common.read_only import guarded
from pages.parts.common.run_labels import run_label
from tests.helpers.store_factory import add, run_config


@pytest.fixture
def store() -> Store:
    return open_store()


def test_label_of_a_run_does_not_change_while_it_trains(store: Store) -> None:
    run = add(store, run_config("kd"), end="running")
    labels = set()
    for state in ("starting", "running"):
        store.set_state(run, state)
        row = store.runs().iloc[0]
        labels |= {run_label(row)}
    assert len(labels) == 1 and "ago" not in labels.pop()


def test_label_taken_for_an_id_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    session: dict[str, Any] = {"box": "a · running · 1 min 22 s ago", "boxes": ["a", "b · done"]}
    taken: list[Any] = []
    monkeypatch.setattr(run_picker.st, "session_state", session)
    monkeypatch.setattr(run_picker, "remember", taken.append)
    monkeypatch.setattr(run_picker, "remember_many", taken.append)
    run_picker._pick("box", ["a", "b"])
    run_picker._pick_many("boxes", ["a", "b"])
    assert taken == [["a"]]


def test_soft_limit_of_open_files_is_raised_and_never_lowered() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        raise_file_limit(512)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 512
        raise_file_limit(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_read_only_dashboard_sees_a_dead_run_and_writes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_READ_ONLY", "1")
    run = store.add_run(run_config("kd"))
    store.claim("w", "cpu", run)
    seen = guarded(store)
    assert seen.get(run).state == "starting"
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET process_started = '1'"))
    assert seen.get(run).state == seen.rows([run])[run].state == "interrupted"
    assert list(seen.runs().state) == ["interrupted"] and seen.runs(states=["running", "starting"]).empty
    assert list(seen.runs(states=["interrupted"]).id) == [run]
    assert store.get(run).state == "starting"
