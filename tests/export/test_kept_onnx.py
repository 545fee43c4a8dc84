"""ONNX files that a run keeps: of its present weights or none, and a zip file that answers from itself alone."""

import io
import json
import os
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdcore.engine.run_files import student_predictions
from kdcore.errors import UserError
from kdcore.export import kept_onnx as keeping
from kdcore.export.answers import open_reader
from kdcore.export.folder import read_facts
from kdcore.export.kept_onnx import kept_onnx, make_onnx, onnx_zip
from kdcore.export.onnx_check import OnnxCheck
from kdcore.export.runtimes import INT8, ONNX
from kdcore.paths import run_dir
from tests.helpers import tiny_task

CHECK = OnnxCheck(
    source="rows of the task", rows=30, largest=7.6e-7, tolerance=1e-3, same=1.0, opset=20, versions={"onnx": "1"},
    int8={"validation": {"accuracy": 0.5}}, int8_same=0.9,
)  # fmt: skip


@pytest.fixture
def pretended(monkeypatch):
    """`export_student` without its packages: two files that hold their names."""

    def export(store, run, target, onnx, int8):
        target.mkdir()
        for name in (ONNX, INT8):
            (target / name).write_text(name)
        return CHECK

    monkeypatch.setattr(keeping, "export_student", export)


def unpacked(content, folder):
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        file.extractall(folder)
    (inner,) = folder.iterdir()
    return inner


@pytest.mark.parametrize("task", [tiny_task.SENTIMENT, tiny_task.PARAPHRASE])
def test_the_zip_files_answer_as_the_run_did(store, trained, tmp_path, task):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    run = trained(tiny_task.run("fine-tune", task=task, max_steps=3))
    made = make_onnx(store, run)
    assert made == kept_onnx(run) and made.check.largest <= made.check.tolerance
    dev, kept = tiny_task.data_of(task).splits["validation"], student_predictions(run_dir(run), "validation")["logits"]

    whole = unpacked(onnx_zip(store, run), tmp_path / "whole")
    assert {path.name for path in whole.iterdir()} == {
        "README.md", "kdboard.json", "config.json", "tokenizer.json", "tokenizer_config.json", ONNX,
    }  # fmt: skip
    assert np.allclose(open_reader(whole).logits(dev.texts), kept, atol=1e-4)
    assert INT8 not in (whole / "README.md").read_text() and "8-bit" not in (whole / "README.md").read_text()
    assert np.allclose(by_the_card(whole, [column[0] for column in dev.texts]), kept[0], atol=1e-4)

    small = unpacked(onnx_zip(store, run, int8=True), tmp_path / "small")
    reader = open_reader(small)
    assert reader.runtime == "onnx-int8" and not (small / ONNX).exists()
    answered = reader.logits(dev.texts)
    assert (answered.argmax(1) == torch.tensor(kept).argmax(-1).numpy()).mean() == made.check.int8_same
    assert read_facts(small)["onnx"]["int8_same"] == made.check.int8_same
    alone = reader.logits([[column[0]] for column in dev.texts])[0]  # activations are scaled over the whole batch
    assert np.allclose(by_the_card(small, [column[0] for column in dev.texts]), alone, atol=1e-5)


def by_the_card(folder, texts):
    """What the card's own lines give for a row."""
    code = re.search(r"## Use\n\n```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL).group(1)
    said, before = {}, os.getcwd()
    written = code.replace(", ".join(['"..."'] * len(texts)), ", ".join(map(json.dumps, texts)))
    assert written != code
    os.chdir(folder)
    try:
        exec(written, said)
    finally:
        os.chdir(before)
    return said["logits"]


def test_files_of_other_weights_are_not_taken(store, student, pretended):
    assert kept_onnx(student) is None
    make_onnx(store, student)
    assert kept_onnx(student).file(int8=True).read_text() == INT8 and kept_onnx(student).check == CHECK
    weights = run_dir(student) / "student-best" / "model.safetensors"
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))
    assert kept_onnx(student) is None
    with pytest.raises(UserError, match="no ONNX files of its present weights; make them again"):
        onnx_zip(store, student)
    make_onnx(store, student)
    assert kept_onnx(student) is not None
    assert sorted(path.name for path in run_dir(student).glob("*onnx*")) == ["onnx"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"check": {}}', '{"check": {"rows": 1}, "weights": 1}'])
def test_a_damaged_note_is_as_none(store, student, pretended, text):
    make_onnx(store, student)
    (run_dir(student) / keeping.FOLDER / keeping.CHECK).write_text(text)
    assert kept_onnx(student) is None


def test_what_fails_leaves_the_earlier_files(store, student, pretended, monkeypatch):
    earlier = make_onnx(store, student)

    def refuse(*_, **__):
        raise UserError("--onnx", "a logit differs by 1", "report it")

    monkeypatch.setattr(keeping, "export_student", refuse)
    with pytest.raises(UserError, match="a logit differs by 1"):
        make_onnx(store, student)
    assert kept_onnx(student) == earlier
    assert sorted(path.name for path in run_dir(student).glob("*onnx*")) == ["onnx"]


def test_a_run_without_a_student_is_refused(store):
    run = store.add_run(tiny_task.run("fine-tune"))
    run_dir(run).mkdir(parents=True)
    with pytest.raises(UserError, match="no student"):
        make_onnx(store, run)


def test_the_card_of_one_file_names_no_other(store, student, tmp_path, pretended):
    make_onnx(store, student)
    for int8, name in ((False, ONNX), (True, INT8)):
        folder = unpacked(onnx_zip(store, student, int8), tmp_path / name)
        card = (folder / "README.md").read_text()
        assert f'InferenceSession("{name}")' in card and "transformers import pipeline" not in card
        assert (replace(CHECK, int8={}, int8_same=None).data() == read_facts(folder)["onnx"]) is not int8
