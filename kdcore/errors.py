"""Errors that a person can act on: each names the field and the remedy."""

from __future__ import annotations


class UserError(Exception):
    """Something a person asked for cannot be done.

    Args:
        field: the input that is wrong, as the form or the command line calls it (`teachers[0].where`).
        problem: what is wrong with it, in one sentence.
        remedy: what to do instead.
    """

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        self.field, self.problem, self.remedy = field, problem, remedy
        super().__init__(f"{field}: {problem}; {remedy}")

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, str]]:
        return (type(self), (self.field, self.problem, self.remedy))


class CorruptError(UserError):
    """A file or row that this program wrote cannot be read back."""


class UndeclaredTensorError(AttributeError):
    """A method read a tensor that its `needs` do not declare, so nothing computed it."""


class DatabaseAwayError(UserError):
    """The database does not answer at this moment; it may a moment later."""
