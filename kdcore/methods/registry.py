"""The classes of the methods, shipped and from outside, and the check of their settings."""

from __future__ import annotations

import importlib.abc
import sys
import traceback
from collections.abc import Collection
from dataclasses import replace
from importlib import import_module
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

from pydantic import ValidationError

from kdcore.errors import UserError
from kdcore.layer_map import LayerMap
from kdcore.methods.base import Method, MethodConfig
from kdcore.methods.catalog import catalog, outside_methods
from kdcore.methods.outside import OutsideMethod, place
from kdcore.records import ModelSize

OUTSIDE = "kdboard_outside"
"""Before the file's name in the module name of a method from a file."""


class _TextLoader(importlib.abc.InspectLoader):
    """Runs the very text that the method's hash is of, whatever the file holds by now. Writes no byte code."""

    def __init__(self, method: OutsideMethod) -> None:
        self.method = method

    def get_source(self, fullname: str) -> str:
        return self.method.text

    def get_filename(self, fullname: str) -> str:
        return str(self.method.path)

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.method.text, str(self.method.path))


def _load(module: str) -> type[Method]:
    """The Method that the file defines."""
    contents = vars(import_module(f"kdcore.methods.{module}")).values()
    (method,) = (
        thing for thing in contents
        if isinstance(thing, type) and issubclass(thing, Method) and thing.__module__.endswith(f".{module}")
    )  # fmt: skip
    return method


def load_outside(method: OutsideMethod) -> type[Method]:
    """Runs the file, or imports the package, and returns the method's class.

    Raises:
        UserError: it raises, or its class is no Method; file, line and remedy are named.
    """
    try:
        module = import_module(method.module) if method.module else _run(method)
    except (Exception, SystemExit) as error:  # whatever a person's own code raises
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(method.path)]
        line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else 0
        problem = f"it cannot be imported ({type(error).__name__}: {str(error)[:200]})"
        raise UserError(place(method.path, line or 0), problem, "mend that line, or install what it needs") from None
    cls = getattr(module, method.class_name, None)
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise UserError(
            place(method.path, 0), f"{method.class_name} is not a Method",
            f"write `class {method.class_name}(Method)`, with Method from kdcore.methods",
        )  # fmt: skip
    return cls


def _run(method: OutsideMethod) -> Any:
    name = f"{OUTSIDE}_{method.path.stem}_{method.info.sha256[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_loader(name, _TextLoader(method))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)  # pydantic looks names up there while a class is made
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


_broken: dict[str, UserError] = {}
"""Key -> why a method from outside could not be loaded."""


def _classes(known: Collection[str]) -> dict[str, type[Method]]:
    """Key -> class of the methods that are here and not known yet, in the catalog's order; failures are noted."""
    outside, loaded = outside_methods().methods, {}
    for key, info in catalog().items():
        if key in known:
            continue
        try:
            loaded[key] = load_outside(outside[key]) if key in outside else _load(info.module)
        except UserError as error:
            _broken[key] = error
        else:
            _broken.pop(key, None)
    return loaded


METHODS: dict[str, type[Method]] = _classes(())
"""Key -> class, by family and year; what came in after the start stands at the end."""


def refresh() -> None:
    """Loads what has been named since the start."""
    METHODS.update(_classes(METHODS))


def problems() -> list[UserError]:
    """Why files and packages that were named bring no method."""
    return [*outside_methods().problems.values(), *_broken.values()]


def find_method(key: str) -> type[Method]:
    """The method of this key.

    Raises:
        UserError: no such method; the message lists the keys. Or it is from outside and cannot be loaded.
    """
    if key not in METHODS and key in catalog():
        refresh()
        if key in _broken:
            raise _broken[key]
    try:
        return METHODS[key]
    except KeyError:
        aside = "; ".join(f"{problem.field}: {problem.problem}" for problem in problems())
        problem = f"no method {key[:60]!r}" + (f", and one was left out ({aside[:300]})" if aside else "")
        raise UserError("method", problem, f"choose one of {', '.join(METHODS)}") from None


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
