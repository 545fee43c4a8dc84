"""A trained student of Kronecker products: its facts, its folder, the plain one, ONNX, and what is refused."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdcore.analysis import cost_points
from kdcore.analysis.cost_table import WORDS, cost_table
from kdcore.config import ProbeConfig, StudentSpec
from kdcore.engine import remeasure
from kdcore.errors import UserError
from kdcore.events import Probed
from kdcore.export.answers import open_reader
from kdcore.export.folder import export_student, read_facts
from kdcore.export.runtimes import INT8, ONNX
from kdcore.models.count import flops, parameters
from kdcore.paths import run_dir
from tests.helpers import tiny_task

FORM = "kronecker-8"


@pytest.fixture
def formed(trained, tmp_path) -> str:
    """The id of a run of a few steps whose student has factors."""
    return trained(
        tiny_task.run(
            "kronecker-bert",
            tiny_task.teachers(tmp_path, 1),
            student=StudentSpec(layers=2, init="teacher", form=FORM),
            max_steps=6,
        )
    )


def test_facts_and_files_are_those_of_the_factors(store, formed, tmp_path):
    facts = store.get(formed).facts
    size = replace(tiny_task.SIZE, form=FORM, labels=2)
    assert facts["parameters"] == facts["exported_parameters"] == parameters(size).total
    assert facts["flops"] == flops(size, int(facts["mean_tokens"])) and facts["student"]["form"] == FORM
    export_student(store, formed, tmp_path / "m")
    weights = load_file(tmp_path / "m" / "model.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == parameters(size).total
    assert "import kdcore.models.forms" in (tmp_path / "m" / "README.md").read_text()
    assert read_facts(tmp_path / "m")["parameters"] == parameters(size).total


def test_the_plain_folder_answers_alike_without_this_program(store, formed, tmp_path):
    from transformers import AutoModelForSequenceClassification

    export_student(store, formed, tmp_path / "m")
    export_student(store, formed, tmp_path / "plain", dense=True)
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert config["model_type"] == "bert" and config["architectures"] == ["BertForSequenceClassification"]
    assert "form" not in config and "kdcore.models" not in (tmp_path / "plain" / "README.md").read_text()
    plain = replace(tiny_task.SIZE, labels=2)
    assert read_facts(tmp_path / "plain")["parameters"] == parameters(plain).total
    texts = [["the film was good", "a bad plot"]]
    ours, theirs = (open_reader(tmp_path / name).logits(texts) for name in ("m", "plain"))
    assert np.allclose(ours, theirs, atol=1e-5) and np.ptp(ours) > 0
    model = AutoModelForSequenceClassification.from_pretrained(str(tmp_path / "plain"))
    assert sum(p.numel() for p in model.parameters()) == parameters(plain).total
    assert torch.isfinite(next(model.parameters())).all()


def test_a_student_with_whole_matrices_has_nothing_to_multiply_out(store, student, tmp_path):
    with pytest.raises(UserError, match="whole already"):
        export_student(store, student, tmp_path / "out" / "m", dense=True)
    assert not (tmp_path / "out" / "m").exists()


def test_onnx_answers_as_the_factors_do(store, formed, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    check = export_student(store, formed, tmp_path / "m", onnx=True)
    assert check is not None and 0 < check.largest < 1e-4 and check.same == 1.0


def test_int8_answers_as_the_factors_do(store, formed, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    check = export_student(store, formed, tmp_path / "m", onnx=True, int8=True)
    assert check is not None and check.int8_same is not None and check.int8_same > 0.9
    whole, small = ((tmp_path / "m" / name).stat().st_size for name in (ONNX, INT8))
    assert small < whole


def test_its_costs_stand_beside_a_plain_student_of_its_size_on_disk(store, formed, trained, tmp_path):
    """Parameters, disk, operations and latency are those of the factors, on the axes of every other student."""
    plain = trained(
        tiny_task.run(
            "kd", tiny_task.teachers(tmp_path, 1), max_steps=2, probes=ProbeConfig(distances=False, fidelity=False),
            student=StudentSpec(layers=1, width=8, heads=2, intermediate=16, init="random"),
        )
    )  # fmt: skip
    row = store.get(formed)
    events = remeasure.measure(row.config, run_dir(formed), row.facts, {})
    store.record(formed, [event for event in events if isinstance(event, Probed)])
    runs = store.runs(["done"])
    runs = runs.assign(group=runs["id"], label=runs["id"])
    table = cost_table(store, runs)
    costs = table[table["kind"] == "student"].drop_duplicates(["run", "axis"]).set_index(["run", "axis"])["cost"]
    size = replace(tiny_task.SIZE, form=FORM, labels=2)
    file = run_dir(formed) / "student-best" / "model.safetensors"
    assert costs[formed, "parameters"] == parameters(size).total
    assert costs[formed, "disk"] == file.stat().st_size / 2**20
    assert costs[formed, "flops"] == flops(size, store.get(formed).facts["row"]["tokens"]["student"])
    assert costs[formed, WORDS] == pytest.approx(100 * parameters(size).word_share) and costs[formed, "latency-1"] > 0
    assert 0.5 < costs[formed, "disk"] / costs[plain, "disk"] < 2
    timed = table[table["axis"] == "latency-1"]
    (condition,) = cost_points.conditions(timed, whole=True).values()
    seen = cost_points.of_task(
        timed, *condition, runs.assign(group=runs["id"], label=runs["id"]), cost_points.student_sizes(table)
    )
    students = seen[seen["kind"] == "student"].set_index("key")
    assert set(students.index) == {formed, plain} and students["cost"].gt(0).all()


def test_a_formed_student_can_teach(trained, formed):
    from kdcore.config import TeacherSpec

    teacher = TeacherSpec(name="small", source="run", where=formed)
    assert (run_dir(trained(tiny_task.run("kd", [teacher], max_steps=3))) / "student-best").is_dir()


def test_a_students_projection_goes_along_and_into_onnx(store, trained, tmp_path):
    """No plain BERT answers as it does, so that none is written; its parts are counted."""
    run = trained(tiny_task.run("simkd", tiny_task.teachers(tmp_path, 1), max_steps=6))
    size = replace(tiny_task.SIZE, labels=2, pooled_width=16, projection_width=8)
    check = export_student(store, run, tmp_path / "m", onnx=has_onnx())
    assert read_facts(tmp_path / "m")["parameters"] == parameters(size).total
    card = (tmp_path / "m" / "README.md").read_text()
    assert "A projection stands between" in card and "import kdcore.models.forms" in card and "--dense" not in card
    with pytest.raises(UserError, match="ends with a projection"):
        export_student(store, run, tmp_path / "plain", dense=True)
    if has_onnx():
        assert check is not None and 0 < check.largest < 1e-4


def has_onnx() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
