"""The stages of a method's training: the picture of one, and what to know of all."""

from __future__ import annotations

from functools import partial

import streamlit as st

from kdcore.figures import method_picture
from kdcore.figures.layers import describe_map
from kdcore.methods import METHODS, Method, MethodConfig
from kdcore.methods.docs import tensors_text
from kdcore.methods.introspect import StageInfo, stages_of
from kdcore.records import Setup
from kdcore.store import RunRow
from pages.parts.common import cards
from pages.parts.common.text import plain

TASK_KINDS = {"classification": "classification", "regression": "scores (regression)"}


def picture(method: type[Method], config: MethodConfig, setup: Setup, row: RunRow | None) -> None:
    """Student beside teacher, with lines between what is compared; of several stages one is chosen."""
    stages = _stages(method.key, config.model_dump_json(), setup)
    info = stages[0]
    if len(stages) > 1:
        names = [info.stage.name for info in stages]
        name = st.segmented_control("Stage", names, key=f"learn_stage_{method.key}", default=names[0], required=True)
        info = next((info for info in stages if info.stage.name == name), info)
    count = len(setup.teachers) if row else 0
    cards.figure(
        partial(
            method_picture.picture,
            info.needs,
            info.layer_map,
            info.depth,
            info.teacher_depth,
            family=method.family,
            names=((info.teacher or "Teacher").capitalize(), info.learner.capitalize()),
            teachers=(1, 1) if info.teacher else (count, count) if count else method.takes(config),
            dark=cards.dark(),
        ),
        "learn_picture",
        f"Lines join what is compared. {describe_map(info.layer_map)}" if info.needs.teacher
        else "The student learns from the gold labels alone.",
    )  # fmt: skip


def facts(method: type[Method], config: MethodConfig, setup: Setup) -> None:
    """Numbers of teachers, kinds of task, what a batch's rows have to do with one another, cost, and the stages."""
    fewest, most = method.takes(config)
    rows = (
        "compared with one another within a batch, so the batch size changes the loss"
        if method.relates_rows(config)
        else "each by itself: who else is in the batch changes nothing"
    )
    pilots = method.pilots(config, len(setup.teachers))
    lines = [
        f"**Teachers**: {fewest if fewest == most else f'{fewest} to {most}'}",
        f"**Tasks**: {' and '.join(name for kind, name in TASK_KINDS.items() if kind in method.kinds)}",
        *_tasks_and_domains(method),
        f"**Rows**: {rows}",
        f"**Extra trainings** with these settings: {f'{pilots:g} times the run' if pilots else 'none'}",
    ]
    stages = _stages(method.key, config.model_dump_json(), setup)
    lines += [f"**Stage {plain(info.stage.name)}**: {_stage_text(info)}" for info in stages]
    st.markdown("\n".join(f"- {line}" for line in lines))


def _tasks_and_domains(method: type[Method]) -> list[str]:
    """What is said of a method that learns several tasks, or from several domains."""
    fewest, most = method.other_tasks
    lines = [f"**Other tasks** beside the run's: {fewest} to {most}, a batch of one at a time"] if most else []
    return [*lines, "**Domains**: two or more, and the data say of which one a row is"] if method.domains else lines


@st.cache_resource(max_entries=64, show_spinner=False, hash_funcs={Setup: repr})
def _stages(key: str, options: str, setup: Setup) -> list[StageInfo]:
    """Kept by settings and sizes: it takes a moment to build the method."""
    method = METHODS[key]
    return stages_of(method, method.Config.model_validate_json(options), setup)


def _stage_text(info: StageInfo) -> str:
    stage = info.stage
    share = f"{stage.share:.0%} of the run's steps" + (", beside the run's own" if stage.pilot else "")
    share += ", on all tasks" if stage.task_power is not None else ""
    criterion = "its own loss" if stage.judge == "loss" else "the task's score"
    return plain(
        f"{share}; reads of {info.learner}: {tensors_text(info.needs.student)}; "
        f"of {info.teacher or 'teacher'}: {tensors_text(info.needs.teacher)}; "
        f"its best weights are chosen by {criterion} on select",
        600,
    )
