"""A worker under faults: killed at a checkpoint, woken after its lease, before a folder that cannot be opened."""

import os
import pickle
from pathlib import Path

import pytest
from sqlalchemy import text

from kdcore import disk
from kdcore.disk import FullDiskError
from kdcore.engine import checkpoint
from kdcore.events import RunFinished, StepDone
from kdcore.models.students import save_student
from kdcore.paths import cache_subdir, run_dir
from kdcore.runs import event_log, leased_run
from kdcore.runs import work as work_module
from kdcore.runs.failures import explain
from kdcore.runs.work import work
from kdcore.runs.worker import Jobs, LeasedRun, StopNow, Worker
from kdcore.store.claims import ATTEMPTS
from tests.helpers import kill_process
from tests.helpers import tiny_task as world


def step(number):
    return StepDone("distil", number, 9, 1.0, 1.0, {}, {}, 1e-3, 1.0, 1.0, 0.5)


@pytest.mark.parametrize("number", [1, 2])
def test_points_before_a_checkpoint_outlive_a_kill_at_that_moment(store, number):
    setting = world.run("fine-tune", checkpoint_every=5, log_every=1, evaluate_every=2, epochs=4)
    run = store.add_run(setting)
    assert kill_process.in_a_process(kill_process.work_and_die_at_checkpoint, run, number) == -9
    reached = checkpoint.read_state(checkpoint.newest(run_dir(run) / "checkpoint")).step
    assert list(store.metrics(run, kinds=["loss"]).step) == list(range(1, reached + 1))
    scored = store.evaluations(run)
    assert sorted(set(scored[scored.split == "select"].step)) == list(range(2, reached + 1, 2))
    assert store.mark_interrupted() == [run]
    store.requeue(run)
    assert kill_process.in_a_process(kill_process.work, run) == 0
    assert store.get(run).state == "done"
    steps = list(store.metrics(run, kinds=["loss"]).step)
    assert steps == list(range(1, max(steps) + 1))


@pytest.fixture
def lost(store, settings):
    """A worker's hold on a run that another worker has taken over meanwhile."""
    run = store.add_run(settings())
    mine = Worker(store, "cpu")
    assert mine.take(run) == run
    held = LeasedRun(store, run, mine.name, mine.closing)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET worker = 'another'"))
    return held


@pytest.mark.parametrize("pending", [True, False])
def test_woken_worker_overwrites_no_student_and_no_checkpoint(lost, tmp_path, pending):
    folder, model = tmp_path / "run", world.model()
    checkpoint.save(folder / "checkpoint", checkpoint.TrainingState(step=4), {"student": model}, {})
    save_student(model, None, folder / "student-best")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    if pending:
        lost.say(step(1))
    newer, place = world.model(seed=9), checkpoint.TrainingState(step=8)
    with pytest.raises(StopNow):
        save_student(newer, None, folder / "student-best", lost.before_saving)
    with pytest.raises(StopNow):
        checkpoint.save(folder / "checkpoint", place, {"student": newer}, {}, lost.before_saving)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_engine_asks_before_each_student_and_checkpoint(tmp_path, monkeypatch):
    """Whatever the engine puts in place of older weights, it asks first; the run's end asks, too."""
    from kdcore.engine.trainer import train

    monkeypatch.setattr("kdcore.data.pocket.load", world.data)
    asked, done = [], []

    class Asked:
        def stop_requested(self):
            return None

        def before_saving(self):
            asked.append(1)

    real = os.rename, Path.rename
    monkeypatch.setattr(os, "rename", lambda a, b: (done.append(len(asked)), real[0](a, b))[1])
    monkeypatch.setattr(Path, "rename", lambda a, b: (done.append(len(asked)), real[1](a, b))[1])
    list(train(world.run("fine-tune", checkpoint_every=3, evaluate_every=4), tmp_path / "run", Asked()))
    assert len(asked) >= 4 and done and 0 not in done


def test_own_lease_lets_a_student_be_saved(store, settings):
    mine = Worker(store, "cpu")
    run = store.add_run(settings())
    mine.take(run)
    held = LeasedRun(store, run, mine.name, mine.closing)
    held.say(step(3))
    held.before_saving()
    assert list(store.metrics(run, kinds=["loss"]).step) == [3]


@pytest.mark.parametrize("at", ["a file is in its place", "its log is a folder"])
def test_run_whose_folder_cannot_be_opened_fails_and_the_queue_goes_on(store, settings, script, wait_for, at):
    hurt, good = store.add_run(settings(0)), store.add_run(settings(1))
    folder = cache_subdir("runs") / hurt
    if at.startswith("a file"):
        folder.write_text("no folder")
    else:
        (folder / "log.txt").mkdir(parents=True)
    jobs = Jobs(store, script()).start()
    try:
        wait_for(lambda: store.get(good).state == "done")
    finally:
        jobs.shutdown()
    row = store.get(hurt)
    assert row.state == "failed" and hurt in row.reason and row.remedy and row.worker is None


def test_log_that_cannot_be_written_fails_the_run_with_its_reason(store, settings, script, monkeypatch):
    monkeypatch.setattr(event_log, "print", _full_disk, raising=False)
    worker = Worker(store, "cpu", script())
    run = store.add_run(settings())
    worker.take(run)
    assert worker.drive(run) == "failed"
    assert "disk is full" in store.get(run).reason


class Disk:
    """What `shutil.disk_usage` says of a disk."""

    def __init__(self, free):
        self.free = free


@pytest.fixture
def full_after_a_step(script):
    """A training on a computer whose disk fills up; elsewhere it would end well."""
    return script(steps=5, fail=OSError(28, "No space left on device"))


def test_run_of_a_full_disk_goes_on_elsewhere(store, settings, script, full_after_a_step):
    run, later = store.add_run(settings(0)), store.add_run(settings(1))
    here = Worker(store, "cpu", full_after_a_step, again=True)
    with pytest.raises(FullDiskError, match=r"KD_CACHE_DIR.*is full.*cache gc"):
        work(here, idle=0)
    assert store.get(run).state == "interrupted" and "is full" in store.get(run).reason
    assert store.get(later).state == "queued" and store.active() == []
    assert work(Worker(store, "cpu", script(), again=True), idle=0) == {run: "done", later: "done"}


def test_run_that_fills_every_disk_fails_with_the_reason(store, settings, full_after_a_step):
    run = store.add_run(settings())
    for _ in range(ATTEMPTS):
        with pytest.raises(FullDiskError):
            work(Worker(store, "cpu", full_after_a_step, again=True), idle=0)
    row = store.get(run)
    assert row.state == "failed" and "is full" in row.reason and store.take_up() == []


def test_dashboard_alone_fails_the_run_as_there_is_nobody_else(store, settings, full_after_a_step):
    run = store.add_run(settings())
    assert work(Worker(store, "cpu", full_after_a_step), idle=0) == {run: "failed"}
    assert "disk is full" in store.get(run).reason


def test_worker_without_room_takes_no_run(store, settings, script, monkeypatch):
    run = store.add_run(settings())
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: Disk(disk.LEAST_FREE - 1))
    monkeypatch.setattr(work_module, "FULL_SECONDS", 0.0)
    with pytest.raises(FullDiskError):
        work(Worker(store, "cpu", script(), again=True), idle=0)
    assert store.get(run).state == "queued"
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: Disk(disk.LEAST_FREE))
    assert work(Worker(store, "cpu", script(), again=True), idle=0) == {run: "done"}


def test_full_disk_reaches_the_farm_from_another_process():
    error = pickle.loads(pickle.dumps(disk.full_disk()))
    assert isinstance(error, FullDiskError) and "cache gc" in error.remedy


def _full_disk(*_, **__):
    raise OSError(28, "No space left on device")


def test_rights_and_memory_are_named():
    refused = explain(PermissionError(13, "Permission denied", "/x/runs"))
    assert "/x/runs" in refused.reason and "write" in refused.remedy
    assert "out of memory" in explain(RuntimeError("could not create a primitive")).reason


def test_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "outputs").write_text("")
    with pytest.raises(OSError) as said:
        (tmp_path / "outputs").mkdir()
    failed = explain(said.value)
    assert str(tmp_path / "outputs") in failed.reason and "folder" in failed.remedy


def test_dead_run_of_another_process_is_seen_while_this_one_trains(store, settings, monkeypatch):
    monkeypatch.setattr(leased_run, "LOOK_SECONDS", 0.0)
    dead, mine = store.add_run(settings(0)), store.add_run(settings(1))
    store.claim("other", "cpu", dead)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET process_started = '1' WHERE id = :run"), {"run": dead})
    seen = []

    def train(run, folder, control):
        control.tick()  # as the timer does
        seen.append(store.get(dead).state)
        yield RunFinished({})

    worker = Worker(store, "cpu", train)
    worker.take(mine)
    assert worker.drive(mine) == "done" and seen == ["interrupted"]
