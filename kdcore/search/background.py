"""A search as a process of its own, which goes on when whoever started it is closed: `kdcore search` on a file.

It is known by three files in the folder of the search: what was asked, what it said, and which process it is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from kdcore.errors import UserError
from kdcore.paths import cache_subdir, python_path
from kdcore.process import Process, is_alive, process_of
from kdcore.search import record as records
from kdcore.search.question import CHOSEN, Question
from kdcore.settings_file import read_settings, validate

SAID, PROCESS = "search.log", "process.json"
LONGEST_LINE = 400
_children: list[subprocess.Popen[bytes]] = []
"""Of this process: asked now and then whether they ended, or they would stay as zombies."""


@dataclass(frozen=True)
class State:
    """running: it is under way. last: its last words, empty where it said nothing. failed: they are an error."""

    running: bool
    last: str
    failed: bool


def started() -> list[str]:
    """Names of the searches that were started here, the newest first, those included that have found nothing yet."""
    files = cache_subdir("searches").glob(f"*/{records.ASKED}")
    return [file.parent.name for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)]


def start(question: Question, program: Sequence[str] = ()) -> None:
    """Starts a search, or goes on with it. program: in place of the command, for tests.

    Raises:
        UserError: it is under way already, one of this name was asked something else, or its folder cannot be written.
    """
    with records.folder_lock(question.name) as folder:
        if state(question.name).running:
            raise UserError("name", f"{question.name} is under way", "wait for it, or choose another name")
        records.earlier(question)  # of another question it stays as it is
        command = [*(program or (sys.executable, "-m", "kdcore", "search")), str(folder / records.ASKED)]
        try:
            (folder / records.ASKED).write_text(as_yaml(question), encoding="utf-8")
            with (folder / SAID).open("wb") as said:
                child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
                    env=os.environ | {"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"},
                )  # fmt: skip
        except OSError as error:
            raise UserError("name", f"the search cannot be started ({error})", "look at disk and rights") from error
        _children.append(child)
        (folder / PROCESS).write_text(json.dumps(asdict(process_of(child.pid))), encoding="utf-8")


def stop(name: str) -> None:
    """Asks a search to end; the run that it trains can be resumed, and the search goes on when it is started again."""
    process = _process(records.folder_of(name))
    if process is not None and is_alive(process):
        os.kill(process.pid, signal.SIGTERM)


def state(name: str) -> State:
    """How a search that was started here stands."""
    for child in _children:
        child.poll()
    folder = records.folder_of(name)
    process = _process(folder)
    running = process is not None and bool(is_alive(process))
    last = _last_line(folder / SAID)
    return State(running, last.removeprefix("error: "), not running and last.startswith("error: "))


def asked(name: str) -> Question:
    """What a search was asked, from this file or from its record.

    Raises:
        UserError: neither can be read.
    """
    file = records.folder_of(name) / records.ASKED
    return validate(Question, read_settings(file)) if file.is_file() else records.read(name).asked


def like(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a search shares with a run: its settings without what the search chooses, and without what is default.

    Other tasks are left out too: one method alone learns them.

    Args:
        run: its settings as JSON holds them, defaults left out.
    """
    return {name: value for name, value in run.items() if name not in (*CHOSEN, "also")}


def as_yaml(question: Question) -> str:
    """The file that `kdcore search` takes."""
    return yaml.safe_dump(question.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)


def _process(folder: Path) -> Process | None:
    try:
        return Process(**json.loads((folder / PROCESS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _last_line(file: Path) -> str:
    """The last words of a log; empty where there are none."""
    try:
        with file.open("rb") as said:
            said.seek(max(0, file.stat().st_size - 4000))
            lines = said.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:LONGEST_LINE] for line in reversed(lines) if line.strip()), "")
