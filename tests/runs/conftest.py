import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdcore.config import RunConfig, TrainConfig
from kdcore.events import Evaluated, Event, RunFinished, RunStarted, RunStopped, StageStarted, StepDone
from kdcore.store import Store


@pytest.fixture
def store(empty_store: Store) -> Store:
    return empty_store


@pytest.fixture
def settings() -> Callable[..., RunConfig]:
    def make(seed: int = 0, **changes: Any) -> RunConfig:
        return RunConfig(**{"task": "mrpc", "method": "fine-tune", "train": TrainConfig(seed=seed), **changes})

    return make


def step_done(number: int, steps: int) -> StepDone:
    raw = {"hard": 1.0 / number}
    return StepDone("distil", number, steps, number / steps, 1.0, raw, raw, 1e-3, 100.0, float(number), 0.5)


@pytest.fixture
def script() -> Callable[..., Any]:
    """A training that only says its lines: `script(steps, pause, fail)` is a `train`."""

    def make(steps: int = 3, pause: float = 0.0, fail: Any = None, score: Any = 0.5) -> Any:
        def train(run: RunConfig, folder: Path, control: Any) -> Iterator[Event]:
            yield RunStarted({"steps": steps, "device": "cpu"})
            yield StageStarted("distil", 0, 1, steps)
            for number in range(1, steps + 1):
                time.sleep(pause)
                if (stop := control.stop_requested()) == "leave":
                    return
                if stop is not None:
                    yield RunStopped(number, kept=stop == "keep")
                    return
                if fail is not None and number == 2:
                    raise fail
                yield step_done(number, steps)
            value = score(run) if callable(score) else score
            for which in ("last", "best"):
                yield Evaluated("end", steps, "select", which, {"accuracy": value}, 10)
                yield Evaluated("end", steps, "validation", which, {"accuracy": value}, 10)
            (folder / "student-best").mkdir(exist_ok=True)
            (folder / "student-best" / "config.json").write_text('{"model_type": "bert"}')
            yield RunFinished({"seconds": 1.0})

        return train

    return make


@pytest.fixture
def wait_for() -> Callable[..., Any]:
    """Polls until the condition holds; fails after a minute or what is given, which is no timing but a dead worker."""

    def wait(condition: Callable[[], Any], seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.02)
        raise AssertionError(f"nothing happened for {seconds:g} seconds")

    return wait
