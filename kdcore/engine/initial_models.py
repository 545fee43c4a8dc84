"""The models that a method asks for before it trains them: students with initial weights, copies of teachers."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from kdcore.config import StudentSpec
from kdcore.engine.ensemble import Ensemble
from kdcore.engine.plan import Plan
from kdcore.engine.seeds import seed_of
from kdcore.engine.teacher_source import load_base
from kdcore.methods.base import Build
from kdcore.models.students import build_student
from kdcore.records import ModelSize


def builder(plan: Plan, ensemble: Ensemble) -> Build:
    """What `Method.build_students` is called with in a run."""
    run = plan.config

    def build(layers: int | None = None, draw: int = 0, of: str | None = None) -> nn.Module:
        if of is not None:
            return _copy(ensemble, of, run.train.dropout)
        size, spec = _of_depth(plan.student_size, run.student, layers)
        seed = seed_of(run.train.seed, "weights", *([draw] if draw else [])) % 2**31
        source, words = _source(plan, ensemble), plan.source_words
        return build_student(size, plan.data.task.outputs, spec, source, seed, run.train.dropout, words)

    return build


def _copy(ensemble: Ensemble, teacher: str, dropout: float | None) -> nn.Module:
    """A teacher's copy that can be trained; the teacher itself stays as it is."""
    model = ensemble.teachers[teacher].load().requires_grad_(True)
    if dropout is not None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
    return model


def _source(plan: Plan, ensemble: Ensemble) -> nn.Module | None:
    """The model whose layers fill the student."""
    if (source := plan.source) is None:
        return None
    if plan.config.student.init == "teacher":
        return ensemble.teachers[source.name].load()
    return load_base(source, plan.data)


def _of_depth(size: ModelSize, spec: StudentSpec, layers: int | None) -> tuple[ModelSize, StudentSpec]:
    """The student's size and settings with another number of layers. Layers listed one by one become evenly spread."""
    if layers is None or layers == size.layers:
        return size, spec
    init_layers = "skip" if isinstance(spec.init_layers, tuple) else spec.init_layers
    return replace(size, layers=layers), spec.model_copy(update={"layers": layers, "init_layers": init_layers})
