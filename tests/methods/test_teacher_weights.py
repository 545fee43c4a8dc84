"""What a method says of how it mixes several teachers is what its loss does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdcore.errors import UserError
from kdcore.methods import METHODS
from kdcore.methods.teacher_weights import all_scores
from kdcore.probes.examples import mean_answer

NAMES = ["small", "medium", "large"]
SCORES = {"small": 0.70, "medium": 0.75, "large": 0.90}
MEANS = [
    ("kd", {"alpha": 1.0, "temperature": 3.0}),
    ("wkd", {"weights": "rank", "temperature": 2.0}),
    ("wkd", {"weights": "softmax", "temperature": 4.0}),
]
DRAWS = [("skd", {"sampling": "teacher-rank", "temperature": 2.0}), ("mix", {"choice": "rank", "alpha": 1.0})]


def family(notes, name, teachers=NAMES):
    """Teacher -> its note of one family."""
    return {teacher: notes[f"{name}/{teacher}"] for teacher in teachers}


@pytest.mark.parametrize(("key", "options"), MEANS)
def test_the_soft_term_is_that_of_the_mixture(world, key, options):
    made = world(key, options, teachers=NAMES, scores=SCORES)
    mixture = METHODS[key].mixture(made.method.config)
    assert mixture.kind == "mean" and mixture.temperature == options["temperature"]
    weights = family(made.method.notes(), mixture.weights) if mixture.weights else dict.fromkeys(NAMES, 1 / 3)
    step = made.step()
    answers = [step.teachers[name].logits.numpy() for name in NAMES]
    log_p = mean_answer(answers, list(weights.values()), mixture.temperature)
    log_q = torch.log_softmax(step.student.logits.detach() / mixture.temperature, -1).numpy()
    expected = mixture.temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1).mean()
    assert made.terms(step)["soft"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("key", ["kd", "wkd"])
def test_scores_are_mixed_in_the_same_way(world, key):
    made = world(key, {}, teachers=NAMES, scores=SCORES, regression=True)
    step = made.step()
    mean = mean_answer([step.teachers[name].logits.numpy() for name in NAMES])
    assert made.terms(step)["soft"] == pytest.approx(
        float(((step.student.logits.detach().numpy() - mean) ** 2).mean()), rel=1e-9
    )


@pytest.mark.parametrize(("key", "options"), DRAWS)
def test_a_draw_logs_the_chances_that_it_was_made_with(world, key, options):
    options = options | ({} if key == "skd" else {"hidden_weight": 0.0})
    made = world(key, options, teachers=NAMES, scores=SCORES)
    mixture = METHODS[key].mixture(made.method.config)
    made.method.after_step(made.step())
    notes = made.method.notes()
    assert mixture.kind == "draw"
    assert family(notes, mixture.weights) == pytest.approx({"small": 1 / 6, "medium": 2 / 6, "large": 3 / 6})
    assert sum(family(notes, mixture.counted).values()) == 1


def test_rows_that_are_shared_out_have_no_weights(world):
    made = world("dynamic-kd", {"distance": "kl", "temperature": 2.0}, teachers=["small", "large"])
    mixture = METHODS["dynamic-kd"].mixture(made.method.config)
    made.method.after_step(made.step())
    assert (mixture.kind, mixture.weights, mixture.temperature) == ("rows", "", 2.0)
    assert sum(family(made.method.notes(), mixture.counted, ["small", "large"]).values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("key", "options"),
    [("kd", {"alpha": 0.0}), ("mix", {"alpha": 0.0}), ("skd", {"hard_label_weight": 1.0}), ("fine-tune", {}),
     ("wkd", {"hard_label_weight": 1.0}), ("pkd", {})],
)  # fmt: skip
def test_no_soft_target_no_mixture(key, options):
    assert METHODS[key].mixture(METHODS[key].Config(**options)) is None


def test_every_method_of_several_teachers_says_how_it_mixes_them():
    silent = [key for key, method in METHODS.items() if method.teachers[1] > 1 and not method.mixture(method.Config())]
    assert silent == ["fine-tune", "text-smoothing"], "which listen to none"


def test_the_scores_in_the_order_of_the_teachers():
    assert all_scores({"b": 0.7, "a": 0.0}, "options.choice", "rank", "choose uniform") == [0.7, 0.0]


def test_those_without_a_score_are_named_with_what_to_do():
    with pytest.raises(UserError) as said:
        all_scores({"a": None, "b": 0.7, "c": None}, "options.choice", "rank", "choose uniform")
    error = said.value
    assert (error.field, error.problem, error.remedy) == (
        "options.choice",
        "rank needs a score of a, c",
        "choose uniform",
    )
