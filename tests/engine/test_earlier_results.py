"""Short runs give the numbers that were written down when a method came in: what is shared may change, they may not.

They are losses and norms, rounded, and not bits: another processor adds in another order. To write down those of
methods that have none yet: python -m tests.engine.test_earlier_results
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kdcore.config import RunConfig
from kdcore.engine.trainer import train
from kdcore.events import StepDone
from kdcore.methods import METHODS
from tests.helpers import tiny_task as world

WRITTEN = Path(__file__).with_name("earlier_results.json")
EARLIER: dict[str, Any] = json.loads(WRITTEN.read_text()) if WRITTEN.exists() else {}
DIGITS = 6
WEIGHTS = ("bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.output.dense.weight", "classifier.weight")


def settings(key: str, shelf: Path) -> RunConfig:
    """Six steps of the student in float32, in two parts each, with dropout."""
    fewest, most = METHODS[key].takes(METHODS[key].Config())
    count = max(fewest, min(most, 2))
    teachers = [world.teacher(shelf, f"earlier-{i}", layers=4, seed=30 + i) for i in range(count)]
    return world.run(key, teachers, epochs=1, lr=2e-3, accumulate=2, precision="fp32", dropout=0.1)


def digest(run: RunConfig, folder: Path) -> dict[str, Any]:
    """Every step's raw terms and gradient norm, and the norms of some of the student's weights at the end."""
    steps = world.of(StepDone, train(run, folder))
    weights = world.weights(folder / "student-last")
    return {
        "terms": [{name: round(value, DIGITS) for name, value in step.raw.items()} for step in steps],
        "gradient_norm": [round(step.gradient_norm, DIGITS) for step in steps],
        "weights": {name: round(float(weights[name].norm()), DIGITS) for name in WEIGHTS},
    }


@pytest.mark.parametrize("key", list(EARLIER))
def test_a_short_run_gives_what_it_gave(key: str, shelf: Path, tmp_path: Path) -> None:
    now, then = digest(settings(key, shelf), tmp_path), EARLIER[key]
    assert [list(terms) for terms in now["terms"]] == [list(terms) for terms in then["terms"]]
    for step, (got, expected) in enumerate(zip(now["terms"], then["terms"], strict=True), start=1):
        assert got == pytest.approx(expected, rel=2e-4, abs=1e-5), f"step {step}"
    assert now["gradient_norm"] == pytest.approx(then["gradient_norm"], rel=1e-3)
    assert now["weights"] == pytest.approx(then["weights"], rel=1e-5)


def write() -> None:
    """Adds the numbers of methods that have none."""
    from kdcore.data import pocket

    pocket.load = world.data
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for key in METHODS:
            if key not in EARLIER:
                EARLIER[key] = digest(settings(key, Path(folder)), Path(folder) / key)
    WRITTEN.write_text("{\n" + ",\n".join(_entries()) + "\n}\n")


def _entries() -> Iterator[str]:
    for key, entry in EARLIER.items():
        lines = ",\n".join(f'  "{part}": {json.dumps(values)}' for part, values in entry.items())
        yield f' "{key}": {{\n{lines}\n }}'


if __name__ == "__main__":
    write()
