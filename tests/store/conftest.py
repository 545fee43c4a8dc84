from collections.abc import Callable
from typing import Any

import pytest

from kdcore.config import RunConfig, TrainConfig
from kdcore.events import Evaluated, StepDone
from kdcore.store import Store


@pytest.fixture
def store(empty_store: Store) -> Store:
    return empty_store


@pytest.fixture
def settings() -> Callable[..., RunConfig]:
    def make(seed: int = 0, **changes: Any) -> RunConfig:
        return RunConfig(**{"task": "mrpc", "method": "kd", "train": TrainConfig(seed=seed), **changes})

    return make


@pytest.fixture
def step() -> Callable[..., StepDone]:
    def make(number: int, loss: float = 1.0, steps: int = 10, **changes: Any) -> StepDone:
        values = {
            "stage": "distil", "step": number, "steps": steps, "epoch": number / steps, "loss": loss,
            "raw": {"hard": loss, "soft": 2 * loss}, "weighted": {"hard": 0.5 * loss, "soft": loss}, "lr": 1e-3,
            "examples_per_second": 64.0, "seconds": float(number), "gradient_norm": 0.5,
        }  # fmt: skip
        return StepDone(**{**values, **changes})

    return make


@pytest.fixture
def scored() -> Callable[..., Evaluated]:
    def make(number: int, split: str, which: str, stage: str = "distil", **scores: float) -> Evaluated:
        return Evaluated(stage, number, split, which, scores, 100)

    return make
