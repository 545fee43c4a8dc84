"""What a stage reads of each model: other things of one teacher or role than of the rest, and layers that are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import pytest
from torch import nn

from kdcore.config import TeacherSpec
from kdcore.engine import preflight
from kdcore.engine.plan import Plan
from kdcore.errors import UndeclaredTensorError, UserError
from kdcore.events import RunFinished
from kdcore.losses.soft_targets import hard_labels
from kdcore.methods import METHODS
from kdcore.methods.averaged_kd import WKD
from kdcore.methods.base import Build
from kdcore.methods.kd import KD
from kdcore.records import Needs, Stage, Step, Term, Want, want
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run


class Deep(WKD):
    """The mean of all teachers' logits, and the student's last [CLS] state drawn to a layer of each teacher."""

    by: ClassVar[Mapping[str, Want]] = {}
    seen: ClassVar[list[Step]] = []

    def stages(self) -> list[Stage]:
        needs = Needs(student=want("logits", cls=(2,)), teacher=want("logits", cls=(3,)), by=self.by)
        return [replace(stage, needs=needs, terms=self.deep) for stage in super().stages()]

    def deep(self, step: Step) -> dict[str, Term]:
        self.seen.append(step)
        ours = step.student.cls[2]
        apart = [(ours - state).square().mean() for said in step.teachers.values() for state in said.cls.values()]
        return {"hard": Term(hard_labels(step.student.logits, step.batch.labels, False)), "cls": Term(sum(apart))}


@pytest.fixture
def deep(monkeypatch: pytest.MonkeyPatch) -> type[Deep]:
    monkeypatch.setitem(METHODS, "wkd", Deep)
    monkeypatch.setattr(Deep, "seen", [])
    return Deep


@pytest.fixture
def uneven(shelf) -> tuple[TeacherSpec, ...]:
    return world.teacher(shelf, "four", layers=4, seed=6), world.teacher(shelf, "two", layers=2, seed=7)


def test_a_layer_that_one_of_the_teachers_lacks_is_said_before_start(deep, trained, uneven):
    setting = run("wkd", uneven)
    (line,) = preflight.check(Plan(setting)).blocks
    assert line.field == "teachers.two" and "cls has layers 0 to 2, not [3]" in line.text and line.remedy
    with pytest.raises(UserError, match=r"teacher two lacks"):
        trained(setting)
    assert not deep.seen


def test_a_layer_that_the_student_lacks_is_said_before_start(deep, uneven):
    setting = run("wkd", [uneven[0], uneven[0].model_copy(update={"name": "again"})])
    one_layer = world.STUDENT.model_copy(update={"layers": 1})
    (line,) = preflight.check(Plan(setting.model_copy(update={"student": one_layer}))).blocks
    assert line.field == "student.layers" and "student lacks: cls has layers 0 to 1, not [2]" in line.text


@pytest.mark.parametrize("cache", [True, False], ids=["cached", "live"])
def test_one_teacher_is_read_elsewhere_than_the_others(deep, trained, uneven, monkeypatch, cache):
    monkeypatch.setattr(Deep, "by", {"two": want(cls=(1,))})
    setting = run("wkd", uneven, teacher_cache=cache, max_steps=2)
    assert not preflight.check(Plan(setting)).blocks
    (finished,) = trained(setting).of(RunFinished)
    assert all(list(step.teachers["four"].cls) == [3] and list(step.teachers["two"].cls) == [1] for step in deep.seen)
    assert all(step.teachers["four"].names() == ["cls", "logits"] for step in deep.seen)
    with pytest.raises(UndeclaredTensorError, match="logits"):
        _ = deep.seen[0].teachers["two"].logits
    assert (finished.summary["cache"]["live"] == 0) is cache


def test_a_teacher_of_which_nothing_is_read_is_not_asked(deep, trained, uneven, monkeypatch):
    monkeypatch.setattr(Deep, "by", {"two": {}})
    trained(run("wkd", uneven, max_steps=2))
    assert all(list(step.teachers) == ["four"] for step in deep.seen)


class Roles(KD):
    """KD, beside a second student of which only the pooled output is read."""

    seen: ClassVar[list[Step]] = []

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        return {"student": build(), "other": build(layers=1)}

    def stages(self) -> list[Stage]:
        return [
            replace(
                stage, lr={"student": 1.0, "other": 1.0}, terms=self.both,
                needs=replace(stage.needs, by={"other": want("pooled", hidden=(1,))}),
            )
            for stage in super().stages()
        ]  # fmt: skip

    def both(self, step: Step) -> dict[str, Term]:
        self.seen.append(step)
        return {**self.terms(step), "pooled": Term(step.students["other"].pooled.square().mean())}


def test_one_role_is_read_elsewhere_than_the_others(trained, one_teacher, monkeypatch):
    monkeypatch.setitem(METHODS, "kd", Roles)
    monkeypatch.setattr(Roles, "seen", [])
    trained(run("kd", one_teacher, max_steps=1))
    (step,) = Roles.seen
    assert step.students["student"].names() == ["logits"] and step.students["other"].names() == ["hidden", "pooled"]
