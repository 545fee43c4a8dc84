"""Progress in a log: a line every half minute where the output is no terminal and no bar can be drawn."""

from __future__ import annotations

import time
from collections.abc import Callable

from kdcore.events import Event, Progress, StageStarted, StepDone

EVERY = 30.0
"""Seconds between lines."""


class LogLines:
    """Says of a run's events what is going on, how far it is, and how long it has taken."""

    def __init__(self, write: Callable[[str], None], every: float = EVERY) -> None:
        self._write, self._every = write, every
        self.restart()

    def restart(self) -> None:
        """For the next run."""
        self._what, self._began, self._written = "", time.monotonic(), time.monotonic()

    def __call__(self, event: Event) -> None:
        match event:
            case StepDone():
                words = f", loss {event.loss:.4g}, {event.examples_per_second:.0f} rows/s"
                self._take(f"stage {event.stage}", event.step, event.steps, "steps", words)
            case Progress():
                self._take(event.what, event.done, event.total, "done", "")
            case StageStarted():
                self._what = ""

    def _take(self, what: str, done: int, total: int, unit: str, more: str) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._began = what, now
        if now - self._written >= self._every:
            self._written = now
            self._write(f"  {what}: {done} of {total} {unit}, {_duration(now - self._began)} so far{more}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
