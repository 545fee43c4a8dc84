"""A method's words are read from its class, for every method alike."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field

from kdcore.fields import describe_all
from kdcore.methods import METHODS, Method, MethodConfig, docs
from kdcore.records import ALL_LAYERS, TENSORS, Needs, want
from tests.methods.test_contract import Bench


class Pair(Method):
    """Pairs: the student copies
    what it sees.

    loss     first alpha near + far, then (1 - alpha) hard          alpha: between 0 and 1
    near     (h_s - h_t)^2, mean over rows;
             several teachers: their mean
             Skip: every second layer
    far      the same of other rows
    hard     cross-entropy with y
    map      j -> j
    shapes   h: [batch, width]
    departs
      - alpha, most: In all. It was (k
        - 1) times
        made for a `test`.
      - sources: Nothing: was read.
    """

    key = "pair"
    needs = Needs(want("hidden"), want("hidden"))

    class Config(MethodConfig):
        alpha: float = Field(0.5, gt=0, le=1, description="weight")
        layers: Literal["skip", "last"] | tuple[int, ...] = Field("skip", description="which")
        most: int | None = Field(None, ge=1, le=9)
        normalise: bool = True


def test_a_docstring_is_taken_apart() -> None:
    said = docs.read(Pair)
    assert said.idea == "Pairs: the student copies what it sees."
    assert said.loss == (
        docs.Equation("first", "alpha near + far"),
        docs.Equation("then", "(1 - alpha) hard", "alpha: between 0 and 1"),
    )
    assert said.terms == {
        "near": "(h_s - h_t)^2, mean over rows; several teachers: their mean; Skip: every second layer",
        "far": "the same of other rows",
        "hard": "cross-entropy with y",
    }
    assert said.more == {"map": "j -> j"}
    assert said.shapes == "h: [batch, width]"
    assert said.departs == (
        docs.Departure("alpha, most", "In all. It was (k - 1) times made for a `test`."),
        docs.Departure("sources", "Nothing: was read."),
    )


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("hard", [("", "hard")]),
        ("one stage: a;  other stage: b + c", [("one stage", "a"), ("other stage", "b + c")]),
        ("stage one: a\n         stage two: b", [("stage one", "a"), ("stage two", "b")]),
        ("a + b\n         + c", [("", "a + b + c")]),
    ],
)
def test_a_loss_of_several_stages_is_several_equations(loss: str, expected: list[tuple[str, str]]) -> None:
    docstring = f"Idea.\n\n    loss     {loss}\n    shapes   x\n    departs  - y: z\n"
    made = type("Made", (Method,), {"__doc__": docstring})
    assert [(one.stage, one.formula) for one in docs.read(made).loss] == expected


@pytest.mark.parametrize("missing", ["loss", "shapes", "departs"])
def test_a_docstring_that_lacks_a_line_is_refused(missing: str) -> None:
    lines = "".join(f"    {name}  x\n" for name in ("loss", "shapes", "departs") if name != missing)
    with pytest.raises(ValueError, match=missing):
        docs.read(type("Made", (Method,), {"__doc__": f"Idea.\n\n{lines}"}))


@pytest.mark.parametrize("departs", ["", "  text", "\n      text", "\n      - text", "\n      - topic:"])
def test_departures_that_are_no_list_are_refused(departs: str) -> None:
    made = type("Made", (Method,), {"__doc__": f"Idea.\n\n    loss     hard\n    shapes   x\n    departs{departs}\n"})
    with pytest.raises(ValueError, match="topic: text"):
        docs.read(made)


def test_what_is_read_is_said_with_its_layers() -> None:
    assert docs.tensors_text({}) == "nothing"
    assert docs.tensors_text(want("logits", cls=(2,), hidden=(0, 3), keys=ALL_LAYERS)) == (
        "logits, [CLS] states of layer 2, hidden states of layers 0, 3, keys of all layers"
    )
    assert set(docs.TENSOR_NAMES) == set(TENSORS)


@pytest.mark.parametrize("key", METHODS)
def test_every_method_explains_itself(key: str) -> None:
    said = docs.read(METHODS[key])
    assert said.idea.endswith(".") and said.loss and said.terms and said.shapes and said.departs
    assert all(text for text in {**said.terms, **said.more}.values())
    for field in describe_all(METHODS[key].Config):
        assert field.description and "a value" not in field.allowed, field


@pytest.mark.parametrize("key", METHODS)
def test_departures_are_short_and_name_settings_that_exist(key: str) -> None:
    about = docs.read(METHODS[key])
    fields = METHODS[key].Config.model_fields
    topics = [departure.topic for departure in about.departs]
    assert len(set(topics)) == len(topics) >= 2
    for departure in about.departs:
        assert departure.text.endswith(".") and len(departure.text) <= 600, departure
        for name in departure.topic.split(", "):
            assert "_" not in name or name in fields, f"{name} is not a setting of {key}"


@pytest.mark.parametrize("key", METHODS)
def test_every_logged_term_has_a_line(key: str) -> None:
    kind = min(METHODS[key].kinds)
    bench = Bench((key, {}, kind, max(1, METHODS[key].takes(METHODS[key].Config())[0])))
    said = docs.read(METHODS[key])
    for stage in bench.ready():
        named = {name.split("/")[0] for name in stage.terms(bench.step(stage, bench.batch()))}
        assert named <= set(said.terms) | set(said.more), stage.name
