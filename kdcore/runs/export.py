"""Where a run keeps its student. Reads only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdcore.errors import UserError
from kdcore.paths import run_dir
from kdcore.remote import fetching

if TYPE_CHECKING:
    from kdcore.store import Store


def student_folder(store: Store, run_id: str, which: str = "best") -> Path:
    """Where a run keeps its student.

    Raises:
        UserError: no such run or student.
    """
    store.get(run_id)
    folder = run_dir(run_id) / f"student-{which}"
    if not (folder / "config.json").is_file():
        remedy = fetching(run_id) or "choose a run that is done, or the other student"
        raise UserError("run", f"{run_id} has no student '{which}' here", remedy)
    return folder
