"""A method in words: its docstring, settings, needs and stages, read from the class. Nothing here names a method."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from kdcore.config import StudentSpec
from kdcore.methods.base import Method, MethodConfig
from kdcore.models.sizes import size_of
from kdcore.models.students import build_student
from kdcore.records import ALL_LAYERS, ModelSize, Needs, Setup, Stage, Want

TENSOR_WORDS: dict[str, str] = {
    "logits": "logits",
    "pooled": "pooled output",
    "cls": "[CLS] states",
    "hidden": "hidden states",
    "embeddings": "word embeddings",
    "queries": "queries",
    "keys": "keys",
    "values": "values",
    "scores": "attention scores",
    "attention": "attention",
    "head_outputs": "head outputs",
}
"""Tensor of `records.TENSORS` -> its name for people."""

_ASIDE = re.compile(r"\s{3,}")
_OWN_LINE = re.compile(r"(?<![.,;:(+=-])\n\s*(?=\S+(?: [^\s:]+){0,2}: )")
_NEXT = re.compile(r"[;\n]\s*|,\s*(?=then\b)")
_STAGE = re.compile(r"(.*:|first\b|then\b)?(.*)")


@dataclass(frozen=True)
class Equation:
    """One line of a loss. stage: where it holds (empty: everywhere). aside: what explains a sign in it."""

    stage: str
    formula: str
    aside: str = ""


@dataclass(frozen=True)
class Words:
    """A method's docstring, taken apart. Texts are one line each.

    terms: the named terms of the loss, in the order they are explained. more: lines that explain something else.
    """

    idea: str
    loss: tuple[Equation, ...]
    terms: dict[str, str]
    more: dict[str, str]
    shapes: str
    departs: str


@dataclass(frozen=True)
class Part:
    """One stage of a method's training: who learns from whom, and what is read.

    learner: the role that is trained; depth: its layers as it runs. teacher: a role that was trained before and teaches
    now, or empty for the run's own teachers. needs: what is read of the two. layer_map: learner's layer -> teacher's.
    """

    stage: Stage
    learner: str
    depth: int
    teacher: str
    teacher_depth: int
    needs: Needs
    layer_map: Mapping[int, int]


@dataclass(frozen=True)
class Setting:
    """One field of a method's Config, as people read it."""

    name: str
    default: str
    allowed: str
    description: str


def read(method: type[Method]) -> Words:
    """The docstring of a method: a sentence, a blank line, then lines that begin with what they explain.

    Raises:
        ValueError: there is no docstring, or it lacks `loss`, `shapes` or `departs`.
    """
    text = inspect.cleandoc(method.__doc__ or "")
    idea, _, block = text.partition("\n\n")
    lines = dict(_entries(block))
    missing = [name for name in ("loss", "shapes", "departs") if name not in lines]
    if missing:
        raise ValueError(f"the docstring of {method.__name__} lacks {', '.join(missing)}")
    shapes, departs = lines.pop("shapes"), lines.pop("departs")
    equations = _equations(lines.pop("loss"))
    named = {name for equation in equations for name in re.findall(r"\w+", equation.formula)}
    terms = {name: _joined(said) for name, said in lines.items() if name in named}
    more = {name: _joined(said) for name, said in lines.items() if name not in named}
    return Words(_joined(idea), equations, terms, more, _joined(shapes), _joined(departs))


def settings(config: type[MethodConfig]) -> list[Setting]:
    """The fields of a Config: name, default, what is allowed, and what it does."""
    return [
        Setting(name, _value(field.default), _allowed(field), field.description or "")
        for name, field in config.model_fields.items()
    ]


def reads(wanted: Want) -> str:
    """`logits, [CLS] states of layers 2, 4`; "nothing" where nothing is wanted."""
    return ", ".join(f"{TENSOR_WORDS[name]}{_layers(layers)}" for name, layers in wanted.items()) or "nothing"


def example(method: type[Method], student: int = 3, teacher: int = 6) -> Setup:
    """A setup to explain the method on: these depths, one width, as few teachers as it takes (at least one)."""
    regression = "classification" not in method.kinds
    names = [f"teacher-{at}" for at in range(1, max(1, method.teachers[0]) + 1)]
    small, large = ModelSize(student, 64, 4, 256), ModelSize(teacher, 64, 4, 256)
    return Setup(kind="regression" if regression else "classification", labels=1 if regression else 2, student=small,
                 teachers=dict.fromkeys(names, large), scores=dict.fromkeys(names, 0.5), train_rows=1000)  # fmt: skip


def parts(method: type[Method], config: MethodConfig, setup: Setup) -> list[Part]:
    """The parts of training that the method has in this setup, in their order.

    Raises:
        UserError: the method does not fit the setup; field and remedy are named.
    """
    built = method(config, setup)
    deep = depths(built)
    teacher = next(iter(setup.teachers.values())).layers if setup.teachers else 0
    layer_map = method.layer_map(config, setup.student, next(iter(setup.teachers.values()))) if setup.teachers else {}
    found = []
    for stage in built.stages():
        learner = next((role for role in deep if stage.trains(role)), next(iter(deep)))
        guide = next((role for role in deep if stage.students and stage.runs(role) and not stage.trains(role)), "")
        if guide and not stage.needs.teacher:
            needs = Needs(stage.needs.student, stage.needs.student)
            found.append(Part(stage, learner, deep[learner], guide, deep[guide], needs, {}))
        else:
            found.append(Part(stage, learner, deep[learner], "", teacher, stage.needs, layer_map))
    return found


def depths(method: Method) -> dict[str, int]:
    """Role -> layers of the model that the method builds for it, as it runs."""
    own = method.setup.student.layers
    models: Mapping[str, Any] = method.build_students(lambda layers=None: thin(layers or own))
    return {role: size_of(model.config).layers for role, model in models.items()}


def thin(layers: int) -> Any:
    """A BERT of this depth, as thin as can be: enough to see what a method makes of its students."""
    spec = StudentSpec(layers=layers, init="random")
    return build_student(ModelSize(layers, 8, 2, 8, vocabulary=8, positions=8), 2, spec, None, seed=0)


def _entries(block: str) -> Iterator[tuple[str, str]]:
    """(first word, the rest with its indented lines) of each line that is not indented.

    An indented line that begins with what it speaks of (`Skip: ...`) is set off by a semicolon.
    """
    for entry in re.split(r"\n(?=\S)", block.strip()):
        name, _, rest = entry.partition(" ")
        yield name, _OWN_LINE.sub("; ", rest) if name not in ("loss", "departs") else rest


def _equations(loss: str) -> tuple[Equation, ...]:
    """`one stage: a;  other stage: b`, or `first a, then b`; each may be followed by spaces and an aside."""
    found = []
    for part in _NEXT.split(re.sub(r"\n\s*(?!\s*[\w -]+:)", " ", loss.strip())):
        formula, *asides = _ASIDE.split(part.strip(), maxsplit=1)
        stage, formula = _STAGE.fullmatch(formula).groups("")  # type: ignore[union-attr]  # it matches anything
        found.append(Equation(stage.rstrip(":"), formula.strip(), _joined(" ".join(asides))))
    return tuple(found)


def _joined(text: str) -> str:
    return " ".join(text.split())


def _layers(layers: tuple[int, ...]) -> str:
    if not layers:
        return ""
    if layers == ALL_LAYERS:
        return " of all layers"
    return f" of layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return "empty" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(field: FieldInfo) -> str:
    kinds = list(dict.fromkeys(_kinds(field.annotation)))
    between = _bounds(field.metadata)
    return " or ".join(f"{kind} {between}".strip() if "number" in kind else kind for kind in kinds)


def _kinds(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    if origin is Literal:
        yield ", ".join(map(str, get_args(annotation)))
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _kinds(part)
    elif origin in (tuple, list):
        yield "a list"
    else:
        known = {int: "a whole number", float: "a number", bool: "on, off", str: "text", type(None): "empty"}
        yield known.get(annotation, "a value")


def _bounds(rules: list[Any]) -> str:
    """`from 0 to 1`, `above 0, up to 10`."""
    words = {"ge": "from {:g}", "gt": "above {:g}", "le": "to {:g}", "lt": "below {:g}"}
    limits = [
        said.format(value) for name, said in words.items() for rule in rules
        if (value := getattr(rule, name, None)) is not None
    ]  # fmt: skip
    return " ".join(limits)
