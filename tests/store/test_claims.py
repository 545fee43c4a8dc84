"""Claims by what a worker can do, runs that lose their workers, and the computer's name beside a run."""

import platform
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from kdcore.config import TrainConfig
from kdcore.errors import UserError
from kdcore.events import Checkpointed, RunStarted
from kdcore.store import ATTEMPTS, Store, claims, open_store
from kdcore.store import database as database_module

GIB = 2.0**30
CPU = {"auto": 8 * GIB, "cpu": 8 * GIB}
GPU = {"auto": 24 * GIB, "cuda": 24 * GIB, "cuda:0": 24 * GIB}


def lose(store, run):
    """As if the process that trains it had been killed."""
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET host = 'another boot', lease_until = 0 WHERE id = :run"), {"run": run})


def on_device(settings, device, seed=0):
    return settings(seed, train=TrainConfig(device=device, seed=seed))


def test_worker_leaves_runs_for_another_device_in_the_queue(store, settings):
    gpu, cpu = store.add_run(on_device(settings, "cuda")), store.add_run(on_device(settings, "cpu"))
    auto = store.add_run(settings(1))
    assert store.waiting(CPU) == [cpu, auto] and store.waiting(GPU) == [gpu, auto] and store.waiting({}) == []
    assert [store.claim("c", "cpu", can=CPU) for _ in range(3)] == [cpu, auto, None]
    assert store.waiting() == [gpu]
    assert store.claim("g", "cuda", can=GPU) == gpu


def test_worker_leaves_runs_that_would_not_fit_its_memory(store, settings):
    large = store.add_run(settings(0), facts={"predicted": {"seconds": 1.0, "memory": int(9 * GIB)}})
    small = store.add_run(settings(1), facts={"predicted": {"seconds": 1.0, "memory": int(8 * GIB)}})
    unknown = store.add_run(settings(2), facts={"predicted": {"seconds": 1.0}})
    assert [store.claim("c", "cpu", can=CPU) for _ in range(3)] == [small, unknown, None]
    assert store.claim("g", "cuda", can=GPU) == large


def test_named_run_is_taken_whatever_it_needs(store, settings):
    run = store.add_run(on_device(settings, "cuda"))
    assert store.claim("c", "cpu", run) == run


def test_lost_run_goes_before_the_others_and_a_closed_one_waits_for_a_person(store, settings):
    lost, closed, later = (store.add_run(settings(seed)) for seed in range(3))
    assert store.claim("a", "cpu") == lost and store.claim("b", "cpu") == closed
    store.release(closed, "b")
    lose(store, lost)
    assert store.take_up() == [lost] and store.take_up() == []
    assert store.get(closed).state == "interrupted"
    assert [store.claim("c", "cpu") for _ in range(3)] == [lost, later, None]


def test_runs_that_another_process_has_marked_are_taken_up_in_their_order(store, settings):
    runs = [store.add_run(settings(seed)) for seed in range(3)]
    for run in runs:
        store.claim("a", "cpu", run)
        lose(store, run)
    assert sorted(store.mark_interrupted()) == sorted(runs)
    assert {store.get(run).state for run in runs} == {"interrupted"}
    assert store.take_up() == runs and store.waiting() == runs


def test_lost_run_that_was_asked_to_stop_is_not_taken_up(store, settings):
    run = store.add_run(settings())
    store.claim("a", "cpu")
    store.request_stop(run)
    lose(store, run)
    assert store.take_up() == [] and store.get(run).state == "interrupted"


def test_run_that_loses_every_worker_fails_with_the_reason(store, settings):
    run = store.add_run(settings())
    for attempt in range(1, ATTEMPTS + 1):
        assert store.claim("w", "cpu") == run, attempt
        store.record(run, [RunStarted({})], worker="w")
        lose(store, run)
        store.take_up()
    row = store.get(run)
    assert row.state == "failed" and row.finished and row.worker is None
    assert f"{ATTEMPTS} workers were lost" in row.reason and "not been heard of" in row.reason and row.remedy
    assert store.claim("w", "cpu") is None
    store.requeue(run)  # a person's word starts the count anew
    store.claim("w", "cpu")
    lose(store, run)
    assert store.take_up() == [run]


def test_new_checkpoint_starts_the_count_anew(store, settings):
    run = store.add_run(settings())
    for attempt in range(2 * ATTEMPTS):
        assert store.claim("w", "cpu") == run, attempt
        if attempt % 2:
            store.record(run, [Checkpointed("distil", attempt)], worker="w")
        lose(store, run)
        assert store.take_up() == [run], attempt


def test_computer_that_trains_a_run_is_named_and_stays_named(store, settings):
    run = store.add_run(settings())
    assert store.get(run).node == ""
    store.claim("w", "cpu")
    store.release(run, "w")
    assert store.get(run).node == platform.node() == store.runs().iloc[0].node


def test_quiet_store_takes_no_write_lock(store, settings, monkeypatch):
    run = store.add_run(settings())
    store.claim("w", "cpu", run)

    def locked(engine):
        raise AssertionError("a write lock")

    monkeypatch.setattr(claims.database, "write", locked)
    assert store.mark_interrupted() == [] and store.take_up() == [] and store.claim("w", "cpu") is None


def test_store_of_0_1_0_gets_the_new_columns(tmp_path):
    path = tmp_path / "old.db"
    shutil.copy(Path(__file__).parent.parent / "v0_1_0" / "runs.db", path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version FROM kdboard_schema").fetchone() == (1,)
        asked = dict(connection.execute("SELECT id, json_extract(config, '$.train.device') FROM runs").fetchall())
        changed = min(asked)
        connection.execute(
            "UPDATE runs SET config = json_set(config, '$.train.device', 'cuda') WHERE id = ?", (changed,)
        )
    with open_store(f"sqlite:///{path}").engine.begin() as connection:
        rows = connection.execute(text("SELECT id, train_device, attempts, lost, node, memory FROM runs")).all()
        assert connection.execute(text("SELECT version FROM kdboard_schema")).scalar() == database_module.VERSION
    expected = asked | {changed: "cuda"}
    assert {row[0]: tuple(row[1:]) for row in rows} == {run: (expected[run], 0, 0, "", None) for run in asked}


def test_migrated_tables_are_those_that_are_made_anew(store):
    """The steps from version 1 lead to the columns that a new database has, in name, kind and default."""
    new = [column for column in database_module.runs.columns if column.name in NEW]
    with store.engine.begin() as connection:
        made = {column["name"]: column for column in inspect(connection).get_columns("runs")}
        for column in new:
            connection.execute(text(f"ALTER TABLE runs DROP COLUMN {column.name}"))
        for step in (1, 2):
            database_module.MIGRATIONS[step](connection)
        migrated = {column["name"]: column for column in inspect(connection).get_columns("runs")}
    assert made.keys() == migrated.keys() and {column.name for column in new} == NEW
    for name in NEW:
        assert (
            str(made[name]["type"]) == str(migrated[name]["type"])
            and made[name]["nullable"] == migrated[name]["nullable"]
        )


NEW = {"node", "train_device", "memory", "attempts", "lost", "claim_number"}


def test_migration_gives_every_run_its_device_whatever_its_settings_are(store, settings):
    good, hurt = store.add_run(on_device(settings, "cuda")), store.add_run(settings(1))
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET config = '{' WHERE id = :run"), {"run": hurt})
        for name in NEW - {"claim_number"}:
            connection.execute(text(f"ALTER TABLE runs DROP COLUMN {name}"))
        database_module.MIGRATIONS[1](connection)
    assert store.waiting({"cuda": 1.0}) == [good] and store.waiting({"auto": 1.0}) == [hurt]


def test_error_names_the_computer(store, settings):
    run = store.add_run(settings())
    store.claim("w", "cpu")
    with pytest.raises(UserError, match="this computer"):
        store.requeue(run)


ADDED = {1: ("node", "train_device", "memory", "attempts", "lost", "claim_number"), 2: ("claim_number",)}
"""Columns that a database of this version lacks."""


@pytest.mark.parametrize("version", ADDED)
def test_database_of_each_version_is_brought_up_to_date_with_its_runs(store, settings, version):
    run, url = store.add_run(on_device(settings, "cuda")), store.engine.url.render_as_string(hide_password=False)
    with store.engine.begin() as connection:
        for column in ADDED[version]:
            connection.execute(text(f"ALTER TABLE runs DROP COLUMN {column}"))
        connection.execute(text("UPDATE kdboard_schema SET version = :version"), {"version": version})
    engine = database_module.open_engine(url)
    newer = Store(engine)
    assert newer.claim("c", "cpu", can=CPU) is None and newer.claim("g", "cuda", can=GPU) == run
    assert newer.get(run).claim_number > 0 and newer.release(run, "g", again=True) and newer.waiting() == [run]
    engine.dispose()
