"""One reader of settings: what kind of value a pydantic field takes, within which bounds, and how to say so.

Forms, the command line and the pages that explain a method all ask here.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Kind = Literal["switch", "integer", "number", "text", "list", "choice", "other"]

_KINDS: dict[Any, Kind] = {bool: "switch", int: "integer", float: "number", str: "text", tuple: "list", list: "list"}
_NAMES: dict[Kind, str] = {
    "switch": "on, off",
    "integer": "a whole number",
    "number": "a number",
    "text": "text",
    "list": "a list",
    "other": "a value",
}
_NUMBER = r"\d{1,15}(?:\.\d{1,15})?"
_NUMBERS = re.compile(rf"\s*{_NUMBER}(\s*[,\s]\s*{_NUMBER})*\s*")


@dataclass(frozen=True)
class Field:
    """A setting as people and forms see it.

    kind: the type of a value that is none of the options; "choice" where there are only options.
    low, high: bounds, None where there is none. above, below: the bound itself is excluded.
    """

    name: str
    kind: Kind
    options: tuple[Any, ...]
    optional: bool
    default: Any
    low: float | None
    high: float | None
    above: bool
    below: bool
    description: str

    @property
    def allowed(self) -> str:
        """The values it takes: `a number above 0 to 1`, `skip, last or a list`, `a whole number from 1 or empty`."""
        alternatives = [", ".join(map(str, self.options))] if self.options else []
        if self.kind != "choice":
            alternatives.append(" ".join([_NAMES[self.kind], *self._bounds()]))
        return " or ".join([*alternatives, *(["empty"] if self.optional else [])])

    @property
    def default_text(self) -> str:
        """The default as people read it: `on`, `0.5`, `2, 4`, `empty`."""
        value = self.default
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, tuple | list):
            return ", ".join(map(str, value)) or "none"
        return "empty" if value in (None, "") else f"{value:g}" if isinstance(value, float) else str(value)

    def _bounds(self) -> Iterator[str]:
        if self.low is not None:
            yield f"{'above' if self.above else 'from'} {self.low:g}"
        if self.high is not None:
            yield f"{'below' if self.below else 'to'} {self.high:g}"


def describe(name: str, info: FieldInfo) -> Field:
    """Reads a field's type, bounds, default and description; the default of a required field is None.

    >>> from kdcore.config import TrainConfig
    >>> field = describe("warmup", TrainConfig.model_fields["warmup"])
    >>> field.kind, field.default, field.allowed
    ('number', 0.1, 'a number from 0 below 1')
    """
    members = list(_members(info.annotation))
    options = tuple(option for member in members if get_origin(member) is Literal for option in get_args(member))
    types_ = [get_origin(member) or member for member in members if get_origin(member) is not Literal]
    kinds = {_KINDS.get(type_, "other") for type_ in types_ if type_ is not type(None)}
    limits = {bound: _limit(info, bound) for bound in ("ge", "gt", "le", "lt")}
    return Field(
        name=name,
        kind=_joint(kinds) if kinds else "choice",
        options=options,
        optional=type(None) in types_,
        default=None if info.is_required() else info.get_default(call_default_factory=True),
        low=limits["ge"] if limits["gt"] is None else limits["gt"],
        high=limits["le"] if limits["lt"] is None else limits["lt"],
        above=limits["gt"] is not None,
        below=limits["lt"] is not None,
        description=info.description or "",
    )


def describe_all(model: type[BaseModel]) -> list[Field]:
    """The fields of a settings model, in their order."""
    return [describe(name, info) for name, info in model.model_fields.items()]


@dataclass(frozen=True)
class Range:
    """Values of a setting that are tried: `choices` alone, or from low to high.

    log: spaced by factors, not by differences. whole: whole numbers only.
    """

    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def __contains__(self, value: Any) -> bool:
        return value in self.choices if self.choices else self.low <= value <= self.high


def tune(low: float, high: float, log: bool = False) -> dict[str, Any]:
    """What a setting's `json_schema_extra` says of the values to try; log: spaced by factors."""
    return {"tune": (low, high, log)}


NOT_TUNED: dict[str, Any] = {"tune": None}
"""`json_schema_extra` of a setting that stays at its default."""


def ranges(model: type[BaseModel], main: bool = False) -> dict[str, Range]:
    """Setting -> the values to try of it, for those that have some.

    As the setting declares with `tune`; else switches and choices whole, shares and short lists of whole numbers
    between their bounds, and other positive numbers a factor of 10 around their default. main: the declared ones only.

    >>> from kdcore.methods import find_method
    >>> ranges(find_method("kd").Config)["temperature"]
    Range(choices=(), low=1.0, high=20.0, log=True, whole=False)
    """
    found = {name: _range(name, info, main) for name, info in model.model_fields.items()}
    return {name: values for name, values in found.items() if values is not None}


MOST_WHOLE = 12
"""Whole numbers between two bounds that count as a short list."""


def _range(name: str, info: FieldInfo, main: bool) -> Range | None:
    extra, field = info.json_schema_extra, describe(name, info)
    if isinstance(extra, dict) and "tune" in extra:
        if extra["tune"] is None:
            return None
        declared: Any = extra["tune"]
        low, high, log = declared
        return Range((), low, high, log, whole=field.kind == "integer")
    if main:
        return None
    if field.kind == "switch":
        return Range((True, False))
    if field.options and field.kind in ("choice", "list"):
        return Range(field.options)
    if field.kind == "integer":
        short = field.low is not None and field.high is not None and field.high - field.low <= MOST_WHOLE
        return Range((), field.low or 0, field.high or 0, whole=True) if short else None
    if field.kind != "number" or field.optional or not field.default:
        return None
    low, high = field.low or 0.0, field.high if field.high is not None else 10 * field.default
    if high <= 1:
        return Range((), max(low, min(0.05, field.default)), min(high, max(0.95, field.default)))
    return Range((), max(low, field.default / 10), min(high, field.default * 10), log=True)


def parse_list(value: Any) -> Any:
    """`2,4` or `0.9 0.7`, typed in a form or on the command line, as a tuple of numbers; anything else as it is.

    Also the validator of a setting that is a word or a list.

    >>> parse_list("2,4"), parse_list("3"), parse_list("skip")
    ((2, 4), (3,), 'skip')
    """
    if isinstance(value, str) and _NUMBERS.fullmatch(value):
        return tuple(float(number) if "." in number else int(number) for number in re.findall(_NUMBER, value))
    return value


def _members(annotation: Any) -> Iterator[Any]:
    """The types of a union, or the one type that it is."""
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _joint(kinds: set[Kind]) -> Kind:
    if kinds == {"integer", "number"}:
        return "number"
    return next(iter(kinds)) if len(kinds) == 1 else "other"


def _limit(info: FieldInfo, bound: str) -> float | None:
    return next((getattr(rule, bound) for rule in info.metadata if getattr(rule, bound, None) is not None), None)
