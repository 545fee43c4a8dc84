"""A student of Kronecker products with every method: it trains, keeps its form and is counted by it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kdcore.config import StudentSpec
from kdcore.engine.plan import Plan
from kdcore.engine.preflight import check
from kdcore.events import RunStarted
from kdcore.methods import METHODS, resolve
from kdcore.models.count import parameters
from kdcore.models.students import load_classifier
from tests.helpers import tiny_task
from tests.helpers.tiny_task import run

FORM = "kronecker-8"
FORMED = StudentSpec(layers=2, init="teacher", form=FORM)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_trains_it(trained, shelf, three_teachers, method):
    cls, options = resolve(method, {})
    deep = tiny_task.teacher(shelf, "four-layers", layers=4, seed=6)  # assistants need room between the depths
    given = (deep,) if method == "takd" else three_teachers[: max(1, cls.takes(options)[0])]
    done = trained(run(method, given, student=FORMED, max_steps=4, evaluate_every=2))
    (started,) = (event for event in done.events if isinstance(event, RunStarted))
    teachers = dict.fromkeys((spec.name for spec in given), tiny_task.SIZE)
    size = cls.deployed(options, replace(tiny_task.SIZE, labels=2, form=FORM), teachers)
    assert started.facts["exported_parameters"] == parameters(size).total
    assert json.loads((done.folder / "student-best" / "config.json").read_text())["form"] == FORM
    model = load_classifier(done.folder / "student-best", 2)
    assert sum(p.numel() for p in model.parameters()) == parameters(size).total


def test_factors_that_do_not_divide_are_refused_before_the_start(three_teachers):
    student = StudentSpec(layers=2, init="teacher", form="kronecker-21", intermediate=24)
    lines = check(Plan(run("kd", three_teachers[:1], student=student))).lines
    line = next(line for line in lines if line.level == "block")
    assert line.field == "student.form" and "cannot divide" in line.text and "multiples of 16" in line.remedy
