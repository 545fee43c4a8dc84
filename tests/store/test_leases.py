"""Leases: an active run is not taken from its worker, and the clock of leases is that of the database."""

import os
import subprocess
import sys
import time

import pytest

from kdcore.errors import UserError
from kdcore.runs.worker import Jobs
from kdcore.store import ACTIVE, leases
from kdcore.store.claims import LEASE_SECONDS


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


def test_leases_count_by_the_clock_of_the_database(store, monkeypatch):
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with store.engine.begin() as connection:
        assert leases.clock(connection) == pytest.approx(real, abs=60)


@pytest.mark.parametrize("minutes", [-90, -5, 5, 90])
def test_wrong_clock_of_a_worker_takes_no_run_from_another(store, settings, monkeypatch, minutes):
    run, mine = store.add_run(settings(0)), store.add_run(settings(1))
    store.claim("far", "cuda", run)
    with store.engine.begin() as connection:  # whose process cannot be seen from here
        connection.exec_driver_sql("UPDATE runs SET host = 'another boot'")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 60 * minutes)
    assert store.mark_interrupted() == [] and store.take_up() == []
    assert store.claim("wrong", "cpu") == mine and store.renew(run, "far")
    monkeypatch.undo()
    assert store.mark_interrupted() == [] and store.renew(mine, "wrong") and store.renew(run, "far")
    with store.engine.begin() as connection:
        ends = connection.exec_driver_sql("SELECT lease_until FROM runs").scalars().all()
    assert ends == pytest.approx([real() + LEASE_SECONDS] * 2, abs=30)  # none is held longer, or less long


def test_processes_of_one_computer_have_one_clock(store):
    """SQLite asks the system itself, and the system's time of day is not a process's own."""
    code = """
import time
time.time = lambda: 0.0
from kdcore.store import leases, open_store
with open_store().engine.begin() as connection:
    print(leases.clock(connection))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    before = time.time()
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert before - 1 <= float(told.stdout) <= time.time() + 1
