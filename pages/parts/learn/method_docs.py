"""What the docstring, the settings and the paper of a method say: equation, tables, departures from the paper."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pandas as pd
import streamlit as st

from kdcore.errors import UserError
from kdcore.fields import describe_all
from kdcore.methods import Method, MethodConfig, docs
from kdcore.methods.docs import MethodDoc
from kdcore.records import Paper
from kdcore.report import latex
from pages.parts.common.text import plain, sentence


def read(method: type[Method]) -> MethodDoc:
    """What its docstring says.

    Raises:
        UserError: a method from outside does not explain itself; the tests hold the shipped ones to it.
    """
    try:
        return docs.read(method)
    except ValueError as error:
        remedy = "write it as docs/add-a-method.md shows; `kdcore check-method FILE` tries it"
        raise UserError("method", str(error), remedy) from None


def formula(lines: str) -> None:
    """The loss as a lecture would write it. S and T: student and teacher."""
    with st.container(key="learn_formula"):
        st.latex(rf"\begin{{aligned}} {lines} \end{{aligned}}")
    st.html("<style>.st-key-learn_formula { overflow-x: auto; overflow-y: hidden }</style>")


def equation(about: MethodDoc, settings: Collection[str]) -> None:
    """The loss by the names of its settings and terms, and each term with what it is a mean over."""
    st.markdown("##### Its terms")
    names = {*about.terms, *settings}
    with st.container(key="learn_equation"):
        for line in about.loss:
            if line.stage:
                st.caption(sentence(plain(line.stage)).rstrip("."))
            formula = latex.broken(line.formula, names)
            if formula:
                st.latex(formula)
            else:
                st.markdown(_with_formulas(line.formula, names))
            if line.aside:
                st.caption(_with_formulas(line.aside))
    for name, text in {**about.terms, **about.more}.items():
        st.markdown(f"**{plain(name)}**: {_with_formulas(text)}")
    st.caption(f"Shapes. {plain(about.shapes, 1000)}")


def settings(config: type[MethodConfig]) -> None:
    """Name, default, allowed values and meaning of each setting."""
    fields = describe_all(config)
    if not fields:
        st.caption("This method has no settings of its own.")
        return
    rows = [
        {"setting": f.name, "default": f.default_text, "allowed": f.allowed, "what it does": f.description}
        for f in fields
    ]
    st.table(pd.DataFrame(rows).map(plain).set_index("setting"))


def departures(about: MethodDoc, settings: Collection[str]) -> None:
    """A list of topics; names of settings and terms as code, other topics as they are."""
    names = {*about.terms, *settings}
    lines = (f"- {_topic(departure.topic, names)}: {_with_code(departure.text)}" for departure in about.departs)
    st.markdown("\n".join(lines))


def references(papers: Iterable[Paper]) -> None:
    for paper in papers:
        st.caption(
            f"{plain(paper.authors)}: *{plain(paper.title)}*. {plain(paper.venue)} {paper.year}, "
            f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"
        )


def _topic(topic: str, names: Collection[str]) -> str:
    return ", ".join(f"**`{name}`**" if name in names else f"**{plain(name)}**" for name in topic.split(", "))


def _with_code(text: str) -> str:
    """Text of a docstring: what stands between backticks is code."""
    pieces = text.split("`")
    return "".join(f"`{piece}`" if index % 2 else _plain_inside(piece) for index, piece in enumerate(pieces))


def _with_formulas(text: str, names: Collection[str] = ()) -> str:
    """Prose with its formulas set as formulas."""
    return "".join(
        f"${piece.text}$" if piece.math else _plain_inside(piece.text) for piece in latex.pieces(text, names)
    )


def _plain_inside(text: str) -> str:
    """`plain` that keeps the spaces at both ends, which part prose from formulas and code."""
    inner = text.strip()
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :] if inner else ""
    return plain(inner, 2000).join((before, after))
