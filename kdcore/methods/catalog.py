"""The methods there are, as a table: key, title and paper, read from their files without running them.

A method's file imports torch, which takes seconds; lists, labels and legends need only its name. What stands here is
therefore read from the text of the class, where key, title and paper are literals.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kdcore.records import Paper

MODULES = (
    "fine_tune", "kd", "distilbert", "pkd", "skd", "pea_kd", "minilm", "minilm_v2", "mlkd_bert", "takd",
    "averaged_kd", "tinybert",
)  # fmt: skip
"""The file of each method in this folder, in the order in which they are listed everywhere."""


@dataclass(frozen=True)
class MethodInfo:
    """What a list needs of a method. module: its file in this folder, without `.py`."""

    key: str
    title: str
    paper: Paper
    module: str

    @property
    def family(self) -> str:
        """What the method matches; methods of a family share a colour."""
        return self.paper.family


@cache
def catalog() -> dict[str, MethodInfo]:
    """Key -> what is known of the method, in the order of `MODULES`.

    >>> catalog()["pkd"].paper.cite
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
        ValueError: no class in it assigns literals to `key` and `title` and a `Paper` of literals to `paper`.
    """
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            values = dict(_assignments(node))
            if {"key", "title", "paper"} <= values.keys():
                paper = values["paper"]
                if not isinstance(paper, ast.Call) or paper.args:
                    break
                fields: dict[str, Any] = {word.arg or "": ast.literal_eval(word.value) for word in paper.keywords}
                key, title = ast.literal_eval(values["key"]), ast.literal_eval(values["title"])
                return MethodInfo(key, title, Paper(**fields), module)
    raise ValueError(f"{module}.py has no class with key, title and paper as literals")


def _assignments(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            yield from ((target.id, statement.value) for target in statement.targets if isinstance(target, ast.Name))
