"""The methods there are, as a table: key, title, family, papers and idea, read from their files without running them.

A method's file imports torch, which takes seconds; lists, labels and legends need only its name. What stands here is
therefore read from the text of the class, where key, title, family and papers are literals.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from kdcore.records import Family, Paper

MODULES = (
    "fine_tune", "kd", "takd", "annealing_kd", "distilbert", "pkd", "bert_emd", "alp_kd", "pea_kd", "tinybert",
    "minilm", "minilm_v2", "mlkd_bert", "averaged_kd", "dynamic_kd", "skd", "mix",
)  # fmt: skip
"""The file of each method in this folder, by family and year: the order in which they are listed everywhere."""

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


@dataclass(frozen=True)
class MethodInfo:
    """What a list needs of a method.

    papers: where it comes from, the first before those that change it. idea: its first sentence. module: its file in
    this folder, without `.py`. formula: its loss, lines of an `aligned` in TeX.
    """

    key: str
    title: str
    family: Family
    papers: tuple[Paper, ...]
    idea: str
    module: str
    formula: str = ""

    @property
    def family_name(self) -> str:
        return FAMILIES[self.family]

    @property
    def cite(self) -> str:
        """The first paper as a text names it."""
        return self.papers[0].cite if self.papers else NO_PAPER

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in lists: by family, then by the first paper's year, what has no paper last."""
        return list(FAMILIES).index(self.family), self.papers[0].year if self.papers else 9999


@cache
def catalog() -> dict[str, MethodInfo]:
    """Key -> what is known of the method, in the order of `MODULES`.

    >>> catalog()["pkd"].cite
    'Sun et al. 2019'
    """
    folder = Path(__file__).parent
    infos = (read_info((folder / f"{module}.py").read_text(encoding="utf-8"), module) for module in MODULES)
    return {info.key: info for info in infos}


def title_of(key: str) -> str:
    """The method's title, or the start of its key where no such method is installed (a run from elsewhere)."""
    info = catalog().get(key)
    return info.title if info else key[:40]


def read_info(source: str, module: str) -> MethodInfo:
    """What the text of a method's file says of it.

    Raises:
        ValueError: no class in it has literals as `key`, `title` and `family`, and a tuple of `Paper`s of literals as
            `papers`.
    """
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            values = dict(_assignments(node))
            if {"key", "title", "family", "papers"} <= values.keys():
                key, title, family = (ast.literal_eval(values[name]) for name in ("key", "title", "family"))
                if family not in FAMILIES:
                    raise ValueError(f"{module}.py: {family!r} is none of the families {', '.join(FAMILIES)}")
                idea = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
                papers, formula = _papers(values["papers"], module), _formula(values.get("formula"))
                return MethodInfo(key, title, cast(Family, family), papers, idea, module, formula)
    raise ValueError(f"{module}.py has no class with key, title, family and papers as literals")


def _formula(node: ast.expr | None) -> str:
    return " ".join(ast.literal_eval(node).split()) if node else ""


def _papers(node: ast.expr, module: str) -> tuple[Paper, ...]:
    if not isinstance(node, ast.Tuple):
        raise ValueError(f"{module}.py: papers is not a tuple")
    papers = []
    for call in node.elts:
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError(f"{module}.py: papers holds something else than Paper(name=literal, ...)")
        fields: dict[str, Any] = {word.arg or "": ast.literal_eval(word.value) for word in call.keywords}
        papers.append(Paper(**fields))
    return tuple(papers)


def _assignments(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            yield from ((target.id, statement.value) for target in statement.targets if isinstance(target, ast.Name))
