"""Opening the database: SQLite in WAL mode, or what `KD_DATABASE_URL` names; its schema; its errors in words."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from kdcore.errors import CorruptError, UserError
from kdcore.paths import cache_dir
from kdcore.store.database_errors import ADDRESSES, in_words, no_driver
from kdcore.store.migrations import add_claim_numbers, add_claims
from kdcore.store.tables import metadata, runs, schema

VERSION = 3
"""Of the tables in `tables.py`."""

MIGRATIONS: dict[int, Callable[[Connection], None]] = {1: add_claims, 2: add_claim_numbers}
"""Version n -> the function that turns a database of version n into one of version n + 1."""

_BUSY_MS = 20_000
_STILL_MS = 15_000
"""After which PostgreSQL ends a session that stands still within a transaction; its writers wait longer than that."""
_LIBPQ = ("postgresql+psycopg", "postgresql+psycopg2", "postgresql")
"""Drivers that take libpq's settings."""
_LOCK = 20_210_917  # any number that is ours: PostgreSQL's counterpart of SQLite's single write lock


def default_url() -> str:
    """`KD_DATABASE_URL`, or `runs.db` in the cache folder."""
    chosen = os.environ.get("KD_DATABASE_URL")
    return chosen or _file_url(cache_dir() / "runs.db")


def _file_url(path: Path) -> str:
    """The address of a file. '?' and '%' would be read as parts of an address, so such a path is an option of it."""
    if not set("?%#") & set(str(path)):
        return f"sqlite:///{path}"
    return URL.create("sqlite", query={"uri": "true"}, database=f"file:{quote(str(path))}").render_as_string()


def database_file(url: str) -> Path | None:
    """The SQLite file of this address; None for a server."""
    parsed = _parse(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    if parsed.query.get("uri") == "true" and parsed.database.startswith("file:"):
        return Path(unquote(parsed.database.removeprefix("file:")))
    return Path(parsed.database)


def open_engine(url: str) -> Engine:
    """An engine on an up-to-date schema.

    Raises:
        UserError: the address cannot be used. CorruptError: the file is not a database of this program.
    """
    try:
        parsed = _parse(url)
        engine = create_engine(parsed, pool_pre_ping=not url.startswith("sqlite"), connect_args=_connect_args(parsed))
    except ImportError as error:
        raise no_driver(error) from None
    except (ArgumentError, NoSuchModuleError) as error:
        raise UserError("KD_DATABASE_URL", str(error), ADDRESSES) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin)
    elif engine.dialect.name == "postgresql":
        event.listen(engine, "connect", _set_up_postgresql)
    with explain_errors(url), write(engine) as connection:
        _bring_up_to_date(connection, url)
    return engine


def _parse(url: str) -> URL:
    try:
        if "\0" in url:
            raise ValueError("NUL")
        return make_url(url)
    except (ArgumentError, ValueError):  # its words would repeat the address, and with it a password
        raise UserError("KD_DATABASE_URL", "is not the address of a database", ADDRESSES) from None


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """A connection on one consistent state of the database."""
    with explain_errors(str(engine.url)), engine.begin() as connection:
        yield connection


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """A transaction that takes the one write lock at once, so that no two writers meet half-way."""
    with (
        explain_errors(str(engine.url)),
        engine.execution_options(kd_begin="BEGIN IMMEDIATE").begin() as connection,
    ):
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        yield connection


@contextmanager
def explain_errors(url: str) -> Iterator[None]:
    """Turns the driver's errors into ones that name the file and the remedy."""
    try:
        yield
    except OverflowError as error:  # SQLite's driver, where SQLAlchemy does not wrap it
        raise UserError("database", f"a value does not fit its column ({error})", "use a smaller value") from error
    except SQLAlchemyError as error:
        where = str(database_file(url) or make_url(url).render_as_string(hide_password=True))
        known = in_words(error, where)
        if known is None:
            raise
        raise known from error


def _connect_args(url: URL) -> dict[str, int]:
    """A server that vanished without a word is given up in half a minute; libpq alone would wait for hours.

    What the address says itself counts.
    """
    if url.drivername not in _LIBPQ:
        return {}
    settings = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4}
    settings |= {"tcp_user_timeout": 30_000}
    return {name: value for name, value in settings.items() if name not in url.query}


def _set_up_postgresql(connection: Any, _record: Any) -> None:
    """No process may hold the lock of all writers for long: one that stands still, or whose computer is gone."""
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = {_BUSY_MS}")
    cursor.execute(f"SET idle_in_transaction_session_timeout = {_STILL_MS}")
    cursor.close()
    connection.commit()


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late and never takes the write lock
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        _to_wal(cursor)
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _to_wal(cursor: Any) -> None:
    """Switching the journal ignores the busy timeout, so two processes that make the file together must wait here."""
    for attempt in range(50):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except Exception as error:
            if "locked" not in str(error) or attempt == 49:
                raise
            time.sleep(0.1)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("kd_begin", "BEGIN"))


def _bring_up_to_date(connection: Connection, url: str) -> None:
    present = set(inspect(connection).get_table_names())
    where = str(database_file(url) or "the database")
    if schema.name not in present:
        if present & set(metadata.tables):
            raise CorruptError("database", f"{where} has tables of another program", "choose another file")
        metadata.create_all(connection)
        connection.execute(schema.insert().values(version=VERSION))
        return
    version = connection.execute(select(schema.c.version)).scalar()
    if version is None or version > VERSION:
        raise CorruptError(
            "database",
            f"{where} has schema version {version}, this program knows up to {VERSION}",
            "use the newer program that wrote it, or move the file away",
        )
    for old in range(version, VERSION):
        MIGRATIONS[old](connection)
    if version < VERSION:
        connection.execute(schema.update().values(version=VERSION))
    # 0.1.0 knew a state "evaluating", which it never wrote; a row that has it all the same is a running one
    connection.execute(runs.update().where(runs.c.state == "evaluating").values(state="running"))
