"""A run that learns several tasks: whose rows come when, who teaches them, and what is kept of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from kdcore.config import FineTune, StudentSpec
from kdcore.engine import step as engine_step
from kdcore.engine.estimate import predict
from kdcore.engine.plan import Plan
from kdcore.engine.preflight import check
from kdcore.engine.schedule import epoch_steps
from kdcore.events import Evaluated, RunFinished, RunStarted, StepDone
from tests.engine.test_resume import told
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import StopAt, run, same

ALSO = (world.PARAPHRASE, world.SIMILARITY)


@pytest.fixture(scope="module")
def base(shelf):
    """A model that is fine-tuned on each task, for half an epoch."""
    spec = world.teacher(shelf, "base", seed=3)
    return spec.model_copy(update={"fine_tune": FineTune(epochs=0.5, lr=1e-3)})


def mkd(base, also=ALSO, **changes):
    return run("mkd", [base], also=also, **changes)


@pytest.fixture
def batches(monkeypatch):
    """Every batch that a student's step sees, in order."""
    seen = []
    real = engine_step._observe

    def noted(job, stage, batch, clock):
        if job.ensemble.teachers:  # not where a teacher is fine-tuned
            seen.append((stage.name, batch.task, batch.ids.tolist(), batch.labels.dtype))
        return real(job, stage, batch, clock)

    monkeypatch.setattr(engine_step, "_observe", noted)
    return seen


def test_a_batch_is_of_one_task_and_an_epoch_is_the_union(trained, base, batches):
    """At power 1 every row of every task comes once an epoch; the last stage has the run's own rows alone."""
    done = trained(mkd(base, options={"joint": 0.5, "power": 1.0}, epochs=2))
    facts = done.of(RunStarted)[0].facts
    assert facts["student_steps"] == 2 * 3 * 6, "two epochs of three tasks of 90 rows in batches of 16"
    joint = [(task, ids, kind) for stage, task, ids, kind in batches if stage == "joint"]
    assert Counter(task for task, _, _ in joint) == dict.fromkeys(("", *ALSO), 6)
    for task in ("", *ALSO):
        rows = [row for name, ids, _ in joint if name == task for row in ids]
        assert len(rows) == len(set(rows)) == 90
    assert {kind for task, _, kind in joint if task == world.SIMILARITY} == {torch.float32}
    assert {task for stage, task, _, _ in batches if stage == "fine-tune"} == {""}
    assert [task for task, _, _ in joint] != sorted(task for task, _, _ in joint)


def test_each_task_has_a_teacher_of_its_own_which_is_kept_and_told(trained, base):
    done = trained(mkd(base))
    also = done.of(RunStarted)[0].facts["also"]
    assert list(also) == list(ALSO) and {task["rows"] for task in also.values()} == {90}
    contents = {done.of(RunStarted)[0].facts["teachers"]["base"]["content"]}
    contents |= {task["teachers"]["base"]["content"] for task in also.values()}
    assert len(contents) == 3
    plan = Plan(done.run)
    assert all((plan.teacher_folder(done.run.teachers[0], key) / "teacher.json").is_file() for key in ("", *ALSO))
    cache = done.of(RunFinished)[0].summary["cache"]
    assert cache["misses"] + cache["hits"] == 3 * 90 and cache["live"] == 0


def test_only_the_runs_task_is_scored_and_kept(trained, base):
    done = trained(mkd(base))
    assert {event.split for event in done.of(Evaluated)} == {"select", "validation"}
    assert not [name for name in done.weights() if "heads" in name]
    assert done.weights()["classifier.weight"].shape[0] == 2
    assert {event.stage for event in done.of(StepDone)} == {"joint", "fine-tune"}


def test_what_another_task_teaches_reaches_the_student(trained, base):
    one, several = trained(mkd(base, ALSO[:1])), trained(mkd(base, ALSO))
    assert not same(one.weights("last"), several.weights("last"))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_stopped_in_the_first_a_middle_and_the_last_step_of_each_stage_nothing_differs(
    trained, base, tmp_path, accumulate
):
    setting = mkd(base, evaluate_every=4, accumulate=accumulate, epochs=1)
    whole = trained(setting)
    stages: dict[str, list[int]] = {}
    for event in whole.of(StepDone):
        stages.setdefault(event.stage, []).append(event.step)
    halts = sorted({step for steps in stages.values() for step in (steps[0], steps[len(steps) // 2], steps[-1])})
    assert len(halts) == 6
    parts = [trained(setting, tmp_path / "halted", control=StopAt(halt)) for halt in halts]
    last = trained(setting, tmp_path / "halted")
    for which in ("last", "best"):
        assert same(last.weights(which), whole.weights(which)), which
    assert [said for part in (*parts, last) for said in told(part)] == told(whole)


def test_kept_outputs_change_nothing(trained, base):
    kept, live = (trained(mkd(base, epochs=1, teacher_cache=cached)) for cached in (True, False))
    assert live.of(RunFinished)[0].summary["cache"]["live"] > 0
    losses = [[event.loss for event in done.of(StepDone)] for done in (kept, live)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


# --- before the start -------------------------------------------------------------------------------------------------


def refused(setting) -> dict[str, str]:
    return {line.field: line.text for line in check(Plan(setting)).blocks}


def test_a_method_of_one_task_refuses_others_by_name(base):
    setting = run("kd", [base]).model_copy(update={"also": ALSO})
    assert refused(setting) == {"also": f"KD cannot learn {', '.join(ALSO)} beside the run's task"}


def test_several_tasks_are_needed_and_must_be_there(base, monkeypatch, tmp_path):
    assert refused(mkd(base, ())) == {"also": "MKD learns several tasks, and no other is named"}
    monkeypatch.setenv("KD_GLUE_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert "no task 'nothing'" in refused(mkd(base, ("nothing",)))["also"]
    assert refused(mkd(base, ("rte",))) == {"also": "RTE is not on this machine"}


def test_a_finished_teacher_is_of_one_task(one_teacher):
    said = refused(mkd(one_teacher[0]))
    assert said == {"teachers.t0": "t0 is a teacher of Pocket sentiment alone, so Pocket paraphrase has none"}


def test_a_task_stands_once():
    for also in ((world.SENTIMENT,), (world.PARAPHRASE, world.PARAPHRASE)):
        with pytest.raises(ValueError, match="also names other tasks"):
            run("mkd").model_validate(run("mkd").model_dump() | {"also": also})


def test_plan_and_price_know_all_tasks(base):
    plan, alone = Plan(mkd(base)), Plan(mkd(base, ALSO[:1]))
    assert plan.epoch_rows == (90, 90, 90) and epoch_steps(plan.config.train, *plan.epoch_rows) == 18
    assert plan.budget == sum(plan.steps) == 36 and alone.budget == 24
    more, less = predict(plan), predict(alone)
    assert more.steps == 36 and more.seconds > less.seconds
    lines = [line.text for line in check(plan).lines if line.field == "also"]
    assert [text.split(":")[0] for text in lines] == ["Pocket paraphrase", "Pocket similarity"]


def test_a_teacher_that_is_still_to_be_made_for_another_task_is_said(base, monkeypatch, tmp_path):
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path))
    told = [line.text for line in check(Plan(mkd(base))).lines if line.field == "teachers.base"]
    titles = ("paraphrase", "similarity", "sentiment")
    assert told == [f"base is trained on Pocket {title} first, once, and then kept" for title in titles]


def test_damage_is_of_the_runs_task_alone(base):
    setting = mkd(base).model_copy(update={"data": run().data.model_copy(update={"label_fraction": 0.2})})
    plan = Plan(setting)
    assert len(plan.rows.train.labelled) == 18
    assert all(np.isfinite(rows.train.labels).all() and len(rows.train.labelled) == 90
               for rows in plan.other_rows.values())  # fmt: skip


def test_the_student_may_be_of_another_size(base):
    narrow = StudentSpec(layers=1, width=8, heads=2, intermediate=16, init="random")
    assert Plan(mkd(base, student=narrow)).method.heads[world.PARAPHRASE].in_features == 8
