"""Widgets made from a settings model: each field's type, bounds, default and description."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_NUMBERS = re.compile(r"\s*\d+(\s*[,\s]\s*\d+)*\s*")
SMALLEST_STEP = 1e-6
LABELS = {
    "lr": "Learning rate",
    "max_length": "Longest row (tokens)",
    "batch_size": "Batch size (rows)",
    "init": "Initial weights from",
    "init_layers": "Layers they are taken from",
    "checkpoint": "Checkpoint folder",
    "width": "Width (hidden size)",
    "intermediate": "Feed-forward size",
    "clip": "Largest gradient norm",
    "masked_lm": "Masked language model",
    "gradient_share_every": "Gradient shares every (steps)",
}
"""Names of fields where the settings' own name would say too little."""


def fields(model: type[BaseModel], prefix: str, names: Iterable[str] | None = None, columns: int = 3) -> dict[str, Any]:
    """Draws one widget a field and returns what they hold, by field name.

    prefix: of the widgets' keys; `fill` puts values under the same keys.
    """
    wanted = list(names) if names is not None else list(model.model_fields)
    values: dict[str, Any] = {}
    if not wanted:
        return values
    places = st.columns(min(columns, max(1, len(wanted))), gap="small")
    for at, name in enumerate(wanted):
        with places[at % len(places)]:
            values[name] = field(name, model.model_fields[name], f"{prefix}.{name}")
    return values


def fill(prefix: str, values: Mapping[str, Any]) -> None:
    """Puts values into the widgets that `fields` will draw. Call it before they are drawn."""
    for name, value in values.items():
        st.session_state[f"{prefix}.{name}"] = _shown(value)


def field(name: str, info: FieldInfo, key: str) -> Any:
    """One widget; its value, None where an optional field is empty."""
    options, kinds, optional = _parts(info.annotation)
    label = LABELS.get(name, name.replace("_", " ").capitalize())
    default = None if info.default is PydanticUndefined else info.default
    kept: dict[str, Any] = {"key": key, "help": info.description, "persist_state": "session"}
    if options:
        return _choice(label, options, kinds, default, kept)
    if kinds == {bool}:
        st.session_state.setdefault(key, bool(default))
        return st.toggle(label, **kept)
    if kinds <= {int, float} and kinds:
        return _number(label, info, float in kinds, optional, default, kept)
    if kinds == {str}:
        st.session_state.setdefault(key, default or "")
        typed = st.text_input(label, max_chars=500, **kept)
        return (typed or None) if optional else typed
    st.session_state.setdefault(key, _shown(default) or "")
    return read(st.text_input(label, max_chars=500, **kept))


def read(text: str) -> Any:
    """A typed list (`2,4`) as a tuple, else the text as YAML reads it; None where empty."""
    if not text.strip():
        return None
    if _NUMBERS.fullmatch(text) and not text.strip().isdecimal():
        return tuple(int(number) for number in re.findall(r"\d+", text))
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _choice(label: str, options: list[Any], kinds: set[Any], default: Any, kept: dict[str, Any]) -> Any:
    """A list box; fields that also take numbers or a list let one type them."""
    typed = bool(kinds - {str})
    words = [_shown(option) for option in options]
    if st.session_state.get(kept["key"]) is None:
        st.session_state[kept["key"]] = _shown(default if default is not None else options[0])
    chosen = st.selectbox(label, words, accept_new_options=typed, **kept)
    if chosen in words:
        return options[words.index(chosen)]
    if chosen is None or not typed:
        return default
    numbers = tuple(int(number) for number in re.findall(r"\d+", str(chosen))[:64])
    if not numbers or not _NUMBERS.fullmatch(str(chosen)):
        return str(chosen)[:60]
    return numbers if tuple in kinds else numbers[0]


def _number(label: str, info: FieldInfo, real: bool, optional: bool, default: Any, kept: dict[str, Any]) -> Any:
    low, high = _bounds(info, real)
    if not optional and kept["key"] not in st.session_state:
        st.session_state[kept["key"]] = float(default) if real else int(default)
    start: Any = None if optional else "min"
    if real:
        step = max(SMALLEST_STEP, _step(abs(float(default or 0.1))))
        return st.number_input(label, low, high, value=start, step=step, format="%g", placeholder="empty", **kept)
    return st.number_input(label, low, high, value=start, step=1, placeholder="empty", **kept)


def _step(size: float) -> float:
    """What one press of + adds: 0.00005 -> 0.00001, 0.5 -> 0.1, 3 -> 1, 500 -> 10."""
    decade = int(f"{size:e}".split("e")[1])
    return 10.0 ** (decade - 1 if decade > 0 else decade)


def _bounds(info: FieldInfo, real: bool) -> tuple[Any, Any]:
    low = high = None
    for rule in info.metadata:
        low = getattr(rule, "ge", getattr(rule, "gt", low))
        high = getattr(rule, "le", getattr(rule, "lt", high))
    convert = float if real else int
    return (None if low is None else convert(low)), (None if high is None else convert(high))


def _parts(annotation: Any) -> tuple[list[Any], set[Any], bool]:
    """The literals, the other types and whether None is allowed."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation)), set(), False
    if get_origin(annotation) in (Union, types.UnionType):
        options: list[Any] = []
        kinds: set[Any] = set()
        optional = False
        for part in get_args(annotation):
            if part is type(None):
                optional = True
                continue
            more, inner, _ = _parts(part)
            options, kinds = options + more, kinds | inner
        return options, kinds, optional
    return [], {get_origin(annotation) or annotation}, False


def _shown(value: Any) -> Any:
    """A value as its widget holds it: lists as `2,4`, choices as text, numbers and switches as they are."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return value
