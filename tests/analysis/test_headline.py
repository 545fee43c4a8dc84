"""The first sentence of a comparison: what it claims, and what it leaves open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kdcore.analysis.comparison import compare
from kdcore.analysis.headline import Headline, headline
from tests.helpers.store_factory import run_config


def _said(store: Any, **options: Any) -> Headline:
    return headline(compare(store, store.runs(), **options)[0])


def _seeds(finish: Callable[..., str], **scores: float) -> None:
    for method, score in scores.items():
        for seed in range(3):
            finish(run_config(method.replace("_", "-"), seed), score + 0.01 * seed)


def test_the_best_method_is_set_against_training_alone(store: Any, finish: Callable[..., str]) -> None:
    _seeds(finish, fine_tune=0.70, kd=0.72, pkd=0.75)
    said = _said(store)
    assert said.claim == "Patient KD, 2 x 32 is ahead of Fine-tuning alone, 2 x 32 by 5.0 points (3 paired seeds)."
    assert "takes 6 paired seeds" in said.doubt and not said.real


def test_no_method_may_be_ahead(store: Any, finish: Callable[..., str]) -> None:
    _seeds(finish, fine_tune=0.70, kd=0.60, pkd=0.68)
    assert _said(store).claim == (
        "No method is ahead of Fine-tuning alone, 2 x 32; the nearest, Patient KD, 2 x 32, is behind by 2.0 points "
        "(3 paired seeds)."
    )


@pytest.mark.parametrize(
    ("other", "claim"),
    [
        (0.70, "KD, 2 x 32 and Fine-tuning alone, 2 x 32 are level (3 paired seeds)."),
        (0.69, "KD, 2 x 32 is behind Fine-tuning alone, 2 x 32 by 1.0 point (3 paired seeds)."),
    ],
)
def test_two_that_are_level_or_behind(other: float, claim: str, store: Any, finish: Callable[..., str]) -> None:
    _seeds(finish, fine_tune=0.70, kd=other)
    assert _said(store).claim == claim


def test_a_test_is_needed_to_call_it_real(store: Any, finish: Callable[..., str]) -> None:
    for seed in range(6):
        finish(run_config("fine-tune", seed), 0.70)
        finish(run_config("kd", seed), 0.75 + 0.002 * seed)
    said = _said(store)
    assert said.real and said.doubt.startswith("The difference is real (95% interval +")


def test_what_cannot_be_said(store: Any, finish: Callable[..., str]) -> None:
    finish(run_config("kd", 0), None)
    assert _said(store) == Headline("", "No run is finished yet, so nothing can be said.")
    finish(run_config("fine-tune", 0), 0.7)
    assert _said(store).claim == "Fine-tuning alone, 2 x 32 scores 70.0 (1 seed)."
    finish(run_config("kd", 1), 0.8)
    assert "share no finished seed" in _said(store).doubt
    finish(run_config("pkd", 0, student={"layers": 2, "width": 64, "heads": 2, "init": "random"}), 0.9)
    said = _said(store)
    assert said.claim == "" and "cannot be said" in said.doubt and "size" in said.doubt
