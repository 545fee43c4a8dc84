"""The tables. Everything a list or a chart shows is a column; everything else is JSON; tensors are files elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    types,
)


@dataclass(frozen=True)
class Unreadable:
    """Stands in for a JSON value that cannot be parsed, so that one bad cell does not end a whole query."""

    why: str


class Json(types.TypeDecorator[Any]):
    """JSON as text. SQLAlchemy's own JSON type raises on a damaged cell, in the middle of a list of good ones."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else dump_json(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else load_json(value)


class Settings(Json):
    """JSON that comes back as text: `rows.read_config` takes each text apart once, not each time it is read."""

    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value


def dump_json(value: Any) -> str:
    """Compact JSON; numbers of NumPy and torch become plain ones, anything else its words."""
    text = json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode("utf-8")  # halves of characters cannot be stored


def load_json(text: Any) -> Any:
    """The value, or `Unreadable`."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        return Unreadable(str(error))


def _plain(value: Any) -> Any:
    for method in ("model_dump", "tolist"):
        if hasattr(value, method):
            return getattr(value, method)()
    if hasattr(value, "items"):
        return dict(value.items())
    return list(value) if isinstance(value, (set, frozenset)) else str(value)


metadata = MetaData()

schema = Table("kdboard_schema", metadata, Column("version", Integer, primary_key=True))

runs = Table(
    "runs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(80), nullable=False, unique=True),
    Column("name", Text, nullable=False, default=""),
    Column("state", String(16), nullable=False),
    Column("config", Settings, nullable=False),
    Column("config_hash", String(64), nullable=False, default=""),
    Column("protocol", String(16), nullable=False, default=""),
    # the config's main settings, for lists
    Column("task", Text, nullable=False, default=""),
    Column("method", Text, nullable=False, default=""),
    Column("options", Text, nullable=False, default=""),
    Column("student", Text, nullable=False, default=""),
    Column("teachers", Text, nullable=False, default=""),
    Column("init", Text, nullable=False, default=""),
    Column("seed", Integer),
    # life; times are seconds since 1970, UTC
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    Column("device", Text, nullable=False, default=""),
    Column("node", Text, nullable=False, default=""),
    Column("position", Integer, nullable=False, default=0),
    Column("reason", Text, nullable=False, default=""),
    Column("remedy", Text, nullable=False, default=""),
    Column("detail", Text, nullable=False, default=""),
    # a person's words
    Column("note", Text, nullable=False, default=""),
    Column("tags", Json),
    Column("archived", Boolean, nullable=False, default=False),
    # origin
    Column("parent", String(80)),
    Column("sweep", String(80)),
    # what the run said
    Column("facts", Json),
    Column("summary", Json),
    Column("progress", Json),
    Column("metric", Text, nullable=False, default=""),
    Column("score", Float),
    Column("select_score", Float),
    Column("last_score", Float),
    Column("seconds", Float),
    Column("latency_ms", Float),
    Column("parameters", Integer),
    # the lease of the worker that trains it
    Column("worker", Text),
    Column("host", Text),
    Column("pid", Integer),
    Column("process_started", Text),
    Column("lease_until", Float),
    # of its latest claim, larger than that of any before: what the worker pushes elsewhere lies under it
    Column("claim_number", BigInteger, nullable=False, default=0, server_default="0"),
    Column("stop", String(8)),
    # what a worker must have to train it, and how often one was lost with it
    Column("train_device", Text, nullable=False, default="auto"),
    Column("memory", Float),
    Column("attempts", Integer, nullable=False, default=0),
    Column("lost", Boolean, nullable=False, default=False),
    Index("runs_by_state", "state", "position"),
    Index("runs_by_sweep", "sweep"),
    Index("runs_by_hash", "config_hash"),
)


def _of_run(*columns: Column[Any]) -> tuple[Column[Any], ...]:
    owner: Column[Any] = Column("run", ForeignKey(runs.c.number, ondelete="CASCADE"), primary_key=True)
    return (owner, *columns)


# No row ids: SQLite then keeps the rows in the order of the key, so the points of one run lie side by side.
metrics = Table(
    "metrics",
    metadata,
    *_of_run(
        Column("stage", Text, primary_key=True),
        Column("step", Integer, primary_key=True),
        Column("kind", String(16), primary_key=True),
        Column("name", Text, primary_key=True),
        Column("epoch", Float),
        Column("seconds", Float),
        Column("value", Float),
    ),
    sqlite_with_rowid=False,
)

evaluations = Table(
    "evaluations",
    metadata,
    *_of_run(
        Column("stage", Text, primary_key=True),
        Column("step", Integer, primary_key=True),
        Column("split", Text, primary_key=True),
        Column("which", Text, primary_key=True),
        Column("metric", Text, primary_key=True),
        Column("value", Float),
        Column("rows", Integer),
    ),
    sqlite_with_rowid=False,
)

probes = Table(
    "probes",
    metadata,
    *_of_run(
        Column("name", Text, primary_key=True),
        Column("step", Integer, primary_key=True),
        Column("data", Json),
    ),
    sqlite_with_rowid=False,
)


def upsert(engine: Engine, table: Table) -> Any:
    """INSERT that replaces the row of the same key: replayed steps make no double points."""
    if engine.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    values = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=values)
