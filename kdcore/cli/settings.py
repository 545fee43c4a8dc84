"""Flags and files -> RunConfig."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdcore.config import RunConfig, StudentSpec, TrainConfig
from kdcore.errors import UserError
from kdcore.fields import parse_list

SOURCES = ("pocket", "package", "folder", "hub", "run")
STUDENT = tuple(StudentSpec.model_fields)
TRAIN = tuple(TrainConfig.model_fields)


def build(
    file: Path | None, flags: dict[str, Any], teachers: Sequence[str], options: Sequence[str], other: Sequence[str],
    preset: str | None = None,
) -> RunConfig:  # fmt: skip
    """The run that a file describes, changed by flags; the method's options are complete and checked.

    preset: key of a paper's recipe, which file and flags go over.

    flags: name -> value, None where not given; names are those of RunConfig, StudentSpec or TrainConfig.
    teachers: `name=source:where[:layers]`. options: `key=value` of the method. other: `path=value` of any setting.

    Raises:
        UserError: naming the flag or field.
    """
    from kdcore.settings_file import merge, read_settings, validate

    settings = read_settings(file) if file is not None else {}
    if not isinstance(settings, dict):
        raise UserError("--file", f"{file} holds no settings by name", "write lines such as task: mrpc")
    named = explicit(flags)
    changes = (
        settings,
        {name: value for name, value in named.items() if name not in STUDENT + TRAIN},
        {"student": {name: value for name, value in named.items() if name in STUDENT}},
        {"train": {name: value for name, value in named.items() if name in TRAIN}},
        *(_assignment(item) for item in other),
    )
    settings = merge(*changes)
    if preset is not None:
        settings = merge(_recipe(preset, settings), *changes)
    if teachers:
        settings["teachers"] = [teacher(text) for text in teachers]
    for name in ("task", "method"):
        if not settings.get(name):
            raise UserError(f"--{name}", "is missing", f"name one that `kdcore {name}s` lists")
    return with_options(validate(RunConfig, settings), options)


def common_settings(whole: dict[str, Any], teachers: Sequence[str], other: Sequence[str]) -> dict[str, Any]:
    """Settings of a run, without those of method and student: what was given by flags.

    Raises:
        UserError: naming the flag.
    """
    from kdcore.settings_file import merge

    named = {"teachers": [teacher(text) for text in teachers]} if teachers else {}
    return merge(explicit(whole), named, *(_assignment(item) for item in other))


def explicit(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that a person gave, by name."""
    return {name: value for name, value in flags.items() if value is not None}


def _recipe(key: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The settings of a paper's recipe on the task that is asked for."""
    from kdcore.runs.recipes import find_preset

    preset = find_preset(key)
    if asked.get("method", preset.method) != preset.method:
        raise UserError(
            "--preset", f"the recipe {key} is for {preset.method}, not for {str(asked['method'])[:40]}",
            "leave --method out, or choose a recipe of that method",
        )  # fmt: skip
    return preset.settings(str(asked.get("task", "")))


def with_options(run: RunConfig, given: Sequence[str] = ()) -> RunConfig:
    """The same run with all of its method's options spelled out, where the method comes from, and a task that exists.

    Raises:
        UserError: unknown task, method or option, a value out of bounds, or another method than the settings name.
    """
    from kdcore.methods import find_method
    from kdcore.methods.catalog import check_source
    from kdcore.runs.complete import complete
    from kdcore.tasks import find_task

    if run.own is None:
        find_task(run.task)
    check_source(run)
    return complete(run, read_options(find_method(run.method).Config, given))


def read_options(config: Any, given: Sequence[str]) -> dict[str, Any]:
    """`key=value` of a method's options as the values that its settings take."""
    pairs = (_pair(item, "--option") for item in given)
    return {key: _option_value(config, key, text) for key, text in pairs}


def teacher(text: str) -> dict[str, Any]:
    """`large=pocket:large`, `small=package:minilm:3`, `mine=folder:/path`: name, source, where and layers kept."""
    name, rest = _pair(text, "--teacher")
    source, colon, where = rest.partition(":")
    if source not in SOURCES or not colon or not where:
        raise UserError(
            "--teacher", f"{text[:80]!r} is not name=source:where[:layers]", f"sources are {', '.join(SOURCES)}"
        )
    stem, colon, layers = where.rpartition(":")
    if colon and layers.isdecimal() and stem:
        return {"name": name, "source": source, "where": stem, "layers": int(layers)}
    return {"name": name, "source": source, "where": where}


def layers_list(text: str | None) -> str | list[int] | None:
    """`first`, `last`, `skip`, or `2,4,6`."""
    if text is None or text in ("first", "last", "skip"):
        return text
    layers = parse_list(text)
    if not isinstance(layers, tuple) or not all(isinstance(layer, int) for layer in layers):
        raise UserError("--init-layers", f"{text[:40]!r} is not a choice", "first, last, skip, or layers: 2,4,6")
    return list(layers)


def to_yaml(run: RunConfig) -> str:
    """The settings as `--file` takes them."""
    import yaml

    text: str = yaml.safe_dump(run.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
    return text


def _option_value(config: Any, key: str, text: str) -> Any:
    """The value that the option's own type takes: as typed, or as YAML."""
    from pydantic import ValidationError

    for value in (text, _yaml(text)):
        try:
            config.model_validate({key: value})
            return value
        except ValidationError as error:
            if all(problem["loc"][:1] != (key,) for problem in error.errors()):
                return value
    return text


def _assignment(item: str) -> dict[str, Any]:
    path, text = _pair(item, "--set")
    value = _yaml(text)
    for part in reversed(path.split(".")):
        value = {part: value}
    result: dict[str, Any] = value
    return result


def _pair(text: str, flag: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value:
        raise UserError(flag, f"{text[:80]!r} has no name=value", "write it as name=value")
    return key.strip(), value


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError):  # a day 99, a number of 5,000 digits
        return text
