"""A search over the tiny rows and teachers of tests/helpers/tiny_task.py, with trainings that follow a script."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdcore.config import RunConfig
from kdcore.events import Evaluated, Event, RunFinished, RunStarted, RunStopped, StageStarted, StepDone
from kdcore.search.question import Question
from kdcore.store import Store, open_store
from tests.helpers import tiny_task

STEPS = 12
"""Of a run of 2 epochs of 90 rows in batches of 16."""


@pytest.fixture(autouse=True)
def _optuna() -> None:
    pytest.importorskip("optuna", reason="the extra search is not installed")


@pytest.fixture
def store(own_cache: Any, monkeypatch: pytest.MonkeyPatch) -> Store:
    from kdcore.data import pocket

    monkeypatch.setattr(pocket, "load", tiny_task.data)
    return open_store()


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., Question]:
    """`asked(bound, **fields)`: a question about three sizes of the tiny task."""
    teacher = tiny_task.teacher(tmp_path, "big", layers=3)

    def make(bound: dict[str, Any], **fields: Any) -> Question:
        run = tiny_task.run(evaluate_every=3).model_dump(mode="json")
        shared = {key: run[key] for key in ("task", "train", "probes")} | {"teachers": [teacher.model_dump()]}
        defaults = {
            "name": "tiny", "run": shared, "bound": bound, "minutes": 60, "methods": ["kd"], "seeds": 1, "trials": 3,
            "sizes": [{"layers": 1}, {"layers": 2}, {"layers": 1, "width": 8, "heads": 2}],
        }  # fmt: skip
        return Question.model_validate(defaults | fields)

    return make


@pytest.fixture
def script() -> Script:
    return Script()


class Script:
    """In place of the engine: a run scores what `score(run)` says after each quarter; it is done at once."""

    def __init__(self) -> None:
        self.trained: list[RunConfig] = []
        self.score: Callable[[RunConfig], float] = lambda run: 0.5
        self.teacher = 0.8
        self.dies: Callable[[RunConfig], bool] = lambda run: False
        self.waits: Callable[[RunConfig], bool] = lambda run: False

    def __call__(self, run: RunConfig, folder: Path, control: Any) -> Iterator[Event]:
        self.trained.append(run)
        yield RunStarted({"steps": STEPS, "parameters": 1000})
        yield StageStarted("distil", 0, 1, STEPS)
        yield Evaluated("teachers", 0, "select", "teacher:big", {"accuracy": self.teacher}, 10)
        for quarter in range(1, 4):
            step = quarter * STEPS // 4
            yield StepDone("distil", step, STEPS, quarter / 2, 0.5, {}, {}, 1e-3, 10.0, float(quarter), 0.5)
            yield Evaluated("distil", step, "select", "last", {"accuracy": self.score(run)}, 10)
            if self.dies(run):
                raise KeyboardInterrupt
            until = time.monotonic() + (10 if self.waits(run) else 0)
            while time.monotonic() < until and not control.stop_requested():
                time.sleep(0.05)
                yield StepDone("distil", step, STEPS, quarter / 2, 0.5, {}, {}, 1e-3, 10.0, float(quarter), 0.5)
            if control.stop_requested():
                yield RunStopped(step, False, {"seconds": 2.0})
                return
        yield Evaluated("end", STEPS, "select", "best", {"accuracy": self.score(run)}, 10)
        yield Evaluated("end", STEPS, "validation", "best", {"accuracy": self.score(run) - 0.1}, 30)
        yield RunFinished({"seconds": 10.0, "seconds_by_part": {"training": 8.0}})
