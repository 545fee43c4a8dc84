"""Widgets made from a settings model: each field's type, bounds, default and description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kdcore.fields import Field, describe, parse_list

SMALLEST_STEP = 1e-6
LABELS = {
    "lr": "Learning rate",
    "max_length": "Longest row (tokens)",
    "batch_size": "Batch size (rows)",
    "init": "Initial weights from",
    "init_layers": "Layers they are taken from",
    "checkpoint": "Checkpoint folder",
    "form": "Matrices",
    "vocabulary": "Vocabulary of its own (subword tokens)",
    "width": "Width (hidden size)",
    "intermediate": "Feed-forward size",
    "clip": "Largest gradient norm",
    "masked_lm": "Masked language model",
    "domain": "Column with the domain",
    "label_fraction": "Share of rows with a label",
    "label_noise": "Share of wrong labels",
    "noise_kind": "Kind of wrong labels",
    "imbalance": "Rarest class (share)",
    "teacher_data": "Teachers learn from rows",
    "unlabelled": "Rows without a label",
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
        st.session_state[f"{prefix}.{name}"] = _widget_value(value)


def field(name: str, info: FieldInfo, key: str) -> Any:
    """One widget; its value, None where an optional field is empty."""
    about = describe(name, info)
    label = LABELS.get(name, name.replace("_", " ").capitalize())
    widget: dict[str, Any] = {"key": key, "help": info.description, "persist_state": "session"}
    if about.options:
        return _choice(label, about, widget)
    if about.kind == "switch":
        st.session_state.setdefault(key, bool(about.default))
        return st.toggle(label, **widget)
    if about.kind in ("integer", "number"):
        return _number(label, about, widget)
    if about.kind == "text":
        st.session_state.setdefault(key, about.default or "")
        text = st.text_input(label, max_chars=500, **widget)
        return (text or None) if about.optional else text
    st.session_state.setdefault(key, _widget_value(about.default) or "")
    return read(st.text_input(label, max_chars=500, **widget))


def read(text: str) -> Any:
    """A typed list (`2,4`) as a tuple, else the text as YAML reads it; None where empty."""
    if not text.strip():
        return None
    value = parse_list(text)
    if isinstance(value, tuple) and len(value) > 1:
        return value
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _choice(label: str, about: Field, widget: dict[str, Any]) -> Any:
    """A list box; fields that also take numbers or a list let one type them."""
    typed = about.kind != "choice"
    labels = [_widget_value(option) for option in about.options]
    if st.session_state.get(widget["key"]) is None:
        st.session_state[widget["key"]] = _widget_value(
            about.default if about.default is not None else about.options[0]
        )
    chosen = st.selectbox(label, labels, accept_new_options=typed, **widget)
    if chosen in labels:
        return about.options[labels.index(chosen)]
    if chosen is None or not typed:
        return about.default
    value = parse_list(chosen)
    if not isinstance(value, tuple):
        return str(chosen)[:60]
    return value if about.kind == "list" else value[0]


def _number(label: str, about: Field, widget: dict[str, Any]) -> Any:
    real = about.kind == "number"
    convert: Any = float if real else int
    low, high = (None if bound is None else convert(bound) for bound in (about.low, about.high))
    if not about.optional and widget["key"] not in st.session_state:
        st.session_state[widget["key"]] = convert(about.default)
    start: Any = None if about.optional else "min"
    step = max(SMALLEST_STEP, _step(abs(float(about.default or 0.1)))) if real else 1
    widget |= {"value": start, "step": step, "placeholder": "empty"} | ({"format": "%g"} if real else {})
    return st.number_input(label, low, high, **widget)


def _step(size: float) -> float:
    """What one press of + adds: 0.00005 -> 0.00001, 0.5 -> 0.1, 3 -> 1, 500 -> 10."""
    decade = int(f"{size:e}".split("e")[1])
    return 10.0 ** (decade - 1 if decade > 0 else decade)


def _widget_value(value: Any) -> Any:
    """A value as its widget holds it: lists as `2,4`, choices as text, numbers and switches as they are."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return value
