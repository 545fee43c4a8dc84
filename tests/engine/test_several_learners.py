"""Methods that train several models at once: peers with weights of their own, and copies of a teacher."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kdcore.engine import final_metrics, loop
from kdcore.engine.plan import Plan
from kdcore.events import Evaluated, RunFinished, StepDone
from kdcore.losses.soft_targets import hard_labels, teacher_signal
from kdcore.methods import METHODS
from kdcore.methods.base import Build
from kdcore.methods.introspect import sizes
from kdcore.methods.kd import KD
from kdcore.records import Stage, Step, Term
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run, same, weights


class Peers(KD):
    """KD for the first student; a second learns from the gold labels, and each from the other."""

    peer_weight = 1.0
    draw = 1

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        return {"student": build(), "peer": build(draw=self.draw)}

    def stages(self) -> list[Stage]:
        lr = {"student": 1.0, "peer": 1.0}
        return [replace(stage, lr=lr, terms=self.peer_terms) for stage in super().stages()]

    def peer_terms(self, step: Step) -> dict[str, Term]:
        ours, theirs = step.students["student"].logits, step.students["peer"].logits
        apart = teacher_signal(ours, theirs.detach(), 1.0, False) + teacher_signal(theirs, ours.detach(), 1.0, False)
        alone = Term(hard_labels(theirs, step.batch.labels, False), 50.0)  # far steeper than the first one's
        return {**self.terms(step), "alone": alone, "peer": Term(apart, self.peer_weight)}


class CopiedTeacher(KD):
    """The student learns from a copy of the teacher, which itself goes on to learn from the gold labels."""

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        return {"student": build(), "copy": build(of=next(iter(self.setup.teachers)))}

    def stages(self) -> list[Stage]:
        return [replace(stage, lr={"student": 1.0, "copy": 0.1}, terms=self.both) for stage in super().stages()]

    def both(self, step: Step) -> dict[str, Term]:
        logits = step.students["copy"].logits
        return {**self.terms(step), "copy": Term(hard_labels(logits, step.batch.labels, False))}


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> type[Peers]:
    monkeypatch.setitem(METHODS, "kd", Peers)
    return Peers


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> dict[str, Mapping[str, torch.Tensor]]:
    """The weights of each role as the first step finds them; and, as "role now", after the last."""
    seen: dict[str, Mapping[str, torch.Tensor]] = {}
    real = loop.train_step

    def watched(job, *rest):
        for role, model in job.students.items():
            seen.setdefault(role, copy.deepcopy(model.state_dict()))
        outcome = real(job, *rest)
        seen.update({f"{role} now": copy.deepcopy(model.state_dict()) for role, model in job.students.items()})
        return outcome

    monkeypatch.setattr(loop, "train_step", watched)
    return seen


def test_peers_begin_with_weights_of_their_own(peers, trained, one_teacher, first, monkeypatch):
    done = trained(run("kd", one_teacher, dropout=0.0))
    assert all(step.raw["peer"] > 1e-6 for step in done.of(StepDone))
    dense = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.allclose(first["student"][dense], first["peer"][dense])
    again = first.pop("student")
    monkeypatch.setattr(Peers, "draw", 0)
    first.clear()
    trained(run("kd", one_teacher, max_steps=1))
    assert same(first["student"], again) and same(first["peer"], again)


def test_a_copy_of_a_teacher_learns_and_the_teacher_stays(trained, shelf, first, monkeypatch):
    teacher = world.teacher(shelf, "wide", width=24, layers=3, seed=8)
    before = weights(Path(teacher.where))
    monkeypatch.setitem(METHODS, "kd", CopiedTeacher)
    done = trained(run("kd", [teacher], teacher_cache=False, dropout=0.0))
    assert done.of(RunFinished) and same(first["copy"], before)
    assert not torch.allclose(first["copy now"]["classifier.weight"], before["classifier.weight"], atol=1e-3)
    assert same(weights(Path(teacher.where)), before)


def test_a_copy_has_the_teachers_size(shelf, monkeypatch):
    teacher = world.teacher(shelf, "wide", width=24, layers=3, seed=8)
    monkeypatch.setitem(METHODS, "kd", CopiedTeacher)
    plan = Plan(run("kd", [teacher]))
    found = sizes(plan.method, plan.deployed_size)
    assert found == {"student": plan.student_size, "copy": plan.teacher_sizes["wide"]}


def test_a_copy_of_nobody_is_refused(trained, one_teacher, monkeypatch):
    class Lost(KD):
        def build_students(self, build: Build) -> dict[str, nn.Module]:
            return {"student": build(), "copy": build(of="nobody")}

    monkeypatch.setitem(METHODS, "kd", Lost)
    with pytest.raises(ValueError, match=r"nobody.*only \['t0'\]"):
        trained(run("kd", one_teacher))


def test_who_else_learns_does_not_change_a_learners_steps(trained, one_teacher, monkeypatch):
    """At weight 0 of what joins them, the first is KD's student bit for bit, however steep the other's gradient is."""
    setting = run("kd", one_teacher, clip=0.5)
    alone = trained(setting)
    monkeypatch.setitem(METHODS, "kd", Peers)
    monkeypatch.setattr(Peers, "peer_weight", 0.0)
    done = trained(setting)
    assert same(done.weights(), alone.weights())
    both = [step.gradient_norm for step in done.of(StepDone)]
    assert all(norm > 2 * own.gradient_norm for norm, own in zip(both, alone.of(StepDone), strict=True))


def test_students_that_do_not_hear_one_another_learn_as_by_kd(trained, one_teacher):
    """At peer weight 0 the first of them is KD's student, bit for bit; at another weight it is not."""
    alone = trained(run("kd", one_teacher, dropout=0.0))
    halves = {"hard_weight": 0.5, "soft_weight": 0.5, "temperature": 10.0}
    weights = [
        trained(run("peers", one_teacher, {**halves, "peer_weight": weight}, dropout=0.0)).weights()
        for weight in (0.0, 1.0)
    ]
    assert same(weights[0], alone.weights()) and not same(weights[1], alone.weights())


@pytest.mark.parametrize("mode", ["frozen", "online"])
def test_the_teacher_of_peers_learns_only_where_it_is_asked_to(trained, one_teacher, first, mode):
    before = weights(Path(one_teacher[0].where))
    done = trained(run("peers", one_teacher, {"teacher": mode}, max_steps=3))
    assert same(weights(Path(one_teacher[0].where)), before)
    asked = done.of(RunFinished)[0].summary["cache"]
    assert (asked["misses"] > 0) is (mode == "frozen") and asked["live"] == 0
    if mode == "online":
        assert same(first["teacher"], before) and not same(first["teacher now"], before)


class Tied(Peers):
    """Two students with one classifier."""

    peer_weight = 0.0

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        students = super().build_students(build)
        students["peer"].classifier = students["student"].classifier
        return students


def test_a_parameter_of_two_learners_is_trained_once_and_stays_one(trained, one_teacher, first, monkeypatch):
    monkeypatch.setitem(METHODS, "kd", Tied)
    setting = run("kd", one_teacher, max_steps=8)
    whole = trained(setting)
    assert torch.equal(first["student now"]["classifier.weight"], first["peer now"]["classifier.weight"])
    assert not torch.equal(first["student now"]["classifier.weight"], first["student"]["classifier.weight"])
    half = trained(setting, control=world.StopAt(5))
    assert same(trained(setting, half.folder).weights(), whole.weights())


class Taught(Tied):
    """The peer is frozen and shares its classifier with the student, which learns."""

    def stages(self) -> list[Stage]:
        return [replace(stage, lr={"student": 1.0}) for stage in super().stages()]


def test_a_parameter_shared_with_who_does_not_learn_is_trained(trained, one_teacher, first, monkeypatch):
    monkeypatch.setitem(METHODS, "kd", Taught)
    trained(run("kd", one_teacher, max_steps=2))
    assert not torch.equal(first["student now"]["classifier.weight"], first["student"]["classifier.weight"])


@pytest.mark.parametrize(
    ("method", "options", "names"),
    [
        ("peers", {"students": 3}, ["student", "peer-2", "peer-3", "mean of students"]),
        ("peers", {"teacher": "online"}, ["student", "peer-2", "mean of students", "teacher"]),
        ("kd", {}, []),
    ],
)
def test_all_that_learned_are_scored_at_the_end_and_together(trained, one_teacher, monkeypatch, method, options, names):
    answers = {}
    real = final_metrics.scores

    def watched(task, logits, labels):
        answers.setdefault(len(labels), []).append(logits)
        return real(task, logits, labels)

    monkeypatch.setattr(final_metrics, "scores", watched)
    done = trained(run(method, one_teacher, options, max_steps=3))
    found = [event for event in done.of(Evaluated) if event.which.startswith("learner:")]
    assert [event.which.removeprefix("learner:") for event in found] == names
    assert {(event.split, event.stage) for event in found} <= {("validation", "end")}
    if not names:
        return
    last = next(e for e in done.of(Evaluated) if (e.stage, e.split, e.which) == ("end", "validation", "last"))
    assert found[0].scores == last.scores
    *each, mean = answers[found[0].rows][1 : 1 + names.index("mean of students") + 1]
    assert mean == pytest.approx(sum(torch.tensor(said).double().softmax(-1) for said in each).numpy() / len(each))


def test_the_mean_of_scores_is_their_mean():
    one, two = np.array([[1.0], [4.0]], np.float32), np.array([[2.0], [0.0]], np.float32)
    assert final_metrics.mean_answer([one, two], regression=True).tolist() == [[1.5], [2.0]]
    said = [np.log(np.array([[0.8, 0.2]], np.float32)), np.log(np.array([[0.4, 0.6]], np.float32))]
    assert final_metrics.mean_answer(said, regression=False) == pytest.approx(np.array([[0.6, 0.4]]))
