"""Formulas of docstrings, which are written in plain text, as TeX."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"(?P<name>(?<!['’A-Za-z_])[A-Za-z]\w*(?:(?<=_)\{[^{}]*\})?)|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<sign>\|\||->|!=|>=|<=|\.\.|[-+*/^=<>(),])"
)
_GREEK = frozenset(
    "alpha beta gamma delta epsilon eta theta lambda mu pi rho sigma tau phi psi omega".split()  # noqa: SIM905
)
_FUNCTIONS = frozenset(
    "KL JS CE MSE softmax sigmoid tanh log exp cos max min mean sum sqrt gcd norm".split()  # noqa: SIM905
)
_SIGNS = {
    "||": r"\,\|\,",
    "->": r"\to ",
    "!=": r"\neq ",
    ">=": r"\geq ",
    "<=": r"\leq ",
    "..": r"\ldots ",
    "*": r"\cdot ",
}
_RELATING = frozenset({"||", "->", "!=", ">=", "<=", "+", "-", "*", "/", "^", "="})
_LOOSE = frozenset({*_RELATING, "..", ",", "<", ">"})


@dataclass(frozen=True)
class Piece:
    """A stretch of text. math: whether `text` is TeX."""

    text: str
    math: bool


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    tex: str
    start: int
    end: int


def whole(text: str, names: Collection[str] = ()) -> str | None:
    """`text` as TeX, or None where something in it is no formula.

    Args:
        names: words that stand for quantities here (terms, settings); they are set upright.
    """
    tokens = list(_tokens(text, names))
    covered = "".join("".join(token.text for token in tokens).split()) == "".join(text.split())
    return _tex(tokens) if tokens and covered and _is_closed(tokens) else None


def lines(text: str, names: Collection[str] = (), longest: int = 36) -> list[str]:
    """`whole`, with a line for each term of a sum where the text is longer than `longest` characters; else one.

    Empty where something in it is no formula.
    """
    terms = [whole(term, names) for term in _summands(text)]
    known = [term for term in terms if term is not None]
    if len(text) > longest and len(known) == len(terms):
        return [known[0], *(f"+ {term}" for term in known[1:])]
    formula = whole(text, names)
    return [] if formula is None else [formula]


def broken(text: str, names: Collection[str] = (), longest: int = 36) -> str | None:
    """`lines` as one piece of TeX, or None where there are none."""
    parts = lines(text, names, longest)
    if len(parts) < 2:
        return parts[0] if parts else None
    return r"\begin{aligned} &" + r" \\ &".join(parts) + r" \end{aligned}"


def pieces(text: str, names: Collection[str] = ()) -> list[Piece]:
    """`text` cut into prose and the formulas that stand in it."""
    parts: list[Piece] = []
    start = 0
    for run in _runs(text, names):
        if run[0].start > start:
            parts.append(Piece(text[start : run[0].start], False))
        parts.append(Piece(_tex(run), True))
        start = run[-1].end
    return [*parts, Piece(text[start:], False)] if start < len(text) else parts


def _summands(text: str) -> list[str]:
    """What stands between the plus signs that no parenthesis encloses."""
    parts, depth = [""], 0
    for sign in text:
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if sign == "+" and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _tokens(text: str, names: Collection[str]) -> Iterator[_Token]:
    """What can stand in a formula; everything else is left out."""
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        tex = _tex_name(match.group(), names) if kind == "name" else _SIGNS.get(match.group(), match.group())
        if tex is not None:
            yield _Token(kind, match.group(), tex, match.start(), match.end())


def _tex_name(word: str, names: Collection[str]) -> str | None:
    """The TeX of a name; None for a word of prose."""
    if word in _GREEK:
        return rf"\{word}"
    if word in names:
        return rf"\text{{{word.replace('_', ' ')}}}" if len(word) > 1 else word
    base, _, below = word.partition("_")
    if (len(base) > 1 and base not in _FUNCTIONS | _GREEK) or (len(below) > 3 and not below.startswith("{")):
        return None
    known = base in _GREEK or (base == "sum" and below)
    head = rf"\{base}" if known else rf"\mathrm{{{base}}}" if base in _FUNCTIONS else base
    return f"{head}_{{{below.strip('{}').replace('!=', _SIGNS['!='])}}}" if below else head


def _runs(text: str, names: Collection[str]) -> Iterator[list[_Token]]:
    """Stretches of neighbouring tokens that make a formula: closed parentheses, and a sign that relates two things."""
    run: list[_Token] = []
    for token in [*_tokens(text, names), None]:
        inside = sum({"(": 1, ")": -1}.get(piece.text, 0) for piece in run) > 0
        joins = token is not None and run and not text[run[-1].end : token.start].strip()
        if joins and token is not None and (token.text != "," or inside):
            run.append(token)
            continue
        if formula := _formula_front(run):
            yield formula
        run = [token] if token is not None and token.text != "," else []


def _formula_front(run: list[_Token]) -> list[_Token]:
    """The longest front of the run that is a formula; empty where there is none."""
    while run and run[0].text in (_LOOSE | {")"}) - {"-"}:
        run = run[1:]
    while run and not (_is_closed(run) and run[-1].text not in _LOOSE | _FUNCTIONS):
        run = run[:-1]
    tells = any(token.text in _RELATING for token in run) and any(token.kind == "name" for token in run)
    return run if tells and len(run) > 2 else []


def _is_closed(tokens: list[_Token]) -> bool:
    depth = 0
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0:
            return False
    return depth == 0


def _tex(tokens: list[_Token]) -> str:
    out = ""
    before: _Token | None = None
    for token in tokens:
        if before is not None and before.text == "^":
            out += f"{{{token.tex}}}"
        elif before is not None and _is_product(before, token):
            out += (r" \cdot " if before.tex.startswith(r"\text") else r"\,") + token.tex
        else:
            out += token.tex
        before = token
    return out


def _is_product(left: _Token, right: _Token) -> bool:
    """Things that stand side by side are a product; a parenthesis right behind a name holds its arguments."""
    if left.kind == "sign" and left.text != ")":
        return False
    return right.kind != "sign" or (right.text == "(" and right.start > left.end)
