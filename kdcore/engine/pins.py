"""Entries of the teacher cache that are in use, so that nobody drops them: a file in the entry for each use.

Its name says which process of which computer uses the entry. Computers that share the folder do not see each other's
processes, so a pin is touched while it is needed, and one that has not been touched for long is left over. Its age is
told by the clock of the file system that touched it, not by this computer's.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdcore.process import Process, is_alive, this_process

TOUCH_SECONDS = 60.0
LEFT_OVER_SECONDS = 900.0
"""So long a pin of another computer, container or boot counts after its last touch."""


@contextmanager
def pinned(folder: Path) -> Iterator[None]:
    """Keeps an entry (made if absent) from being dropped while it is used here, and marks it as just used."""
    folder.mkdir(parents=True, exist_ok=True)
    me = this_process()
    own = uuid.uuid4().hex[:8]  # threads of a process pin apart
    pin = folder / f"pin-{_host_name(me)}-{me.pid}-{me.started or 0}-{own}"
    pin.touch()
    os.utime(folder)
    over = threading.Event()
    threading.Thread(target=_keep_touching, args=(pin, over), name="pin", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        with suppress(FileNotFoundError):
            pin.unlink()


def is_pinned(entry: Path) -> bool:
    """Whether a process uses the entry, here or elsewhere; removes pins that were left over."""
    for pin in entry.glob("pin-*"):
        if in_use(pin):
            return True
        pin.unlink(missing_ok=True)
    return False


def _keep_touching(pin: Path, over: threading.Event) -> None:
    while not over.wait(TOUCH_SECONDS):
        with suppress(OSError):
            os.utime(pin)


def in_use(pin: Path) -> bool:
    """Whether the process that made this pin may still need the entry."""
    alive = _is_seen_alive(pin.name)
    if alive is not None:
        return alive
    try:
        with tempfile.NamedTemporaryFile(dir=pin.parent.parent, prefix=".now-") as now:
            return os.fstat(now.fileno()).st_mtime - pin.stat().st_mtime < LEFT_OVER_SECONDS
    except FileNotFoundError:  # it was removed just now
        return False
    except OSError:  # no room to ask the file system for its time: nothing is dropped on a guess
        return True


def _is_seen_alive(name: str) -> bool | None:
    """Whether the process that this pin names still runs; None where that cannot be seen from here."""
    me, parts = this_process(), name.split("-")
    if len(parts) != 5 or not me.host or parts[1] != _host_name(me) or not parts[2].isdecimal():
        return None
    return is_alive(Process(me.host, int(parts[2]), parts[3]))


def _host_name(process: Process) -> str:
    """The host's id as a part of a file's name."""
    return hashlib.sha256(process.host.encode()).hexdigest()[:12]
