"""A database's errors in words: what is wrong, where, and what to do."""

from __future__ import annotations

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError, StatementError

from kdcore.errors import CorruptError, DatabaseAwayError, UserError

ADDRESSES = "use sqlite:///path or postgresql+psycopg://user@host/name"
RECOVER = (
    "move this file away, then `kdcore runs --recover` lists the runs again from their folders (settings, students, "
    "predictions); logged curves are only in the file"
)
_DAMAGED = (
    "file is not a database",
    "malformed",
    "file is encrypted",
    "unsupported file format",
    "no such table",
    "no such column",
)


def no_driver(error: ImportError) -> UserError:
    """A database address whose driver is not installed."""
    if str(getattr(error, "name", "")).startswith("psycopg"):
        remedy = "install it with `pip install 'psycopg[binary]'` (requirements-postgresql.txt), or unset it"
        return UserError("KD_DATABASE_URL", f"the PostgreSQL driver is not installed ({error})", remedy)
    return UserError("KD_DATABASE_URL", f"its driver is not installed ({error})", ADDRESSES)


def in_words(error: SQLAlchemyError, where: str) -> UserError | None:
    """The error as one that a person can act on; None where it is a conflict that the caller handles.

    where: the database's file or address, without a password.
    """
    if isinstance(error, IntegrityError):
        return None
    words = " ".join(str(getattr(error, "orig", None) or error).split())
    if any(sign in words for sign in _DAMAGED):
        return CorruptError("database", f"{where} cannot be read ({words})", RECOVER)
    if isinstance(error, DataError) or (isinstance(error, StatementError) and not isinstance(error, DBAPIError)):
        return UserError("database", f"{where} does not take a value ({words[:300]})", "use a smaller or plainer value")
    if isinstance(error, ProgrammingError):
        remedy = "check that the address names KDBoard's own database and that its user may read and write every table"
        return UserError("database", f"{where}: {words[:300]}", remedy)
    return DatabaseAwayError("database", f"{where}: {words[:300]}", _remedy(words))


def _remedy(words: str) -> str:
    if "locked" in words or "lock timeout" in words:
        return "another program holds it; try again, or end that program"
    if "connection" in words or "server" in words:
        return "see that the server runs and can be reached, and that KD_DATABASE_URL is its address"
    if "full" in words:
        return "free some disk space (kdcore cache gc)"
    return "check that the folder exists and can be written, or the address in KD_DATABASE_URL"
