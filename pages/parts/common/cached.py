"""What a run would be, before it is started: sizes, the layer map, cost and checks. Kept for a while, by settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from kdcore.config import RunConfig
from kdcore.models import count
from kdcore.records import ModelSize

TOKENS = 128


@dataclass(frozen=True)
class Sizes:
    """The student's and the teachers' shapes, the model that the method makes of the student, and its layer map."""

    student: ModelSize
    deployed: ModelSize
    teachers: dict[str, ModelSize]
    layer_map: dict[int, int]


@st.cache_data(max_entries=64, ttl=300, show_spinner=False)
def sizes(settings: str) -> Sizes:
    """Of the run with these settings (JSON). Counts only: no weights are built.

    Raises:
        UserError: settings that do not go together; the field is named.
    """
    from kdcore.engine.teachers import base_size
    from kdcore.engine.trainer import reference_size
    from kdcore.methods import resolve
    from kdcore.models.sizes import student_size

    run = RunConfig.model_validate_json(settings)
    data = rows(run.task, run.own.model_dump_json() if run.own else None)
    teachers = {spec.name: base_size(spec, data) for spec in run.teachers}
    base = reference_size(run, data, len(data.vocabulary or ()) or 30522)
    student = student_size(run.student, base, data.task.outputs)
    method, options = resolve(run.method, run.options)
    matched = method.layer_map(options, student, next(iter(teachers.values()))) if teachers else {}
    return Sizes(student, method.deployed(options, student), teachers, matched)


@st.cache_resource(max_entries=2, show_spinner=False)
def rows(task: str, own: str | None) -> Any:
    """The task's rows."""
    from kdcore.config import OwnData
    from kdcore.data import load

    return load(task, OwnData.model_validate_json(own) if own else None)


@st.cache_data(max_entries=64, ttl=60, show_spinner=False)
def checks(settings: str) -> list[Any]:
    """Pre-flight lines: level, field, words, remedy."""
    from kdcore.engine import preflight

    return list(preflight.check(RunConfig.model_validate_json(settings)))


@st.cache_data(max_entries=64, ttl=60, show_spinner=False)
def prediction(settings: str) -> Any:
    """Seconds, memory, disk and steps, and what the guess rests on."""
    from kdcore.engine import estimate

    return estimate.predict(RunConfig.model_validate_json(settings))


@st.cache_data(ttl=20, show_spinner=False)
def tasks_here() -> dict[str, Any]:
    """Task -> whether its rows are on this machine."""
    from kdcore.data import availability

    return availability()


@st.cache_data(ttl=60, show_spinner=False)
def packages() -> list[str]:
    """Installed packages that carry a pretrained model."""
    from kdcore.models.sources import installed_packages

    return list(installed_packages())


def cost(shape: ModelSize, tokens: int) -> tuple[int, int]:
    """Parameters, and operations of one forward pass over one row."""
    return count.parameters(shape).total, count.flops(shape, tokens)
