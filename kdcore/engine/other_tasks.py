"""The other tasks of a run, made ready: their rows, and its teachers, each fine-tuned on each of them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from kdcore.engine.control import Control
from kdcore.engine.ensemble import Ensemble
from kdcore.engine.job import OtherTask, encode_rows
from kdcore.engine.plan import Plan
from kdcore.engine.teachers import prepare_teacher
from kdcore.events import Event


def prepare_others(plan: Plan, control: Control) -> Generator[Event, None, dict[str, OtherTask] | None]:
    """Key -> another task. A teacher is fine-tuned on it once and kept, as on the run's own. None: a stop.

    Raises:
        UserError: a teacher cannot be made.
    """
    others = {}
    for key, data in plan.others.items():
        teachers = []
        for spec in plan.config.teachers:
            teacher = yield from prepare_teacher(spec, data, plan.config.train, plan.compute, control)
            if teacher is None:
                return None
            teachers.append(replace(teacher, reading=plan.readings[spec.name]))
        rows = encode_rows(data, plan.tokenizer, plan.config.train, others=plan.other_tokenizers)
        cached = plan.config.train.teacher_cache
        ensemble = Ensemble(teachers, rows.train, rows.identity, plan.compute, cached)
        others[key] = OtherTask(data.task, rows.train, ensemble)
    return others


def facts_of_others(plan: Plan, others: dict[str, OtherTask]) -> dict[str, Any]:
    """What stands beside the numbers of a run that learns several tasks; nothing where it learns one."""
    if not others:
        return {}
    specs = {spec.name: spec for spec in plan.config.teachers}
    return {
        "also": {
            key: {
                "rows": len(other.rows),
                "data_fingerprint": plan.others[key].fingerprint,
                "partial": plan.others[key].partial,
                "teachers": {
                    name: {"words": t.origin, "content": plan.content_of(specs[name], t.identity, key)}
                    for name, t in other.ensemble.teachers.items()
                },
            }
            for key, other in others.items()
        }
    }
