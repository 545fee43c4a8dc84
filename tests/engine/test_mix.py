"""A mixture with the weights of one paper is that paper's run, bit for bit: same terms, same draws, same weights."""

from __future__ import annotations

import pytest

from kdcore.engine.device import has_fast_bf16
from kdcore.events import Evaluated, StepDone
from kdcore.methods.mix import READS
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import SIMILARITY, run, same

NOTHING = {f"{name}_weight": 0.0 for name in READS}

CASES = {
    "KD": ("kd", {"alpha": 0.3, "temperature": 4.0}, {"alpha": 0.3, "temperature": 4.0}, {}, 1),
    "Patient KD, Skip": ("pkd", {"beta": 50.0}, {"patience_weight": 50.0, "layers": "spread"}, {}, 1),
    "Patient KD, Last, in parts": (
        "pkd", {"layers": "last"}, {"patience_weight": 500.0, "layers": "last"}, {"accumulate": 2}, 1,
    ),
    "Patient KD, scores": ("pkd", {}, {"patience_weight": 500.0}, {"task": SIMILARITY}, 1),
    "Patient KD, precision of the machine": ("pkd", {}, {"patience_weight": 500.0}, {"precision": "auto"}, 1),
    "Stochastic KD, uniform": (
        "skd", {"hard_label_weight": 0.25, "temperature": 2.0}, {"alpha": 0.75, "temperature": 2.0}, {}, 3,
    ),
    "Stochastic KD, by rank": (
        "skd", {"hard_label_weight": 0.5, "sampling": "teacher-rank"},
        {"alpha": 0.5, "temperature": 1.0, "choice": "rank"}, {}, 3,
    ),
}  # fmt: skip
"""Name -> method, its settings, those of the mixture beside NOTHING, changes to the run, number of teachers."""


@pytest.mark.parametrize("case", CASES)
def test_a_run_with_one_papers_weights_is_that_papers(trained, three_teachers, shelf, case):
    key, options, weights, changes, count = CASES[case]
    if changes.get("precision") and not has_fast_bf16("cpu"):
        pytest.skip("this processor has no precision but float32")
    teachers = three_teachers[:count]
    if changes.get("task") == SIMILARITY:
        teachers = (world.teacher(shelf, "scores", labels=1, seed=50),)
    paper = trained(run(key, teachers, options, evaluate_every=4, **changes))
    mix = trained(run("mix", teachers, {**NOTHING, **weights}, evaluate_every=4, **changes))
    for which in ("last", "best"):
        assert same(mix.weights(which), paper.weights(which)), which
    told = [[(e.raw, e.weighted, e.gradient_norm) for e in done.of(StepDone)] for done in (mix, paper)]
    assert told[0] == told[1]
    scores = [[(e.split, e.which, e.scores) for e in done.of(Evaluated)] for done in (mix, paper)]
    assert scores[0] == scores[1]
