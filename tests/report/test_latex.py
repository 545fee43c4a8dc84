"""Formulas in docstrings become TeX, and prose stays prose."""

from __future__ import annotations

import pytest

from kdcore.methods import METHODS, docs
from kdcore.report import latex


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("(1 - alpha) hard + alpha soft", r"(1-\alpha)\,\text{hard}+\alpha\,\text{soft}"),
        ("value_weight values", r"\text{value weight} \cdot \text{values}"),
        ("T^2 KL(softmax(t / T) || p)", r"T^{2}\,\mathrm{KL}(\mathrm{softmax}(t/T)\,\|\,p)"),
        ("sum_{a != i} x_ij", r"\sum_{a \neq  i}\,x_{ij}"),
        ("a_k >= 0", r"a_{k}\geq 0"),
        ("2k", r"2\,k"),
        ("f(x)", "f(x)"),
        ("n (n + 1)", r"n\,(n+1)"),
    ],
)
def test_a_formula_is_set(text: str, tex: str) -> None:
    assert latex.whole(text, {"hard", "soft", "values", "value_weight"}) == tex


def test_a_long_sum_is_broken_at_its_outer_plus_signs() -> None:
    names = {"hard", "soft"}
    assert latex.broken("(1 + a) hard + soft", names) == latex.whole("(1 + a) hard + soft", names)
    found = latex.broken("(1 + a) hard + soft", names, longest=5)
    assert found == r"\begin{aligned} &(1+a)\,\text{hard} \\ &+ \text{soft} \end{aligned}"
    assert latex.broken("a long sum + of words", longest=5) is None


@pytest.mark.parametrize("text", ["", "hard, or soft", "(1 - alpha", "each times its weight", "x [batch]"])
def test_what_is_no_formula_is_none(text: str) -> None:
    assert latex.whole(text, {"hard"}) is None


def test_formulas_are_found_in_prose() -> None:
    text = "cross-entropy of a 4-way head, mean over rows; for scores: (s - y)^2, the teacher's s at T = 2 (ours)"
    found = latex.pieces(text)
    assert "".join(one.text for one in found if not one.math).startswith("cross-entropy of a 4-way head, mean over")
    assert [one.text for one in found if one.math] == ["(s-y)^{2}", "T=2"]


def test_prose_is_kept_letter_by_letter() -> None:
    for text in ("the batch's s", "layers and width", "softmax(head width)", "R = softmax(V of the heads)", "(a", "->"):
        found = latex.pieces(text)
        assert [one.math for one in found] == [False] and found[0].text == text


@pytest.mark.parametrize("key", METHODS)
def test_every_methods_words_can_be_set(key: str) -> None:
    said = docs.read(METHODS[key])
    names = {*said.terms, *METHODS[key].Config.model_fields}
    for text in [*said.terms.values(), *said.more.values(), *(one.formula for one in said.loss)]:
        for piece in latex.pieces(text, names):
            assert piece.text
            if piece.math:
                assert piece.text.count("{") == piece.text.count("}") and piece.text.count("(") == piece.text.count(")")
    assert any(latex.whole(one.formula, names) for one in said.loss), "a loss is written as a formula"
