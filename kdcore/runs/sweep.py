"""A grid of runs: methods x students x initialisations x data x tasks x seeds, from one YAML file.

    name: pairs
    common: {train: {epochs: 3}}          # any settings of a run, shared by all
    teachers: [{name: big, source: package, where: minilm, fine_tune: {}}]
    methods: [fine-tune, {method: pkd, label: PKD-Last, options: {layers: last}, teachers: [big]},
              {method: tinybert, without: [hidden, attention]}]     # and again without each; all: without each part
    students: [{layers: 3}]
    inits: [{init: base, init_layers: first}, {init: teacher, init_layers: skip}]
    data: [{}, {label_noise: 0.2}]        # what is wrong with the training data, made on purpose; by default nothing
    tasks: [mrpc, {task: sst2, seeds: [0], common: {train: {epochs: 1}}}]
    seeds: [0, 1, 2]

A run is recognised by the hash of its settings, so a sweep that is started again skips what is done and goes on with
what is not, and two sweeps share the runs they have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from kdcore.config import OwnData, RunConfig, Settings, TeacherSpec
from kdcore.errors import UserError
from kdcore.events import Event
from kdcore.identity import config_hash, content, group_key, other_rows
from kdcore.runs.ablations import START, ablations
from kdcore.settings_file import merge, read_settings, validate, with_absolute_paths
from kdcore.tasks import find_task

if TYPE_CHECKING:
    from kdcore.data.splits import TaskData
    from kdcore.runs.worker import Train
    from kdcore.store import Store


MOST_RUNS = 10_000
"""Of one sweep."""


class MethodEntry(Settings):
    """A method of the grid; label tells two settings of one method apart. teachers: names out of the grid's list.

    without: parts whose ablations are run beside it, as `ablations.ablations` names them; `all`: every one.
    """

    method: str
    label: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    teachers: tuple[str, ...] | None = None
    without: Literal["all"] | tuple[str, ...] = ()
    common: dict[str, Any] = Field(default_factory=dict)


class TaskEntry(Settings):
    """A task of the grid, with what differs there."""

    task: str
    own: OwnData | None = None
    seeds: tuple[int, ...] | None = None
    students: tuple[dict[str, Any], ...] | None = None
    teachers: tuple[TeacherSpec, ...] | None = None
    common: dict[str, Any] = Field(default_factory=dict)


class Grid(Settings):
    """The file's schema."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,59}$")
    common: dict[str, Any] = Field(default_factory=dict)
    teachers: tuple[TeacherSpec, ...] = ()
    methods: tuple[MethodEntry, ...] = Field(min_length=1)
    tasks: tuple[TaskEntry, ...] = Field(min_length=1)
    students: tuple[dict[str, Any], ...] = Field(({},), min_length=1)
    inits: tuple[dict[str, Any], ...] = Field(({},), min_length=1)
    data: tuple[dict[str, Any], ...] = Field(({},), min_length=1)
    seeds: tuple[int, ...] = Field((0,), min_length=1)

    @field_validator("methods", mode="before")
    @classmethod
    def _method_keys(cls, value: Any) -> Any:
        return _spelled_out(value, "method")

    @field_validator("tasks", mode="before")
    @classmethod
    def _task_keys(cls, value: Any) -> Any:
        return _spelled_out(value, "task")


@dataclass(frozen=True)
class Cell:
    """One run of the grid. label: the method's name in the table."""

    label: str
    run: RunConfig

    @property
    def hash(self) -> str:
        return config_hash(self.run)


def read_grid(path: Path) -> Grid:
    """The grid in a file.

    Raises:
        UserError: naming the field.
    """
    return validate(Grid, read_settings(path))


def expand(grid: Grid) -> list[Cell]:
    """All runs: task by task, and within a task seed by seed, so that an early end leaves whole comparisons.

    Raises:
        UserError: a cell's settings are not valid, the field named; or two cells are the same run.
    """
    from kdcore.methods import resolve

    for task in grid.tasks:
        if task.own is None:
            find_task(task.task)
    for m, method in enumerate(grid.methods):
        try:
            resolve(method.method, method.options)
        except UserError as error:
            raise UserError(f"methods[{m}].{error.field}", error.problem, error.remedy) from None
    _check_size(grid)
    cells = [replace(cell, run=with_absolute_paths(cell.run)) for cell in _cells(grid)]
    seen: dict[str, Cell] = {}
    for cell in cells:
        if (twin := seen.setdefault(cell.hash, cell)) is not cell:
            raise UserError(
                "sweep", f"{twin.label} and {cell.label} on {cell.run.task} are the same run", "remove one of them"
            )
    return cells


def _check_size(grid: Grid) -> None:
    per_seed = len(grid.inits) * len(grid.methods) * len(grid.data)
    count = sum(len(task.seeds or grid.seeds) * len(task.students or grid.students) * per_seed for task in grid.tasks)
    if count > MOST_RUNS:
        raise UserError(
            "sweep",
            f"the grid has {count:,} runs, more than {MOST_RUNS:,}",
            "shorten its lists",
        )


def _cells(grid: Grid) -> Iterator[Cell]:
    from kdcore.methods import resolve
    from kdcore.methods.catalog import source_of

    for t, task in enumerate(grid.tasks):
        places = product(task.seeds or grid.seeds, grid.data, task.students or grid.students, grid.inits)
        for (seed, data, student, init), (m, method) in product(places, enumerate(grid.methods)):
            label = method.label or method.method
            options = resolve(method.method, method.options)[1].model_dump(mode="json")
            settings = merge(grid.common, task.common, method.common)
            settings = merge(
                settings, {"student": student}, {"student": init}, {"train": {"seed": seed}}, {"data": data}
            ) | {"name": label, "task": task.task, "own": task.own, "method": method.method,
                 "method_source": source_of(method.method), "options": options,
                 "teachers": _teachers(grid, task, method, m)}  # fmt: skip
            run = validate(RunConfig, settings, f"sweep(tasks[{t}], methods[{m}])")
            yield Cell(label, run)
            yield from _ablations(label, run, method.without, f"methods[{m}].without")


def _ablations(label: str, run: RunConfig, without: Literal["all"] | tuple[str, ...], field: str) -> Iterator[Cell]:
    """The run without each of these parts.

    Raises:
        UserError: it has no such part to leave out, `field` named.
    """
    if not without:
        return
    there = {ablation.part: ablation for ablation in ablations(run)}
    unknown = [] if without == "all" else [part for part in without if part not in (*there, START)]
    if unknown:
        raise UserError(
            field, f"{run.method} with these settings has no part {unknown[0][:40]!r} to leave out",
            f"there are: {', '.join([*there, START])}",
        )  # fmt: skip
    for part, ablation in there.items():
        if without == "all" or part in without:
            name = f"{label} {ablation.title}"
            yield Cell(name, ablation.run.model_copy(update={"name": name}))


def _teachers(grid: Grid, task: TaskEntry, method: MethodEntry, index: int) -> tuple[TeacherSpec, ...]:
    """Those named; else as many of the list, from its front, as the method takes."""
    there = {teacher.name: teacher for teacher in task.teachers or grid.teachers}
    if method.teachers is None:
        from kdcore.methods import resolve

        chosen, options = resolve(method.method, method.options)
        return tuple(there.values())[: chosen.takes(options)[1]]
    unknown = [name for name in method.teachers if name not in there]
    if unknown:
        known = ", ".join(there) or "none"
        raise UserError(f"methods[{index}].teachers", f"no teacher {unknown[0]!r} in the list", f"there are: {known}")
    return tuple(there[name] for name in method.teachers)


def states(store: Store, cells: list[Cell]) -> dict[str, str]:
    """Hash -> state of the run with these settings; "new" where there is none, "other rows" where the finished one
    was trained on rows that have changed since."""
    in_store = store.find([cell.hash for cell in cells])
    stale = outdated_hashes(store, cells)
    known = {hash_: "other rows" if hash_ in stale else state for hash_, (_, state) in in_store.items()}
    return {cell.hash: known.get(cell.hash, "new") for cell in cells}


def outdated_hashes(store: Store, cells: list[Cell]) -> set[str]:
    """Hashes of cells whose finished run saw other rows than the task has today.

    Settings name rows by their place; what is there can change. Rows that cannot be read today tell nothing.
    """
    from kdcore.data import load

    in_store = store.find([cell.hash for cell in cells])
    done = {hash_: run for hash_, (run, state) in in_store.items() if state == "done"}
    facts = {run: row.facts for run, row in store.rows(list(done.values())).items()}

    @cache
    def today(task: str, own: str | None) -> TaskData | None:
        try:
            return load(task, OwnData.model_validate_json(own) if own else None)
        except UserError:
            return None

    stale = set()
    for cell in cells:
        told = facts.get(done.get(cell.hash, ""), {})
        own = cell.run.own.model_dump_json() if cell.run.own else None
        others = {(key, None): rows for key, rows in other_rows(told).items()}
        before = {(cell.run.task, own): content(told).rows} | others
        domains = str(told.get("domain_fingerprint") or "")
        now = {place: data for place in before if (data := today(*place)) is not None}
        if any(before[place] and not data.has_fingerprint(before[place]) for place, data in now.items()) or (
            domains and (data := now.get((cell.run.task, own))) and data.domain_fingerprint not in ("", domains)
        ):
            stale.add(cell.hash)
    return stale


def _place(store: Store, cell: Cell, name: str, stale: set[str]) -> tuple[str, str]:
    """The run of this cell, added or queued again where it is not done: (id, state)."""
    if cell.hash in stale:
        return store.add_run(cell.run, sweep=name), "queued"
    return store.ensure(cell.run, sweep=name)


def run_ids(store: Store, cells: list[Cell]) -> list[str]:
    """Ids of the runs that are in the store, in the order of the cells."""
    in_store = store.find([cell.hash for cell in cells])
    return [in_store[cell.hash][0] for cell in cells if cell.hash in in_store]


def names(cells: list[Cell]) -> dict[str, str]:
    """Group -> the label that the grid gives it, where it gives one."""
    return {group_key(cell.run): cell.label for cell in cells if cell.label != cell.run.method}


def queue(store: Store, cells: list[Cell], name: str) -> list[str]:
    """Queues what is not done; returns the ids of all cells' runs, in their order."""
    store.mark_interrupted()
    stale = outdated_hashes(store, cells)
    return [_place(store, cell, name, stale)[0] for cell in cells]


def run_here(
    store: Store,
    cells: list[Cell],
    name: str,
    train: Train | None = None,
    on_run: Callable[[int, Cell, str], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> dict[str, str]:
    """Trains one run after another in this thread; returns hash -> state. A failed run does not end the sweep.

    on_run(index, cell, run id) is called before each run that is trained here. Runs that another process trains
    meanwhile are left to it.
    """
    from kdcore.runs.worker import Worker

    store.mark_interrupted()
    worker = Worker(store, "auto", train)
    ended: dict[str, str] = {}
    stale = outdated_hashes(store, cells)
    for index, cell in enumerate(cells):
        run_id, state = _place(store, cell, name, stale)
        if state == "queued" and worker.take(run_id):
            if on_run is not None:
                on_run(index, cell, run_id)
            state = worker.drive(run_id, on_event)
        ended[cell.hash] = state
    return ended


def _spelled_out(value: Any, key: str) -> Any:
    return [{key: entry} if isinstance(entry, str) else entry for entry in value] if isinstance(value, list) else value
