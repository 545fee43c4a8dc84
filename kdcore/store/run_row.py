"""What the store hands out of one run."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any, NamedTuple

from pydantic import ValidationError

from kdcore.config import RunConfig
from kdcore.errors import CorruptError
from kdcore.identity import Content, Environment, content, environment, group_key, protocol_key

ACTIVE = ("starting", "running")
"""States of a run that a worker holds."""

MOVES: dict[str, tuple[str, ...]] = {
    "queued": ("starting", "cancelled", "failed"),
    **dict.fromkeys(ACTIVE, (*ACTIVE, "done", "stopped", "failed", "interrupted")),
    "stopped": ("queued",),
    "failed": ("queued",),
    "interrupted": ("queued", "failed"),
    "cancelled": ("queued",),
    "done": (),
}
"""State -> states that may follow it."""

STATES = tuple(MOVES)

UNFINISHED = tuple(state for state, following in MOVES.items() if set(following) & set(ACTIVE))
"""States of a run that waits for a worker or is held by one."""

RESUMABLE = tuple(state for state, following in MOVES.items() if "queued" in following)
"""States of a run that ended and can be queued again."""

LOST = {"problem": "its settings cannot be read", "remedy": "delete the run; the other runs are not affected"}


@dataclass(frozen=True)
class RunRow:
    """One run. Times are seconds since 1970 (UTC). broken: why its settings cannot be read, else empty."""

    id: str
    name: str
    state: str
    task: str
    method: str
    created: float
    started: float | None
    finished: float | None
    device: str
    node: str
    position: int
    reason: str
    remedy: str
    detail: str
    note: str
    tags: list[str]
    archived: bool
    parent: str | None
    sweep: str | None
    facts: dict[str, Any]
    summary: dict[str, Any]
    progress: dict[str, Any]
    worker: str | None
    claim_number: int
    broken: str
    _config: RunConfig | None

    @property
    def config(self) -> RunConfig:
        """The run's settings.

        Raises:
            CorruptError: the row's settings cannot be read.
        """
        if self._config is None:
            raise CorruptError(f"run {self.id}", f"{LOST['problem']} ({self.broken})", LOST["remedy"])
        return self._config

    @property
    def method_origin(self) -> str:
        """The file or package that its method comes from; empty where it is a shipped one."""
        return method_origin(self._config)

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


def run_row(row: Any) -> RunRow:
    """A row of the table `runs` as a RunRow; damaged cells are empty and damaged settings explained."""
    config, broken = read_config(row.config)
    return RunRow(
        id=row.id, name=row.name or row.id, state=row.state, task=task_key(row.task, row.config), method=row.method,
        created=row.created, started=row.started, finished=row.finished, device=row.device or "", node=row.node or "",
        position=row.position, reason=row.reason or broken, remedy=row.remedy or (LOST["remedy"] if broken else ""),
        detail=row.detail or "", note=row.note or "", tags=tag_list(row.tags), archived=bool(row.archived),
        parent=row.parent, sweep=row.sweep, facts=_dict(row.facts), summary=_dict(row.summary),
        progress=_dict(row.progress), worker=row.worker, claim_number=row.claim_number,
        broken=broken, _config=config,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def read_config(text: object) -> tuple[RunConfig | None, str]:
    """The settings in a row's cell, or None and what is wrong with them."""
    try:
        return RunConfig.model_validate_json(str(text)), ""
    except ValidationError as error:
        first = error.errors()[0]
        return None, f"{LOST['problem']}: {'.'.join(map(str, first['loc'])) or 'all'}: {first['msg']}"


class Keys(NamedTuple):
    """To whom a run is equal, see `kdcore.identity`; empty where its settings cannot be read."""

    group: str
    protocol: str


@lru_cache(maxsize=4096)
def run_keys(text: object) -> Keys:
    """The keys of the settings in a row's cell. Computed, not stored: a stored key would keep the rule of its day."""
    config, _ = read_config(text)
    return Keys(group_key(config), protocol_key(config)) if config else Keys("", "")


@lru_cache(maxsize=4096)
def run_environment(text: object, settings: object) -> Environment:
    """Version and machine in a row's cells of facts and settings; empty where they are damaged or not there yet."""
    try:
        facts = json.loads(str(text))
    except ValueError:
        facts = {}
    config, _ = read_config(settings)
    return environment(_dict(facts), config.train.precision if config else "auto")


@lru_cache(maxsize=4096)
def run_content(text: object) -> Content:
    """What the run's rows and models were, from its row's cell of facts."""
    try:
        facts = json.loads(str(text))
    except ValueError:
        facts = {}
    return content(_dict(facts))


def method_origin(config: RunConfig | None) -> str:
    """The file or package that a run's method comes from; empty where it is shipped, or cannot be read."""
    return config.method_source.origin if config and config.method_source else ""


def tag_list(value: Any) -> list[str]:
    return [str(tag) for tag in value] if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


@lru_cache(maxsize=4096)
def task_key(task: str, text: object) -> str:
    """What tells tasks apart in lists and comparisons: a task's key; of an own table "own:file name:digits".

    text: the settings in a row's cell. The digits follow from the table's settings, so that two tables of one name, or
    two columns of one table, are not compared; what is learned beside the table leaves the task as it is.
    """
    config, _ = read_config(text)
    if config is None or config.own is None:
        return task
    digits = hashlib.sha256(config.own.model_dump_json(exclude={"unlabelled_path", "domain"}).encode()).hexdigest()[:6]
    return f"own:{PurePath(config.own.path).name}:{digits}"


def slug(text: str, length: int) -> str:
    """Lower-case letters, digits and '-': what may stand in a folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].strip("-") or "run"
