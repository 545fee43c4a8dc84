"""A run's settings are resolved once, for all who ask; and a plan that cannot be says so at each of its faults."""

from __future__ import annotations

from collections import Counter

import pytest

from kdcore.config import StudentSpec, TeacherSpec
from kdcore.engine import estimate, plan, preflight
from kdcore.engine.plan import Plan
from kdcore.errors import UserError
from kdcore.methods import METHODS
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run


@pytest.fixture
def calls(monkeypatch) -> Counter[str]:
    """How often the rows are loaded, the method resolved and the cost predicted."""
    count: Counter[str] = Counter()

    def counted(module, name: str) -> None:
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: (count.update([name]), real(*args))[1])

    for module, name in ((plan, "load"), (plan, "resolve"), (preflight, "predict")):
        counted(module, name)
    return count


def test_checks_and_forecast_resolve_once(one_teacher, calls):
    report = preflight.check(Plan(run("kd", one_teacher)))
    assert not report.blocks and report.forecast is not None
    assert calls == {"load": 1, "resolve": 1, "predict": 1}


def test_nothing_is_resolved_before_it_is_asked_for(one_teacher, calls):
    draft = Plan(run("nope", one_teacher, task="no-such-task"))
    assert not calls and draft.config.method == "nope"


def test_rows_that_are_there_are_not_loaded(one_teacher, calls):
    rows = world.data_of()
    draft = Plan(run("kd", one_teacher), lambda task, own: rows)
    assert preflight.check(draft).forecast is not None and draft.data is rows
    assert calls["load"] == 0


def test_a_training_resolves_once(trained, one_teacher, calls):
    trained(run("kd", one_teacher, max_steps=1))
    assert calls == {"load": 1, "resolve": 1}


@pytest.mark.parametrize("key", METHODS)
def test_the_plan_is_what_is_trained(trained, shelf, key):
    """Sizes, steps and the model that runs, as the run's own facts say them."""
    fewest, most = METHODS[key].takes(METHODS[key].Config())
    deep = [world.teacher(shelf, f"deep-{i}", layers=4, seed=30 + i) for i in range(min(most, max(fewest, 1)))]
    setting = run(key, deep, max_steps=8, evaluate_every=8)
    draft = Plan(setting)
    facts = next(event.facts for event in trained(setting).events if type(event).__name__ == "RunStarted")
    assert facts["steps"] == sum(draft.steps) and facts["student_steps"] == draft.budget
    assert facts["student"]["layers"] == draft.deployed_size.layers
    assert facts["student"]["width"] == draft.student_size.width
    assert {name: t["shape"]["layers"] for name, t in facts["teachers"].items()} == {
        name: size.layers for name, size in draft.teacher_sizes.items()
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"student": StudentSpec(layers=1, init="teacher"), "teachers": ()}, "no teacher to start from"),
        ({"student": StudentSpec(layers=1, init="base"), "teachers": ()}, "no base to start from"),
        ({"student": StudentSpec(layers=1, init="base")}, "no pretrained base"),
    ],
)
def test_where_initial_weights_come_from_is_answered_alike(one_teacher, changes, problem):
    """By the checks and by the training, which has no other answer than the plan's."""
    setting = run("fine-tune", one_teacher).model_copy(update=changes)
    with pytest.raises(UserError, match=problem):
        _ = Plan(setting).source
    assert any(problem in line.text for line in preflight.check(Plan(setting)).blocks)


def test_several_faults_are_told_at_once(one_teacher):
    lost = TeacherSpec(name="lost", source="folder", where="/nowhere")
    setting = run("kd", [*one_teacher, lost], {"temperature": -1}, max_length=32)
    fields = [line.field for line in preflight.check(Plan(setting)).blocks]
    assert fields == ["options.temperature", "teachers.lost.where"]


@pytest.mark.parametrize(
    ("options", "count", "said"),
    [
        ({}, 1, "takes 2 to 12 with these options, 1 are chosen"),
        ({"adoption": "soft"}, 3, "takes 2 with these options, 3 are chosen"),
        ({"part": "rows"}, 2, "takes 1 with these options, 2 are chosen"),
        ({}, 3, ""),
        ({"part": "supervision"}, 1, ""),
    ],
)
def test_how_many_teachers_a_method_takes_follows_from_its_options(three_teachers, options, count, said):
    lines = preflight.check(Plan(run("dynamic-kd", three_teachers[:count], options))).blocks
    assert [line.text for line in lines if line.field == "teachers"] == ([f"Dynamic KD {said}"] if said else [])


def test_a_blocked_run_has_no_forecast(one_teacher, monkeypatch):
    monkeypatch.setattr(estimate, "timed", lambda *a: pytest.fail("timed in vain"))
    assert preflight.check(Plan(run("kd", ()))).forecast is None
