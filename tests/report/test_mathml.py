"""TeX of our formulas becomes MathML that is well formed and says the same."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from kdcore.methods import METHODS, docs
from kdcore.report import latex
from kdcore.report.mathml import mathml

OPEN, CLOSE = '<mo stretchy="false">(</mo>', '<mo stretchy="false">)</mo>'
THIN = '<mspace width="0.17em"/>'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("alpha soft", f"<mi>α</mi>{THIN}<mi>soft</mi>"),
        ("1 - w", "<mn>1</mn><mo>−</mo><mi>w</mi>"),
        ("(s - y)^2", f"{OPEN}<mi>s</mi><mo>−</mo><mi>y</mi><msup>{CLOSE}<mrow><mn>2</mn></mrow></msup>"),
        ("x_ij", "<msub><mi>x</mi><mrow><mi>i</mi><mi>j</mi></mrow></msub>"),
        ("KL(p || q)", f"<mi>KL</mi>{OPEN}<mi>p</mi>{THIN}<mo>‖</mo>{THIN}<mi>q</mi>{CLOSE}"),
        ("a < b", "<mi>a</mi><mo>&lt;</mo><mi>b</mi>"),
    ],
)
def test_a_formula_is_set(text: str, found: str) -> None:
    tex = latex.whole(text, {"soft"})
    assert tex is not None and mathml(tex) == f"<math>{found}</math>"


def test_a_script_needs_a_base() -> None:
    with pytest.raises(ValueError, match="without a base"):
        mathml("^{2}")


@pytest.mark.parametrize("key", METHODS)
def test_every_methods_formulas_are_well_formed(key: str) -> None:
    said = docs.read(METHODS[key])
    names = {*said.terms, *METHODS[key].Config.model_fields}
    for line in said.loss:
        assert latex.lines(line.formula, names)
    for text in [*said.terms.values(), *said.more.values(), *(one.formula for one in said.loss)]:
        for piece in latex.pieces(text, names):
            if piece.math:
                found = "".join(ElementTree.fromstring(mathml(piece.text)).itertext())
                assert found and not set(found) & set("\\{}_^"), found
