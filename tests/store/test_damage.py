"""Damage and strangers: a bad cell costs one run, a bad file is named with the remedy, older schemas are brought up."""

import os
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from kdcore.errors import CorruptError, UserError
from kdcore.events import Probed, RunFinished
from kdcore.store import Store, open_store
from kdcore.store import database as database_module
from tests.helpers.databases import on_sqlite


def change(store, run, column, value):
    with store.engine.begin() as connection:
        connection.execute(text(f"UPDATE runs SET {column} = :value WHERE id = :run"), {"value": value, "run": run})


BAD_SETTINGS = ["{", "", "null", "[]", "7", '{"task": "mrpc"}', '{"task": 1, "method": []}', "\x00\x01", "[" * 100_000]


@pytest.mark.parametrize("bad", BAD_SETTINGS)
def test_run_with_damaged_settings_is_listed_with_the_reason(store, settings, database, bad):
    if "\0" in bad and database == "postgresql":
        pytest.skip("PostgreSQL stores no NUL")
    good, hurt = store.add_run(settings(0)), store.add_run(settings(1))
    change(store, hurt, "config", bad)
    frame = store.runs().set_index("id")
    assert frame.state[hurt] == "queued" and "cannot be read" in frame.reason[hurt] and frame.remedy[hurt]
    assert frame.reason[good] == "" and frame.task[good] == "mrpc"
    row = store.get(hurt)
    assert "cannot be read" in row.broken and row.reason
    with pytest.raises(CorruptError, match=hurt):
        _ = row.config
    assert store.get(good).config.train.seed == 0
    store.delete(hurt)
    assert list(store.runs().id) == [good]


@pytest.mark.parametrize("column", ["facts", "summary", "progress", "tags"])
@pytest.mark.parametrize("bad", ["{", "[1", '"text"', "3"])
def test_other_damaged_cells_are_empty(store, settings, step, column, bad):
    run = store.add_run(settings())
    change(store, run, column, bad)
    row = store.get(run)
    assert getattr(row, column) == ([] if column == "tags" else {}) and row.config.task == "mrpc"
    assert len(store.runs()) == 1
    store.record(run, [step(1)])
    assert store.get(run).progress["step"] == 1


def test_a_run_in_the_state_that_is_gone_is_listed_as_running(store, settings, tmp_path):
    """0.1.0 knew a state "evaluating" and never wrote it; a row that has it is found, listed and given back."""
    run = store.add_run(settings())
    store.claim("w", "cpu")
    change(store, run, "state", "evaluating")
    again = Store(database_module.open_engine(str(store.engine.url)))
    assert list(again.runs(states=["running"]).id) == [run] and again.get(run).active and again.busy()
    change(again, run, "lease_until", 0.0)
    change(again, run, "pid", None)
    assert again.mark_interrupted() == [run]


@on_sqlite
def test_words_in_number_columns_are_absent_numbers(store, settings):
    run = store.add_run(settings())
    for column in ("created", "score", "seconds", "parameters", "lease_until"):
        change(store, run, column, "not a number")
    row = store.runs().iloc[0]
    assert row.id == run and str(row.created) == "NaT" and row.score != row.score
    store.claim("w", "cpu")
    change(store, run, "lease_until", "not a number")
    assert store.mark_interrupted() == [run]


def test_unknown_state_is_shown_and_can_be_deleted(store, settings):
    run = store.add_run(settings())
    change(store, run, "state", "pondering")
    assert store.runs().iloc[0].state == "pondering"
    store.delete(run)
    assert store.runs().empty


def test_damaged_probe_is_left_out(store, settings):
    run = store.add_run(settings())
    store.record(run, [Probed("a", 1, {"x": 1}), Probed("b", 1, {"x": 2})])
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE probes SET data = '{' WHERE name = 'a'"))
    assert store.probes(run) == {"b": {"x": 2}}


def test_file_that_is_no_database_is_named(tmp_path: Path):
    path = tmp_path / "runs.db"
    path.write_bytes(b"this is a text, not a database, and long enough to have a header of its own" * 20)
    with pytest.raises(CorruptError) as caught:
        open_store(f"sqlite:///{path}")
    assert str(path) in caught.value.problem and "move" in caught.value.remedy
    assert path.read_bytes().startswith(b"this is a text")
    path.unlink()
    assert open_store(f"sqlite:///{path}").runs().empty  # the remedy helps


def test_database_damaged_inside_is_named(tmp_path: Path, settings):
    path = tmp_path / "runs.db"
    store = open_store(f"sqlite:///{path}")
    for seed in range(300):
        store.add_run(settings(seed))
    store.engine.dispose()
    size = path.stat().st_size
    with path.open("r+b") as file:
        for offset in range(8192, size, 4096):
            file.seek(offset)
            file.write(b"\xff" * 4096)
    with pytest.raises(CorruptError, match="cannot be read"):
        open_store(f"sqlite:///{path}").runs()


def test_database_of_another_program_is_left_alone(tmp_path: Path):
    path = tmp_path / "runs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (x)")
    with pytest.raises(CorruptError, match="another program"):
        open_store(f"sqlite:///{path}")


def test_newer_schema_is_refused(tmp_path: Path):
    path = tmp_path / "runs.db"
    store = open_store(f"sqlite:///{path}")
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE kdboard_schema SET version = 999"))
    with pytest.raises(CorruptError, match="999"):
        database_module.open_engine(f"sqlite:///{path}")


def test_older_schema_is_migrated_step_by_step(store, settings, monkeypatch):
    run = store.add_run(settings())
    done = []

    def add_column(connection):
        connection.execute(text("ALTER TABLE runs ADD COLUMN mood TEXT DEFAULT 'fine'"))
        done.append(database_module.VERSION - 2)

    monkeypatch.setattr(database_module, "MIGRATIONS", {
        database_module.VERSION: add_column, database_module.VERSION + 1: lambda connection: done.append("second"),
    })  # fmt: skip
    monkeypatch.setattr(database_module, "VERSION", database_module.VERSION + 2)
    newer = Store(database_module.open_engine(str(store.engine.url)))
    assert len(done) == 2 and done[1] == "second"
    with newer.engine.begin() as connection:
        assert connection.execute(text("SELECT mood FROM runs")).scalar() == "fine"
        assert connection.execute(text("SELECT version FROM kdboard_schema")).scalar() == database_module.VERSION
    assert list(newer.runs().id) == [run]


def test_failed_migration_changes_nothing(store, monkeypatch):
    def break_off(connection):
        connection.execute(text("ALTER TABLE runs ADD COLUMN mood TEXT"))
        raise RuntimeError("no further")

    version = database_module.VERSION
    monkeypatch.setattr(database_module, "MIGRATIONS", {version: break_off})
    monkeypatch.setattr(database_module, "VERSION", version + 1)
    with pytest.raises(RuntimeError, match="no further"):
        database_module.open_engine(str(store.engine.url))
    with store.engine.begin() as connection:
        assert connection.execute(text("SELECT version FROM kdboard_schema")).scalar() == version
        assert "mood" not in {column["name"] for column in inspect(connection).get_columns("runs")}


@on_sqlite
def test_replaced_file_is_opened_anew(store, settings):
    store.add_run(settings())
    path = database_module.database_file(str(store.engine.url))
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)
    assert open_store().runs().empty


@pytest.mark.parametrize("url", ["nonsense", "oracle+nope://x", "sqlite:////no/such/folder/runs.db"])
def test_bad_address_is_the_users_error(url):
    with pytest.raises(UserError) as caught:
        open_store(url)
    assert caught.value.remedy


def test_address_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_DATABASE_URL", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    assert open_store().runs().empty
    assert (tmp_path / "elsewhere.db").is_file()


def test_readers_go_on_while_a_writer_holds_the_lock(store, settings, monkeypatch):
    run = store.add_run(settings())
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with database_module.write(store.engine):
            inside.set()
            leave.wait(30)

    writer = threading.Thread(target=hold)
    writer.start()
    try:
        assert inside.wait(30)
        assert list(store.runs().id) == [run] and store.stop_requested(run) is None
    finally:
        leave.set()
        writer.join()


@on_sqlite
def test_database_held_too_long_is_said_in_words(store, settings, monkeypatch):
    monkeypatch.setattr(database_module, "_BUSY_MS", 50)
    store.engine.dispose()
    path = database_module.database_file(str(store.engine.url))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(UserError, match="locked") as caught:
            store.add_run(settings())
        assert "try again" in caught.value.remedy
    finally:
        holder.close()
    store.add_run(settings())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere, so a read-only file cannot be had")
def test_read_only_file_is_said_in_words(tmp_path, settings):
    path = tmp_path / "runs.db"
    open_store(f"sqlite:///{path}").engine.dispose()
    path.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError):
            open_store(f"sqlite:///{path}").add_run(settings())
    finally:
        tmp_path.chmod(0o700)


def test_foreign_keys_hold_and_points_go_with_their_run(store, settings, step):
    run = store.add_run(settings())
    store.record(run, [step(1), RunFinished({})])
    store.delete(run)
    with store.engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM metrics")).scalar() == 0
        with pytest.raises(Exception, match=r"(?i)foreign key"):
            connection.execute(text("INSERT INTO probes (run, name, step, data) VALUES (77, 'a', 1, '{}')"))
