"""Forms of a student's matrices, by number alone: which factors stand for a matrix, what they hold and what they cost.

In a Kronecker form each matrix of a layer and the table of word embeddings is a Kronecker product of two small
matrices, W = A (x) B (Tahaei et al. 2022, section 3). Position and token type tables, norms, biases, pooler and
classifier stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kdcore.errors import UserError
from kdcore.records import ModelSize

MODEL_TYPE = "kdboard_bert"
"""In the config.json of a BERT student whose matrices are of another form (`models.forms`)."""

Matrix = Literal["attention", "up", "down", "table"]
"""Kinds of matrix. attention: queries, keys, values, output. up, down: into and out of the feed-forward part."""


@dataclass(frozen=True)
class Factors:
    """Shapes (rows, columns) of A and B, of which the matrix is the Kronecker product."""

    a: tuple[int, int]
    b: tuple[int, int]

    @property
    def weights(self) -> int:
        """Numbers that are kept."""
        return self.a[0] * self.a[1] + self.b[0] * self.b[1]

    @property
    def b_first(self) -> bool:
        """Whether X B^T, then A (X B^T), takes fewer operations than A X, then (A X) B^T."""
        return self._costs()[0] <= self._costs()[1]

    @property
    def products(self) -> int:
        """Multiply-adds of one product with a vector, in the cheaper order."""
        return min(self._costs())

    def _costs(self) -> tuple[int, int]:
        (m1, n1), (m2, n2) = self.a, self.b
        return n1 * n2 * m2 + m1 * n1 * m2, m1 * n1 * n2 + m1 * n2 * m2


@dataclass(frozen=True)
class _Form:
    """attention: shape of B. up: shape of A; down has its transpose. table: columns of B, which has one row."""

    attention: tuple[int, int]
    up: tuple[int, int]
    table: int


_KRONECKER = {
    "kronecker-8": _Form(attention=(2, 2), up=(8, 2), table=8),
    "kronecker-21": _Form(attention=(2, 16), up=(16, 2), table=16),
}
"""The paper's two models, named by how many times smaller BERT-base gets (its table 1), at any width they divide."""


FORMS = ("plain", *_KRONECKER)


def factors(form: str, matrix: Matrix, rows: int, columns: int) -> Factors | None:
    """The factors that stand for a matrix [rows, columns] in this form; None where it is kept whole.

    Raises:
        UserError: they do not divide it.
    """
    if form == "plain":
        return None
    if form not in _KRONECKER:
        raise UserError("student.form", f"no form {form[:40]!r}", f"choose one of {', '.join(FORMS)}")
    chosen = _KRONECKER[form]
    given = {
        "attention": chosen.attention,
        "up": chosen.up,
        "down": chosen.up[::-1],
        "table": (1, chosen.table),
    }[matrix]
    if rows % given[0] or columns % given[1]:
        least = "16" if form == "kronecker-21" else "8"
        raise UserError(
            "student.form",
            f"{form} cannot divide a matrix of {rows} x {columns} by {given[0]} x {given[1]}",
            f"choose a width and a feed-forward size that are multiples of {least}, or form=plain",
        )
    rest = rows // given[0], columns // given[1]
    return Factors(given, rest) if matrix in ("up", "down") else Factors(rest, given)


def check_form(size: ModelSize) -> None:
    """Raises UserError where the size's form cannot divide its matrices."""
    factors(size.form, "attention", size.width, size.width)
    factors(size.form, "up", size.intermediate, size.width)
    factors(size.form, "down", size.width, size.intermediate)
    factors(size.form, "table", size.vocabulary, size.width)


def weights(form: str, matrix: Matrix, rows: int, columns: int) -> int:
    """Numbers that a matrix [rows, columns] keeps in this form."""
    parts = factors(form, matrix, rows, columns)
    return parts.weights if parts else rows * columns


def products(form: str, matrix: Matrix, rows: int, columns: int) -> int:
    """Multiply-adds of one product of this matrix [rows, columns] with a vector."""
    parts = factors(form, matrix, rows, columns)
    return parts.products if parts else rows * columns
