"""The part of the contract on what a method says of itself: settings, words, teachers, and what can be left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kdcore.errors import UserError
from kdcore.methods import docs
from kdcore.methods.base import Method, TaskKind
from kdcore.methods.contract import ContractError, require
from kdcore.methods.contract_bench import Bench, Case
from kdcore.methods.registry import resolve

MOST_TEACHERS = 12
"""Of a run, as its settings bound them."""


def config_survives_json(method: type[Method], variants: Sequence[Mapping[str, Any]] = ()) -> None:
    """Settings survive being written as JSON"""
    for options in [{}, *variants]:
        config = resolve(method.key, dict(options))[1]
        again = resolve(method.key, json.loads(config.model_dump_json()))[1]
        require(again == config, f"settings {dict(options)} are others after JSON")


def every_setting_has_default_description_and_bounds(method: type[Method]) -> None:
    """Every setting has a default and a description, every number has bounds"""
    try:
        method.Config()
    except ValueError:
        raise ContractError("a setting has no default") from None
    for name, field in method.Config.model_fields.items():
        require(field.description, f"setting {name} has no description")
        bounds = {type(bound).__name__ for bound in field.metadata}
        bounded = bounds & {"Ge", "Gt"} and bounds & {"Le", "Lt"}
        require(
            field.annotation not in (int, float) or bounded, f"setting {name} has no bounds: Field(1.0, ge=0, le=9)"
        )


def wrong_settings_are_named(method: type[Method]) -> None:
    """A wrong setting is refused by name"""
    _refuses(method, "no_such_thing", 1)
    for name, field in method.Config.model_fields.items():
        if field.annotation is float:
            for wrong in (-1.0, 1e9, float("nan"), "many"):
                _refuses(method, name, wrong)


def _refuses(method: type[Method], name: str, wrong: object) -> None:
    try:
        resolve(method.key, {name: wrong})
    except UserError as error:
        require(error.field == f"options.{name}", f"{name}={wrong} is refused as {error.field}")
        return
    raise ContractError(f"{name}={wrong} is taken")


def it_explains_itself(method: type[Method]) -> None:
    """The docstring has a sentence, then loss, shapes and departs"""
    require((method.__doc__ or "").split("\n")[0].strip().endswith("."), "the docstring's first line is no sentence")
    try:
        about = docs.read(method)
    except ValueError as error:
        raise ContractError(str(error)) from None
    require(about.loss and about.shapes and about.departs, "loss, shapes or departs are empty")
    require(method.title, "it has no title")


def counts_of_teachers_agree(method: type[Method], variants: Sequence[Mapping[str, Any]] = ()) -> None:
    """`teachers`, `takes` and `relates_rows` agree"""
    fewest, most = method.teachers
    require(0 <= fewest <= most <= MOST_TEACHERS, f"teachers is {method.teachers}, not within 0 to {MOST_TEACHERS}")
    require((fewest == 0) == (not method.needs.teacher), "it needs teachers' tensors and takes none, or the reverse")
    for options in [{}, *variants]:
        config = resolve(method.key, dict(options))[1]
        least, greatest = method.takes(config)
        require(fewest <= least <= greatest <= most, f"takes says {least} to {greatest}, outside {fewest} to {most}")
        require(
            method.batch_relational or not method.relates_rows(config), "relates_rows, and batch_relational is False"
        )


def what_can_be_left_out_is_out(case: Case) -> None:
    """What `ablations` leaves out has no weight left, and something else has"""
    key, options, kind, count = case
    method, config = resolve(key, dict(options))
    task: TaskKind = "regression" if kind == "regression" else "classification"
    whole = _weights(case)
    for part, off in method.ablations(config, task).items():
        try:
            without = _weights((key, {**options, **off}, kind, count))
        except UserError as error:
            raise ContractError(f"without {part}: {error}") from None
        left = without.get(part, 0.0)
        require(left == 0, f"without {part} its weight is {left:g}")
        require(any(without.values()), f"without {part} no term is left")
        require(part in whole or " " in part, f"there is no term {part} to leave out")


def _weights(case: Case) -> dict[str, float]:
    """Term -> its weight, over all stages."""
    bench = Bench(case)
    terms = {
        name: term for stage in bench.ready() for name, term in stage.terms(bench.step(stage, bench.batch())).items()
    }
    return {name: float(term.weight) for name, term in terms.items()}
