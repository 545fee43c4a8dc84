"""Launch starts from settings that can run: every method on every pocket task, and after a change of method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kdcore.config import RunConfig
from kdcore.data.pocket.ladder import LADDER
from kdcore.engine.plan import Plan
from kdcore.engine.preflight import check
from kdcore.methods import METHODS
from kdcore.models.sizes import PRESETS
from kdcore.tasks import POCKET, TASKS
from pages.parts.launch import also
from pages.parts.launch.defaults import POCKET_START, POCKET_STUDENT, SIZE
from pages.parts.launch.teachers import KEY, fit


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", POCKET)
def test_every_method_is_valid_on_every_pocket_task(task: str, method: str) -> None:
    names = list(reversed(LADDER))
    fewest, most = METHODS[method].takes(METHODS[method].Config())
    if POCKET[task].kind not in METHODS[method].kinds:
        pytest.skip("the form warns before: the method has no meaning for this kind of task")
    run = RunConfig.model_validate(
        {
            "task": task,
            "method": method,
            "also": also.others(TASKS[task])[: METHODS[method].other_tasks[0]],
            "teachers": [{"name": name, "source": "pocket", "where": name} for name in fit([], names, fewest, most)],
            "student": {**{field: getattr(PRESETS["narrow-64"], field) for field in SIZE}, **POCKET_STUDENT},
            "train": POCKET_START,
        }
    )
    assert not [line for line in check(Plan(run)).lines if line.level == "block"]


def test_the_form_starts_from_the_preset_that_every_method_takes(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("launch")
    app.selectbox(key="launch.task").set_value("pocket-inference").run()
    assert not app.exception
    assert app.selectbox(key="launch.preset").value == "narrow-64"
    assert app.selectbox(key="launch.student.init").value == "random"


def test_a_method_of_several_tasks_starts_with_another_one(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("launch")
    app.selectbox(key="launch.task").set_value("pocket-sentiment").run()
    app.selectbox(key="launch.method").set_value("mkd").run()
    (other,) = app.multiselect(key=also.KEY).value
    assert other in POCKET and other != "pocket-sentiment"
    app.multiselect(key=also.KEY).set_value([]).run()
    assert app.multiselect(key=also.KEY).value == []


def test_teachers_follow_the_method(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("launch")
    app.selectbox(key="launch.task").set_value("pocket-sentiment").run()
    app.selectbox(key="launch.method").set_value("skd").run()
    app.multiselect(key=KEY).set_value(["large", "medium", "small"]).run()
    assert app.multiselect(key=KEY).value == ["large", "medium", "small"]
    app.selectbox(key="launch.method").set_value("pkd").run()
    assert app.multiselect(key=KEY).value == ["large"]


def test_what_a_person_takes_away_stays_away(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("launch")
    app.selectbox(key="launch.task").set_value("pocket-sentiment").run()
    app.selectbox(key="launch.method").set_value("kd").run()
    app.multiselect(key=KEY).set_value([]).run()
    assert app.multiselect(key=KEY).value == []


def test_a_glue_student_starts_from_layers_spread_over_its_teacher(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("launch")
    app.selectbox(key="launch.task").set_value("sst2").run()
    assert app.selectbox(key="launch.student.init").value == "teacher"
    assert app.selectbox(key="launch.student.init_layers").value == "skip"
