"""The weights of a run's teachers come from its method and from what it logged, and from nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from kdcore.analysis.teacher_mixture import chain, methods_that_mix, read_mixture
from kdcore.events import RunFinished, RunStarted, StepDone
from kdcore.store import Store
from tests.helpers.store_factory import run_config

TEACHERS = [{"name": name, "source": "pocket", "where": name} for name in ("large", "small")]
ONE = TEACHERS[:1]


@pytest.fixture
def trained(store: Store) -> Callable[..., Any]:
    def _trained(
        method: str, *notes: Mapping[str, float], teachers: Any = TEACHERS, facts: Any = None, **options: Any
    ) -> Any:
        """The row of a finished run that logged these notes, one set a step."""
        run = store.add_run(run_config(method, teachers=teachers, options=options))
        store.claim("test", "cpu", run)
        steps = [
            StepDone("distil", step, 9, 1.0, 1.0, {"soft": 1.0}, {"soft": 1.0}, 1e-3, 1.0, 1.0, 1.0, notes=dict(said))
            for step, said in enumerate(notes, start=1)
        ]
        store.record(run, [RunStarted(facts or {}), *steps, RunFinished({})])
        return store.get(run)

    return _trained


def test_a_method_of_equal_weights_needs_no_log(store: Store, trained: Callable[..., Any]) -> None:
    mixture = read_mixture(store, trained("kd", temperature=4.0))
    assert mixture is not None and mixture.weights == {"large": 0.5, "small": 0.5}
    assert (mixture.method.kind, mixture.method.temperature) == ("mean", 4.0)


def test_weights_are_those_that_were_logged(store: Store, trained: Callable[..., Any]) -> None:
    row = trained("wkd", {"weight/large": 0.75, "weight/small": 0.25}, weights="rank")
    mixture = read_mixture(store, row)
    assert mixture is not None and mixture.weights == {"large": 0.75, "small": 0.25} and not mixture.counted


def test_a_draw_has_its_chance_and_what_came_of_it_at_last(store: Store, trained: Callable[..., Any]) -> None:
    early = {"chance/large": 0.6, "chance/small": 0.4, "draws/large": 1.0, "draws/small": 0.0}
    late = early | {"draws/large": 0.5, "draws/small": 0.5}
    mixture = read_mixture(store, trained("skd", early, late))
    assert mixture is not None and mixture.weights == {"large": 0.6, "small": 0.4}
    assert mixture.counted == {"large": 0.5, "small": 0.5}


def test_a_run_that_logged_none_has_none(store: Store, trained: Callable[..., Any]) -> None:
    mixture = read_mixture(store, trained("skd", {"chance/large": 0.6}))
    assert mixture is not None and not mixture.weights and not mixture.counted


def test_dynamic_kd_has_no_weight_that_holds(store: Store, trained: Callable[..., Any]) -> None:
    mixture = read_mixture(store, trained("dynamic-kd", {"rows asked/large": 0.5, "rows asked/small": 0.5}))
    assert mixture is not None and mixture.method.kind == "rows" and not mixture.weights
    assert mixture.counted == {"large": 0.5, "small": 0.5}


def test_one_teacher_is_no_mixture(store: Store, trained: Callable[..., Any]) -> None:
    assert read_mixture(store, trained("kd", teachers=ONE)) is None
    assert read_mixture(store, trained("kd", alpha=0.0)) is None


def test_assistants_stand_between_teacher_and_student(trained: Callable[..., Any]) -> None:
    facts = {"student": {"layers": 2}, "teachers": {"large": {"shape": {"layers": 8}}}}
    row = trained("takd", teachers=ONE, facts=facts, assistants=2)
    assert chain(row) == [("assistant-1", 6), ("assistant-2", 4)]
    assert chain(trained("kd", teachers=ONE, facts=facts)) == []
    assert chain(trained("takd", teachers=ONE, assistants=2)) == [("assistant-1", 9), ("assistant-2", 6)], "no facts"


def test_the_methods_that_mix_are_named() -> None:
    assert {"KD", "Averaged KD", "Stochastic KD", "Your own mixture", "Dynamic KD"} <= set(methods_that_mix())
    assert not {"Fine-tuning alone", "Patient KD", "Teacher assistants"} & set(methods_that_mix())
