"""What a study must show before it is shipped: its method ahead on every seed, and no student at a blind guess."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.record_example import SEEDS, flaws_of, study, with_students
from kdcore.identity import config_hash
from kdcore.runs.demo import STORY, demo_runs
from pages.parts.learn.lessons import lessons

SHOWN = {"fine-tune": (0.70, 0.79, 0.72), "kd": (0.69, 0.78, 0.70), STORY: (0.92, 0.90, 0.88)}


def scores(changes: dict[tuple[str, int], float] | None = None, part: str | None = None) -> pd.DataFrame:
    rows = [
        (part, method, seed, (changes or {}).get((method, seed), SHOWN[method][seed]), 0.5, 1000)
        for method in SHOWN
        for seed in SEEDS
    ]
    return pd.DataFrame(rows, columns=["part", "method", "seed", "score", "guess", "rows"])


def test_a_study_that_shows_its_point_has_no_flaw() -> None:
    assert flaws_of(scores()) == []


@pytest.mark.parametrize("score", [0.79, 0.75])
def test_its_method_must_be_ahead_on_every_seed(score: float) -> None:
    (flaw,) = flaws_of(scores({(STORY, 1): score}))
    assert f"{STORY}, seed 1" in flaw and "79.0" in flaw


def test_a_seed_without_its_method_is_a_flaw() -> None:
    whole = scores()
    (flaw,) = flaws_of(whole[(whole["method"] != STORY) | (whole["seed"] != 2)])
    assert f"{STORY}, seed 2" in flaw


@pytest.mark.parametrize(("score", "refused"), [(0.50, True), (0.53, True), (0.54, False)])
def test_no_student_may_stand_at_a_blind_guess(score: float, refused: bool) -> None:
    """Two standard errors of a share of one half over 1,000 rows are 3.2 points."""
    assert len(flaws_of(scores({("kd", 0): score}))) == refused


def test_other_parts_are_held_against_a_blind_guess_only() -> None:
    both = pd.concat([scores(), scores({(STORY, 0): 0.6}, part="another")])
    assert flaws_of(both) == []
    both = pd.concat([scores(), scores({(STORY, 0): 0.5}, part="another")])
    assert len(flaws_of(both)) == 1


def test_the_study_holds_the_demo_and_every_lesson() -> None:
    recorded = [config_hash(run) for run, _ in study()]
    assert len(set(recorded)) == len(recorded)
    assert {config_hash(run) for run in demo_runs()} <= set(recorded)
    for lesson in lessons().values():
        for seed in SEEDS:
            assert {config_hash(run) for run in lesson.configs(seed).values()} <= set(recorded), lesson.title


def test_what_a_page_looks_into_keeps_its_student() -> None:
    kept = with_students()
    assert {config_hash(run) for run in demo_runs()} <= kept
    for lesson in lessons().values():
        looked_into = {step.run for step in lesson.steps if step.run}
        assert {config_hash(lesson.configs()[name]) for name in looked_into} <= kept, lesson.title
