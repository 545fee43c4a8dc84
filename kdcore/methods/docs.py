"""A method as its docstring explains it: idea, loss, terms, shapes, and how it departs from its paper.

Nothing here names a method, and nothing needs torch.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcore.records import ALL_LAYERS, Want

if TYPE_CHECKING:
    from kdcore.methods.base import Method

TENSOR_NAMES: dict[str, str] = {
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
_ENTRY = re.compile(r"(\S*)(.*)", re.DOTALL)
_OWN_LINE = re.compile(r"(?<![.,;:(+=-])\n\s*(?=\S+(?: [^\s:]+){0,2}: )")
_NEXT = re.compile(r"[;\n]\s*|,\s*(?=then\b)")
_STAGE = re.compile(r"(.*:|first\b|then\b)?(.*)")
_ITEM = re.compile(r"^- ", re.MULTILINE)


@dataclass(frozen=True)
class Equation:
    """One line of a loss. stage: where it holds (empty: everywhere). aside: what explains a sign in it."""

    stage: str
    formula: str
    aside: str = ""


@dataclass(frozen=True)
class Departure:
    """One way in which a method differs from its paper, or what of the paper could not be verified.

    topic: what it is about: names of settings or terms (`alpha, beta`), or a noun.
    """

    topic: str
    text: str


@dataclass(frozen=True)
class MethodDoc:
    """A method's docstring, taken apart. Texts are one line each.

    terms: the named terms of the loss, in the order they are explained. more: lines that explain something else.
    """

    idea: str
    loss: tuple[Equation, ...]
    terms: dict[str, str]
    more: dict[str, str]
    shapes: str
    departs: tuple[Departure, ...]


def read(method: type[Method]) -> MethodDoc:
    """The docstring of a method: a sentence, a blank line, then lines that begin with what they explain.

    Raises:
        ValueError: there is no docstring, it lacks `loss`, `shapes` or `departs`, or `departs` is not a list of
            `- topic: text`.
    """
    docstring = inspect.cleandoc(method.__doc__ or "")
    idea, _, block = docstring.partition("\n\n")
    lines = dict(_entries(block))
    missing = [name for name in ("loss", "shapes", "departs") if name not in lines]
    if missing:
        raise ValueError(f"the docstring of {method.__name__} lacks {', '.join(missing)}")
    shapes, departs = lines.pop("shapes"), lines.pop("departs")
    equations = _equations(lines.pop("loss"))
    signs = {name for equation in equations for name in re.findall(r"\w+", equation.formula)}
    terms = {name: _joined(text) for name, text in lines.items() if name in signs}
    more = {name: _joined(text) for name, text in lines.items() if name not in signs}
    return MethodDoc(_joined(idea), equations, terms, more, _joined(shapes), _departures(departs))


def tensors_text(wanted: Want) -> str:
    """`logits, [CLS] states of layers 2, 4`; "nothing" where nothing is wanted."""
    return ", ".join(f"{TENSOR_NAMES[name]}{_layers(layers)}" for name, layers in wanted.items()) or "nothing"


def _entries(block: str) -> Iterator[tuple[str, str]]:
    """(first word, the rest with its indented lines) of each line that is not indented.

    An indented line that begins with what it speaks of (`Skip: ...`) is set off by a semicolon.
    """
    for entry in re.split(r"\n(?=\S)", block.strip()):
        name, rest = _ENTRY.fullmatch(entry).groups()  # type: ignore[union-attr]  # it matches anything
        yield name, _OWN_LINE.sub("; ", rest) if name not in ("loss", "departs") else rest


def _equations(loss: str) -> tuple[Equation, ...]:
    """`one stage: a;  other stage: b`, or `first a, then b`; each may be followed by spaces and an aside."""
    equations = []
    for line in _NEXT.split(re.sub(r"\n\s*(?!\s*[\w -]+:)", " ", loss.strip())):
        formula, *asides = _ASIDE.split(line.strip(), maxsplit=1)
        stage, formula = _STAGE.fullmatch(formula).groups("")  # type: ignore[union-attr]  # it matches anything
        equations.append(Equation(stage.rstrip(":"), formula.strip(), _joined(" ".join(asides))))
    return tuple(equations)


def _departures(block: str) -> tuple[Departure, ...]:
    """`- topic: sentences`, one an item; further lines of an item are indented deeper than its hyphen."""
    before, *items = _ITEM.split(textwrap.dedent(block))
    departures = [Departure(*_joined(item).partition(": ")[::2]) for item in items]
    if before.strip() or not departures or not all(departure.topic and departure.text for departure in departures):
        raise ValueError(f"`departs` is not a list of `- topic: text`: {_joined(block)[:80]!r}")
    return tuple(departures)


def _joined(text: str) -> str:
    return " ".join(text.split())


def _layers(layers: tuple[int, ...]) -> str:
    if not layers:
        return ""
    if layers == ALL_LAYERS:
        return " of all layers"
    return f" of layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
