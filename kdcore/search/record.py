"""What a search keeps in its folder: the question, what sizes cost, its trials. Whoever shows it reads this file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from kdcore.errors import UserError
from kdcore.paths import cache_subdir, checked_id
from kdcore.search.question import Question

FILE, ASKED, TUNING = "search.json", "question.yaml", "tuning.json"
"""In the folder of a search: what it found, and what a page asked of it; in that of a tuning: what was asked."""
EXTENDED = ("minutes", "seeds", "trials", "slots")
"""Fields of a question that may change when a search goes on."""
NO_TIME = "there was no time left for it"
"""Why a candidate was not tried that could have been."""


@dataclass
class SearchRecord:
    """One search.

    costs: what a student costs -> `Cost.data`, by `size` and, where a method deploys another one, by `size | method`.
    hardware, tokens (of a row as the base reads it), busy: of the timing. too_dear: size -> the measure whose limit it
    exceeds. refused: candidate in words -> why it cannot be trained. trials: what is known of each, oldest first:
    number, state (waiting, running, complete, pruned, fail), size, start, method, options, and once it was asked for
    run, predicted (seconds) and whether its run was there before (reused). chosen: number of the trial that is
    recommended; seeds: runs of its setting. ended: why it ended; empty while it goes on.
    """

    question: dict[str, Any]
    costs: dict[str, dict[str, Any]] = field(default_factory=dict)
    hardware: str = ""
    tokens: int = 0
    busy: bool = False
    too_dear: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    chosen: int | None = None
    seeds: list[str] = field(default_factory=list)
    ended: str = ""

    @property
    def asked(self) -> Question:
        return Question.model_validate(self.question)


def folder_of(name: str) -> Path:
    """The folder of a search (not made here)."""
    return cache_subdir("searches") / checked_id(name, "name")


def searches() -> list[str]:
    """Names of the searches that are kept here, the newest first."""
    files = cache_subdir("searches").glob(f"*/{FILE}")
    return [file.parent.name for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)]


def names_in_use() -> set[str]:
    """Names that a search or a tuning has here."""
    return {folder.name for folder in cache_subdir("searches").iterdir() if _kinds(folder)}


def read(name: str) -> SearchRecord:
    """A search that is kept.

    Raises:
        UserError: there is none of this name, or its file cannot be read.
    """
    file = folder_of(name) / FILE
    if not file.is_file():
        known = ", ".join(searches()[:8]) or "none"
        raise UserError("search", f"no search {name[:60]!r}", f"there are: {known}")
    try:
        record = SearchRecord(**json.loads(file.read_text(encoding="utf-8")))
        _ = record.asked
    except (OSError, ValueError, TypeError, ValidationError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError("search", f"{name} cannot be read ({reason})", "delete its folder, and search again") from None
    return record


def earlier(question: Question) -> SearchRecord | None:
    """What an earlier search of the question's name found; None where there is none.

    Raises:
        UserError: it was asked something else than what may change, or cannot be read.
    """
    if question.name not in searches():
        return None
    record, asked = read(question.name), question.model_dump(mode="json")
    before = record.asked.model_dump(mode="json")
    if other := [name for name in asked if asked[name] != before[name] and name not in EXTENDED]:
        raise UserError(
            other[0], f"differs from what the search {question.name} was asked before",
            f"choose another name; only {', '.join(EXTENDED)} may change",
        )  # fmt: skip
    return record


def write(name: str, record: SearchRecord) -> None:
    """Keeps a search: complete, or as it was before."""
    file = folder_of(name) / FILE
    writing = file.with_suffix(f".{os.getpid()}.writing")
    writing.write_text(json.dumps(asdict(record), indent=1, default=str), encoding="utf-8")
    os.replace(writing, file)


@contextmanager
def folder_lock(name: str, file: str = FILE) -> Iterator[Path]:
    """The folder of a search or of a tuning, for this process alone. file: in which it keeps what was asked.

    Raises:
        UserError: another process works on it, or the name is that of the other kind: one study, one sweep, one lock.
    """
    folder = folder_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            if other := _kinds(folder) - {"search" if file == FILE else "tuning"}:
                raise UserError("name", f"{name} is the name of a {other.pop()}", "choose another name")
            yield folder
    except Timeout:
        raise UserError(
            "name", f"{name} is under way in another process", "wait for it, or choose another name"
        ) from None


def _kinds(folder: Path) -> set[str]:
    """Whose folder it is: of a search, of a tuning, of neither yet."""
    files = {FILE: "search", ASKED: "search", TUNING: "tuning"}
    return {kind for file, kind in files.items() if (folder / file).is_file()}
