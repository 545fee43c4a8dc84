"""The classes of the methods that `catalog.MODULES` names, and the check of their settings."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from kdcore.errors import UserError
from kdcore.layer_map import LayerMap
from kdcore.methods.base import Method, MethodConfig
from kdcore.methods.catalog import MODULES
from kdcore.records import ModelSize


def _load(module: str) -> type[Method]:
    """The Method that the file defines."""
    contents = vars(import_module(f"kdcore.methods.{module}")).values()
    (method,) = (
        thing for thing in contents
        if isinstance(thing, type) and issubclass(thing, Method) and thing.__module__.endswith(f".{module}")
    )  # fmt: skip
    return method


METHODS: dict[str, type[Method]] = {method.key: method for method in map(_load, MODULES)}


def find_method(key: str) -> type[Method]:
    """The method of this key.

    Raises:
        UserError: no such method; the message lists the keys.
    """
    try:
        return METHODS[key]
    except KeyError:
        raise UserError("method", f"no method {key[:60]!r}", f"choose one of {', '.join(METHODS)}") from None


def resolve(key: str, options: dict[str, Any]) -> tuple[type[Method], MethodConfig]:
    """The method and its checked settings.

    Raises:
        UserError: unknown method, unknown option, or a value out of bounds; the field is named.
    """
    method = find_method(key)
    try:
        return method, method.Config.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "options"
        known = ", ".join(method.Config.model_fields) or "none"
        raise UserError(f"options.{field}", first["msg"], f"{method.title} has the options: {known}") from None


def matched_layers(key: str, options: dict[str, Any], student: int, teacher: int) -> LayerMap:
    """Student layer -> teacher layers, for models of so many layers; widths do not count.

    Raises:
        UserError: as `resolve`, or the map does not fit these depths.
    """
    method, config = resolve(key, options)
    thin = ModelSize(layers=student, width=64, heads=4, intermediate=128)
    return method.layer_map(config, thin, replace(thin, layers=teacher))
