"""Tests of the engine run in the small world, on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kdcore.config import RunConfig, TeacherSpec
from kdcore.engine.trainer import train
from kdcore.events import Event
from tests.helpers import tiny_task


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdcore.data import pocket

    monkeypatch.setattr(pocket, "load", tiny_task.data)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and lose much to waiting for them on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where finished teachers stand; tests only read them."""
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture(scope="session")
def one_teacher(shelf: Path) -> tuple[TeacherSpec, ...]:
    return tiny_task.teachers(shelf, 1)


@pytest.fixture(scope="session")
def three_teachers(shelf: Path) -> tuple[TeacherSpec, ...]:
    return tiny_task.teachers(shelf, 3)


class Trained:
    """A run that was driven to its end (or stop): its events, its folder, its weights."""

    def __init__(self, run: RunConfig, folder: Path, control: object = None) -> None:
        self.run, self.folder = run, folder
        self.events: list[Event] = []
        for event in train(run, folder, control):
            self.events.append(event)
            if isinstance(control, tiny_task.StopAt):
                control.see(event)

    def of(self, kind: type) -> list:
        return tiny_task.of(kind, self.events)

    def weights(self, which: str = "last") -> dict[str, torch.Tensor]:
        return tiny_task.weights(self.folder / f"student-{which}")


@pytest.fixture
def trained(tmp_path: Path):
    """Trains a run in a folder of its own."""
    count = iter(range(1000))

    def go(run: RunConfig, folder: Path | None = None, control: object = None) -> Trained:
        return Trained(run, folder or tmp_path / f"run-{next(count)}", control)

    return go
