"""Leases: an active run is not taken from its worker, and the clock of leases is that of the database."""

import os
import time

import pytest

from kdcore.errors import UserError
from kdcore.runs.worker import Jobs
from kdcore.store import ACTIVE, leases
from tests.helpers.databases import on_postgresql


@pytest.mark.parametrize("state", ACTIVE)
def test_run_that_is_trained_is_not_queued_again(store, settings, state):
    run = store.add_run(settings())
    store.claim("mine", "cpu")
    store.set_state(run, state)
    for again in (store.requeue, Jobs(store).resume):
        with pytest.raises(UserError, match=f"process {os.getpid()} on this computer.*stop it first"):
            again(run)
    assert store.get(run).state == state and store.renew(run, "mine")


def test_resume_command_leaves_a_run_to_the_process_that_trains_it(store, settings):
    from typer.testing import CliRunner

    from kdcore.cli import app

    run = store.add_run(settings())
    store.claim("mine", "cpu")
    for arguments in (["resume", run], ["resume", run, "--queue"]):
        outcome = CliRunner().invoke(app, arguments)
        assert outcome.exit_code == 2 and "stop it first" in outcome.output
    assert store.renew(run, "mine")


def test_worker_of_another_host_is_named(store, settings):
    run = store.add_run(settings())
    store.claim("mine", "cpu")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE runs SET host = 'abcdef0123456789', node = 'gpu-3', pid = 77")
    with pytest.raises(UserError, match=r"process 77 on gpu-3 \(abcdef01\)"):
        store.requeue(run)


def test_run_that_waits_is_not_moved_to_the_end_by_a_second_resume(store, settings):
    first, second = store.add_run(settings(0)), store.add_run(settings(1))
    with pytest.raises(UserError, match="queued already"):
        store.requeue(first)
    assert [store.claim("w", "cpu"), store.claim("w", "cpu")] == [first, second]


def test_leases_count_by_the_clock_of_the_database(store, database, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with store.engine.begin() as connection:
        now = leases.clock(connection)
    assert now == 0.0 if database == "sqlite" else now > 1e9  # a file has no clock of its own


@on_postgresql
def test_clock_of_another_computer_takes_no_run_from_its_worker(store, settings, monkeypatch):
    run = store.add_run(settings())
    store.claim("far", "cuda")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE runs SET host = 'another boot'")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    assert store.mark_interrupted() == [] and store.renew(run, "far")
