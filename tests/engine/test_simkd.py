"""SimKD in the engine: what it learns from, what stays, and the student that comes out."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdcore.config import StudentSpec
from kdcore.engine.plan import Plan
from kdcore.engine.run_files import student_predictions
from kdcore.events import RunFinished, RunStarted, StepDone
from kdcore.models.count import parameters
from kdcore.models.observe import observe
from kdcore.models.students import build_student, load_classifier
from kdcore.records import Encoding, want
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run

NARROW = StudentSpec(layers=1, width=8, heads=2, init="random")


def losses(done) -> list[float]:
    return [event.raw["feature"] for event in done.of(StepDone)]


@pytest.mark.parametrize("student", [world.STUDENT, NARROW])
@pytest.mark.parametrize("task", [world.SENTIMENT, world.PARAPHRASE, world.SIMILARITY])
def test_learns_features_and_leaves_the_teachers_classifier(trained, one_teacher, shelf, task, student):
    teachers = (world.teacher(shelf, "scores", labels=1, seed=61),) if task == world.SIMILARITY else one_teacher
    done = trained(run("simkd", teachers, student=student, task=task, epochs=6, lr=3e-3))
    said = losses(done)
    assert sum(said[-6:]) < 0.8 * sum(said[:6])
    theirs, ours = world.weights(world.Path(teachers[0].where)), done.weights()
    for name in ("classifier.weight", "classifier.bias"):
        assert torch.equal(ours[name], theirs[name])
    assert done.of(RunFinished)[0].summary["cache"]["live"] == 0


def test_shuffled_labels_change_no_loss_and_no_weight(trained, shelf, monkeypatch):
    """Of scores: which rows are kept aside does not depend on them."""
    from kdcore.data import pocket

    def shuffled(task):
        data = world.data(task)
        train = data.splits["train"]
        labels = train.labels[np.random.default_rng(0).permutation(len(train))]
        assert (labels != train.labels).any()
        return replace(data, splits={**data.splits, "train": replace(train, labels=labels)})

    teacher = world.teacher(shelf, "scores", labels=1, seed=61)
    setting = run("simkd", (teacher,), task=world.SIMILARITY, dropout=0.1)
    true = trained(setting)
    monkeypatch.setattr(pocket, "load", shuffled)
    other = trained(setting)
    assert losses(true) == losses(other) and world.same(true.weights(), other.weights())


def test_kept_features_give_the_losses_of_live_ones(trained, one_teacher):
    """Up to half precision."""
    kept, live = (losses(trained(run("simkd", one_teacher, teacher_cache=cache))) for cache in (True, False))
    assert kept == pytest.approx(live, rel=2e-3) and kept != live


def test_nothing_is_drawn_from_the_process_wide_generator(trained, one_teacher):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = losses(trained(run("simkd", one_teacher, epochs=1, dropout=0.1)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert losses(trained(run("simkd", one_teacher, epochs=1, dropout=0.1))) == first


@pytest.fixture
def narrow(trained, one_teacher):
    return trained(run("simkd", one_teacher, {"reduction": 4}, student=NARROW, max_steps=6))


def test_size_facts_and_answers_are_those_of_what_is_saved(narrow, one_teacher):
    size = Plan(narrow.run).deployed_size
    assert (size.width, size.pooled_width, size.projection_width) == (8, 16, 4)
    facts, folder = narrow.of(RunStarted)[0].facts, narrow.folder / "student-best"
    model = load_classifier(folder, 2)
    assert facts["exported_parameters"] == sum(p.numel() for p in model.parameters()) == parameters(size).total
    assert facts["student"]["pooled_width"] == 16
    assert narrow.of(RunFinished)[0].summary["best_step"] > 0
    kept = student_predictions(narrow.folder, "validation")["logits"]
    assert np.ptp(kept) > 0


@pytest.mark.parametrize("known", [True, False])
def test_transformers_reads_the_folder_where_the_type_is_known(narrow, known):
    folder = narrow.folder / "student-best"
    ids = torch.tensor([[2, 7, 9, 3]])
    code = "import kdcore.models.forms\n" if known else ""
    code += (
        "import json, torch\nfrom transformers import AutoModelForSequenceClassification as A\n"
        f"model = A.from_pretrained({str(folder)!r}).eval()\n"
        f"print(json.dumps(model(input_ids=torch.tensor({ids.tolist()})).logits.tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    if not known:
        assert done.returncode and "kdboard_bert" in done.stderr
        return
    encoding = Encoding(ids, torch.ones_like(ids), torch.zeros_like(ids))
    ours = observe(load_classifier(folder), encoding, want("logits"), grad=False).logits
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), ours)


def test_a_factored_student_keeps_its_factors(trained, one_teacher):
    student = StudentSpec(layers=2, init="teacher", form="kronecker-8")
    done = trained(run("simkd", one_teacher, student=student, max_steps=4))
    size, names = Plan(done.run).deployed_size, done.weights()
    assert size.form == "kronecker-8" and size.pooled_width == 16
    assert "bert.encoder.layer.0.output.dense.a" in names and "bert.pooler.projection.last.weight" in names
    assert sum(tensor.numel() for tensor in names.values()) == parameters(size).total


def test_its_student_teaches_in_turn_and_fills_a_plain_one(trained, narrow, one_teacher):
    """The projection and the classifier behind it stay behind."""
    folder = narrow.folder / "student-best"
    again = world.TeacherSpec(name="again", source="folder", where=str(folder))
    done = trained(run("simkd", (again,), student=NARROW, max_steps=4))
    assert Plan(done.run).deployed_size.pooled_width == 16
    assert torch.equal(done.weights()["classifier.weight"], world.weights(folder)["classifier.weight"])
    size = replace(Plan(narrow.run).student_size, labels=2)
    plain = build_student(size, 2, NARROW.model_copy(update={"init": "teacher"}), load_classifier(folder), seed=0)
    assert type(plain).__name__ == "BertForSequenceClassification"
    assert torch.equal(plain.bert.pooler.dense.weight, load_classifier(folder).bert.pooler.dense.weight)
