"""Leases: an active run is not taken from its worker, and the clock of leases is that of the database."""

import os
import subprocess
import sys
import time

import pytest

from kdcore.errors import DatabaseAwayError, UserError
from kdcore.runs.worker import Jobs
from kdcore.store import ACTIVE, Store, claims, leases
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


class Clocks:
    """The database's clock and that of every process; they go on where a test says so."""

    def __init__(self):
        self.database, self.own = 1e9, 5.0

    def go(self, seconds):
        self.database, self.own = self.database + seconds, self.own + seconds


@pytest.fixture
def clocks(monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr(claims, "clock", lambda connection: clocks.database)
    monkeypatch.setattr(leases, "monotonic", lambda: clocks.own)
    return clocks


def claim_afar(store, run):
    """As a process of another computer would, which cannot be seen from here."""
    assert store.claim("far", "cpu", run) == run
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE runs SET host = 'another boot'")


def taken_within(store, watcher, clocks, seconds, renewing):
    """After how many seconds an idle process takes the run from its worker; None: it does not."""
    for second in range(seconds):
        if renewing and second % 10 == 9:
            assert store.renew(renewing, "far")
        if watcher.take_up():
            return second
        assert watcher.claim("idle", "cpu") is None
        clocks.go(1)
    return None


@pytest.mark.parametrize("minutes", [-90, -2, 2, 90])
def test_database_clock_that_is_set_takes_no_run_from_a_living_worker(store, settings, clocks, minutes):
    run, watcher = store.add_run(settings()), Store(store.engine)
    claim_afar(store, run)
    assert taken_within(store, watcher, clocks, 100, run) is None
    clocks.database += 60 * minutes
    assert taken_within(store, watcher, clocks, 200, run) is None
    assert store.get(run).worker == "far"


@pytest.mark.parametrize(("minutes", "after"), [(-90, 60), (-2, 60), (0, 50), (2, 60), (90, 60)])
def test_run_of_a_dead_worker_waits_no_longer_where_the_clock_was_set(store, settings, clocks, minutes, after):
    """A worker dies 10 seconds before; its lease of 60 is over in 50, or in 60 from when the clock was set."""
    run, watcher = store.add_run(settings()), Store(store.engine)
    claim_afar(store, run)
    watcher.take_up()
    clocks.go(10)
    clocks.database += 60 * minutes
    assert taken_within(store, watcher, clocks, 200, None) == after
    assert store.waiting() == [run]


def test_process_that_starts_after_the_clock_was_set_back_waits_for_the_living(store, settings, clocks):
    run = store.add_run(settings())
    claim_afar(store, run)
    clocks.database -= 3600
    assert taken_within(store, Store(store.engine), clocks, 200, run) is None


def test_database_that_was_away_takes_no_run_from_a_living_worker(store, settings, clocks, monkeypatch):
    """When it answers again, all leases have ended; who looks first must not take what others are about to renew."""
    run, watcher = store.add_run(settings()), Store(store.engine)
    claim_afar(store, run)
    watcher.take_up()

    def refuse(engine):
        raise DatabaseAwayError("database", "connection refused", "wait")

    with monkeypatch.context() as away:
        away.setattr(claims.database, "read", refuse)
        for _ in range(20):
            with pytest.raises(DatabaseAwayError):
                watcher.take_up()
            clocks.go(10)
    assert taken_within(store, watcher, clocks, 200, run) is None
    assert taken_within(store, watcher, clocks, 200, None) is not None


@pytest.mark.parametrize("renewing", [True, False])
def test_process_that_begins_after_the_server_was_started_waits_for_the_living(
    store, settings, clocks, monkeypatch, renewing
):
    run = store.add_run(settings())
    claim_afar(store, run)
    clocks.go(200)
    since = clocks.database - 1
    monkeypatch.setattr(claims, "serving_since", lambda connection: since)
    after = taken_within(store, Store(store.engine), clocks, 200, run if renewing else None)
    assert after == (None if renewing else LEASE_SECONDS - 1)


def test_server_tells_since_when_it_serves(store):
    with store.engine.begin() as connection:
        since, now = leases.serving_since(connection), leases.clock(connection)
    assert since == 0 if store.engine.dialect.name == "sqlite" else now - 10 * 365 * 86_400 < since <= now


def test_small_corrections_of_the_clock_change_nothing(store, settings, clocks):
    run, watcher = store.add_run(settings()), Store(store.engine)
    claim_afar(store, run)
    for second in range(5):
        watcher.take_up()
        clocks.go(10)
        clocks.database += leases.JUMP_SECONDS / 4 * (-1) ** second
    assert not watcher.watch.unsettled
    assert taken_within(store, watcher, clocks, 60, None) is not None


@pytest.mark.parametrize("minutes", [-90, 0, 90])
def test_each_claim_has_a_higher_number(store, settings, clocks, minutes):
    run, numbers = store.add_run(settings()), [0]
    for _ in range(3):
        store.claim("w", "cpu", run)
        numbers.append(store.get(run).claim_number)
        store.release(run, "w", again=True)
        clocks.database += 60 * minutes
    assert numbers == sorted(set(numbers)) and numbers[1] == 1e9
