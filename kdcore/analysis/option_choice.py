"""How the options of a group's method were chosen, so that a table says which methods were tuned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kdcore.errors import UserError


def option_choices(
    facts: Mapping[str, Iterable[Mapping[str, Any]]], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Group -> `tuned with 10 trials`, `defaults` or `as given`; empty where no group was tuned.

    Args:
        facts: of each group's runs. settings: of one of them.

    >>> kd = {"method": "kd", "options": {"alpha": 0.5, "temperature": 10.0}}
    >>> option_choices({"a": [{"tuned": {"trials": 10}}], "b": [{}]}, {"a": kd, "b": kd})
    {'a': 'tuned with 10 trials', 'b': 'defaults'}
    """
    trials = {group: _tuning_trials(of) for group, of in facts.items()}
    return {group: _origin(trials[group], settings[group]) for group in facts} if any(trials.values()) else {}


def _tuning_trials(facts: Iterable[Mapping[str, Any]]) -> int:
    noted = [each["tuned"] for each in facts if isinstance(each.get("tuned"), Mapping)]
    return max((int(each.get("trials", 0)) for each in noted), default=0)


def _origin(trials: int, settings: Mapping[str, Any]) -> str:
    if trials:
        return f"tuned with {trials} trials"
    from kdcore.methods import resolve  # heavy

    try:
        _, defaults = resolve(str(settings["method"]), {})
    except UserError:  # a method from outside that is not here
        return "as given"
    return "defaults" if defaults.model_dump(mode="json") == settings["options"] else "as given"
