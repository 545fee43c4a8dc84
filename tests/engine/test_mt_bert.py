"""MT-BERT in the engine: teachers that learn under one head, and teach the student from the cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdcore.engine import own_teachers
from kdcore.events import Evaluated, RunFinished, StageStarted, StepDone
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import StopAt, run, same, weights

HEAD = ("bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias")


@pytest.fixture
def kept(monkeypatch) -> dict[str, dict[str, torch.Tensor]]:
    """Teacher -> its weights as the student's stage finds them."""
    seen: dict[str, dict[str, torch.Tensor]] = {}
    real = own_teachers._ask_from_now_on

    def watched(job, role):
        seen[role] = weights(job.folder / own_teachers.FOLDER / role)
        real(job, role)

    monkeypatch.setattr(own_teachers, "_ask_from_now_on", watched)
    return seen


def test_teachers_learn_with_one_head_and_answer_every_row_once(trained, three_teachers, kept):
    done = trained(run("mt-bert", three_teachers[:2], {"together": 0.5}, evaluate_every=3))
    assert [(e.stage, e.steps, e.pilot) for e in done.of(StageStarted)] == [
        ("together", 6, True),
        ("distil", 12, False),
    ]
    one, two = kept.values()
    source = [weights(Path(spec.where)) for spec in three_teachers[:2]]
    for name in one:
        assert torch.equal(one[name], two[name]) is (name in HEAD), name
        assert not torch.equal(one[name], source[0][name]) or name.endswith(("key.bias", "token_type_ids")), name
    assert all(list(e.scores) == ["loss"] for e in done.of(Evaluated) if e.stage == "together")
    asked = done.of(RunFinished)[0].summary["cache"]
    assert asked["misses"] == 2 * 90 and asked["live"] == 0
    told = done.of(StepDone)[-1].notes
    assert set(told) == {"mean weight/t0", "mean weight/t1"} and all(0 < weight <= 1 for weight in told.values())


def test_without_the_stage_the_runs_own_teachers_teach(trained, three_teachers, kept):
    done = trained(run("mt-bert", three_teachers[:2], {"together": 0.0}, max_steps=2))
    assert [e.stage for e in done.of(StageStarted)] == ["distil"] and not kept


@pytest.mark.parametrize("halt", [2, 6, 9])
def test_stopped_anywhere_the_head_stays_one_and_nothing_differs(trained, three_teachers, kept, halt):
    """In the teachers' stage, between the two, and in the student's."""
    setting = run("mt-bert", three_teachers[:2], {"together": 0.5}, evaluate_every=3)
    whole, before = trained(setting), dict(kept)
    on = trained(setting, trained(setting, control=StopAt(halt)).folder)
    assert same(on.weights(), whole.weights()) and same(on.weights("best"), whole.weights("best"))
    assert all(same(kept[role], before[role]) for role in before)
    told = [
        {step.step: (step.raw, step.notes) for step in done.of(StepDone) if step.step > halt} for done in (on, whole)
    ]
    assert told[0] == told[1]


def test_teachers_of_other_depths_teach_tasks_with_scores(trained, shelf):
    teachers = [world.teacher(shelf, f"score-{n}", layers=n, labels=1, seed=50 + n) for n in (2, 3)]
    done = trained(run("mt-bert", teachers, task=world.SIMILARITY, max_steps=3))
    assert done.of(RunFinished) and set(done.of(StepDone)[-1].raw) == {"hard", "soft", "hidden"}
