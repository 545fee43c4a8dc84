"""Several processes on one store: each run once, and the dead are found while the living are left alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import text

from kdcore import process
from kdcore.store import claims, open_store
from tests.helpers.containers import CONTAINER, needs_namespaces

CLAIM_ALL = """
import sys, time
from kdcore.store import open_store
from kdcore.events import RunFinished
store = open_store()
print("ready", flush=True)
sys.stdin.readline()
while (run := store.claim(sys.argv[1], "cpu")) is not None:
    print(run, flush=True)
    store.record(run, [RunFinished({})], worker=sys.argv[1])
"""
CLAIM_AND_WAIT = """
import sys, time
from kdcore.store import open_store
print(open_store().claim("child", "cpu"), flush=True)
time.sleep(600)
"""
CLAIM_THEN_GO_ON = """
import sys
from kdcore.events import RunFinished
from kdcore.store import LeaseLostError, open_store
store = open_store()
run = store.claim("asleep", "cpu")
print(run, flush=True)
sys.stdin.readline()
try:
    store.record(run, [RunFinished({"seconds": 1.0})], worker="asleep")
    print("written")
except LeaseLostError:
    print("refused")
print(store.renew(run, "asleep"), store.release(run, "asleep", again=True), store.lose(run, "asleep", "no"))
"""
OPEN = 'from kdcore.store import open_store; print(open_store().claim("w", "cpu"))'


def child(code: str, *arguments: str, inside: Sequence[str] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*inside, sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def test_two_processes_share_the_queue_without_doubling(store, settings):
    runs = [store.add_run(settings(seed)) for seed in range(40)]
    workers = [child(CLAIM_ALL, name) for name in ("a", "b")]
    assert [worker.stdout.readline().strip() for worker in workers] == ["ready", "ready"]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    taken = [worker.communicate(timeout=120)[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sorted(taken[0] + taken[1]) == sorted(runs)
    assert set(store.runs().state) == {"done"}


def test_processes_that_make_the_database_together_agree(new_database):
    new_database("new")
    children = [child(OPEN) for _ in range(3)]
    assert [one.communicate(timeout=120)[0].strip() for one in children] == ["None", "None", "None"]


def test_killed_process_leaves_an_interrupted_run_at_once(store, settings):
    run = store.add_run(settings())
    worker = child(CLAIM_AND_WAIT)
    try:
        assert worker.stdout.readline().strip() == run
        assert store.mark_interrupted() == []  # alive: its lease is young
        worker.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 30
        while not (marked := store.mark_interrupted()) and time.monotonic() < deadline:
            time.sleep(0.05)  # not waited for, so it is a zombie: that is dead, too
    finally:
        worker.kill()
        worker.communicate()
    assert marked == [run]
    row = store.get(run)
    assert (row.state, row.worker) == ("interrupted", None) and "process ended" in row.reason and row.remedy
    assert store.mark_interrupted() == []
    store.requeue(run)
    assert store.claim("next", "cpu") == run


@pytest.mark.skipif(not process.this_process().host, reason="no /proc here: only a lease's expiry tells")
def test_pid_used_again_is_not_taken_for_the_old_process(store, settings):
    run = store.add_run(settings())
    store.claim("w", "cpu")
    assert store.mark_interrupted() == []
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET process_started = '1'"))
    assert store.mark_interrupted() == [run]


def test_process_of_another_machine_is_not_judged_by_its_pid(store, settings):
    run = store.add_run(settings())
    store.claim("w", "cpu")
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET host = 'another boot', pid = 999999999"))
    assert store.mark_interrupted() == []
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET lease_until = :past"), {"past": time.time() - 1})
    assert store.mark_interrupted() == [run]
    assert "not been heard of" in store.get(run).reason


def test_process_that_is_stopped_past_its_lease_writes_nothing_when_it_goes_on(store, settings):
    run = store.add_run(settings())
    asleep = child(CLAIM_THEN_GO_ON)
    try:
        assert asleep.stdout.readline().strip() == run
        asleep.send_signal(signal.SIGSTOP)
        assert store.take_up() == []  # it is seen to live, and its lease is young
        with store.engine.begin() as connection:
            connection.execute(text("UPDATE runs SET lease_until = 0.0"))  # some minutes later
        assert store.take_up() == [run] and store.claim("next", "cpu") == run
        asleep.send_signal(signal.SIGCONT)
        said, _ = asleep.communicate("go on\n", timeout=120)
    finally:
        asleep.kill()
    assert said.split() == ["refused", "False", "False", "False"]
    row = store.get(run)
    assert (row.state, row.worker) == ("starting", "next") and not row.summary
    assert store.renew(run, "next")


@needs_namespaces
def test_process_of_another_container_is_judged_by_its_lease_alone(store, settings):
    """It is process 1 there, which is another and living one here; killed, it counts as lost when the lease is over."""
    run = store.add_run(settings())
    worker = child(CLAIM_AND_WAIT, inside=CONTAINER)
    try:
        assert worker.stdout.readline().strip() == run
        with store.engine.begin() as connection:
            assert connection.execute(text("SELECT pid FROM runs")).scalar() == 1
        assert store.mark_interrupted() == []
    finally:
        worker.kill()
        worker.communicate()
    assert store.mark_interrupted() == []  # it may live: nobody can see it from here
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET lease_until = lease_until - 61"))
    assert store.mark_interrupted() == [run] and "not been heard of" in store.get(run).reason


def test_renewed_lease_outlives_its_first_end(store, settings):
    run = store.add_run(settings())
    store.claim("w", "cpu", lease=-2.0 * claims.LEASE_SECONDS)
    assert store.renew(run, "w")
    assert store.mark_interrupted() == []


def test_expired_lease_is_marked_though_the_process_lives(store, settings):
    run = store.add_run(settings())
    store.claim("w", "cpu", lease=-2.0 * claims.LEASE_SECONDS)
    assert store.mark_interrupted() == [run]
    assert not store.renew(run, "w")


def test_laptop_that_wakes_up_with_an_expired_lease_keeps_its_run(store, settings):
    store.add_run(settings())
    store.claim("w", "cpu", lease=-1.0)
    assert store.mark_interrupted() == []


def test_this_process_is_not_gone_and_a_changed_one_is():
    me = process.this_process()
    assert me.pid == os.getpid() and process.is_alive(me) is True
    assert process.is_alive(replace(me, host="")) is None
    if me.host:
        assert process.is_alive(replace(me, started="0")) is False
        assert process.is_alive(replace(me, pid=2**22 + 12345)) is False


def test_forked_child_gets_connections_of_its_own(store, settings):
    store.add_run(settings())
    pid = os.fork()
    if pid == 0:  # the child must not use the parent's connections
        try:
            os._exit(0 if open_store() is not store and len(open_store().runs()) == 1 else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(store.runs()) == 1


def test_lease_length_leaves_room_for_several_renewals():
    from kdcore.runs import leased_run

    assert claims.LEASE_SECONDS >= 5 * leased_run.RENEW_SECONDS
