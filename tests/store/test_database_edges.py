"""Addresses, folders and values at the edge of what a database takes."""

import sqlite3

import pytest
from sqlalchemy.engine import make_url

from kdcore.errors import CorruptError, DatabaseAwayError, UserError
from kdcore.events import RunFailed, RunStarted
from kdcore.store import Store, database, open_store
from kdcore.store.database_errors import no_driver
from tests.helpers.databases import on_postgresql


@pytest.mark.parametrize("name", ["a?b", "we%20ird", "100%", "x#y", "with space", "a&b=c", "é"])
def test_database_lies_in_its_folder_whatever_that_is_called(tmp_path, monkeypatch, settings, name):
    folder = tmp_path / name
    monkeypatch.setenv("KD_CACHE_DIR", str(folder))
    run = open_store().add_run(settings())
    assert (folder / "runs.db").is_file() and database.database_file(database.default_url()) == folder / "runs.db"
    assert sqlite3.connect(folder / "runs.db").execute("SELECT id FROM runs").fetchall() == [(run,)]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == [name]


def test_cache_folder_that_cannot_be_used_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "under", "/proc/nowhere", "~nosuchuser/x", "/" + "x" * 300):
        monkeypatch.setenv("KD_CACHE_DIR", str(bad))
        with pytest.raises(UserError, match="KD_CACHE_DIR"):
            open_store()


@pytest.mark.parametrize("url", ["postgresql://u:secret@h:abc/x", "nonsense", "mysql+none://h/x", "sqlite:///a\0b"])
def test_bad_address_is_explained_without_its_password(url):
    with pytest.raises(UserError) as caught:
        open_store(url)
    assert "secret" not in str(caught.value) and caught.value.field in ("KD_DATABASE_URL", "database")


def test_absent_driver_is_named_with_its_package():
    error = no_driver(ModuleNotFoundError("No module named 'psycopg'", name="psycopg"))
    assert "pip install" in error.remedy and "psycopg[binary]" in error.remedy


def test_text_with_nul_and_half_characters_and_large_numbers_are_stored(store, settings, step):
    run = store.add_run(settings(name="a\0b"))
    store.rename(run, "x\0y\ud83d")
    store.annotate(run, note="n\0te", tags=["t\0g"])
    assert store.get(run).name == "x\ufffdy?" and "\0" not in store.get(run).note + store.get(run).tags[0]
    store.record(run, [RunStarted({"parameters": 2**40, "device": "c\0pu", "note": "\0"}), step(1)])
    store.record(run, [RunFailed("broke\0", "mend", "\ud800")])
    row = store.get(run)
    assert row.state == "failed" and row.reason == "broke\ufffd" and row.facts["parameters"] == 2**40
    store.delete(run)


def test_run_of_a_name_that_cannot_be_encoded_is_unknown(store):
    for name in ("a\udcff", "a\0"):
        with pytest.raises(UserError, match="no run"):
            store.get(name)


def test_missing_table_and_right_are_explained(store, settings):
    with pytest.raises(UserError) as caught, database.read(store.engine) as connection:
        connection.exec_driver_sql("SELECT * FROM not_there")
    assert isinstance(caught.value, CorruptError) or "may read" in caught.value.remedy


def test_value_that_no_column_takes_is_explained(store, settings, step):
    run = store.add_run(settings())
    with pytest.raises(UserError, match="value"):
        store.record(run, [step(2**70)])
    store.delete(run)


@on_postgresql
def test_session_that_stands_still_holds_up_other_writers_for_seconds_only(store, settings, monkeypatch):
    """Its process was stopped, or its computer is gone; every write of all workers takes the one lock that it has."""
    monkeypatch.setattr(database, "_STILL_MS", 300)
    url = store.engine.url.render_as_string(hide_password=False)
    still = database.open_engine(url)
    with pytest.raises(DatabaseAwayError), database.write(still) as connection:
        run = store.add_run(settings())
        connection.exec_driver_sql("SELECT 1")
    assert store.waiting() == [run]
    still.dispose()


@on_postgresql
def test_lock_that_is_never_free_is_given_up_with_its_reason(store, settings, monkeypatch):
    monkeypatch.setattr(database, "_BUSY_MS", 300)
    engine = database.open_engine(store.engine.url.render_as_string(hide_password=False))
    with (
        database.write(store.engine),
        pytest.raises(DatabaseAwayError, match=r"lock timeout.*another program holds it"),
    ):
        Store(engine).add_run(settings())
    engine.dispose()


@on_postgresql
def test_server_that_vanishes_is_given_up_within_a_minute(store):
    """libpq alone waits for an answer as long as the system keeps a silent connection: two hours."""
    with store.engine.connect() as connection:
        said = connection.connection.dbapi_connection.info.get_parameters()
    idle, between, count = (int(said[f"keepalives_{name}"]) for name in ("idle", "interval", "count"))
    assert int(said["connect_timeout"]) <= 10 and int(said["tcp_user_timeout"]) <= 30_000
    assert idle + between * count <= 30


def test_what_an_address_says_of_its_connection_counts():
    own = make_url("postgresql+psycopg://u@h/d?connect_timeout=3&keepalives_idle=60")
    assert not {"connect_timeout", "keepalives_idle"} & database._connect_args(own).keys()
    assert database._connect_args(make_url("sqlite:///x")) == {}
