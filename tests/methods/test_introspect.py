"""What a method makes of a setup is seen by building it over the smallest encoders."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdcore.errors import UserError
from kdcore.methods import METHODS
from kdcore.methods.introspect import example_setup, stages_of
from kdcore.records import ModelSize


@pytest.mark.parametrize("key", METHODS)
def test_every_method_has_stages_to_draw(key: str) -> None:
    method = METHODS[key]
    config, setup = method.Config(), example_setup(method)
    stages = stages_of(method, config, setup)
    assert sum(info.stage.share for info in stages if not info.stage.pilot) == pytest.approx(1.0)
    for info in stages:
        assert info.depth >= 1 and info.learner and info.stage.trains(info.learner)
        assert info.teacher or not info.needs.teacher or info.teacher_depth == 6


def test_who_was_trained_before_teaches() -> None:
    if "takd" not in METHODS:
        pytest.skip("no method here trains its own teacher")
    method = METHODS["takd"]
    first, last = stages_of(method, method.Config(), example_setup(method, student=2, teacher=6))
    assert (first.learner, first.depth, first.teacher, first.teacher_depth) == ("assistant-1", 4, "", 6)
    assert (last.learner, last.depth, last.teacher, last.teacher_depth) == ("student", 2, "assistant-1", 4)
    assert last.needs.teacher == last.needs.student


def test_a_setup_that_does_not_fit_is_refused_in_words() -> None:
    method = METHODS["pkd"]
    setup = example_setup(method)
    narrow = replace(setup, student=ModelSize(3, 32, 4, 128))
    with pytest.raises(UserError, match="width"):
        stages_of(method, method.Config(), narrow)
