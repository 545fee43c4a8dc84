"""TeX as `equation` writes it, as MathML: what browsers set without any library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

_PART = re.compile(
    r"\\(?:text|mathrm)\{(?P<word>[^{}]*)\}|\\(?P<command>[A-Za-z]+|[,|])|(?P<number>\d+(?:\.\d+)?)|(?P<letter>[A-Za-z])"
    r"|(?P<script>[_^])|(?P<open>\{)|(?P<close>\})|(?P<sign>\S)"
)
_GREEK = dict(
    zip(
        "alpha beta gamma delta epsilon eta theta lambda mu pi rho sigma tau phi psi omega".split(),  # noqa: SIM905
        "αβγδεηθλμπρστφψω",
        strict=True,
    )
)
_SIGNS = {
    "cdot": "·",
    "to": "→",
    "neq": "≠",
    "geq": "≥",
    "leq": "≤",
    "ldots": "…",
    "sum": "∑",
    "|": "‖",
    "-": "−",
    "*": "·",
}
_LOOKS = {"+": ' form="infix"', "(": ' stretchy="false"', ")": ' stretchy="false"'}
_SCRIPTS = {"_": "msub", "^": "msup"}


def mathml(tex: str) -> str:
    """One line of TeX, such as `equation.whole` gives it, as a `<math>` element.

    Raises:
        ValueError: a script without a base.
    """
    return f"<math>{''.join(_nodes(_PART.finditer(tex)))}</math>"


def _nodes(parts: Iterator[re.Match[str]]) -> list[str]:
    """Elements up to the brace that closes this group, or to the end."""
    nodes: list[str] = []
    for part in parts:
        if part["close"]:
            break
        if part["script"]:
            if not nodes:
                raise ValueError(f"a script without a base in {part.string}")
            nodes.append(_script(nodes.pop(), _SCRIPTS[part["script"]], _node(next(parts), parts)))
        else:
            nodes.append(_node(part, parts))
    return nodes


def _script(base: str, kind: str, script: str) -> str:
    return f"<{kind}>{base}{script}</{kind}>"


def _node(part: re.Match[str], parts: Iterator[re.Match[str]]) -> str:
    if part["open"]:
        return f"<mrow>{''.join(_nodes(parts))}</mrow>"
    if part["number"]:
        return f"<mn>{part['number']}</mn>"
    if part["command"] == ",":
        return '<mspace width="0.17em"/>'
    if name := part["letter"] or part["word"] or _GREEK.get(part["command"] or ""):
        return f"<mi>{escape(name)}</mi>"
    sign = part["command"] or part["sign"]
    return f"<mo{_LOOKS.get(sign, '')}>{escape(_SIGNS.get(sign, sign))}</mo>"
