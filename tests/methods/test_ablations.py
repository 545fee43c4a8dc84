"""What a method offers to leave out is called as its loss calls it, and is out of the loss then."""

from __future__ import annotations

from typing import Any

import pytest

from kdcore.methods import METHODS, resolve
from kdcore.methods.mix import READS
from tests.methods.conftest import World

NOT_HERE = ("fine-tune", "annealing-kd", "takd", "dynamic-kd", "text-smoothing", "meta-kd", "mixed-vocab", "l2a")
"""Methods without parts under their defaults, or that ask about the rows or read words: the contract has those."""
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *((key, {}) for key in METHODS if key not in NOT_HERE),
    ("bert-emd", {"alpha": 0.5}),
    ("dynamic-kd", {"part": "supervision"}),
    ("gkd", {"variant": "gkd-cls"}),
    ("mix", {f"{name}_weight": 2.0 for name in READS}),
    ("skd", {"hard_label_weight": 0.3}),
    ("wkd", {"hard_label_weight": 0.3}),
]
IN_WORDS = {
    "choice of knowledge", "choice of teachers", "exchange of query and key", "states, attention and embedding",
    "weights by error",
}  # fmt: skip


def _weights(key: str, options: dict[str, Any]) -> dict[str, float]:
    """Term -> its weight, over all stages."""
    method, config = resolve(key, options)
    world = World(key, options, teachers=[f"t{number}" for number in range(max(1, method.takes(config)[0]))])
    world.method.double()
    stages = {stage.name: stage for stage in world.method.stages()}
    terms = {name: term for stage in stages.values() for name, term in stage.terms(world.step(stage.name)).items()}
    return {name: float(term.weight) for name, term in terms.items()} | {
        f"stage {name}": stage.share for name, stage in stages.items()
    }


@pytest.mark.parametrize(("key", "options"), SETTINGS)
def test_a_part_that_is_left_out_has_no_weight_left(key: str, options: dict[str, Any]) -> None:
    method, config = resolve(key, options)
    whole = _weights(key, options)
    for part, off in method.ablations(config, "classification").items():
        without = _weights(key, options | off)
        if part in IN_WORDS:
            assert without.keys() <= whole.keys()
            continue
        assert whole[part] > 0 and without.get(part, 0.0) == 0.0, part
        assert any(weight > 0 for name, weight in without.items() if not name.startswith("stage")), part
