"""Who holds a lease: a process that others can recognise, and see to be gone."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """host: boot id and process namespace; two processes with equal hosts see each other's pids.

    started: the kernel's start time of the process, so that a pid used again is not taken for the old process.
    Where the system has no /proc, host and started are empty and only a lease's expiry tells.
    """

    host: str
    pid: int
    started: str


def this_process() -> Process:
    """The process that asks."""
    return process_of(os.getpid())


def process_of(pid: int) -> Process:
    """A process of this computer."""
    return Process(_host(), pid, _start_time(pid) or "")


def node() -> str:
    """The computer's name, as its network knows it: what tells people where a run is trained."""
    return platform.node()[:200]


def is_alive(process: Process) -> bool | None:
    """Whether the process still runs; None where that cannot be seen from here: another machine, boot or namespace."""
    if not process.host or process.host != _host():
        return None
    return _start_time(process.pid) == process.started


def _host() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # containers share the boot id of their machine but number their processes each for itself
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Clock ticks after boot; None for a process that is dead, or dead and not yet collected by its parent."""
    try:
        stat = Path(f"/proc/{int(pid)}/stat").read_text()
    except (OSError, ValueError, TypeError):
        return None
    fields = stat.rsplit(")", 1)[1].split()
    return None if fields[0] in "ZX" else fields[19]
