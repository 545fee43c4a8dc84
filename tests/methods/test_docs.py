"""A method's words are read from its class, for every method alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
from pydantic import Field

from kdcore.errors import UserError
from kdcore.methods import METHODS, Method, MethodConfig, docs
from kdcore.records import ALL_LAYERS, TENSORS, ModelSize, Needs, want
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
    departs  In all. It was
             made for a test.
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
    assert (said.shapes, said.departs) == ("h: [batch, width]", "In all. It was made for a test.")


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
    made = type("Made", (Method,), {"__doc__": f"Idea.\n\n    loss     {loss}\n    shapes   x\n    departs  y\n"})
    assert [(one.stage, one.formula) for one in docs.read(made).loss] == expected


@pytest.mark.parametrize("missing", ["loss", "shapes", "departs"])
def test_a_docstring_that_lacks_a_line_is_refused(missing: str) -> None:
    lines = "".join(f"    {name}  x\n" for name in ("loss", "shapes", "departs") if name != missing)
    with pytest.raises(ValueError, match=missing):
        docs.read(type("Made", (Method,), {"__doc__": f"Idea.\n\n{lines}"}))


def test_settings_say_what_is_allowed() -> None:
    said = {one.name: (one.default, one.allowed) for one in docs.settings(Pair.Config)}
    assert said == {
        "alpha": ("0.5", "a number above 0 to 1"),
        "layers": ("skip", "skip, last or a list"),
        "most": ("empty", "a whole number from 1 to 9 or empty"),
        "normalise": ("on", "on, off"),
    }


def test_what_is_read_is_said_with_its_layers() -> None:
    assert docs.reads({}) == "nothing"
    assert docs.reads(want("logits", cls=(2,), hidden=(0, 3), keys=ALL_LAYERS)) == (
        "logits, [CLS] states of layer 2, hidden states of layers 0, 3, keys of all layers"
    )
    assert set(docs.TENSOR_WORDS) == set(TENSORS)


@pytest.mark.parametrize("key", METHODS)
def test_every_method_explains_itself(key: str) -> None:
    said = docs.read(METHODS[key])
    assert said.idea.endswith(".") and said.loss and said.terms and said.shapes and len(said.departs) > 40
    assert all(text for text in {**said.terms, **said.more}.values())
    for setting in docs.settings(METHODS[key].Config):
        assert setting.description and "a value" not in setting.allowed, setting


@pytest.mark.parametrize("key", METHODS)
def test_every_logged_term_has_a_line(key: str) -> None:
    kind = min(METHODS[key].kinds)
    bench = Bench((key, {}, kind, max(1, METHODS[key].teachers[0])))
    said = docs.read(METHODS[key])
    for stage in bench.ready():
        named = {name.split("/")[0] for name in stage.terms(bench.step(stage, bench.batch()))}
        assert named <= set(said.terms) | set(said.more), stage.name


@pytest.mark.parametrize("key", METHODS)
def test_every_method_has_parts_to_draw(key: str) -> None:
    method = METHODS[key]
    config, setup = method.Config(), docs.example(method)
    parts = docs.parts(method, config, setup)
    assert sum(part.stage.share for part in parts if not part.stage.pilot) == pytest.approx(1.0)
    for part in parts:
        assert part.depth >= 1 and part.learner and part.stage.trains(part.learner)
        assert part.teacher or not part.needs.teacher or part.teacher_depth == 6


def test_who_was_trained_before_teaches() -> None:
    if "takd" not in METHODS:
        pytest.skip("no method here trains its own teacher")
    method = METHODS["takd"]
    first, last = docs.parts(method, method.Config(), docs.example(method, student=2, teacher=6))
    assert (first.learner, first.depth, first.teacher, first.teacher_depth) == ("assistant-1", 4, "", 6)
    assert (last.learner, last.depth, last.teacher, last.teacher_depth) == ("student", 2, "assistant-1", 4)
    assert last.needs.teacher == last.needs.student


def test_a_setup_that_does_not_fit_is_refused_in_words() -> None:
    method = METHODS["pkd"]
    setup = docs.example(method)
    narrow = replace(setup, student=ModelSize(3, 32, 4, 128))
    with pytest.raises(UserError, match="width"):
        docs.parts(method, method.Config(), narrow)
