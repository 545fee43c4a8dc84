"""Teacher assistants in the engine: who trains when, what is kept of whom, and a resume inside an assistant's stage."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from kdcore.config import StudentSpec
from kdcore.engine import checkpoint, loop, step
from kdcore.engine.job import Job
from kdcore.engine.plan import Plan
from kdcore.engine.preflight import check
from kdcore.errors import UserError
from kdcore.events import Evaluated, RunFinished, RunStarted, StageStarted, StepDone
from tests.helpers import kill_process
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import StopAt, run, same, weights

ONE_LAYER = world.STUDENT.model_copy(update={"layers": 1})
STAGES = ("assistant-1", "assistant-2", "distil")


@pytest.fixture
def deep(shelf):
    return (world.teacher(shelf, "four-layers", layers=4, seed=6),)


@pytest.fixture
def chain(deep):
    """4 layers teach 3, 3 teach 2, 2 teach 1."""
    return lambda **changes: run("takd", deep, {"assistants": 2}, student=ONE_LAYER, **changes)


class Watch:
    """Rows, models and teachers of each step, recorded without changing it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: dict[str, list[tuple[int, ...]]] = {}
        self.states: dict[str, dict[str, dict[str, torch.Tensor]]] = {}
        self.ran: dict[str, set[tuple[str, ...]]] = {}
        self.asked: dict[str, set[tuple[str, ...]]] = {}
        train_step, observe = loop.train_step, step._observe

        def watched_step(job: Job, stage, *rest):
            batch = rest[1]
            self.rows.setdefault(stage.name, []).append(tuple(batch.ids.tolist()))
            if stage.name not in self.states:
                self.states[stage.name] = states(job)
            return train_step(job, stage, *rest)

        def watched_observe(job: Job, stage, batch, clock):
            seen = observe(job, stage, batch, clock)
            self.ran.setdefault(stage.name, set()).add(tuple(seen.students))
            self.asked.setdefault(stage.name, set()).add(tuple(seen.teachers))
            return seen

        monkeypatch.setattr(loop, "train_step", watched_step)
        monkeypatch.setattr(step, "_observe", watched_observe)


def states(job: Job) -> dict[str, dict[str, torch.Tensor]]:
    return {role: copy.deepcopy(model.state_dict()) for role, model in job.students.items()}


def depth(state: dict[str, torch.Tensor]) -> int:
    return sum(name.endswith("attention.self.query.weight") for name in state)


@pytest.fixture
def watch(monkeypatch):
    return Watch(monkeypatch)


def test_one_teaches_the_next(trained, chain, watch):
    done = trained(chain())
    started = [(e.stage, e.index, e.first_step, e.steps, e.pilot) for e in done.of(StageStarted)]
    assert started == [("assistant-1", 0, 0, 12, True), ("assistant-2", 1, 12, 12, True), ("distil", 2, 24, 12, False)]
    assert [event.step for event in done.of(StepDone)] == list(range(1, 37))
    (facts,) = (event.facts for event in done.of(RunStarted))
    assert facts["steps"] == 36 and facts["student_steps"] == 12 and facts["student"]["layers"] == 1
    assert watch.ran == {stage: {(learner,)} for stage, learner in zip(STAGES, (*STAGES[:2], "student"), strict=True)}
    assert watch.asked == {
        "assistant-1": {("four-layers",)}, "assistant-2": {("assistant-1",)}, "distil": {("assistant-2",)},
    }  # fmt: skip
    assert [depth(state) for state in watch.states["distil"].values()] == [1, 3, 2]


def test_an_assistant_keeps_its_last_weights_and_only_learners_change(trained, chain, watch, monkeypatch):
    """The best by `select` is the first evaluation's here, so that best and last differ."""
    ends: dict[str, dict] = {}
    end = loop._end

    def watched_end(job, stage):
        ends[stage.name] = states(job)
        end(job, stage)

    monkeypatch.setattr(loop, "_end", watched_end)
    told = iter([0.9, 0.1] * 3)
    real = loop.scores
    monkeypatch.setattr(loop, "scores", lambda *a: {"accuracy": next(told)} if len(a[2]) == 10 else real(*a))
    done = trained(chain())
    for stage, following in pairwise(STAGES):
        for role, state in ends[stage].items():
            assert same(watch.states[following][role], state), f"{role} at the start of {following}"
    for stage in STAGES:
        changed = {role for role, state in ends[stage].items() if not same(watch.states[stage][role], state)}
        assert changed == {"student" if stage == "distil" else stage}
    # the student is what is kept, of its own stage, whose first evaluation is its best
    (summary,) = (event.summary for event in done.of(RunFinished))
    assert summary["best_step"] == 30
    assert same(done.weights("last"), ends["distil"]["student"])
    assert not same(done.weights("last"), done.weights("best"))


def test_assistants_leave_the_students_data_order_and_initial_weights_as_they_are(trained, deep, chain, watch):
    trained(chain())
    rows, first = watch.rows, watch.states["distil"]["student"]
    assert rows["assistant-1"] == rows["assistant-2"] == rows["distil"] and len(rows["distil"]) == 12
    watch.rows, watch.states = {}, {}
    trained(run("kd", deep, student=ONE_LAYER))
    assert watch.rows["distil"] == rows["distil"] and same(watch.states["distil"]["student"], first)


def test_assistants_are_scored_on_select_alone_and_are_never_the_best_student(trained, chain, tmp_path):
    folder = tmp_path / "halted"
    halted = trained(chain(), folder, StopAt(14))
    assert not (folder / "student-best").exists(), "no assistant is kept as the student"
    done = trained(chain(), folder)
    scored = [e for e in (*halted.of(Evaluated), *done.of(Evaluated)) if e.stage.startswith("assistant")]
    assert [(e.stage, e.step) for e in scored] == [
        ("assistant-1", 6), ("assistant-1", 12), ("assistant-2", 18), ("assistant-2", 24),
    ]  # fmt: skip
    assert {(e.split, e.which) for e in scored} == {("select", "last")}
    assert all(set(e.scores) >= {"accuracy"} for e in scored)
    assert depth(done.weights("best")) == 1


def test_the_scores_of_a_stage_are_those_of_its_assistant(trained, chain, monkeypatch):
    asked = []
    real = loop.predict

    def watched(model, rows, where, what):
        asked.append(model.config.num_hidden_layers)
        return real(model, rows, where, what)

    monkeypatch.setattr(loop, "predict", watched)
    trained(chain(epochs=1))
    assert asked == [3, 2, 1, 1]  # `select` for each, and dev for the student


@pytest.mark.parametrize("halt", [7, 12, 17], ids=["in the first", "between", "in the second, its teacher trained"])
def test_stopped_at_an_assistant_and_resumed_it_ends_the_same(trained, chain, halt):
    whole = trained(chain())
    half = trained(chain(), control=StopAt(halt))
    assert half.of(StepDone)[-1].step == halt
    on = trained(chain(), half.folder)
    assert on.of(RunStarted)[0].facts["resumed_at"] == halt and on.of(RunStarted)[0].facts["exact_resume"]
    told = {event.step: event.raw for event in on.of(StepDone)}
    assert told == {event.step: event.raw for event in whole.of(StepDone) if event.step > halt}
    for which in ("last", "best"):
        assert same(on.weights(which), whole.weights(which)), which


def test_killed_inside_an_assistants_stage_it_ends_the_same(trained, chain, tmp_path):
    setting = chain()
    trained(setting)  # keeps the answers of all that teach, so that the next two runs tell the same events
    whole, folder = trained(setting), tmp_path / "killed"
    moment = next(i for i, e in enumerate(whole.events, 1) if isinstance(e, StepDone) and e.step == 18)
    assert (
        kill_process.in_a_process(kill_process.train_disturbed, setting.model_dump_json(), folder, None, moment) == -9
    )
    found = checkpoint.newest(folder / "checkpoint")
    place = checkpoint.read_state(found)
    assert (place.stage, place.step, place.spent) == (1, 15, 0)
    kept = ("student", "assistant-1", "assistant-2", "method", "unused-words-assistant-2")  # the one that learns
    assert {path.name for path in found.glob("module-*")} == {f"module-{part}.safetensors" for part in kept}
    assert kill_process.in_a_process(kill_process.train_disturbed, setting.model_dump_json(), folder, None, None) == 0
    for which in ("last", "best"):
        assert same(weights(folder / f"student-{which}"), whole.weights(which)), which


def test_assistants_start_where_the_student_starts(trained, deep, watch):
    """Of the teacher's layers, evenly spread, as a student of that depth would."""
    spec = StudentSpec(layers=2, init="teacher", init_layers="skip")
    trained(run("takd", deep, student=spec, max_steps=1))
    source, first = weights(Path(deep[0].where)), watch.states["assistant-1"]["assistant-1"]
    name = "bert.encoder.layer.{}.attention.self.query.weight"
    for ours, theirs in ((0, 0), (1, 2), (2, 3)):  # layers 1, 3, 4 of 4: round(4 m / 3)
        assert torch.equal(first[name.format(ours)], source[name.format(theirs)])


def test_no_room_for_so_many_is_said_before_start(deep):
    def blocked(setting):
        return [(line.field, line.remedy) for line in check(Plan(setting)).blocks]

    two = world.STUDENT
    assert not blocked(run("takd", deep, student=two))
    ((field, remedy),) = blocked(run("takd", deep, {"assistants": 2}, student=two))
    assert field == "options.assistants" and "fewer assistants" in remedy
    assert [field for field, _ in blocked(run("takd", deep, student=two.model_copy(update={"layers": 4})))]


def test_a_source_with_too_few_layers_for_an_assistant_is_said_before_start(shelf, deep):
    """A checkpoint of 2 layers fills a student of 1, but not assistants of 3 and 2."""
    two = world.teacher(shelf, "two-layers", layers=2, seed=7)
    shallow = ONE_LAYER.model_copy(update={"init": "checkpoint", "checkpoint": two.where})

    def blocked(**changes):
        student = shallow.model_copy(update=changes)
        setting = run("takd", deep, {"assistants": 2}, student=student)
        return check(Plan(setting)).blocks

    (line,) = blocked()
    assert line.field == "student.init_layers"
    assert "a model of 3 layers" in line.text and "only 2" in line.text and "skip" in line.remedy
    assert not blocked(init_layers="skip") and not blocked(init="random") and not blocked(init_layers=(2,))
    four = shallow.model_copy(update={"checkpoint": deep[0].where})
    assert not check(Plan(run("takd", deep, {"assistants": 2}, student=four))).blocks


def test_what_is_said_before_start_would_stop_the_run(shelf, deep, trained):
    two = world.teacher(shelf, "two-layers", layers=2, seed=7)
    shallow = ONE_LAYER.model_copy(update={"init": "checkpoint", "checkpoint": two.where})
    with pytest.raises(UserError, match=r"student\.init_layers.*3 layers"):
        trained(run("takd", deep, {"assistants": 2}, student=shallow))
    done = trained(run("takd", deep, {"assistants": 2}, student=shallow.model_copy(update={"init_layers": "skip"})))
    assert done.of(RunFinished)
