"""A run out of one store and into another."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import Table, select
from sqlalchemy.exc import IntegrityError, StatementError

from kdcore.config import RunConfig
from kdcore.errors import CorruptError, UserError
from kdcore.identity import config_hash
from kdcore.store import database
from kdcore.store.run_row import UNFINISHED, run_row
from kdcore.store.run_table import add_row, find_row
from kdcore.store.storable import storable
from kdcore.store.store import Store
from kdcore.store.tables import evaluations, metrics, probes, runs

Points = Mapping[str, Sequence[Mapping[str, Any]]]
"""Table name (metrics, evaluations, probes) -> its rows, without the column `run`."""


def _number(value: Any) -> Any:
    """A value that training left as no number is absent."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Finite = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]
Measured = Annotated[Finite | None, BeforeValidator(_number)]
SCORE_LIMIT = 1.001
Score = Annotated[float | None, Field(ge=-SCORE_LIMIT, le=SCORE_LIMIT), BeforeValidator(_number)]
"""Every metric of a task lies between -1 and 1; one far outside would take the scale of every figure it is in."""

Int = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]

TABLES: dict[str, Table] = {"metrics": metrics, "evaluations": evaluations, "probes": probes}


class Carried(BaseModel):
    """A run as it travels: all that is not of this machine. What can be worked out from the settings is not carried."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    id: str = Field(max_length=80)
    name: str = Field("", max_length=200)
    state: Literal["done", "stopped", "failed", "interrupted", "cancelled"]
    config: RunConfig
    created: Finite
    started: Measured = None
    finished: Measured = None
    device: str = Field("", max_length=200)
    reason: str = Field("", max_length=10_000)
    remedy: str = Field("", max_length=10_000)
    detail: str = Field("", max_length=100_000)
    note: str = Field("", max_length=10_000)
    tags: list[str] = Field([], max_length=100)
    archived: bool = False
    parent: str | None = Field(None, max_length=80)
    sweep: str | None = Field(None, max_length=80)
    facts: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    progress: dict[str, Any] = {}
    metric: str = Field("", max_length=100)
    score: Score = None
    select_score: Score = None
    last_score: Score = None
    seconds: Measured = None
    latency_ms: Measured = None
    parameters: Int | None = None


def take_out(store: Store, run_id: str) -> tuple[Carried, Points]:
    """An ended run with all its numbers.

    Raises:
        UserError: no such run, or it has not ended. CorruptError: its settings cannot be read.
    """
    with database.read(store.engine) as connection:
        raw = find_row(connection, run_id)
        row = run_row(raw)
        if row.state in UNFINISHED:
            raise UserError("run", f"{run_id} is {row.state}", "wait for its end, or stop it")
        columns = {name: getattr(raw, name) for name in Carried.model_fields}
        cleaned = {"config": row.config, "tags": row.tags, "facts": row.facts, "summary": row.summary}
        run = Carried.model_validate(columns | cleaned | {"progress": row.progress, "archived": row.archived})
        points = {name: _points(connection, table, raw.number) for name, table in TABLES.items()}
        return run, points


def put_in(store: Store, run: Carried, points: Points, run_id: str | None = None) -> str:
    """Adds an ended run, under its own id where `run_id` is given and free, else under a new one; returns the id.

    Raises:
        CorruptError: the points do not fit the tables: two of one key, or a number too large.
    """
    columns = run.model_dump(exclude={"id", "config"})
    with database.write(store.engine) as connection:
        new = add_row(connection, run.config, run.parent, run.sweep, run_id)
        connection.execute(runs.update().where(runs.c.id == new).values(storable(columns)))
        number = find_row(connection, new).number
        for name, rows in points.items():
            try:
                if rows:
                    connection.execute(TABLES[name].insert(), [{**row, "run": number} for row in rows])
            except (IntegrityError, StatementError) as error:
                raise CorruptError(
                    name, f"the points of {run.id} do not fit ({error.orig})", "export it again"
                ) from error
    return new


def is_here(store: Store, run: Carried) -> bool:
    """Whether this very run (not only one with equal settings) is listed already."""
    with database.read(store.engine) as connection:
        query = select(runs.c.created, runs.c.config_hash).where(runs.c.id == run.id)
        row = connection.execute(query).first()
    return row is not None and row.created == run.created and row.config_hash == config_hash(run.config)


def _points(connection: Any, table: Table, number: int) -> list[dict[str, Any]]:
    columns = [column for column in table.columns if column.name != "run"]
    return [dict(row._mapping) for row in connection.execute(select(*columns).where(table.c.run == number))]


# --- points as parquet ---------------------------------------------------------------------------------------------

MAX_POINTS = 5_000_000
_LONGEST_NAME = 500
PARQUET = {
    "metrics": {"stage": "text", "step": "int", "kind": "text", "name": "text", "epoch": "float", "seconds": "float",
                "value": "float"},
    "evaluations": {"stage": "text", "step": "int", "split": "text", "which": "text", "metric": "text",
                    "value": "float", "rows": "int"},
}  # fmt: skip
"""Tables that travel as parquet -> their columns, in order."""


def to_parquet(rows: Sequence[Mapping[str, Any]], table: str) -> bytes:
    """Rows of a table as a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"text": pa.string(), "int": pa.int64(), "float": pa.float64()}
    arrays = {name: pa.array([row[name] for row in rows], types[kind]) for name, kind in PARQUET[table].items()}
    out = io.BytesIO()
    pq.write_table(pa.table(arrays), out)
    return out.getvalue()


def from_parquet(content: bytes, table: str) -> list[dict[str, Any]]:
    """The rows in a parquet file that a stranger may have made.

    Raises:
        CorruptError: it cannot be read, holds other columns or kinds of value, or far too much.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = PARQUET[table]
    text = [column for column, kind in columns.items() if kind == "text"]
    try:
        # as dictionaries: a long word that stands in every row is then held once
        source = pq.ParquetFile(io.BytesIO(content), read_dictionary=text)
        meta = source.metadata
        size = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
        if meta.num_rows > MAX_POINTS or size > 2**30:
            raise ValueError("too many points")
        if source.schema_arrow.names != list(columns):
            raise ValueError(f"columns {source.schema_arrow.names[:12]}")
        batches = source.iter_batches(batch_size=50_000)
        rows = [row for batch in batches for row in _rows(batch, columns)]
        if table == "evaluations" and (wrong := next(filter(_out_of_range, rows), None)):
            raise ValueError(f"{wrong['metric']} {wrong['value']:.3g} lies outside -1 to 1")
        return rows
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise CorruptError(
            "file", f"the table {table} cannot be read ({str(error)[:200]})", "export it again"
        ) from error


def _out_of_range(evaluation: Mapping[str, Any]) -> bool:
    """Whether a score is one that no metric gives. A stage's own loss has no bounds."""
    value = _number(evaluation["value"])
    return evaluation["metric"] != "loss" and value is not None and not -SCORE_LIMIT <= value <= SCORE_LIMIT


def _rows(batch: Any, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    import pyarrow as pa

    types = {"int": pa.int64(), "float": pa.float64()}
    lists = []
    for name, kind in columns.items():
        array = batch.column(name)
        if kind == "text":
            if not pa.types.is_dictionary(array.type) or not pa.types.is_string(array.type.value_type):
                raise ValueError(f"column {name} is not text")
            if array.null_count or any(len(word) > _LONGEST_NAME for word in array.dictionary.to_pylist()):
                raise ValueError(f"column {name} has texts that are missing or too long")
            lists.append(array.to_pylist())
        else:
            lists.append(array.cast(types[kind]).to_pylist())
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
