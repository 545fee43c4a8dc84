"""One reader of settings serves forms, command line and docs."""

from __future__ import annotations

import doctest
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from kdcore import fields
from kdcore.fields import NOT_TUNED, Range, ranges, tune
from kdcore.methods import METHODS


class Example(BaseModel):
    alpha: float = Field(0.5, gt=0, le=1, description="weight")
    share: float = Field(0.1, ge=0, lt=1)
    layers: Literal["skip", "last"] | tuple[int, ...] = "skip"
    every: int | Literal["epoch"] = Field("epoch", ge=1)
    most: int | None = Field(None, ge=1, le=9)
    rate: int | float = 3.0
    way: Literal["a", "b"] = "b"
    normalise: bool = True
    words: str
    numbers: tuple[int, ...] = (2, 4)
    options: dict[str, Any] = Field(default_factory=dict)
    mixed: str | int = "x"


EXAMPLES = {field.name: field for field in fields.describe_all(Example)}


def test_what_is_allowed_is_said() -> None:
    assert {name: (field.default_text, field.allowed) for name, field in EXAMPLES.items()} == {
        "alpha": ("0.5", "a number above 0 to 1"),
        "share": ("0.1", "a number from 0 below 1"),
        "layers": ("skip", "skip, last or a list"),
        "every": ("epoch", "epoch or a whole number from 1"),
        "most": ("empty", "a whole number from 1 to 9 or empty"),
        "rate": ("3", "a number"),
        "way": ("b", "a, b"),
        "normalise": ("on", "on, off"),
        "words": ("empty", "text"),
        "numbers": ("2, 4", "a list"),
        "options": ("{}", "a value"),
        "mixed": ("x", "a value"),
    }


def test_a_form_learns_kind_options_and_bounds() -> None:
    assert {name: field.kind for name, field in EXAMPLES.items()} == {
        "alpha": "number", "share": "number", "layers": "list", "every": "integer", "most": "integer",
        "rate": "number", "way": "choice", "normalise": "switch", "words": "text", "numbers": "list",
        "options": "other", "mixed": "other",
    }  # fmt: skip
    assert EXAMPLES["layers"].options == ("skip", "last") and EXAMPLES["every"].options == ("epoch",)
    assert [name for name, field in EXAMPLES.items() if field.optional] == ["most"]
    alpha, share = EXAMPLES["alpha"], EXAMPLES["share"]
    assert (alpha.low, alpha.high, alpha.above, alpha.below) == (0, 1, True, False)
    assert (share.low, share.high, share.above, share.below) == (0, 1, False, True)
    assert alpha.description == "weight" and EXAMPLES["words"].default is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2,4", (2, 4)), (" 2 4 ", (2, 4)), ("2, 4,6", (2, 4, 6)), ("3", (3,)), ("0.9,0.7", (0.9, 0.7)),
        ("skip", "skip"), ("2,", "2,"), ("-1", "-1"), ("1;2", "1;2"), ("", ""), ("9" * 5000, "9" * 5000),
        ((1, 2), (1, 2)), (None, None),
    ],
)  # fmt: skip
def test_typed_lists_are_read(text: Any, expected: Any) -> None:
    assert fields.parse_list(text) == expected


def test_the_examples_in_the_docs_run() -> None:
    assert doctest.testmod(fields).failed == 0


@pytest.mark.parametrize("key", sorted(METHODS))
def test_the_values_to_try_of_an_option_hold_its_default_and_are_taken(key):
    config = METHODS[key].Config
    found = ranges(config)
    assert ranges(config, main=True).items() <= found.items()
    for name, values in found.items():
        assert config.model_fields[name].get_default() in values, name
        ends = values.choices or (values.low, values.high)
        for value in ends:
            config.model_validate({name: int(value) if values.whole else value})


def test_what_is_not_declared_follows_from_bounds_and_default():
    class Some(BaseModel):
        switch: bool = True
        share: float = Field(0.5, ge=0, le=1)
        weight: float = Field(2.0, ge=0, le=100)
        off: float = Field(0.0, ge=0, le=100)
        few: int = Field(1, ge=1, le=3)
        many: int = Field(1, ge=0, le=1000)
        text: str = ""
        said: float = Field(3.0, ge=0, le=100, json_schema_extra=tune(1, 9))
        fixed: float = Field(3.0, ge=0, le=100, json_schema_extra=NOT_TUNED)

    assert ranges(Some) == {
        "switch": Range((True, False)), "share": Range((), 0.05, 0.95), "weight": Range((), 0.2, 20.0, log=True),
        "few": Range((), 1, 3, whole=True), "said": Range((), 1, 9),
    }  # fmt: skip
    assert ranges(Some, main=True) == {"said": Range((), 1, 9)}
