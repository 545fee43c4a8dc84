"""The store: runs, their queue and their lease. Every method is one transaction; safe over threads and processes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, func, select, type_coerce

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.events import Event
from kdcore.identity import config_hash
from kdcore.paths import cache_subdir, checked_id
from kdcore.settings_file import with_absolute_paths
from kdcore.store import database, event_writer, queries
from kdcore.store.claims import LEASE_SECONDS, Claims
from kdcore.store.leases import ClockWatch, check_may_be_queued
from kdcore.store.run_row import (
    ACTIVE,
    MOVES,
    RESUMABLE,
    STATES,
    UNFINISHED,
    RunRow,
    read_config,
    run_row,
)
from kdcore.store.run_table import (
    AGAIN,
    NO_LEASE,
    add_row,
    find_row,
    find_settings,
    merged_json,
    next_position,
)
from kdcore.store.storable import storable, storable_text
from kdcore.store.tables import Settings, evaluations, metrics, probes, runs, upsert

if TYPE_CHECKING:
    import pandas as pd


class LeaseLostError(RuntimeError):
    """The run belongs to another worker, or to none, by now: whoever sees this stops and writes no more."""


class Store(Claims):
    """Runs, their numbers and their queue. Made by `open_store`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.watch = ClockWatch(LEASE_SECONDS)

    # --- adding and reading --------------------------------------------------------------------------------------

    def add_run(
        self,
        run: RunConfig,
        *,
        parent: str | None = None,
        sweep: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> str:
        """Puts a run at the end of the queue; returns its id, such as "pkd-mrpc-3f9a2c".

        facts: what is known before it starts (`predicted`: seconds, basis, bytes of memory); the run adds its own.
        """
        run = with_absolute_paths(run)
        with database.write(self.engine) as connection:
            return add_row(connection, run, parent, sweep, facts=facts)

    def ensure(
        self, run: RunConfig, *, sweep: str | None = None, facts: Mapping[str, Any] | None = None
    ) -> tuple[str, str]:
        """The run with exactly these settings, whatever its name: (id, state).

        Where there is none it is added, with `facts` as `add_run` takes them; one that ended unfinished is queued
        again. Two processes that ask at once get the same run.
        """
        with database.write(self.engine) as connection:
            known = find_settings(connection, [config_hash(run)])
            if not known:
                return add_row(connection, run, None, sweep, facts=facts), "queued"
            run_id, state = next(iter(known.values()))
            if state in RESUMABLE:
                again = AGAIN | {"position": next_position(), "attempts": 0}
                connection.execute(runs.update().where(runs.c.id == run_id).values(again))
                state = "queued"
            return run_id, state

    def find(self, hashes: Sequence[str]) -> dict[str, tuple[str, str]]:
        """`config_hash` -> (id, state) of the run with these settings; a finished one where there are several."""
        with database.read(self.engine) as connection:
            return find_settings(connection, hashes)

    def get(self, run_id: str) -> RunRow:
        """One run.

        Raises:
            UserError: no such run.
        """
        with database.read(self.engine) as connection:
            return run_row(find_row(connection, run_id))

    def rows(self, run_ids: Sequence[str]) -> dict[str, RunRow]:
        """Id -> run, in one query; runs that are not in the store are left out."""
        with database.read(self.engine) as connection:
            return {row.id: run_row(row) for row in connection.execute(select(runs).where(runs.c.id.in_(run_ids)))}

    def settings(self, run_ids: Sequence[str]) -> dict[str, RunConfig]:
        """Id -> settings, in one query; runs without settings that can be read are left out."""
        query = select(runs.c.id, runs.c.config).where(runs.c.id.in_(run_ids))
        with database.read(self.engine) as connection:
            read = {row.id: read_config(row.config)[0] for row in connection.execute(query)}
        return {run: config for run, config in read.items() if config is not None}

    def runs(
        self, states: Sequence[str] | None = None, include_archived: bool = False, sweep: str | None = None
    ) -> pd.DataFrame:
        """One row a run, newest first; the columns are `queries.RUN_COLUMNS`."""
        unwanted = {"detail", "facts", "summary"}
        columns = [column for column in runs.c if column.name not in unwanted]
        facts = type_coerce(runs.c.facts, Settings).label("facts")  # as text: it is parsed once, not at each look
        query = select(*columns, facts).order_by(runs.c.number.desc())
        if states is not None:
            query = query.where(runs.c.state.in_(list(states)))
        if not include_archived:
            query = query.where(runs.c.archived.is_(False))
        if sweep is not None:
            query = query.where(runs.c.sweep == sweep)
        with database.read(self.engine) as connection:
            return queries.runs_frame(connection, query)

    def busy(self) -> bool:
        """Whether a run trains or waits: cheaper than their list."""
        query = select(runs.c.id).where(runs.c.state.in_(UNFINISHED), runs.c.archived.is_(False)).limit(1)
        with database.read(self.engine) as connection:
            return connection.execute(query).first() is not None

    def metrics(self, run_ids: str | Sequence[str], kinds: Sequence[str] | None = None) -> pd.DataFrame:
        """run, stage, step, epoch, seconds, kind, name, value; ordered by run and step."""
        with database.read(self.engine) as connection:
            return queries.metrics_frame(connection, _ids(run_ids), kinds)

    def points(self, run_id: str, after: int = -1, kinds: Sequence[str] | None = None) -> list[queries.Point]:
        """What one run logged at later steps than `after`, ordered by step: what a page that follows it lacks."""
        with database.read(self.engine) as connection:
            return queries.points(connection, run_id, after, kinds)

    def quantities(self, run_ids: str | Sequence[str]) -> list[tuple[str, str]]:
        """Kind and name of what these runs have logged, such as ("weighted", "soft"), by kind and name."""
        with database.read(self.engine) as connection:
            return queries.quantities(connection, _ids(run_ids))

    def evaluations(self, run_ids: str | Sequence[str]) -> pd.DataFrame:
        """run, stage, step, split, which, metric, value (fractions), rows; ordered by run and step."""
        with database.read(self.engine) as connection:
            return queries.evaluations_frame(connection, _ids(run_ids))

    def evaluated(self, run_id: str) -> int:
        """How many rows `evaluations` has: cheap to ask whether there is anything new."""
        query = select(func.count()).select_from(evaluations).join(runs, runs.c.number == evaluations.c.run)
        with database.read(self.engine) as connection:
            return connection.execute(query.where(runs.c.id == run_id)).scalar_one()

    def probes(self, run_id: str) -> dict[str, Any]:
        """Probe name -> data of its latest step."""
        with database.read(self.engine) as connection:
            number = find_row(connection, run_id).number
            query = select(probes.c.name, probes.c.data).where(probes.c.run == number).order_by(probes.c.step)
            return {name: data for name, data in connection.execute(query) if isinstance(data, dict)}

    def probes_of(self, run_ids: Sequence[str], names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """Id -> `probes`, in one query; runs without any are left out. names: only these probes."""
        query = select(runs.c.id, probes.c.name, probes.c.data).join(runs, runs.c.number == probes.c.run)
        if names:
            query = query.where(probes.c.name.in_(names))
        by_run: dict[str, dict[str, Any]] = {}
        with database.read(self.engine) as connection:
            for row in connection.execute(query.where(runs.c.id.in_(run_ids)).order_by(probes.c.step)):
                if isinstance(row.data, dict):
                    by_run.setdefault(row.id, {})[row.name] = row.data
        return by_run

    # --- what a run reports -----------------------------------------------------------------------------------------

    def record(self, run_id: str, events: Sequence[Event], worker: str | None = None) -> None:
        """Writes events in one transaction; points of the same (run, stage, step, name) are replaced.

        The events move the run's state: a start to running, an end to done, stopped or failed.

        Raises:
            LeaseLostError: `worker` is named and does not hold the run. UserError: no such run.
        """
        with database.write(self.engine) as connection:
            row = find_row(connection, run_id)
            if worker is not None and row.worker != worker:
                raise LeaseLostError(run_id)
            config, _ = read_config(row.config)
            batch = event_writer.gather(events, row.number, config.train.batch_size if config else None)
            for table, rows in ((metrics, batch.metrics), (evaluations, batch.evaluations), (probes, batch.probes)):
                if rows:
                    connection.execute(upsert(self.engine, table), list(rows.values()))
            changes = batch.changes | merged_json(row, batch)
            if batch.evaluations:
                of_run = select(evaluations).where(evaluations.c.run == row.number)
                stages = changes.get("facts", row.facts if isinstance(row.facts, dict) else {}).get("stages", [])
                changes |= event_writer.score_columns(row.task, connection.execute(of_run).all(), stages)
            if changes.get("state", row.state) not in UNFINISHED:
                changes |= NO_LEASE | {"stop": None}
            if changes:
                connection.execute(runs.update().where(runs.c.number == row.number).values(storable(changes)))

    # --- the queue -----------------------------------------------------------------------------------------------

    def set_state(self, run_id: str, state: str, reason: str = "", remedy: str = "", detail: str = "") -> None:
        """Moves a run to a state that may follow its present one (`run_row.MOVES`).

        Raises:
            UserError: it may not, or there is no such run.
        """
        changes: dict[str, Any] = {
            "state": state, "reason": storable_text(reason), "remedy": storable_text(remedy),
            "detail": storable_text(detail),
        }  # fmt: skip
        if state not in ACTIVE:
            changes |= NO_LEASE | {"stop": None}
        if state not in UNFINISHED:
            changes["finished"] = time.time()
        self._move_state(run_id, state, changes)

    def request_stop(self, run_id: str, keep: bool = True) -> None:
        """Asks the worker to stop after its present step; keep: save the student. A queued run is cancelled."""
        with database.write(self.engine) as connection:
            row = find_row(connection, run_id)
            if row.state in ACTIVE:
                change: dict[str, Any] = {"stop": "keep" if keep else "discard"}
            elif row.state == "queued":
                change = {"state": "cancelled", "finished": time.time()}
            else:
                raise UserError("run", f"{run_id} is {row.state}, there is nothing to stop", "stop a running one")
            connection.execute(runs.update().where(runs.c.number == row.number).values(change))

    def stop_requested(self, run_id: str) -> str | None:
        """'keep', 'discard' or None; one look-up by key."""
        with database.read(self.engine) as connection:
            return connection.execute(select(runs.c.stop).where(runs.c.id == run_id)).scalar()

    def cancel(self, run_id: str) -> None:
        """Takes a queued run out of the queue; it stays listed."""
        self._move_state(run_id, "cancelled", {"state": "cancelled", "finished": time.time()})

    def requeue(self, run_id: str) -> None:
        """Puts an ended, unfinished run at the end of the queue: it resumes from its checkpoint.

        Raises:
            UserError: a worker trains it (its process is named), it waits already, or it is done; or no such run.
        """
        with database.write(self.engine) as connection:
            row = find_row(connection, run_id)
            check_may_be_queued(row)
            change = AGAIN | {"position": next_position(), "attempts": 0}
            connection.execute(runs.update().where(runs.c.number == row.number).values(change))

    def move(self, run_id: str, places: int) -> None:
        """Moves a queued run up (negative) or down the queue."""
        query = select(runs.c.id, runs.c.number).where(runs.c.state == "queued")
        with database.write(self.engine) as connection:
            waiting = list(connection.execute(query.order_by(runs.c.position, runs.c.number)))
            ids = [row.id for row in waiting]
            if run_id not in ids:
                raise UserError("run", f"{run_id} is not in the queue", "move a queued run")
            row = waiting.pop(ids.index(run_id))
            waiting.insert(min(max(ids.index(run_id) + places, 0), len(waiting)), row)
            for position, row in enumerate(waiting, start=1):
                connection.execute(runs.update().where(runs.c.number == row.number).values(position=position))

    # --- a person's words and order ------------------------------------------------------------------------------

    def rename(self, run_id: str, name: str) -> None:
        self._change(run_id, {"name": storable_text(name)[:200]})

    def annotate(self, run_id: str, note: str | None = None, tags: Iterable[str] | None = None) -> None:
        """Sets the note, the tags, or both; None leaves as it is."""
        changes: dict[str, Any] = {} if note is None else {"note": storable_text(note)[:10_000]}
        if tags is not None:
            changes["tags"] = list(dict.fromkeys(storable_text(tag)[:60] for tag in tags))
        self._change(run_id, changes)

    def add_facts(self, run_id: str, facts: Mapping[str, Any]) -> None:
        """Keeps with a run what it does not know itself, such as that its options were tuned."""
        with database.write(self.engine) as connection:
            row = find_row(connection, run_id)
            known = row.facts if isinstance(row.facts, dict) else {}
            change = {"facts": storable(known | dict(facts))}
            connection.execute(runs.update().where(runs.c.number == row.number).values(change))

    def archive(self, run_id: str, archived: bool = True) -> None:
        self._change(run_id, {"archived": archived})

    def delete(self, run_id: str) -> None:
        """Removes a run that nobody trains: its rows, then its folder.

        Raises:
            UserError: it is being trained, or there is no such run.
        """
        with database.write(self.engine) as connection:
            row = find_row(connection, run_id)
            if row.state in ACTIVE:
                raise UserError("run", f"{run_id} is {row.state}", "stop it first")
            connection.execute(runs.delete().where(runs.c.number == row.number))
        _remove_folder(run_id)

    # --- shared --------------------------------------------------------------------------------------------------

    def _change(self, run_id: str, changes: dict[str, Any]) -> None:
        with database.write(self.engine) as connection:
            number = find_row(connection, run_id).number
            if changes:
                connection.execute(runs.update().where(runs.c.number == number).values(changes))

    def _move_state(self, run_id: str, state: str, changes: dict[str, Any]) -> None:
        with database.write(self.engine) as connection:
            row = find_row(connection, run_id)
            if state not in MOVES.get(row.state, STATES):
                holder = f" in process {row.pid} on {row.host}" if row.state in ACTIVE and row.pid else ""
                problem = f"{run_id} is {row.state}{holder} and cannot become {state}"
                raise UserError("run", problem, _advice(row.state))
            connection.execute(runs.update().where(runs.c.number == row.number).values(changes))


def _advice(state: str) -> str:
    if state == "done":
        return "clone it to train again"
    return "stop it first" if state in ACTIVE else f"a {state} run can only be queued again or deleted"


def _ids(run_ids: str | Sequence[str]) -> list[str]:
    return [run_ids] if isinstance(run_ids, str) else list(run_ids)


def _remove_folder(run_id: str) -> None:
    """Only ever a folder right under `runs/`; a link there is removed, what it points at is not."""
    try:
        folder = cache_subdir("runs") / checked_id(run_id, "run")
    except UserError:  # a row that was not written by this program; it has no folder of ours
        return
    if folder.is_symlink():
        folder.unlink()
    elif folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
