"""A database that was moved or lost: folders with students are spared by gc and can be listed again."""

import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.engine.pins import pinned
from kdcore.paths import cache_subdir, run_dir
from kdcore.runs.cleanup import find_garbage
from kdcore.runs.recover import recover
from kdcore.store import open_store
from tests.helpers.databases import on_sqlite


def kd(*arguments):
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return outcome.exit_code, outcome.output


def make_old(path: Path) -> None:
    for inner in [path, *path.rglob("*")]:
        os.utime(inner, (0, 0))


@pytest.fixture
def moved(store, settings, database, new_database, monkeypatch, tmp_path):
    """A new, empty database beside the folders of a finished and an interrupted run, and one without results."""
    done, halted, empty = (store.add_run(settings(seed, name=f"run {seed}")) for seed in range(3))
    for run, parts in ((done, ("student-best", "student-last", "predictions")), (halted, ("checkpoint",)), (empty, ())):
        folder = run_dir(run)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(store.get(run).config.model_dump_json())
        for part in parts:
            (folder / part).mkdir()
    answers = {"logits": np.array([[0.0, 1.0], [1.0, 0.0]]), "labels": np.array([1, 1]), "ids": np.array([0, 1])}
    np.savez(run_dir(done) / "predictions" / "validation.student.npz", **answers)
    for run in (done, halted, empty):
        make_old(run_dir(run))
    new_database("cache")
    if database == "sqlite":
        monkeypatch.setenv("KD_DATABASE_URL", f"sqlite:///{tmp_path / 'new.db'}")
    return open_store(), done, halted, empty


def test_gc_keeps_students_that_no_database_lists(moved):
    _, done, halted, empty = moved
    code, out = kd("cache", "gc")
    assert code == 0 and "runs --recover" in out and done in out and halted in out
    assert run_dir(done).exists() and run_dir(halted).exists() and not run_dir(empty).exists()
    assert kd("cache", "gc", "--unlisted")[0] == 0
    assert not run_dir(done).exists() and not run_dir(halted).exists()


def test_runs_are_listed_again_from_their_folders(moved):
    store, done, halted, _ = moved
    assert "run 0" in kd("runs", "--recover")[1]
    frame = store.runs().set_index("id")
    assert dict(frame.state) == {done: "done", halted: "interrupted"}
    assert frame.loc[done, "score"] == 0.5 and frame.loc[done, "name"] == "run 0"
    store.requeue(halted)
    assert recover(store) == ([], [])


def test_folder_with_damaged_settings_is_named_and_left(moved):
    store, done, halted, _ = moved
    (run_dir(done) / "config.json").write_text('{"task": 7')
    (cache_subdir("runs") / "Bad name").mkdir()
    (cache_subdir("runs") / "Bad name" / "student-best").mkdir()
    listed, refused = recover(store)
    assert listed == [halted] and len(refused) == 2 and any(done in sentence for sentence in refused)
    assert run_dir(done).exists()


@on_sqlite
def test_damaged_database_leads_to_the_recovery(store):
    with pytest.raises(Exception, match="runs --recover"), store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE probes")
        connection.exec_driver_sql("DROP TABLE evaluations")
        connection.exec_driver_sql("DROP TABLE metrics")
        connection.exec_driver_sql("DROP TABLE runs")
        connection.commit()
        store.runs()


def test_what_killed_processes_left_is_swept(store, settings):
    run, live = store.add_run(settings(0)), store.add_run(settings(1))
    store.claim("w", "cpu", live)
    store.cancel(run)
    left = [run_dir(run) / ".student-best.12345678.writing", run_dir(run) / "checkpoint" / "00-00000005.ab.partial",
            run_dir(run) / ".student-best.12345678.old"]  # fmt: skip
    kept = [run_dir(live) / ".student-best.12345678.writing", run_dir(run) / ".student-last.12345678.old",
            run_dir(run) / "checkpoint" / "00-00000003"]  # fmt: skip
    for folder in (*left, *kept, run_dir(run) / "student-best"):
        folder.mkdir(parents=True)
        make_old(folder)
    entry = cache_subdir("outputs") / "entry"
    entry.mkdir()
    with pinned(entry):
        (mine,) = entry.iterdir()
        gone = entry / "pin-0a1b2c3d4e5f-7-7-0a1b2c3d"  # of another computer, not touched for long
        gone.touch()
        for pin in (mine, gone):
            os.utime(pin, (0, 0))
        assert kd("cache", "gc")[0] == 0
        assert not any(path.exists() for path in (*left, gone))
        assert all(path.exists() for path in (*kept, mine))
    assert list(find_garbage(store)) == []


def test_what_killed_imports_and_teacher_trainings_left_is_swept(store):
    old, new = cache_subdir("runs") / ".import-0a", cache_subdir("runs") / ".import-0b"
    work = cache_subdir("teachers") / "task-teacher-0123.work"
    half, kept = work / ".student-best.12345678.writing", work / "checkpoint"
    for folder in (old / "student-best", new / "student-best", half, kept):
        folder.mkdir(parents=True)
    for folder in (old, half, kept):
        make_old(folder)
    assert kd("cache", "gc")[0] == 0
    assert not old.exists() and not half.exists() and new.exists() and kept.exists()


@pytest.mark.parametrize("size", ["inf", "nan"])
def test_size_that_is_no_number_is_refused(store, size):
    code, out = kd("cache", "gc", "--limit-gb", size)
    assert code == 2 and "--limit-gb" in out


def test_gc_spares_what_has_been_on_its_way_for_hours(store):
    coming, left = (cache_subdir("pulled") / name for name in ("coming", "left"))
    for folder in (coming, left):
        (folder / "student-best").mkdir(parents=True)
        (folder / "student-best" / "model.safetensors").write_bytes(b"part")
        make_old(folder)
    os.utime(coming / "student-best" / "model.safetensors")  # its next part has just come
    assert [item.path for item in find_garbage(store)] == [left]
