"""A PostgreSQL server of a campaign's own, which can crash and come back at the same address."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / ".ci" / "postgresql"


@dataclass(frozen=True)
class Server:
    """url: for KD_DATABASE_URL."""

    folder: str
    url: str

    def crash(self) -> None:
        """Ends at once, with all connections, and writes nothing more."""
        _call("crash", self.folder)

    def start_again(self) -> None:
        _call("again", self.folder)


@contextmanager
def server() -> Iterator[Server]:
    """A server that ends with the block."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the server's own user passes through
        try:
            yield Server(folder, _call("start", folder))
        finally:
            _call("stop", folder)
            Path(folder).mkdir(exist_ok=True)


def _call(command: str, folder: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KD_")}
    done = subprocess.run([PROGRAM, command, folder], check=True, stdout=subprocess.PIPE, text=True, env=clean)
    return done.stdout.strip()
