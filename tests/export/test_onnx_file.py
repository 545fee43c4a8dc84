"""The ONNX file: the student's answers at every batch and length, or no folder at all."""

import errno
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdcore.data.encode import encode
from kdcore.engine.evaluate import scores
from kdcore.engine.run_files import student_predictions
from kdcore.errors import UserError
from kdcore.export import onnx_file, runtimes
from kdcore.export.answers import answer_file, open_reader
from kdcore.export.folder import export_student, read_facts
from kdcore.export.onnx_check import OnnxCheck
from kdcore.export.record import read_record
from kdcore.models.tokenizers import load_tokenizer
from kdcore.paths import run_dir
from kdcore.tasks import TASKS
from tests.helpers import tiny_task

CHECK = OnnxCheck(
    source="rows of the task", rows=512, largest=7.6e-7, tolerance=1e-3, same=1.0, opset=20, versions={"onnx": "1"}
)


@pytest.fixture
def pair(trained) -> str:
    return trained(tiny_task.run("fine-tune", task=tiny_task.PARAPHRASE, max_steps=3))


@pytest.fixture
def pretended(monkeypatch):
    """No package is needed: the file is empty, and answers as the weights do, moved by so much."""
    moved = {"by": 0.0}

    def answer(file, rows):
        return runtimes.torch_logits(file.parent, rows) + np.float32(moved["by"])

    monkeypatch.setattr(onnx_file, "extra_package", lambda name, extra, field: None)
    monkeypatch.setattr(onnx_file, "version", lambda name: "1")
    monkeypatch.setattr(onnx_file, "write_onnx", lambda folder, file: file.touch())
    monkeypatch.setattr(onnx_file, "write_int8", lambda source, file: file.touch())
    monkeypatch.setattr(onnx_file, "onnx_logits", answer)
    return moved


def test_real_files_answer_as_the_run_did(store, pair, tmp_path):
    """The whole way: graph, check, 8-bit weights and their score, answers to a file, at lengths that differ."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    check = export_student(store, pair, tmp_path / "m", onnx=True, int8=True)
    assert check is not None and check.rows == 30 and check.source == "rows of the task"
    assert 0 < check.largest < 1e-4 and check.same == 1.0
    dev = tiny_task.data_of(tiny_task.PARAPHRASE).splits["validation"]
    lines = [json.dumps({"sentence1": one, "sentence2": two}) for one, two in zip(*dev.texts, strict=True)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    reader = open_reader(tmp_path / "m")
    assert reader.runtime == "onnx"
    answer_file(reader, tmp_path / "rows.jsonl", tmp_path / "out.jsonl")
    said = [json.loads(line)["probability"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    kept = student_predictions(run_dir(pair), "validation")["logits"]
    assert np.allclose(said, torch.tensor(kept).softmax(-1).max(-1).values, atol=1e-5)
    one = replace(reader, runtime="onnx").logits([[dev.texts[0][0]], [dev.texts[1][0]]])
    assert np.allclose(one, kept[:1], atol=1e-5)
    rounded = open_reader(tmp_path / "m", runtime="onnx-int8").logits(dev.texts)
    assert check.int8 == {"validation": scores(TASKS[tiny_task.PARAPHRASE], rounded, dev.labels)}
    assert np.abs(rounded - kept).max() > check.largest
    card = (tmp_path / "m" / "README.md").read_text()
    assert check.sentence() in card and "With 8-bit weights" in card
    assert read_facts(tmp_path / "m")["onnx"]["opset"] == onnx_file.OPSET
    (tmp_path / "m" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match=r"model\.onnx cannot be run"):
        reader.logits(dev.texts)


def test_without_the_package_nothing_is_written_and_the_extra_is_named(store, student, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    monkeypatch.setitem(__import__("sys").modules, "onnx", type(np)("onnx"))
    with pytest.raises(UserError, match=r"the package onnxscript is not installed; .*kdboard\[onnx\]"):
        export_student(store, student, tmp_path / "out" / "m", onnx=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_other_answers_than_the_students_are_refused(store, student, tmp_path, pretended):
    pretended["by"] = 0.5 * onnx_file.TOLERANCE
    assert export_student(store, student, tmp_path / "a", onnx=True).largest == pytest.approx(5e-4, rel=0.01)
    for wrong in (2 * onnx_file.TOLERANCE, float("nan")):
        pretended["by"] = wrong
        with pytest.raises(UserError, match="answers otherwise than the student"):
            export_student(store, student, tmp_path / "b", onnx=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "cache"}


def test_a_full_disk_leaves_nothing(store, student, tmp_path, pretended, monkeypatch):
    def full(folder, file):
        file.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx_file, "write_onnx", full)
    with pytest.raises(UserError, match="No space left"):
        export_student(store, student, tmp_path / "out" / "m", onnx=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_operator_without_a_counterpart_is_said_and_nothing_is_written(store, student, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise torch.onnx.errors.OnnxExporterError("no decomposition of aten::strange")

    monkeypatch.setattr(onnx_file, "extra_package", lambda name, extra, field: None)
    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(UserError, match=r"ONNX cannot hold this student.*aten::strange"):
        export_student(store, student, tmp_path / "out" / "m", onnx=True)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("change", ["gone", "other"])
def test_without_the_tasks_rows_random_ones_are_compared_and_nothing_is_scored(
    store, student, tmp_path, pretended, monkeypatch, change
):
    def load(task, own):
        if change == "gone":
            raise UserError("task", "not here", "fetch it")
        return replace(tiny_task.data_of(), fingerprint="of other rows")

    monkeypatch.setattr(onnx_file.data, "load", load)
    check = export_student(store, student, tmp_path / "m", onnx=True, int8=True)
    assert check.source.startswith("rows of random words") and check.rows == 64
    assert check.int8 == {} and "not scored" in check.int8_sentence()


def test_rows_of_all_lengths_are_compared(monkeypatch, pair, store):
    record = read_record(store, pair)
    dev = tiny_task.data_of(tiny_task.PARAPHRASE).splits["validation"]
    rows = encode(dev, load_tokenizer(record.folder), 32)
    monkeypatch.setattr(onnx_file, "MOST_ROWS", 7)
    few = onnx_file._spread(rows)
    assert len(few) == 7 and list(few.lengths) == sorted(few.lengths)
    assert few.lengths[0] == rows.lengths.min() and few.lengths[-1] == rows.lengths.max()
    place = int(np.flatnonzero(rows.ids == few.ids[3])[0])
    own = slice(few.offsets[3], few.offsets[4])
    assert few.input_ids[own].tolist() == rows.input_ids[rows.offsets[place] : rows.offsets[place + 1]].tolist()


def test_words_of_the_check():
    assert CHECK.sentence() == (
        "model.onnx: on 512 rows of the task no output differs by more than 8e-07 (allowed: 0.001)"
    )
    assert CHECK.int8_sentence() == ""
    rounded = replace(CHECK, int8={"validation": {"accuracy": 0.669}}, int8_same=0.996)
    assert rounded.int8_sentence().endswith("99.6 % of the answers are the same; accuracy 66.9 on validation")
    assert json.loads(json.dumps(rounded.data()))["largest"] == 7.6e-7
