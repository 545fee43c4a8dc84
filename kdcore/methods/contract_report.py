"""The contract on one method, check by check, as `kdcore check-method` prints it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from kdcore.errors import UserError
from kdcore.methods import contract, contract_settings
from kdcore.methods.base import Method
from kdcore.methods.contract import ContractError, NotApplicable
from kdcore.methods.contract_bench import Case
from kdcore.methods.registry import find_method, resolve

State = Literal["ok", "note", "failed", "left out"]

CLASS_CHECKS: tuple[Callable[[type[Method]], None], ...] = (
    contract_settings.it_explains_itself,
    contract_settings.every_setting_has_default_description_and_bounds,
    contract_settings.config_survives_json,
    contract_settings.wrong_settings_are_named,
    contract_settings.counts_of_teachers_agree,
)
CASE_CHECKS: tuple[Callable[[Case], None], ...] = (
    contract.stages_are_consistent,
    contract.layer_map_names_layers_that_exist,
    contract.the_deployed_model_has_the_announced_size,
    contract.asks_only_teachers_that_are_there,
    contract.terms_are_named_float32_scalars,
    contract.half_precision_gives_float32_terms,
    contract.reads_all_that_it_declares,
    contract.reads_all_that_it_declares_of_teachers,
    contract.gradients_reach_every_trained_role_and_no_teacher,
    contract.students_and_teachers_are_no_part_of_the_method,
    contract.padding_does_not_matter,
    contract.batch_composition_does_not_matter,
    contract.rows_without_a_label_only_lack_the_hard_term,
    contract.rows_that_a_teacher_answers_are_compared_with_those_of_the_student,
    contract.no_distillation_loss_where_student_equals_teacher,
    contract_settings.what_can_be_left_out_is_out,
    contract.a_repeated_batch_is_learned,
    contract.same_seed_same_losses_and_no_use_of_global_randomness,
    contract.notes_are_numbers_and_history_is_json,
    contract.state_survives_saving_and_loading,
)
NOTES = (contract.no_distillation_loss_where_student_equals_teacher,)
"""Checks that a sound method may fail, such as one whose term compares a layer with a mixture of others."""


@dataclass(frozen=True)
class Result:
    """What a check came to. state: a note is worth a look and no failure. words: why, where it is not ok."""

    check: str
    state: State
    words: str = ""


def cases(method: type[Method], options: Mapping[str, Any]) -> list[Case]:
    """The method with these options on each kind of task it takes, with the fewest teachers and with two."""
    fewest, most = method.takes(resolve(method.key, dict(options))[1])
    counts = sorted({fewest, max(fewest, min(most, 2))})
    return [(method.key, options, kind, count) for kind in sorted(method.kinds) for count in counts]


def report(key: str, options: Mapping[str, Any] | None = None) -> Iterator[Result]:
    """Runs every check and says what it came to; one that is not ok in several cases is told for the first of them.

    Raises:
        UserError: no such method, or options that it does not take.
    """
    method = find_method(key)
    every = cases(method, options or {})
    for check in CLASS_CHECKS:
        yield _result(check, partial(check, method))
    for held in CASE_CHECKS:
        results = [_result(held, partial(held, case)) for case in every]
        worst = max(results, key=lambda result: ("ok", "left out", "note", "failed").index(result.state))
        case = every[results.index(worst)]
        where = f"{case[2]}, {case[3]} teacher{'' if case[3] == 1 else 's'}: " if worst.words else ""
        yield Result(worst.check, worst.state, where + worst.words)


def _result(check: Callable[..., None], run: Callable[[], None]) -> Result:
    name = (check.__doc__ or "").strip()
    try:
        run()
    except NotApplicable as why:
        return Result(name, "left out", str(why))
    except ContractError as error:
        return Result(name, "note" if check in NOTES else "failed", str(error))
    except UserError as error:
        if check in NOTES:
            return Result(name, "left out", str(error))
        return Result(name, "failed", str(error))
    except Exception as error:
        return Result(name, "failed", f"{type(error).__name__}: {str(error)[:300]} ({_place(error)})")
    return Result(name, "ok")


def _place(error: Exception) -> str:
    """File and line that raised it: the deepest that is neither torch's nor pydantic's."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "place unknown"
