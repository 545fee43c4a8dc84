"""What lists need of a method, read from the text of its file without running it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from kdcore.config import MethodSource
from kdcore.records import Family, Paper

FAMILIES: dict[Family, str] = {
    "none": "no distillation",
    "soft_targets": "soft targets",
    "hidden": "hidden states",
    "attention": "attention",
    "relation": "relations",
    "choice": "choice of teacher",
    "gradient": "gradients",
    "form": "form of the student",
    "data": "training data",
}
"""Family -> its name for people, in the order in which they are listed."""

NO_PAPER = "no paper"
LITERALS = ("key", "title", "family", "papers")
"""What the class of a method says as literals."""


class MethodTextError(ValueError):
    """What is wrong with the text of a method's file. line: where, counted from 1; 0: in no line of its own."""

    def __init__(self, problem: str, line: int = 0) -> None:
        self.problem, self.line = problem, line
        super().__init__(f"line {line}: {problem}" if line else problem)


@dataclass(frozen=True)
class MethodInfo:
    """What a list needs of a method.

    papers: where it comes from, the first before those that change it. idea: its first sentence. module: its file,
    without `.py`. formula: its loss, lines of an `aligned` in TeX. source: where it comes from; None: it is shipped.
    sha256: of its source where it is not shipped.
    """

    key: str
    title: str
    family: Family
    papers: tuple[Paper, ...]
    idea: str
    module: str
    formula: str = ""
    source: MethodSource | None = None
    sha256: str = ""

    @property
    def family_name(self) -> str:
        return FAMILIES[self.family]

    @property
    def cite(self) -> str:
        """The first paper as a text names it."""
        return self.papers[0].cite if self.papers else NO_PAPER

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in lists: by family, then by the first paper's year; last without a paper, or from outside.

        So that no method from outside changes the marks by which the shipped ones of its family are told apart.
        """
        return list(FAMILIES).index(self.family), self.papers[0].year if self.papers and not self.source else 9999


def read_info(source: str, module: str) -> MethodInfo:
    """What the text of a method's file says of it.

    Raises:
        MethodTextError: no class in it has literals as `key`, `title` and `family`, and a tuple of `Paper`s of literals
            as `papers`.
    """
    for node in classes(ast.parse(source)):
        if set(LITERALS) <= assignments(node).keys():
            return info_of(node, module)
    raise MethodTextError(f"{module}.py has no class with {', '.join(LITERALS)} as literals")


def info_of(node: ast.ClassDef, module: str) -> MethodInfo:
    """What the text of one class says.

    Raises:
        MethodTextError: as `read_info`, with the line.
    """
    values = assignments(node)
    if missing := [name for name in LITERALS if name not in values]:
        raise MethodTextError(f"class {node.name} lacks {', '.join(missing)}", node.lineno)
    key, title, family = (_text(values[name], name) for name in ("key", "title", "family"))
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise MethodTextError(f"{family[:40]!r} is none of the families {known}", values["family"].lineno)
    idea = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
    formula = " ".join(_text(values["formula"], "formula").split()) if "formula" in values else ""
    return MethodInfo(key, title, family, _papers(values["papers"]), idea, module, formula)


def classes(tree: ast.Module) -> list[ast.ClassDef]:
    """The classes at the top of a file."""
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def assignments(node: ast.ClassDef) -> dict[str, ast.expr]:
    """Name -> value of what the class assigns in its own lines."""
    values: dict[str, ast.expr] = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            values |= {target.id: statement.value for target in statement.targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.AnnAssign) and statement.value and isinstance(statement.target, ast.Name):
            values[statement.target.id] = statement.value
    return values


def _literal(node: ast.expr, name: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise MethodTextError(f"`{name}` is no literal", node.lineno) from None


def _text(node: ast.expr, name: str) -> str:
    value = _literal(node, name)
    if not isinstance(value, str) or not value.strip():
        raise MethodTextError(f"`{name}` is no text", node.lineno)
    return value


def _papers(node: ast.expr) -> tuple[Paper, ...]:
    if not isinstance(node, ast.Tuple):
        raise MethodTextError("`papers` is no tuple", node.lineno)
    papers = []
    for call in node.elts:
        if not isinstance(call, ast.Call) or call.args:
            raise MethodTextError("`papers` holds something else than Paper(name=literal, ...)", call.lineno)
        fields = {word.arg or "": _literal(word.value, word.arg or "papers") for word in call.keywords}
        try:
            papers.append(Paper(**fields))
        except TypeError:
            wanted = ", ".join(Paper.__dataclass_fields__)
            raise MethodTextError(f"a Paper takes {wanted}, all of them", call.lineno) from None
    return tuple(papers)
