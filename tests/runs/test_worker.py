"""The background worker: each run once, failures contained, stops and leases respected."""

import errno
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from kdcore.errors import UserError
from kdcore.events import Progress, RunFailed, RunFinished, RunStarted, StepDone
from kdcore.paths import run_dir
from kdcore.runs import leased_run
from kdcore.runs import worker as jobs_module
from kdcore.runs.worker import Jobs, LeasedRun, Worker, explain

ENDED = ("done", "failed", "stopped", "interrupted", "cancelled")


@pytest.fixture
def running() -> Iterator[list[Jobs]]:
    """Whatever a test starts is ended with it."""
    started: list[Jobs] = []
    yield started
    for one in started:
        one.shutdown()


def ended(store, run):
    return store.get(run).state in ENDED


def test_submitted_run_is_trained_and_recorded(store, settings, script, wait_for, running):
    running.append(jobs := Jobs(store, script()))
    run = jobs.submit(settings())
    wait_for(lambda: ended(store, run))
    assert store.get(run).state == "done"
    assert list(store.metrics(run, kinds=["loss"]).step) == [1, 2, 3]
    assert store.runs().iloc[0].score == 0.5
    log = (run_dir(run) / "log.txt").read_text()
    assert "step 3/3" in log and "finished" in log


def test_runs_are_trained_one_after_another_in_order(store, settings, wait_for, running):
    order, together = [], []

    def train(run, folder, control):
        together.append(1)
        assert len(together) == 1
        order.append(run.train.seed)
        time.sleep(0.02)
        together.pop()
        yield RunFinished({})

    runs = [store.add_run(settings(seed)) for seed in range(5)]
    running.append(Jobs(store, train).start())
    wait_for(lambda: all(ended(store, run) for run in runs))
    assert order == [0, 1, 2, 3, 4] and set(store.runs().state) == {"done"}


def test_starting_again_makes_no_second_worker(store, script, running):
    running.append(jobs := Jobs(store, script(), devices=("cpu", "cpu")))
    before = threading.active_count()
    for _ in range(5):
        jobs.start()
    threads = [thread for thread in threading.enumerate() if thread.name == "kdboard-cpu"]
    assert len(threads) == 1 and threads[0].daemon and threading.active_count() == before + 1


@pytest.mark.parametrize(
    ("error", "reason", "remedy"),
    [
        (ValueError("bad width"), "ValueError: bad width", "log"),
        (UserError("student.width", "does not fit", "choose 384"), "student.width: does not fit", "choose 384"),
        (MemoryError("no more"), "out of memory", "batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory", "accumulate"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full", "gc"),
        (KeyError(), "KeyError", "log"),
        (AssertionError("a\nb\nc"), "AssertionError: a", "log"),
    ],
)
def test_failed_run_says_why_and_the_worker_lives(store, settings, script, wait_for, running, error, reason, remedy):
    running.append(jobs := Jobs(store, script(fail=error)))
    run = jobs.submit(settings())
    wait_for(lambda: ended(store, run))
    row = store.get(run)
    assert row.state == "failed" and reason in row.reason and remedy in row.remedy
    assert type(error).__name__ in row.detail and "Traceback" in row.detail
    assert row.reason in (run_dir(run) / "log.txt").read_text()
    jobs._workers["auto"].train = script()
    after = jobs.submit(settings(1))
    wait_for(lambda: ended(store, after))
    assert store.get(after).state == "done"


def test_gpu_memory_error_gives_the_advice_and_frees_memory(monkeypatch):
    torch = pytest.importorskip("torch")
    failed = explain(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"))
    assert "out of memory" in failed.reason and "max_length" in failed.remedy
    emptied = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    jobs_module.free_memory()
    assert emptied == [1]


def test_failure_that_the_engine_reports_itself(store, settings, wait_for, running):
    running.append(jobs := Jobs(store, lambda *_: iter([RunFailed("teacher too weak", "choose another", "d")])))
    run = jobs.submit(settings())
    wait_for(lambda: ended(store, run))
    row = store.get(run)
    assert (row.state, row.reason, row.remedy) == ("failed", "teacher too weak", "choose another")


def test_training_that_ends_without_a_word_has_failed(store, settings, wait_for, running):
    running.append(jobs := Jobs(store, lambda *_: iter([RunStarted({})])))
    run = jobs.submit(settings())
    wait_for(lambda: ended(store, run))
    assert store.get(run).state == "failed" and "without a result" in store.get(run).reason


def test_run_with_damaged_settings_fails_and_the_next_goes_on(store, settings, script, wait_for, running):
    hurt, good = store.add_run(settings(0)), store.add_run(settings(1))
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET config = '{' WHERE id = :run"), {"run": hurt})
    running.append(Jobs(store, script()).start())
    wait_for(lambda: ended(store, good))
    assert store.get(good).state == "done"
    assert store.get(hurt).state == "failed" and "cannot be read" in store.get(hurt).reason


@pytest.mark.parametrize("keep", [True, False])
def test_stop_is_asked_for_through_the_store(store, settings, script, wait_for, running, keep):
    running.append(jobs := Jobs(store, script(steps=100_000, pause=0.005)))
    run = jobs.submit(settings())
    wait_for(lambda: store.get(run).state == "running")
    store.request_stop(run, keep)  # as another process would
    wait_for(lambda: ended(store, run))
    row = store.get(run)
    assert row.state == "stopped" and ("saved" in row.reason) == keep
    assert store.stop_requested(run) is None


def test_shutdown_releases_the_run_and_it_resumes(store, settings, script, wait_for, running):
    running.append(jobs := Jobs(store, script(steps=100_000, pause=0.005)))
    run = jobs.submit(settings())
    wait_for(lambda: not store.metrics(run).empty)
    jobs.shutdown()
    row = store.get(run)
    assert (row.state, row.remedy) == ("interrupted", "resume it") and row.worker is None
    assert jobs.running == []
    running.append(again := Jobs(store, script()))
    again.resume(run)
    wait_for(lambda: store.get(run).state == "done")
    assert set(store.metrics(run, kinds=["loss"]).step) >= {1, 2, 3}


def test_events_are_written_at_most_twice_a_second_but_turning_points_at_once(store, settings, monkeypatch):
    run = store.add_run(settings())
    store.claim("w", "cpu")
    now = [1000.0]
    monkeypatch.setattr(jobs_module.time, "monotonic", lambda: now[0])
    written = []
    monkeypatch.setattr(store, "record", lambda run_id, events, worker: written.append(len(events)))
    held = LeasedRun(store, run, "w", threading.Event())
    event = StepDone("d", 1, 9, 0.1, 1.0, {}, {}, 0.1, 1.0, 1.0, 1.0)
    for _ in range(100):  # ten seconds of steps, ten a second
        now[0] += 0.1
        held.say(event)
    assert 15 <= len(written) <= 20 and sum(written) > 90
    before = len(written)
    held.say(RunFinished({}))
    assert len(written) == before + 1


def test_pending_events_are_written_by_the_timer_in_a_silent_pass(store, settings, monkeypatch):
    run = store.add_run(settings())
    store.claim("w", "cpu")
    held = LeasedRun(store, run, "w", threading.Event())
    held.say(Progress("filling", 1, 2))
    assert store.get(run).progress == {}
    now = time.monotonic()
    monkeypatch.setattr(jobs_module.time, "monotonic", lambda: now + 1)
    held.tick()
    assert store.get(run).progress["what"] == "filling"


def test_store_is_asked_for_a_stop_at_most_twice_a_second(store, settings, monkeypatch):
    run = store.add_run(settings())
    now, asked = [1000.0], []
    monkeypatch.setattr(jobs_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(store, "stop_requested", lambda run_id: asked.append(run_id))
    held = LeasedRun(store, run, "w", threading.Event())
    for _ in range(1000):
        now[0] += 0.01
        assert held.stop_requested() is None
    assert 18 <= len(asked) <= 21


def test_lease_is_renewed_by_a_timer_while_training_is_silent(store, settings, script, wait_for, running, monkeypatch):
    monkeypatch.setattr(leased_run, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(leased_run, "FLUSH_SECONDS", 0.05)
    release = threading.Event()

    def silent(run, folder, control):
        yield RunStarted({})
        release.wait(60)
        yield RunFinished({})

    running.append(jobs := Jobs(store, silent))
    run = jobs.submit(settings())
    wait_for(lambda: store.get(run).state == "running")
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET lease_until = :soon"), {"soon": time.time() - 1000})

    def renewed():
        with store.engine.begin() as connection:
            return connection.execute(text("SELECT lease_until FROM runs")).scalar() > time.time()

    wait_for(renewed)
    assert store.mark_interrupted() == []
    release.set()
    wait_for(lambda: store.get(run).state == "done")


def test_worker_that_lost_its_lease_stops_and_writes_no_more(store, settings, script, wait_for, running):
    running.append(jobs := Jobs(store, script(steps=100_000, pause=0.005)))
    run = jobs.submit(settings())
    wait_for(lambda: not store.metrics(run).empty)
    with store.engine.begin() as connection:  # another process found the lease expired and took the run
        connection.execute(text("UPDATE runs SET worker = 'another', state = 'running'"))
    wait_for(lambda: jobs.running == [])
    row = store.get(run)
    assert (row.state, row.worker) == ("running", "another")
    steps = len(store.metrics(run, kinds=["loss"]))
    time.sleep(0.2)
    assert len(store.metrics(run, kinds=["loss"])) == steps


def test_busy_database_delays_words_but_loses_none(store, settings, script, monkeypatch):
    run = store.add_run(settings())
    record, calls = store.record, []

    def often_busy(*args, **kwargs):
        calls.append(1)
        if len(calls) % 2:
            raise UserError("database", "is locked", "try again")
        record(*args, **kwargs)

    monkeypatch.setattr(store, "record", often_busy)
    monkeypatch.setattr(jobs_module.time, "sleep", lambda seconds: None)
    worker = Worker(store, "cpu", script(steps=5))
    assert worker.take() == run
    assert worker.drive(run) == "done"
    assert list(store.metrics(run, kinds=["loss"]).step) == [1, 2, 3, 4, 5]


def test_ctrl_c_in_the_foreground_releases_the_run(store, settings):
    def interrupted(run, folder, control):
        yield RunStarted({})
        raise KeyboardInterrupt

    run = store.add_run(settings())
    worker = Worker(store, "cpu", interrupted)
    worker.take(run)
    with pytest.raises(KeyboardInterrupt):
        worker.drive(run)
    assert store.get(run).state == "interrupted"


def test_what_kdcore_logs_in_the_training_thread_lands_in_the_runs_log(store, settings):
    import logging

    def talks(run, folder, control):
        logging.getLogger("kdcore.engine").warning("the cache is cold")
        other = threading.Thread(target=lambda: logging.getLogger("kdcore.engine").warning("from elsewhere"))
        other.start()
        other.join()
        yield RunFinished({})

    run = store.add_run(settings())
    worker = Worker(store, "cpu", talks)
    worker.take(run)
    worker.drive(run)
    log = (run_dir(run) / "log.txt").read_text()
    assert "the cache is cold" in log and "elsewhere" not in log


def test_training_generator_is_closed_when_the_worker_leaves(store, settings, monkeypatch):
    monkeypatch.setattr(leased_run, "LEAVE_SECONDS", 0.0)
    closed = []

    def train(run, folder, control):
        try:
            yield RunStarted({})
            while True:
                yield Progress("forever", 0, 1)
        finally:
            closed.append(1)

    run = store.add_run(settings())
    worker = Worker(store, "cpu", train)
    worker.take(run)
    assert worker.drive(run, lambda event: worker.closing.set()) == "interrupted"
    assert closed == [1]


def test_closing_worker_lets_the_training_write_its_checkpoint(store, settings):
    written = []

    def train(run, folder, control):
        yield RunStarted({})
        while control.stop_requested() != "leave":
            yield Progress("forever", 0, 1)
        yield Progress("saving", 0, 1)
        written.append(1)

    run = store.add_run(settings())
    worker = Worker(store, "cpu", train)
    worker.take(run)
    assert worker.drive(run, lambda event: worker.closing.set()) == "interrupted"
    assert written == [1] and store.get(run).reason == "the program was closed"


def test_stop_that_was_asked_for_goes_before_the_end_of_the_program(store, settings, script):
    run = store.add_run(settings())
    worker = Worker(store, "cpu", script(steps=9, pause=0.2))
    worker.take(run)
    store.request_stop(run)

    def close(event):
        if isinstance(event, StepDone) and event.step == 4:
            worker.closing.set()

    assert worker.drive(run, close) == "stopped"


@pytest.mark.parametrize(("value", "threads"), [("off", 0), ("0", 0), ("", 1), ("on", 1)])
def test_process_without_a_worker_only_queues(store, settings, monkeypatch, value, threads):
    monkeypatch.setenv("KD_WORKER", value)
    jobs = jobs_module.jobs()
    before = {thread for thread in threading.enumerate() if thread.name.startswith("kdboard-")}
    monkeypatch.setattr(jobs, "_train", lambda *_: iter([RunFinished({})]))
    try:
        run = jobs.submit(settings())
        started = {thread for thread in threading.enumerate() if thread.name.startswith("kdboard-")} - before
        assert len(started) == threads
        assert threads or (store.get(run).state == "queued" and jobs.running == [])
    finally:
        jobs.shutdown()


def test_one_jobs_per_process_even_after_a_reload(store):
    first, names = jobs_module.jobs(), dict(vars(jobs_module))
    assert jobs_module.jobs() is first
    reloaded = importlib.reload(jobs_module)
    try:
        assert reloaded.jobs() is first
    finally:
        vars(jobs_module).update(names)  # what other tests import are the classes of before
    found = []
    threads = [threading.Thread(target=lambda: found.append(jobs_module.jobs())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one is first for one in found)


def test_trouble_with_the_store_is_shown_and_passes(store, settings, script, wait_for, running, monkeypatch):
    running.append(jobs := Jobs(store, script()))
    claim, broken = store.claim, [True]

    def sometimes(*args, **kwargs):
        if broken[0]:
            raise UserError("database", "the disk is full", "free some")
        return claim(*args, **kwargs)

    monkeypatch.setattr(store, "claim", sometimes)
    run = jobs.submit(settings())
    wait_for(lambda: "disk is full" in jobs.problem)
    broken[0] = False
    wait_for(lambda: ended(store, run))
    assert store.get(run).state == "done" and jobs.problem == ""


CHILD = """
import sys, time
from pathlib import Path
from kdcore.events import RunFinished, RunStarted
from kdcore.runs.worker import Jobs
mine = Path(sys.argv[1])
def train(run, folder, control):
    yield RunStarted({})
    with mine.open("a") as file:
        print(run.train.seed, file=file)
    time.sleep(float(sys.argv[2]))
    yield RunFinished({})
jobs = Jobs(train=train).start()
print("started", flush=True)
sys.stdin.readline()
jobs.shutdown()
"""


def child(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def test_two_processes_neither_steal_nor_double(store, settings, wait_for, tmp_path):
    runs = [store.add_run(settings(seed)) for seed in range(12)]
    files = [tmp_path / "a", tmp_path / "b"]
    children = [child(str(path), "0.05") for path in files]
    try:
        wait_for(lambda: all(ended(store, run) for run in runs))
    finally:
        for one in children:
            one.communicate("end\n", timeout=60)
    trained = [int(line) for path in files if path.exists() for line in path.read_text().split()]
    assert sorted(trained) == list(range(12))
    assert set(store.runs().state) == {"done"}


def test_killed_process_is_noticed_by_the_next_worker(store, settings, script, wait_for, tmp_path, running):
    run = store.add_run(settings())
    one = child(str(tmp_path / "a"), "600")
    try:
        wait_for(lambda: store.get(run).state == "running")
        one.send_signal(signal.SIGKILL)
        one.wait(60)
    finally:
        one.kill()
        one.communicate()
    assert store.get(run).state == "running"
    running.append(jobs := Jobs(store, script()).start())
    assert store.get(run).state == "interrupted"
    jobs.resume(run)
    wait_for(lambda: store.get(run).state == "done")


def test_importing_jobs_is_light():
    heavy = ("torch", "pandas", "sqlalchemy", "transformers")
    code = f"import sys, kdcore.runs.worker; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
    assert Path(jobs_module.__file__).name == "worker.py"
