"""Rows of a task: the pocket suite, GLUE, or a person's own table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcore.tasks import TASKS, find_task

if TYPE_CHECKING:
    from kdcore.config import OwnData
    from kdcore.data.splits import TaskData


@dataclass(frozen=True)
class Available:
    """Whether a task can be loaded here and now, from where, and if not, what to do."""

    ok: bool
    source: str
    remedy: str = ""


def load(task: str, own: OwnData | None = None) -> TaskData:
    """The rows of a task.

    Raises:
        UserError: unknown task, absent data or an unreadable file, with what to do.
    """
    from kdcore.errors import UserError

    if task == "own":
        if own is None:
            raise UserError("own", "task 'own' has no table", "give own.path, own.text and own.label")
        from kdcore.data import custom as own_table

        return own_table.load(own)
    entry = find_task(task)
    if entry.suite == "pocket":
        from kdcore.data import pocket

        return pocket.load(entry)
    from kdcore.data import glue

    return glue.load(entry)


def availability() -> dict[str, Available]:
    """Every task of the table -> whether it is here. Looks at file names only: no network, no reading."""
    from kdcore.data import glue

    available = {}
    for key, task in TASKS.items():
        if task.suite == "pocket":
            available[key] = Available(True, "generated here (synthetic)")
        else:
            source = glue.find(task)
            available[key] = Available(True, source.words) if source else Available(False, "", glue.remedy(task))
    return available
