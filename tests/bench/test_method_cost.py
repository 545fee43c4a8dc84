"""What a step is predicted to cost beside KD's, against what the committed figures measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import method_cost
from kdcore.engine import estimate
from kdcore.engine.pace import Pace, Rates
from kdcore.engine.schedule import stage_steps
from kdcore.methods import METHODS
from kdcore.methods.introspect import sizes as sizes_of
from kdcore.records import ModelSize, Setup

FILE = Path(method_cost.__file__).parent / "results" / "method-cost.json"
TEACHER = ModelSize(layers=6, width=384, heads=12, intermediate=1536, vocabulary=30522, positions=512, labels=2)
STUDENT = ModelSize(layers=4, width=384, heads=12, intermediate=1536, vocabulary=30522, positions=512, labels=2)
ROWS, STEPS = 32, 24
AIM = 0.25


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def seconds(key: str, at: Pace) -> float:
    """Of a student's step, all that the method does for it counted, on MRPC's rows."""
    method = METHODS[key]
    teachers = {"minilm-6": TEACHER}
    setup = Setup(
        kind="classification", labels=2, student=STUDENT, teachers=teachers, scores={"minilm-6": 0.5}, train_rows=3301,
        task="mrpc",
    )  # fmt: skip
    made = method(method.Config(), setup)
    sizes, stages = sizes_of(made, method.deployed(made.config, STUDENT, teachers)), made.stages()
    total = sum(
        estimate._stage_seconds(stage, count, 0, sizes, ROWS, at)
        + count * estimate._rerun_seconds(stage, sizes, teachers, ROWS, at, {})
        for stage, count in zip(stages, stage_steps(stages, STEPS), strict=True)
    )
    live = estimate._live_shares(stages, sizes, teachers, True)
    total += sum(STEPS * share * at.forward({**sizes, **teachers}[name], ROWS) for name, share in live.items())
    return total / STEPS


@pytest.mark.parametrize(
    "key", ["gkd", "ad-kd", "backward-kd", "text-smoothing", "kronecker-bert", "simkd", "fine-tune"]
)
def test_what_a_step_costs_beside_kd_is_predicted_within_a_quarter(measured, key):
    told = measured["pace"]
    at = Pace(told["tokens"], told["vocabulary"], Rates(**told["rates"]))
    ratio, said = measured["methods"][key]["ratio_to_kd"], seconds(key, at) / seconds("kd", at)
    assert said == pytest.approx(ratio, rel=AIM), f"measured {ratio:.2f}, predicted {said:.2f}"
