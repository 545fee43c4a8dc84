"""ONNX files in the background, one run after another, each in a process of its own: the exporter would hold up a
dashboard's threads and silences warnings for the whole process.

    python -m kdcore.export.onnx_maker RUN

is that process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from kdcore.errors import UserError
from kdcore.paths import python_path

PROGRAM = (sys.executable, "-m", "kdcore.export.onnx_maker")
FAILED = "the export failed ({})"


class OnnxMaker:
    """Makes ONNX files of runs as they are asked for. What it makes is found by `kept_onnx`, whoever asks.

    Args:
        program: in place of this module's process, for tests.
    """

    def __init__(self, program: Sequence[str] = PROGRAM) -> None:
        self._program = tuple(program)
        self._pool = ThreadPoolExecutor(1, "onnx")
        self._asked: dict[str, Future[UserError | None]] = {}
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def begin(self, run_id: str) -> None:
        """Makes a run's files when those asked for before are made; nothing where it is at them already."""
        with self._lock:
            if not self._stopped and not self.working(run_id):
                self._asked[run_id] = self._pool.submit(self._make, run_id)

    def working(self, run_id: str) -> bool:
        """Whether the run's files are being made, or wait to be."""
        return run_id in self._asked and not self._asked[run_id].done()

    def problem(self, run_id: str) -> UserError | None:
        """Why the run's files could not be made the last time."""
        asked = self._asked.get(run_id)
        return asked.result() if asked is not None and asked.done() and not asked.cancelled() else None

    def stop(self) -> None:
        """Ends what is under way and makes no more."""
        with self._lock:
            self._stopped = True
            if self._child is not None:
                self._child.terminate()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _make(self, run_id: str) -> UserError | None:
        with self._lock:
            if self._stopped:
                return None
            try:
                self._child = subprocess.Popen(
                    [*self._program, run_id], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    text=True, encoding="utf-8", errors="replace", env=os.environ | {"PYTHONPATH": python_path()},
                )  # fmt: skip
            except OSError as error:
                return UserError("ONNX", FAILED.format(error), "look at memory and rights")
        said, complaints = self._child.communicate()
        return None if self._child.returncode == 0 else _problem(said, complaints)


def _problem(said: str, complaints: str) -> UserError:
    """What the child said on its last line, or, where it died, what it complained of."""
    try:
        field, problem, remedy = json.loads(said.splitlines()[-1])
    except (ValueError, TypeError, IndexError):
        last = next((line for line in reversed(complaints.splitlines()) if line.strip()), "it said nothing")
        return UserError("ONNX", FAILED.format(last.strip()[:300]), "look at the machine's memory, and try again")
    return UserError(field, problem, remedy)


def main(run_id: str) -> int:
    """Makes a run's files; prints field, problem and remedy where they cannot be made."""
    from kdcore.export.kept_onnx import make_onnx
    from kdcore.store import open_store

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing half made is left
    try:
        make_onnx(open_store(), run_id)
    except UserError as error:
        print(json.dumps([error.field, error.problem, error.remedy]), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
