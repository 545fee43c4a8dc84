"""Stages in the engine: judged by their own loss, begun from the best weights, with models of another depth."""

import pytest
import torch

from kdcore.engine import preflight
from kdcore.engine.plan import Plan
from kdcore.engine.trainer import train
from kdcore.errors import UserError
from kdcore.events import Evaluated, RunFinished, RunStarted, RunStopped, StepDone
from kdcore.models.students import load_classifier
from tests.helpers import tiny_task as small


def trained(folder, method="pea-kd", options=None, **changes):
    run = small.run(method, small.teachers(folder, 1), options or {}, **changes)
    return list(train(run, folder / "run"))


def test_an_untrained_classifier_is_judged_by_the_stages_loss(tmp_path):
    events = trained(tmp_path)
    judged = [event for event in small.of(Evaluated, events) if event.stage == "ptp"]
    assert judged and all(event.split == "select" and set(event.scores) == {"loss"} for event in judged)
    final = [event for event in small.of(Evaluated, events) if event.stage == "distil"]
    assert {"select", "validation"} == {event.split for event in final}
    assert all("accuracy" in event.scores for event in final)


def test_the_best_is_the_last_stages(tmp_path):
    """The weights that end as best are of the stage that trains the classifier, and are scored by it."""
    events = trained(tmp_path)
    (finished,) = small.of(RunFinished, events)
    ptp_steps = max(event.step for event in small.of(StepDone, events) if event.stage == "ptp")
    assert finished.summary["best_step"] > ptp_steps
    assert "loss" not in finished.summary["scores"]["best"]["select"]


def test_sizes_of_a_student_that_shares_its_layers(tmp_path):
    events = trained(tmp_path)
    (started,) = small.of(RunStarted, events)
    facts = started.facts
    assert facts["student"]["layers"] == 4, "as deep as it runs"
    exported = load_classifier(tmp_path / "run" / "student-last")
    assert sum(p.numel() for p in exported.parameters()) == facts["exported_parameters"] > facts["parameters"]
    plain = trained(tmp_path / "plain", "kd")
    assert small.of(RunStarted, plain)[0].facts["parameters"] == facts["parameters"]


def test_tied_weights_stay_tied_while_training(tmp_path):
    trained(tmp_path)
    weights = small.weights(tmp_path / "run" / "student-last")
    name = "bert.encoder.layer.{}.attention.self.{}.weight"
    assert torch.equal(weights[name.format(0, "query")], weights[name.format(2, "key")])
    assert torch.equal(weights[name.format(1, "key")], weights[name.format(3, "query")])


def test_a_stage_without_a_step_is_refused_before_the_start(tmp_path):
    run = small.run("pea-kd", small.teachers(tmp_path, 1), {"ptp_share": 0.1}, max_steps=3)
    (line,) = preflight.check(Plan(run)).blocks
    assert (line.field, line.text) == ("train.epochs", "3 steps leave none for the stage ptp")
    with pytest.raises(UserError, match="leave none for the stage ptp"):
        list(train(run, tmp_path / "run"))


@pytest.mark.parametrize(("method", "options"), [("takd", {}), ("skd", {"sampling": "student-rank"})])
def test_stopped_before_the_student_is_trained_nothing_is_passed_off_as_one(tmp_path, method, options):
    """While pilots or assistants train, the student has its initial weights; but the run can go on."""
    deep = small.teachers(tmp_path, 1 if method == "takd" else 2, layers=4)
    run = small.run(method, deep, options)
    stop, events = small.StopAt(2), []
    for event in train(run, tmp_path / "run", stop):
        stop.see(event)
        events.append(event)
    (stopped,) = small.of(RunStopped, events)
    assert not stopped.kept and "no student yet" in stopped.why_not
    assert not (tmp_path / "run" / "student-last").exists() and not (tmp_path / "run" / "student-best").exists()
    assert small.of(RunFinished, list(train(run, tmp_path / "run")))
    assert (tmp_path / "run" / "student-last").exists()


def test_stopped_inside_the_first_stage_and_resumed_it_ends_the_same(tmp_path):
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    teachers = small.teachers(tmp_path, 1)
    run = small.run("pea-kd", teachers, {})
    list(train(run, whole))
    stop = small.StopAt(3)
    for event in train(run, halted, stop):
        stop.see(event)
    list(train(run, halted))
    assert small.same(small.weights(whole / "student-last"), small.weights(halted / "student-last"))
    assert small.same(small.weights(whole / "student-best"), small.weights(halted / "student-best"))
