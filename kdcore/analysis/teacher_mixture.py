"""How the teachers of a run were mixed: what its method says of its settings, and what it logged while it trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kdcore.errors import UserError
from kdcore.methods import METHODS, resolve
from kdcore.methods.introspect import example_setup, stages_of
from kdcore.methods.teacher_weights import Mixture
from kdcore.store import RunRow, Store


@dataclass(frozen=True)
class TeacherMixture:
    """weights: teacher -> weight, of sum 1; empty where the method has none that holds for a row. counted: teacher ->
    how often it was asked, 0..1, at the last step that was logged; empty where that is not counted."""

    method: Mixture
    weights: Mapping[str, float] = field(default_factory=dict)
    counted: Mapping[str, float] = field(default_factory=dict)


def read_mixture(store: Store, row: RunRow) -> TeacherMixture | None:
    """The mixture of a run's teachers; None where the method makes no soft target of several.

    Raises:
        UserError: unknown method or settings that it does not take.
    """
    method, config = resolve(row.method, row.config.options)
    mixture, names = method.mixture(config), [teacher.name for teacher in row.config.teachers]
    if mixture is None or len(names) < 2:
        return None
    notes = _last_notes(store, row.id) if mixture.weights or mixture.counted else {}
    if not mixture.weights and mixture.kind in ("mean", "draw"):
        weights = dict.fromkeys(names, 1 / len(names))
    else:
        weights = _of_family(notes, mixture.weights, names)
    return TeacherMixture(mixture, weights, _of_family(notes, mixture.counted, names))


def _last_notes(store: Store, run: str) -> dict[str, float]:
    """Name -> value of the notes at the step at which each was logged last."""
    logged = store.metrics(run, kinds=["note"])
    return {str(name): float(value) for name, value in zip(logged["name"], logged["value"], strict=True)}


def _of_family(notes: Mapping[str, float], family: str, names: list[str]) -> dict[str, float]:
    """Teacher -> its note of this family; empty where one has none."""
    values = {name: notes[key] for name in names if (key := f"{family}/{name}") in notes}
    return values if len(values) == len(names) else {}


def methods_that_mix() -> list[str]:
    """Titles of the methods that make soft targets of several teachers, with their defaults or other settings."""
    return [method.title for method in METHODS.values() if method.teachers[1] > 1 and method.mixture(method.Config())]


def chain(row: RunRow) -> list[tuple[str, int]]:
    """Models between teacher and student that learn first and teach next: name and layers, the first to learn first.

    Empty for methods without such a chain.
    """
    sizes = [spec.get("shape", {}).get("layers") for spec in row.facts.get("teachers", {}).values()]
    student = (row.facts.get("student") or {}).get("layers")
    try:
        method, config = resolve(row.method, row.config.options)
        setup = example_setup(method, student or 3, sizes[0] if sizes and sizes[0] else 12, config)
        stages = stages_of(method, config, setup)
    except UserError:
        return []
    taught = {info.teacher for info in stages if info.teacher}
    return [(info.learner, info.depth) for info in stages if info.learner in taught]
