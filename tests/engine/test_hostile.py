"""What goes wrong on real machines: no GPU, no room, no memory, numbers that explode, files that are damaged."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from kdcore import paths
from kdcore.config import StudentSpec
from kdcore.engine import checkpoint, loop, results
from kdcore.engine.device import build_facts, compute_for, has_fast_bf16
from kdcore.errors import CorruptError, UserError
from kdcore.events import RunFinished, StepDone
from kdcore.models.students import save_student
from kdcore.runs.worker import Worker, explain
from kdcore.store import open_store
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run, same


def test_a_gpu_where_there_is_none(trained, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError) as said:
        trained(run("fine-tune", device="cuda"))
    assert said.value.field == "train.device" and "cpu" in said.value.remedy


def test_bf16_where_it_would_be_emulated(monkeypatch):
    monkeypatch.setattr("kdcore.engine.device.has_fast_bf16", lambda device: False)
    with pytest.raises(UserError) as said:
        compute_for(run(precision="bf16").train)
    assert said.value.field == "train.precision"
    assert compute_for(run(precision="auto").train).precision == "fp32"


@pytest.mark.skipif(not has_fast_bf16("cpu"), reason="this processor has no AVX512-BF16 or AMX")
def test_bf16_trains_and_keeps_float32_weights(trained, one_teacher):
    done = trained(run("pkd", one_teacher, precision="bf16", epochs=1))
    assert all(tensor.dtype == torch.float32 for tensor in done.weights().values())
    plain = trained(run("pkd", one_teacher, precision="fp32", epochs=1))
    assert not same(done.weights(), plain.weights())
    assert done.of(StepDone)[0].loss == pytest.approx(plain.of(StepDone)[0].loss, rel=0.05)


def exploding(folder, size: float) -> StudentSpec:
    model = world.model(seed=1)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.fill_(size)
    save_student(model, world.tokenizer(), folder)
    return StudentSpec(layers=2, width=16, heads=2, intermediate=32, init="checkpoint", checkpoint=str(folder))


def test_a_loss_that_is_no_number_names_the_rate_and_the_term(trained, tmp_path, one_teacher):
    student = exploding(tmp_path / "huge", 3e38)
    with pytest.raises(UserError) as said:
        trained(run("kd", one_teacher, {"alpha": 0.0}, student=student))
    assert said.value.field == "train.lr" and "step 1" in said.value.problem and "hard" in said.value.problem
    assert "lower" in said.value.remedy


def test_a_rate_far_too_high_ends_in_words(trained, monkeypatch):
    """Adam bounds its steps, so the rate is raised past its limit; weights overflow between two logged points."""
    rate = loop.set_rate

    def huge(optimizer, *rest):
        rate(optimizer, *rest)
        for group in optimizer.param_groups:
            group["lr"] = 1e38
        return 1e38

    monkeypatch.setattr(loop, "set_rate", huge)
    for log_every in (1, 100):
        with pytest.raises(UserError) as said:
            trained(run("fine-tune", log_every=log_every))
        assert said.value.field == "train.lr"


# --- the disk -------------------------------------------------------------------------------------------------------

ERRORS = {
    "as the system says it": OSError(errno.ENOSPC, "No space left on device"),
    "as safetensors says it": SafetensorError("Error while serializing: No space left on device (os error 28)"),
}


def full_at(monkeypatch, module, name: str, calls: int, error: Exception) -> None:
    """From the so-many-th call on, the disk is full."""
    real, count = getattr(module, name), [0]

    def save(*args, **kwargs):
        count[0] += 1
        if count[0] >= calls:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, save)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("calls", [1, 4])
def test_a_disk_that_fills_up_ends_the_run_and_it_goes_on_later(trained, tmp_path, monkeypatch, error, calls):
    setting, folder = run("fine-tune"), tmp_path / "full"
    whole = trained(setting)
    with monkeypatch.context() as patch:
        full_at(patch, checkpoint, "save_file", calls, error)
        with pytest.raises(OSError) as said:
            trained(setting, folder)
    assert said.value.errno == errno.ENOSPC
    failed = explain(said.value)
    assert "disk is full" in failed.reason and "resume" in failed.remedy
    assert not list((folder / "checkpoint").glob("*.partial"))
    assert same(trained(setting, folder).weights(), whole.weights())


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_no_room_for_the_best_student(trained, tmp_path, monkeypatch, error):
    setting, folder = run("fine-tune"), tmp_path / "full"
    whole = trained(setting)
    with monkeypatch.context() as patch:
        full_at(patch, loop, "save_student", 1, error)
        with pytest.raises(OSError) as said:
            trained(setting, folder)
    assert said.value.errno == errno.ENOSPC
    assert same(trained(setting, folder).weights("best"), whole.weights("best"))


def test_other_failures_of_safetensors_stay_what_they_are(trained, monkeypatch):
    full_at(monkeypatch, checkpoint, "save_file", 1, SafetensorError("invalid shape"))
    with pytest.raises(SafetensorError, match="invalid shape"):
        trained(run("fine-tune"))


# --- memory, through the worker -------------------------------------------------------------------------------------


def test_out_of_memory_is_said_with_advice_and_the_run_goes_on_later(one_teacher, trained, monkeypatch):
    setting = run("kd", one_teacher)
    whole = trained(setting)
    store = open_store()
    run_id, worker = store.add_run(setting), Worker(store, "auto")
    with monkeypatch.context() as patch:
        memory = RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory")
        full_at(patch, loop, "train_step", 9, memory)
        assert worker.take() == run_id and worker.drive(run_id) == "failed"
    row = store.get(run_id)
    assert "out of memory" in row.reason and "accumulate" in row.remedy and row.detail
    store.requeue(run_id)
    assert worker.take() == run_id and worker.drive(run_id) == "done"
    folder = paths.run_dir(run_id)
    assert same(world.weights(folder / "student-last"), whole.weights())
    assert "resumed_at=5" in (folder / "log.txt").read_text()


# --- what a run left, damaged ---------------------------------------------------------------------------------------


def written(folder) -> None:
    """A run's folder as a finished run leaves it, made by hand."""
    save_student(world.model(), world.tokenizer(), folder / "student-best")
    save_student(world.model(seed=9), world.tokenizer(), folder / "teacher")
    (folder / "predictions").mkdir()
    arrays = {"logits": np.zeros((3, 2), np.float32), "labels": np.array([0, 1, 0]), "ids": np.arange(3)}
    np.savez_compressed(folder / "predictions" / "validation.student.npz", **arrays)
    np.savez_compressed(folder / "predictions" / "validation.t.0-b.npz", **arrays)
    (folder / "teachers.json").write_text(json.dumps({"t.0-b": str(folder / "teacher"), "gone": "/nowhere"}))


def test_what_a_run_left_is_read_back(tmp_path):
    written(tmp_path)
    assert set(results.predictions(tmp_path)) == {("validation", "student"), ("validation", "t.0-b")}
    assert set(results.teacher_folders(tmp_path)) == {"t.0-b"} == set(results.teachers(tmp_path))
    model, tokenizer = results.student(tmp_path)
    assert not model.training and len(tokenizer) == len(world.VOCABULARY)
    with pytest.raises(UserError, match="kept no last student"):
        results.student(tmp_path, "last")


def test_a_run_that_left_nothing(tmp_path):
    assert results.predictions(tmp_path) == {} and results.teachers(tmp_path) == {}
    with pytest.raises(UserError, match="kept no best student"):
        results.student(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"no archive", b"PK\x03\x04" + b"x" * 50, "cut", "flipped", "other", "object"]
)
def test_damaged_predictions(tmp_path, content):
    written(tmp_path)
    file = tmp_path / "predictions" / "validation.student.npz"
    if content == "cut":
        content = file.read_bytes()[:-60]
    elif content == "flipped":
        content = bytearray(file.read_bytes())
        content[60:75] = bytes(255 - byte for byte in content[60:75])
    if content == "other":
        np.savez(file, something=np.zeros(3))
    elif content == "object":
        np.savez(file, logits=np.array([{}], dtype=object), labels=np.zeros(1), ids=np.zeros(1))
    else:
        file.write_bytes(content)
    with pytest.raises(CorruptError) as said:
        results.predictions(tmp_path)
    assert "validation.student.npz" in said.value.problem and said.value.remedy


@pytest.mark.parametrize("content", ["", "[1]", "null", "{", '{"t": 5}', '"x"', "\udcff"])
def test_a_damaged_list_of_teachers(tmp_path, content):
    (tmp_path / "teachers.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CorruptError):
        results.teacher_folders(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_student(tmp_path, name):
    written(tmp_path)
    (tmp_path / "student-best" / name).write_bytes(b"{}")
    with pytest.raises(CorruptError):
        results.student(tmp_path)


def test_a_best_student_that_is_damaged_before_the_readings(trained, monkeypatch):
    told = iter([0.9, 0.1])
    real, final = loop.scores, loop.run_stages
    monkeypatch.setattr(loop, "scores", lambda *a: {"accuracy": next(told)} if len(a[2]) == 10 else real(*a))

    def spoil(job, control):
        stopped = yield from final(job, control)
        (job.folder / "student-best" / "model.safetensors").write_bytes(b"half")
        return stopped

    monkeypatch.setattr("kdcore.engine.trainer.run_stages", spoil)
    with pytest.raises(CorruptError):
        trained(run("fine-tune"))


def test_facts_name_what_bits_depend_on():
    facts = build_facts(compute_for(run().train))
    assert {"torch", "capability", "threads", "device", "precision", "hardware"} <= set(facts)
    assert json.loads(json.dumps(facts)) == facts


def test_a_stop_during_a_long_fill_is_heard(trained, one_teacher):
    """Rows that were answered stay; the next start only does the rest."""

    class Now:
        asked = 0

        def stop_requested(self):
            self.asked += 1
            return "keep" if self.asked > 1 else None  # the first question comes before the teachers are scored

    stopped = trained(run("kd", one_teacher), control=Now())
    assert not stopped.of(StepDone) and stopped.events[-1].step == 0
    on = trained(stopped.run, stopped.folder)
    assert on.of(RunFinished)[0].summary["cache"]["hits"] > 0
    assert same(on.weights(), trained(stopped.run).weights())
