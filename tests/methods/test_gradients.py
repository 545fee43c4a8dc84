"""Gradients of whole losses against finite differences, in float64, with respect to all that a student says.

The losses' own tests check each function; here is what methods make of them: weights, layer maps, rows, constants. A
plan of transport and a choice of rows do not change for a small step, so their losses have the gradients of the rest. A
term that takes something of the student as a constant on purpose (`detach`) has not, and is left out.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from kdcore.methods import METHODS
from kdcore.records import Outputs, Step

EVERY_TERM = {
    "patience_weight": 3.0, "hidden_weight": 0.7, "scores_weight": 0.5, "cosine_weight": 2.0, "attention_weight": 1.5,
    "values_weight": 4.0, "rows_weight": 5.0,
}  # fmt: skip

CASES = [
    ("annealing-kd", {}, "anneal"),
    ("annealing-kd", {}, "predict"),
    ("alp-kd", {}, "distil"),
    ("alp-kd", {"view": "buckets", "scale": "sqrt-width", "beta": 3.0}, "distil"),
    ("alp-kd", {"view": "overlapping", "tokens": "all"}, "distil"),
    ("bert-emd", {"beta": 1.0, "alpha": 0.4, "temperature": 2.0}, "distil"),
    ("dynamic-kd", {"detach": False}, "distil"),
    ("dynamic-kd", {"detach": False, "adoption": "soft", "distance": "kl"}, "distil"),
    ("dynamic-kd", {"detach": False, "adoption": "soft-instance", "reverse": True}, "distil"),
    ("dynamic-kd", {"part": "rows", "ratio": 0.4}, "distil"),
    ("dynamic-kd", {"part": "rows", "selection": "margin", "distance": "kl"}, "distil"),
    ("dynamic-kd", {"detach": False, "part": "supervision", "hidden_weight": 2.0}, "distil"),
    ("mix", EVERY_TERM, "distil"),
    ("mix", {"hidden_weight": 1.0, "layers": "last", "patience_weight": 1.0}, "distil"),
    ("mt-bert", {"temperature": 2.0, "projection": "per-layer"}, "distil"),
    ("knowledge-selection", {"selection": "all", "normalise": False}, "distil"),
    ("tinybert", {"attention_loss": "kl", "layers": "mean"}, "intermediate"),
    ("tinybert", {"attention_loss": "probabilities", "layers": "mean", "projection": "per-layer"}, "intermediate"),
    ("tinybert", {"attention_loss": "kl", "layers": "random", "layers_seed": 2}, "intermediate"),
    ("tinybert", {"attention_loss": "kl"}, "predict"),
]


@pytest.mark.parametrize(("key", "options", "stage"), CASES, ids=lambda part: str(part) if part else "defaults")
@pytest.mark.parametrize("regression", [False, True])
def test_the_gradient_is_that_of_finite_differences(world, shape, key, options, stage, regression):
    if regression and "regression" not in METHODS[key].kinds:
        pytest.skip("it has no meaning for scores")
    fewest = METHODS[key].takes(METHODS[key].Config(**options))[0]
    made = world(key, options, teachers={f"t{i}": shape(6) for i in range(fewest)}, regression=regression)
    made.method.double()
    step = of_asked_rows(made.step(stage, number=40))
    said, terms = step.student, made.stage(stage).terms
    places = [(name, layer) for name in said.names() for layer in layers_of(said, name)]

    def loss(*tensors: Tensor) -> Tensor:
        chosen = with_tensors(said, dict(zip(places, tensors, strict=True)))
        found = terms(replace(step, students={"student": chosen})).values()
        return torch.stack([term.value * term.weight for term in found]).sum()

    leaves = [tensor_of(said, *place) for place in places]
    assert gradcheck(loss, leaves, fast_mode=True)
    gradients = torch.autograd.grad(loss(*leaves), leaves)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def of_asked_rows(step: Step) -> Step:
    """The hand-made teachers answer all rows; in a run they answer those that they are asked."""
    teachers = {}
    for name, rows in step.rows.items():
        said = step.teachers[name]
        chosen = slice(None) if rows is None else rows
        tensors = {
            known: {layer: tensor[chosen] for layer, tensor in value.items()}
            if isinstance(value := getattr(said, known), dict)
            else value[chosen]
            for known in said.names()
        }
        teachers[name] = Outputs(tensors, said.mask[chosen])
    return replace(step, teachers=teachers)


def layers_of(said: Outputs, name: str) -> list[int | None]:
    value = getattr(said, name)
    return list(value) if isinstance(value, dict) else [None]


def tensor_of(said: Outputs, name: str, layer: int | None) -> Tensor:
    value = getattr(said, name)
    return value if layer is None else value[layer]


def with_tensors(said: Outputs, tensors: dict[tuple[str, int | None], Tensor]) -> Outputs:
    """The same outputs with other tensors at these places."""
    changed: dict[str, object] = {}
    for (name, layer), tensor in tensors.items():
        if layer is None:
            changed[name] = tensor
        else:
            changed.setdefault(name, {})[layer] = tensor
    return Outputs(changed, said.mask)
