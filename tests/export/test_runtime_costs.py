"""A run as deployed: every runtime answers as torch does, int8 nearly so, and what is missing is said."""

import json
import sys

import numpy as np
import pytest
import torch

from kdcore.config import StudentSpec
from kdcore.data.encode import encode
from kdcore.engine.evaluate import scores
from kdcore.engine.run_files import student_predictions
from kdcore.errors import UserError
from kdcore.events import Probed, Progress
from kdcore.export import peak_memory, runtime_costs
from kdcore.export.onnx_file import write_int8, write_onnx
from kdcore.export.runtime_costs import Answers, compare
from kdcore.export.runtimes import INT8, ONNX, RUNTIMES, logits_of, runner, timed_pass
from kdcore.models.anatomy import anatomy
from kdcore.models.students import load_classifier
from kdcore.models.tokenizers import load_tokenizer
from kdcore.paths import run_dir
from kdcore.tasks import TASKS
from tests.helpers import tiny_task

PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino")


@pytest.fixture
def distilled(trained, tmp_path) -> str:
    teacher = tiny_task.teacher(tmp_path, "big", layers=2)
    student = tiny_task.STUDENT.model_copy(update={"layers": 1})
    return trained(tiny_task.run("kd", [teacher], student=student, max_steps=3))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(runtime_costs, "ROUNDS", 2)
    monkeypatch.setattr(runtime_costs, "SECONDS", 0.0)
    monkeypatch.setattr(runtime_costs, "BATCHES", (1, 3))
    monkeypatch.setattr(runtime_costs, "peak_memory", lambda *about: 7)


def measured(store, run_id, teacher="big", beside=lambda: False):
    row = store.get(run_id)
    events = list(runtime_costs.measure(row.config, run_dir(run_id), row.facts, {}, teacher, beside))
    (probe,) = [event for event in events if isinstance(event, Probed)]
    return probe, [event for event in events if isinstance(event, Progress)]


def rows_of(run_id):
    dev = tiny_task.data_of(tiny_task.SENTIMENT).splits["validation"]
    return encode(dev, load_tokenizer(run_dir(run_id) / "student-best"), 32)


@pytest.mark.parametrize(("runtime", "tolerance"), [("torch-bf16", 0.05), ("onnx-fp32", 1e-5), ("openvino-fp32", 1e-4)])
def test_every_runtime_answers_as_torch_does(distilled, tmp_path, runtime, tolerance):
    student, rows = run_dir(distilled) / "student-best", rows_of(distilled)
    for name in () if runtime.startswith("torch") else PACKAGES:
        pytest.importorskip(name, reason="an extra is not installed")
    folder = student
    if not runtime.startswith("torch"):
        write_onnx(student, tmp_path / ONNX)
        folder = tmp_path
    expected = logits_of(runner("torch-fp32", student), rows)
    kept = student_predictions(run_dir(distilled), "validation")
    assert np.allclose(expected, kept["logits"], atol=1e-5), "and torch as the run did"
    found = logits_of(runner(runtime, folder), rows)
    assert found.dtype == np.float32 and np.abs(found - expected).max() < tolerance


def test_a_pass_counts_seconds_of_rows_without_padding():
    seen = []
    one = timed_pass(lambda words: seen.append(words) or np.zeros((3, 2), np.float32), 3, 5, 100)
    assert one() >= 0
    (words,) = seen
    assert {name: array.shape for name, array in words.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), (3, 5)
    )
    assert words["attention_mask"].all() and words["input_ids"].min() >= 5 and words["input_ids"].max() < 100


def test_a_student_of_factors_answers_in_every_runtime(store, trained, tmp_path, quick):
    for name in PACKAGES:
        pytest.importorskip(name, reason="an extra is not installed")
    spec = StudentSpec(layers=2, init="teacher", form="kronecker-8")
    run = trained(tiny_task.run("kronecker-bert", [tiny_task.teacher(tmp_path, "big")], student=spec, max_steps=3))
    found = measured(store, run)[0].data
    students = {one["runtime"]: one for one in found["models"] if one["kind"] == "student"}
    assert set(students) == set(RUNTIMES) and found["absent"] == []
    file = run_dir(run) / "student-best" / "model.safetensors"
    assert students["torch-fp32"]["disk"] == file.stat().st_size
    assert students["onnx-int8"]["disk"] < students["onnx-fp32"]["disk"]
    for runtime in ("onnx-fp32", "openvino-fp32"):
        assert students[runtime]["answers"]["changed"] == 0, runtime
    assert students["onnx-int8"]["answers"]["changed"] <= 3


def test_a_run_is_measured_in_every_runtime(store, distilled, quick):
    for name in PACKAGES:
        pytest.importorskip(name, reason="an extra is not installed")
    before = torch.get_num_threads()
    probe, progress = measured(store, distilled)
    found = probe.data
    assert torch.get_num_threads() == before and probe.name == "runtimes"
    names = {("student", "student"), ("big", "teacher"), ("big:cut", "cut")}
    assert {(one["name"], one["kind"]) for one in found["models"]} == names and found["absent"] == []
    assert len(found["models"]) == len(names) * len(RUNTIMES)
    lengths = rows_of(distilled).lengths
    assert found["rows"] == found["all_rows"] == len(lengths)
    assert {read["maximum"] for read in found["tokens"].values()} == {max(8, lengths.max())}
    cores = {1, runtime_costs._cores()}
    conditions = {(one["batch"], one["length"], one["threads"]) for one in found["records"]}
    assert conditions == {(b, name, n) for b in (1, 3) for name in found["tokens"]["student"] for n in cores}
    assert len(found["records"]) == len(conditions) * len(found["models"])
    assert all(0 < one["p50_ms"] <= one["p95_ms"] and one["repeats"] == 2 for one in found["records"])
    models = {(one["name"], one["runtime"]): one for one in found["models"]}
    kept = student_predictions(run_dir(distilled), "validation")
    right = scores(tiny_task.data_of(tiny_task.SENTIMENT).task, kept["logits"], kept["labels"])
    assert models["student", "onnx-fp32"]["scores"] == right
    assert models["student", "onnx-int8"]["disk"] < models["student", "onnx-fp32"]["disk"]
    assert models["student", "onnx-int8"]["against"] == "onnx-fp32"
    assert models["student", "openvino-fp32"]["answers"] == {"rows": len(lengths), "changed": 0, "lost": 0, "gained": 0}
    assert {one["memory"] for one in found["models"]} == {7}
    assert json.loads((run_dir(distilled) / "probes" / "runtimes.json").read_text()) == found
    assert any("scoring the student, ONNX Runtime, int8" in event.what for event in progress)


def test_without_the_extras_torch_is_measured_and_the_others_named(store, distilled, quick, monkeypatch):
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    found = measured(store, distilled, beside=lambda: True)[0].data
    assert {one["runtime"] for one in found["models"]} == {"torch-fp32", "torch-bf16"}
    why = {one["runtime"]: one["why"] for one in found["absent"] if one["name"] == "student"}
    assert set(why) == {"onnx-fp32", "onnx-int8", "openvino-fp32"}
    assert "pip install 'kdboard[onnx]'" in why["onnx-int8"]
    assert found["busy"] and all(record["busy"] for record in found["records"]), "a training ran beside it"


def test_openvino_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"openvino is not installed.*kdboard\[openvino\]"):
        runner("openvino-fp32", tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    for name, package in ((ONNX, "onnxruntime"), (ONNX, "openvino")):
        pytest.importorskip(package, reason="an extra is not installed")
        (tmp_path / name).write_bytes(b"no graph")
    for runtime in ("onnx-fp32", "openvino-fp32"):
        with pytest.raises(UserError, match=r"model\.onnx cannot be run"):
            runner(runtime, tmp_path)


def test_what_cannot_be_measured_is_said(store, distilled, quick):
    with pytest.raises(UserError, match="nobody is no longer where the run found it"):
        measured(store, distilled, "nobody")
    row = store.get(distilled)
    with pytest.raises(UserError, match="kept no best student"):
        list(runtime_costs.measure(row.config, run_dir(distilled).parent / "other", {}, {}))


def test_answers_are_compared_row_by_row():
    rng = np.random.default_rng(0)
    before, after = (rng.normal(size=(200, 3)).astype(np.float32) for _ in range(2))
    labels = rng.integers(0, 3, 200)
    lost = gained = changed = 0
    for one, two, label in zip(before, after, labels, strict=True):  # once more, row by row
        said, says = max(range(3), key=lambda i: one[i]), max(range(3), key=lambda i: two[i])
        changed += said != says
        lost += said == label != says
        gained += says == label != said
    assert compare(TASKS["mnli"], before, after, labels) == Answers(200, changed, lost, gained)
    moved = np.array([[1.0], [2.0], [3.0]], np.float32)
    found = compare(TASKS["stsb"], moved, moved + np.array([[0.0], [0.009], [0.02]], np.float32), np.zeros(3))
    assert found == Answers(3, 1, None, None)


def test_memory_is_that_of_a_process_of_its_own(distilled):
    if not peak_memory._CLEAR.exists():
        pytest.skip("this system does not count the peak")
    student = run_dir(distilled) / "student-best"
    words = anatomy(load_classifier(student)).vocabulary
    held = peak_memory.peak_memory("torch-fp32", student, 2, 8, words, 1)
    assert held is not None and 0 < held < 2**31
    assert peak_memory.peak_memory("torch-fp32", student / "nothing", 2, 8, words, 1) is None


def test_int8_is_written_beside_the_whole_graph(distilled, tmp_path):
    for name in PACKAGES[:3]:
        pytest.importorskip(name, reason="the extra onnx is not installed")
    write_onnx(run_dir(distilled) / "student-best", tmp_path / ONNX)
    write_int8(tmp_path / ONNX, tmp_path / INT8)
    found = logits_of(runner("onnx-int8", tmp_path), rows_of(distilled))
    whole = logits_of(runner("onnx-fp32", tmp_path), rows_of(distilled))
    assert 0 < np.abs(found - whole).max() < 0.5
