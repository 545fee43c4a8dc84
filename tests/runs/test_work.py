"""A worker without a page: what ends it, and what it leaves behind."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from kdcore.errors import CorruptError, UserError
from kdcore.events import RunFinished, RunStarted
from kdcore.runs import work as work_module
from kdcore.runs.work import Closing, signals, take_device, work
from kdcore.runs.worker import Worker


def test_it_trains_what_waits_in_order_and_ends(store, settings, script):
    runs = [store.add_run(settings(seed)) for seed in range(3)]
    told = []
    ended = work(Worker(store, "cpu", script()), idle=0, on_start=told.append, on_end=lambda *one: told.append(one))
    assert ended == dict.fromkeys(runs, "done")
    assert told == [said for run in runs for said in (run, (run, "done"))]


def test_it_ends_after_so_many_runs(store, settings, script):
    first, second = store.add_run(settings(0)), store.add_run(settings(1))
    assert list(work(Worker(store, "cpu", script()), runs=1)) == [first]
    assert store.get(second).state == "queued"


def test_it_waits_for_runs_while_its_idle_time_lasts(store, settings, script, wait_for):
    ended = []
    thread = threading.Thread(target=lambda: ended.append(work(Worker(store, "cpu", script()), runs=1, idle=60)))
    thread.start()
    run = store.add_run(settings())
    wait_for(lambda: store.get(run).state == "done")
    thread.join(60)
    assert ended == [{run: "done"}]


def test_failed_run_does_not_end_it(store, settings, script):
    runs = [store.add_run(settings(seed)) for seed in range(2)]
    ended = work(Worker(store, "cpu", script(fail=ValueError("no"))), idle=0)
    assert ended == dict.fromkeys(runs, "failed")


def test_run_that_is_left_waits_at_the_front_of_the_queue(store, settings, script):
    first, second = store.add_run(settings(0)), store.add_run(settings(1))
    worker = Worker(store, "cpu", script(steps=10_000, pause=0.005), closing=Closing(), again=True)
    threading.Timer(0.3, worker.closing.set).start()
    assert work(worker) == {first: "queued"}
    row = store.get(first)
    assert row.worker is None and row.finished is None and row.reason == ""
    assert [store.claim("next", "cpu"), store.claim("next", "cpu")] == [first, second]


def test_run_that_is_left_after_a_stop_was_asked_for_does_not_wait_again(store, settings):
    run = store.add_run(settings())
    store.claim("w", "cpu")
    store.request_stop(run)
    assert store.release(run, "w", again=True)
    assert store.get(run).state == "interrupted" and store.stop_requested(run) is None
    assert not store.release(run, "w", again=True)


def test_database_that_is_away_for_a_moment_is_waited_for(store, settings, script, monkeypatch):
    run, claim, calls = store.add_run(settings()), store.claim, []

    def away(*args, **kwargs):
        calls.append(1)
        if len(calls) < 3:
            raise UserError("database", "is away", "try again")
        return claim(*args, **kwargs)

    monkeypatch.setattr(store, "claim", away)
    monkeypatch.setattr(Closing, "wait", lambda self, timeout=None: None)
    assert work(Worker(store, "cpu", script(), closing=Closing()), idle=0) == {run: "done"}
    monkeypatch.setattr(work_module, "PATIENCE", 0.0)
    calls.clear()
    store.add_run(settings(1))
    with pytest.raises(UserError, match="is away"):
        work(Worker(store, "cpu", script(), closing=Closing()), idle=0)


def test_damaged_database_ends_it_at_once(store, settings, script, monkeypatch):
    store.add_run(settings())

    def damaged(*args, **kwargs):
        raise CorruptError("database", "cannot be read", "move it away")

    monkeypatch.setattr(store, "claim", damaged)
    with pytest.raises(CorruptError):
        work(Worker(store, "cpu", script()), idle=0)


def test_signals_close_and_a_second_ctrl_c_breaks_off():
    closing = Closing()
    with signals(closing) as came:
        os.kill(os.getpid(), signal.SIGTERM)
        assert closing.wait(10) and came == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)  # a farm and its terminal may both ask
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("device", "before", "after"),
    [("auto", None, None), ("cuda", "3", "3"), ("cpu", "0,1", ""), ("cuda:1", None, "1"), ("cuda:1", "4,7", "7"),
     ("cuda:1", "GPU-a, GPU-b", "GPU-b")],
)  # fmt: skip
def test_only_its_own_device_is_left_visible(monkeypatch, device, before, after):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before or "")
    if before is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    take_device(device)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == after


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:2", "cuda:", "cpu:0"])
def test_device_that_is_none_is_named(monkeypatch, device):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(UserError, match=r"--device"):
        take_device(device)


COMMAND = """
import sys, time
from kdcore.events import RunFinished, RunStarted
from kdcore.runs import worker
def train(run, folder, control):
    yield RunStarted({"steps": 9})
    while run.name == "long" and (stop := control.stop_requested()) is None:
        time.sleep(0.01)
    if run.name == "long":
        (folder / "checkpoint.txt").write_text(stop)
        return
    yield RunFinished({})
worker._engine = train
from kdcore.cli import app
app(["work", *sys.argv[1:]], prog_name="kdcore")
"""


def command(*arguments: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, **options,
    )  # fmt: skip


def test_command_trains_the_queue_and_says_so(store, settings):
    run = store.add_run(settings(name="short"))
    out, error = (child := command("--idle", "0")).communicate(timeout=120)
    assert child.returncode == 0 and out.splitlines() == [f"{run} starts: short", f"{run} done:  "], error


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, "the other end of standard input is gone"])
def test_command_leaves_its_run_with_a_checkpoint_when_it_is_asked_to_end(store, settings, wait_for, how):
    from kdcore.paths import run_dir

    run = store.add_run(settings(name="long"))
    child = command("--tied", stdin=subprocess.PIPE)
    try:
        wait_for(lambda: store.get(run).state == "running")
        child.stdin.close() if isinstance(how, str) else child.send_signal(how)
        assert child.wait(60) == (0 if isinstance(how, str) else 128 + how)
    finally:
        child.kill()
    assert store.get(run).state == "queued" and (run_dir(run) / "checkpoint.txt").read_text() == "leave"


def test_lost_lease_is_not_given_back(store, settings):
    run = store.add_run(settings())

    def train(run_, folder, control):
        yield RunStarted({})
        control.lost = True
        yield RunFinished({})

    worker = Worker(store, "cpu", train, again=True)
    worker.take(run)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE runs SET worker = 'another'")
    worker.drive(run)
    assert store.get(run).worker == "another" and store.get(run).state == "starting"
