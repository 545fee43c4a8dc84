"""The databases that tests of the store run on: SQLite, and PostgreSQL where KD_TEST_POSTGRESQL names a server.

    KD_TEST_POSTGRESQL=postgresql+psycopg://user@127.0.0.1:5432/postgres

Each test has a schema of its own there, which is dropped after it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

import kdcore.store

SERVER = os.environ.get("KD_TEST_POSTGRESQL", "")
KINDS = ("sqlite", "postgresql") if SERVER else ("sqlite",)
NO_SERVER = "KD_TEST_POSTGRESQL names no PostgreSQL server: the tests of store and runs run on SQLite alone"

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For tests of what only a file has: its path, its locks, SQLite's own words."""
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@contextmanager
def addresses(kind: str) -> Iterator[Callable[[], str]]:
    """A function that makes a new, empty database and returns its address; for SQLite "": the file in the cache."""
    if kind == "sqlite":
        yield lambda: ""
        return
    if not SERVER:
        pytest.skip(NO_SERVER)
    engine, names, made = create_engine(SERVER), [], []

    def make() -> str:
        names.append(f"test_{secrets.token_hex(6)}")
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {names[-1]}")
        url = make_url(SERVER).update_query_dict({"options": f"-csearch_path={names[-1]}"})
        made.append(url.render_as_string(hide_password=False))
        return made[-1]

    try:
        yield make
    finally:
        for key, store in list(kdcore.store._open.items()):
            if key[0] in made:
                store.engine.dispose()
                del kdcore.store._open[key]
        with engine.begin() as connection:
            for name in names:
                connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
        engine.dispose()
