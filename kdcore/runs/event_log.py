"""A run's log: its events as lines, and what was logged meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kdcore import events
from kdcore.events import Event
from kdcore.paths import run_dir


def describe(event: Event) -> str:
    """One line of the log."""
    match event:
        case events.RunStarted():
            plain = ", ".join(f"{k}={v}" for k, v in event.facts.items() if not isinstance(v, (dict, list)))
            return "\n".join([f"started {plain}", *(f"warning: {line}" for line in event.facts.get("warnings", ()))])
        case events.StageStarted():
            return f"stage {event.stage}: {event.steps} steps"
        case events.StepDone():
            terms = ", ".join(f"{name} {value:.4g}" for name, value in event.raw.items())
            return f"step {event.step}/{event.steps} loss {event.loss:.4g} ({terms}) {event.examples_per_second:.0f}/s"
        case events.Evaluated():
            scores = ", ".join(f"{name} {value:.4f}" for name, value in event.scores.items())
            return f"{event.which} on {event.split} at step {event.step}: {scores}"
        case events.Progress():
            return f"{event.what} {event.done}/{event.total}" if event.done in (0, event.total) else ""
        case events.Probed():
            return f"measured {event.name}"
        case events.Checkpointed():
            return f"checkpoint at step {event.step}"
        case events.RunFinished():
            return "finished"
        case events.RunStopped():
            return f"stopped at step {event.step}, {'kept' if event.kept else event.why_not or 'discarded'}"
        case events.RunFailed():
            return f"failed: {event.reason}; {event.remedy}"
    return ""


@contextmanager
def run_log(run_id: str) -> Iterator[Callable[[str], None]]:
    """`log.txt` in the run's folder: lines said here, and what kdcore's loggers say in this thread meanwhile."""
    folder = run_dir(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    here = threading.get_ident()
    with (folder / "log.txt").open("a", encoding="utf-8", buffering=1) as file:
        handler = logging.StreamHandler(file)
        handler.addFilter(lambda record: record.thread == here)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        logging.getLogger("kdcore").addHandler(handler)
        try:
            yield lambda line: print(time.strftime("%Y-%m-%d %H:%M:%S"), line, file=file)
        finally:
            logging.getLogger("kdcore").removeHandler(handler)
