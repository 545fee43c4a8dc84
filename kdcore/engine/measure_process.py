"""Measuring in a process of its own: beside a dashboard's threads the interpreter's lock would be timed as well.

Parent and child exchange lines of JSON over the child's standard input and output: the parent sends one order a line,
the child answers with events, asks where it must know what only the parent knows, and ends each order with a line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.events import Event, Probed, Progress
from kdcore.paths import python_path

Beside = Callable[[], bool]
Measure = Callable[..., Iterator[Event]]
"""Of the form of `remeasure.measure`."""

PATIENCE = 10.0
"""Seconds in which the child may end by itself."""


class OwnProcess:
    """A child that measures runs, one after another, for as long as the context is open.

    Args:
        module: what the child is: this one, or another that calls `main` with a `measure` of the same form.
    """

    def __init__(self, module: str = "kdcore.engine.measure_process") -> None:
        self._module = module
        self._child: subprocess.Popen[str] | None = None
        self._stderr: IO[bytes] | None = None

    def __enter__(self) -> OwnProcess:
        self._stderr = tempfile.TemporaryFile()
        self._child = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True, encoding="utf-8",
            env=os.environ | {"PYTHONPATH": python_path()},
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if self._child is not None and self._stderr is not None:
            try:
                self._child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._stderr.close()

    def end(self) -> None:
        """Ends the child at once, whatever it does; from any thread."""
        if self._child is not None:
            self._child.terminate()

    def measure(
        self,
        run: RunConfig,
        folder: Path,
        facts: Mapping[str, Any],
        known: Mapping[str, Any],
        rivals_of: str | None = None,
        beside: Beside = lambda: False,
    ) -> Iterator[Event]:
        """What the child measures of a run, `remeasure.measure` by default.

        Raises:
            UserError: as there. RuntimeError: the child failed, or was ended.
        """
        assert self._child is not None and self._child.stdin is not None and self._child.stdout is not None
        order = {
            "run": run.model_dump(mode="json"), "folder": str(folder), "facts": dict(facts), "known": dict(known),
            "rivals_of": rivals_of,
        }  # fmt: skip
        _send(self._child.stdin, order)
        for line in self._child.stdout:
            match json.loads(line):
                case {"ask": "beside"}:
                    _send(self._child.stdin, {"beside": beside()})
                case {"progress": [what, done, total]}:
                    yield Progress(what, done, total)
                case {"probed": [name, step, data]}:
                    yield Probed(name, step, data)
                case {"error": [field, problem, remedy]}:
                    raise UserError(field, problem, remedy)
                case {"failure": text}:
                    raise RuntimeError(text)
                case {"end": _}:
                    return
        raise RuntimeError(f"the measuring process ended before it was done. {self._stderr_end()}")

    def _stderr_end(self, most: int = 300) -> str:
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")[-most:].strip()


def serve(orders: IO[str], answers: IO[str], measure: Measure) -> None:
    """The child: works off one order a line until there are no more."""

    def beside() -> bool:
        _send(answers, {"ask": "beside"})
        return bool(json.loads(orders.readline())["beside"])

    for line in iter(orders.readline, ""):
        order = json.loads(line)
        try:
            run, folder = RunConfig.model_validate(order["run"]), Path(order["folder"])
            for event in measure(run, folder, order["facts"], order["known"], order["rivals_of"], beside):
                _send(answers, _as_json(event))
            _send(answers, {"end": True})
        except UserError as error:
            _send(answers, {"error": [error.field, error.problem, error.remedy]})
        except Exception as error:  # the next order may go well
            _send(answers, {"failure": f"{type(error).__name__}: {error}"})


def _as_json(event: Event) -> dict[str, Any]:
    if isinstance(event, Probed):
        return {"probed": [event.name, event.step, event.data]}
    assert isinstance(event, Progress)
    return {"progress": [event.what, event.done, event.total]}


def _send(stream: IO[str], message: Mapping[str, Any]) -> None:
    stream.write(f"{json.dumps(message, default=str)}\n")
    stream.flush()


def _leave(*_: object) -> None:
    sys.exit(0)


def main(measure: Measure) -> None:
    """The child's whole program: measures as it is asked to on standard input."""
    signal.signal(signal.SIGTERM, _leave)  # so that a library ends what it has started, such as a reader of a counter
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")  # is not handed down: the parent waits until the pipe is closed
    os.dup2(2, 1)
    sys.stdout = sys.stderr  # what a library prints is not an answer
    serve(sys.stdin, ours, measure)


if __name__ == "__main__":
    from kdcore.engine.remeasure import measure

    main(measure)
