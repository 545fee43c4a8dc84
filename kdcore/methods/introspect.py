"""What a method makes of a setup: its stages, and the models that it builds.

The method is really built, over encoders of width 8, so that whatever it decides by itself is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kdcore.config import StudentSpec
from kdcore.layer_map import LayerMap
from kdcore.methods.base import Method, MethodConfig
from kdcore.models.sizes import size_of
from kdcore.models.students import build_student
from kdcore.records import ModelSize, Needs, Setup, Stage


@dataclass(frozen=True)
class StageInfo:
    """One stage of a method's training: who learns from whom, and what is read.

    learner: the role that is trained; depth: its layers as it runs. teacher: a role that was trained before and teaches
    now, or empty for the run's own teachers. needs: what is read of the two. layer_map: learner's layer -> teacher's
    layers.
    """

    stage: Stage
    learner: str
    depth: int
    teacher: str
    teacher_depth: int
    needs: Needs
    layer_map: LayerMap


def example_setup(
    method: type[Method], student: int = 3, teacher: int = 6, config: MethodConfig | None = None
) -> Setup:
    """A setup to explain the method on: these depths, one width, as few teachers as it takes (at least one).

    Args:
        config: the method's settings; None: its defaults.
    """
    regression = "classification" not in method.kinds
    names = [f"teacher-{number}" for number in range(1, max(1, method.takes(config or method.Config())[0]) + 1)]
    small, large = ModelSize(student, 64, 4, 256), ModelSize(teacher, 64, 4, 256)
    return Setup(
        kind="regression" if regression else "classification", labels=1 if regression else 2, student=small,
        teachers=dict.fromkeys(names, large), scores=dict.fromkeys(names, 0.5), train_rows=1000,
        domains=("first domain", "second domain") if method.domains else (),
    )  # fmt: skip


def stages_of(method: type[Method], config: MethodConfig, setup: Setup) -> list[StageInfo]:
    """The stages of training that the method has in this setup, in their order.

    Raises:
        UserError: the method does not fit the setup; field and remedy are named.
    """
    built = method(config, setup)
    depth = depths(built)
    first = next(iter(setup.teachers.values()), None)
    layers = first.layers if first else 0
    layer_map = method.layer_map(config, setup.student, first) if first else {}
    infos = []
    for stage in built.stages():
        learner = next((role for role in depth if stage.trains(role)), next(iter(depth)))
        guide = next((role for role in depth if stage.students and stage.runs(role) and not stage.trains(role)), "")
        read = stage.needs.of_student(learner)
        asked = stage.asks(setup.teachers)
        if asked and asked[0] not in setup.teachers:
            guide = asked[0]
            needs = Needs(read, stage.needs.of_teacher(guide))
            infos.append(StageInfo(stage, learner, depth[learner], guide, depth[guide], needs, {}))
        elif guide and not asked:
            needs = Needs(read, stage.needs.of_student(guide))
            infos.append(StageInfo(stage, learner, depth[learner], guide, depth[guide], needs, {}))
        else:
            needs = Needs(read, stage.needs.of_teacher(asked[0]) if asked else {})
            infos.append(StageInfo(stage, learner, depth[learner], "", layers, needs, layer_map))
    return infos


def depths(method: Method) -> dict[str, int]:
    """Role -> layers of the model that the method builds for it, as it runs."""
    return {role: size.layers for role, size in sizes(method, method.setup.student).items()}


def sizes(method: Method, student: ModelSize) -> dict[str, ModelSize]:
    """Role -> size of the model that the method builds for it, as it runs.

    Args:
        student: the size of what the method makes of the run's student; roles of other depths share its widths.

    Raises:
        ValueError: the method asks for a copy of a teacher that is not there.
    """
    models, copied = _models(method)
    return {
        role: replace(method.setup.teachers[copied[role]] if role in copied else student, layers=layers)
        for role, layers in models.items()
    }


def copies(method: Method) -> dict[str, str]:
    """Role -> the teacher that it starts as a copy of, where it does."""
    return _models(method)[1]


def _models(method: Method) -> tuple[dict[str, int], dict[str, str]]:
    """Layers of each role's model, and the teachers that some are copies of.

    A method that leaves the student as it is is not asked to build one: transformers takes seconds to import.
    """
    if type(method).build_students is Method.build_students:
        return {"student": method.setup.student.layers}, {}
    made: dict[int, str] = {}

    def build(layers: int | None = None, draw: int = 0, of: str | None = None) -> Any:
        if of is None:
            return thin(layers or method.setup.student.layers)
        if of not in method.setup.teachers:
            raise ValueError(f"there is no teacher {of!r} to copy, only {sorted(method.setup.teachers)}")
        model = thin(method.setup.teachers[of].layers)
        made[id(model)] = of
        return model

    models: Mapping[str, Any] = method.build_students(build)
    copied = {role: made[id(model)] for role, model in models.items() if id(model) in made}
    return {role: size_of(model.config).layers for role, model in models.items()}, copied


def thin(layers: int) -> Any:
    """A BERT of this depth, as thin as can be: enough to see what a method makes of its students."""
    spec = StudentSpec(layers=layers, init="random")
    return build_student(ModelSize(layers, 8, 2, 8, vocabulary=8, positions=8), 2, spec, None, seed=0)
