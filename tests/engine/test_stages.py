"""Stages in the engine: judged by their own loss, ended with the best weights, with models of another depth."""

import copy
from dataclasses import replace

import pytest
import torch

from kdcore.engine import loop, preflight
from kdcore.engine.plan import Plan
from kdcore.engine.trainer import train
from kdcore.errors import UserError
from kdcore.events import Evaluated, RunFinished, RunStarted, RunStopped, StepDone
from kdcore.losses.soft_targets import hard_labels
from kdcore.methods import METHODS
from kdcore.methods.kd import KD
from kdcore.models.students import load_classifier
from kdcore.records import Term
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


# --- all learners go on from the best -------------------------------------------------------------------------------


class Pair(KD):
    """KD and a second student of one layer, in two stages; both go on from the best of the first."""

    pilot = False

    def build_students(self, build):
        return {"student": build(), "other": build(layers=1)}

    def stages(self):
        (whole,) = super().stages()
        both = replace(whole, terms=self.both, lr={"student": 1.0, "other": 1.0})
        share = 1.0 if self.pilot else 0.5
        return [
            replace(both, name="first", ends="best", pilot=self.pilot, share=share),
            replace(both, name="second", share=1.0 if self.pilot else 0.5),
        ]

    def both(self, step):
        hard = hard_labels(step.students["other"].logits, step.batch.labels, False)
        return {**self.terms(step), "other": Term(hard)}


class Moments:
    """Weights of both roles at each evaluation of the first stage, and at the start of the second."""

    def __init__(self, monkeypatch):
        self.evaluated, self.second = [], None
        decide, begin = loop._decide, loop._begin

        def watched_decide(job, stage, score):
            self.evaluated.append(states(job))
            decide(job, stage, score)

        def watched_begin(job, stage, index, *rest):
            self.second = states(job) if index == 1 and self.second is None else self.second
            return begin(job, stage, index, *rest)

        monkeypatch.setattr(loop, "_decide", watched_decide)
        monkeypatch.setattr(loop, "_begin", watched_begin)


def states(job):
    return {role: copy.deepcopy(model.state_dict()) for role, model in job.students.items()}


def first_is_best(monkeypatch):
    """Each score on `select` is worse than the one before."""
    falling, real = iter(range(1000, 0, -1)), loop.scores
    monkeypatch.setattr(loop, "scores", lambda *a: {"accuracy": next(falling)} if len(a[2]) == 10 else real(*a))


@pytest.fixture(params=[False, True], ids=["of the run", "pilot"])
def pair(request, monkeypatch):
    monkeypatch.setitem(METHODS, "kd", Pair)
    monkeypatch.setattr(Pair, "pilot", request.param)
    monkeypatch.setattr(KD, "pilots", classmethod(lambda cls, config, teachers: float(request.param)))


def test_every_learner_goes_on_from_the_stages_best(tmp_path, pair, monkeypatch):
    first_is_best(monkeypatch)
    moments = Moments(monkeypatch)
    trained(tmp_path, "kd", evaluate_every=2)
    for role, state in moments.second.items():
        assert small.same(state, moments.evaluated[0][role]), role
        assert not small.same(state, moments.evaluated[1][role]), role
    assert not (tmp_path / "run" / "stage-best").exists()


@pytest.mark.parametrize("halt", [3, 5, 8])
def test_stopped_after_the_best_every_learner_still_goes_on_from_it(tmp_path, pair, monkeypatch, halt):
    first_is_best(monkeypatch)
    whole = Moments(monkeypatch)
    trained(tmp_path, "kd", evaluate_every=2)
    first_is_best(monkeypatch)
    halted = Moments(monkeypatch)
    run, stop = small.run("kd", small.teachers(tmp_path, 1), {}, evaluate_every=2), small.StopAt(halt)
    for event in train(run, tmp_path / "halted", stop):
        stop.see(event)
    list(train(run, tmp_path / "halted"))
    assert all(small.same(halted.second[role], state) for role, state in whole.second.items())
    one, two = (small.weights(tmp_path / folder / "student-last") for folder in ("run", "halted"))
    assert small.same(one, two)
