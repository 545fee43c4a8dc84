"""The cost of a run before it starts: of the right order, and rising with what costs more."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from kdcore.config import RunConfig, StudentSpec, TeacherSpec
from kdcore.engine import estimate, pace
from kdcore.engine.device import compute_for
from kdcore.engine.estimate import predict
from kdcore.engine.pace import Pace, Rates, timed
from kdcore.engine.plan import Plan
from kdcore.errors import UserError
from kdcore.events import RunFinished, RunStarted, StepDone
from kdcore.methods import METHODS
from kdcore.methods.kd import KD
from kdcore.models.count import flops, parameters
from kdcore.records import ModelSize, Needs, want
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run

RATES = Rates(learn=1e8, answer=1e8, exact=5e7, twice=5e7, bandwidth=1e9)


@pytest.fixture(autouse=True)
def steady(monkeypatch):
    """A machine of fixed speed, so that a busy moment cannot turn an order around."""
    monkeypatch.setattr(estimate, "timed", lambda *a: RATES)


def seconds(*args, **changes) -> float:
    return predict(Plan(run(*args, **changes))).seconds


def test_more_epochs_layers_width_and_pilots_cost_more(three_teachers, monkeypatch):
    monkeypatch.setattr(estimate, "START_UP", 0.0)
    one = seconds("skd", three_teachers)
    assert seconds("skd", three_teachers, epochs=6) > 1.2 * one
    assert seconds("skd", three_teachers, max_steps=500) > one
    assert seconds("skd", three_teachers, evaluate_every=1) > one
    assert seconds("skd", three_teachers, student=world.STUDENT.model_copy(update={"layers": 8})) > one
    assert seconds("skd", three_teachers, student=world.STUDENT.model_copy(update={"width": 64})) > one
    assert seconds("skd", three_teachers, {"sampling": "student-rank"}) > one
    assert seconds("skd", three_teachers[:1]) < one


def test_a_teacher_to_be_trained_costs_its_training(one_teacher):
    pocket = TeacherSpec(name="small", source="pocket", where="small")
    found, made = predict(Plan(run("kd", one_teacher))), predict(Plan(run("kd", [pocket])))
    assert made.teacher_seconds > 5 * found.teacher_seconds > 0
    assert made.seconds - made.teacher_seconds == pytest.approx(found.seconds - found.teacher_seconds, rel=0.01)


def test_a_teacher_that_must_run_at_each_step_costs_more(one_teacher):
    """TinyBERT's scores are not kept: its teacher runs for half of the steps, more for a larger share."""
    kept = predict(Plan(run("kd", one_teacher))).teacher_seconds
    live = predict(Plan(run("tinybert", one_teacher))).teacher_seconds
    more = predict(Plan(run("tinybert", one_teacher, {"intermediate_share": 0.9}))).teacher_seconds
    assert kept < live < more
    assert predict(Plan(run("kd", one_teacher, teacher_cache=False))).teacher_seconds > live


def test_memory_and_disk(one_teacher):
    one = predict(Plan(run("kd", one_teacher)))
    big = predict(Plan(run("kd", one_teacher, student=StudentSpec(layers=12, width=256, heads=4, init="random"))))
    assert one.memory_bytes < big.memory_bytes and one.disk_bytes < big.disk_bytes
    assert predict(Plan(run("kd", one_teacher, batch_size=64))).memory_bytes > one.memory_bytes
    split = predict(Plan(run("kd", one_teacher, batch_size=64, accumulate=4))).memory_bytes
    assert one.memory_bytes <= split < predict(Plan(run("kd", one_teacher, batch_size=64))).memory_bytes
    assert predict(Plan(run("kd", one_teacher, teacher_cache=False))).disk_bytes < one.disk_bytes


# --- a chain of assistants -------------------------------------------------------------------------------------------

ROWS, STEPS = 16, 12  # of a batch; of each learner: 2 epochs of 6
SELECT, DEV = 10, 30


@pytest.fixture
def priced(shelf, monkeypatch):
    """Prices a student of 1 layer under a teacher of 9. Start-up and updates cost nothing: operations alone count."""
    monkeypatch.setattr(estimate, "START_UP", 0.0)
    monkeypatch.setattr(estimate, "timed", lambda *a: replace(RATES, bandwidth=math.inf))
    deep = (world.teacher(shelf, "nine-layers", layers=9, seed=8),)
    student = world.STUDENT.model_copy(update={"layers": 1})
    return lambda method, options=None, **changes: predict(Plan(run(method, deep, options, student=student, **changes)))


def work(shape: ModelSize, rows: float, tokens: int, cls_only: bool = True) -> float:
    return flops(shape, tokens, cls_only=cls_only) * rows / 1e8


def test_an_assistant_is_priced_at_its_own_depth(priced):
    """A teacher of 9 layers, one assistant of 5, a student of 1: by hand, operation by operation."""
    said = priced("takd")
    tokens = int(said.basis.split()[-4])
    teacher, assistant, student = (replace(world.SIZE, layers=n) for n in (9, 5, 1))
    learns = dict.fromkeys((assistant, student), 3 * ROWS * STEPS)
    judged = {assistant: 2 * SELECT, student: 2 * (SELECT + DEV)}  # after each epoch
    total = sum(work(model, rows + judged[model], tokens) for model, rows in learns.items())
    total += work(student, 2 * (SELECT + DEV), tokens)  # best and last at the end
    asked = work(teacher, 90 + SELECT + DEV, tokens, cls_only=False)  # once over all rows, then kept
    asked += work(assistant, 90, tokens, cls_only=False)  # likewise, once it is trained
    assert said.teacher_seconds == pytest.approx(asked, rel=1e-6)
    assert said.seconds == pytest.approx(total + asked, rel=1e-6)
    assert said.steps == 2 * STEPS


def test_each_assistant_more_costs_its_training_and_its_teaching(priced):
    alone = priced("kd")
    chains = [priced("takd", {"assistants": n}) for n in (1, 2, 3)]
    # assistants of 5, of 6 and 4, of 7, 5 and 3 layers: far above as many students of 1
    seconds = [chain.seconds - chain.teacher_seconds for chain in chains]
    own = alone.seconds - alone.teacher_seconds
    assert own * 5 < seconds[0] < seconds[1] < seconds[2]
    assert chains[0].memory_bytes > alone.memory_bytes and chains[0].disk_bytes > alone.disk_bytes
    # the teacher is asked once, and so is each assistant
    tokens = int(alone.basis.split()[-4])
    for chain, depths in zip(chains, ((5,), (6, 4), (7, 5, 3)), strict=True):
        passes = sum(work(replace(world.SIZE, layers=n), 90, tokens, cls_only=False) for n in depths)
        assert chain.teacher_seconds - alone.teacher_seconds == pytest.approx(passes, rel=1e-6)


def test_a_chain_whose_answers_are_not_kept_runs_each_teacher_for_one_learner(priced):
    """9 layers teach 6, 6 teach 4, 4 teach 1; kept, an assistant answers each of 90 rows once."""
    kept, live = (priced("takd", {"assistants": 2}, teacher_cache=cache) for cache in (True, False))
    tokens = int(live.basis.split()[-4])
    passes = {9: ROWS * STEPS, 6: ROWS * STEPS - 90, 4: ROWS * STEPS - 90}
    expected = sum(work(replace(world.SIZE, layers=n), rows, tokens, cls_only=False) for n, rows in passes.items())
    assert live.teacher_seconds - kept.teacher_seconds == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [0, 2])
def test_teachers_that_the_method_does_not_take_are_a_user_error(three_teachers, count):
    with pytest.raises(UserError, match="takes 1"):
        predict(Plan(run("takd", three_teachers[:count])))


@pytest.mark.parametrize(
    ("method", "options", "count"), [("kd", {}, 1), ("skd", {"sampling": "student-rank"}, 2), ("fine-tune", {}, 0)]
)
def test_steps_are_those_that_are_done(trained, three_teachers, method, options, count):
    setting = run(method, three_teachers[:count], options, epochs=1.5)
    done = trained(setting)
    assert predict(Plan(setting)).steps == len(done.of(StepDone)) == done.of(RunStarted)[0].facts["steps"]


def test_of_the_right_order_on_this_machine(trained, one_teacher, monkeypatch):
    """Within a factor of fifty either way: a machine may be busy, but a minute is no day."""
    monkeypatch.undo()
    from kdcore.data import pocket

    monkeypatch.setattr(pocket, "load", world.data)
    setting = run("kd", one_teacher, epochs=8, batch_size=32)
    taken = trained(setting).of(RunFinished)[0].summary["seconds"]
    said = predict(Plan(setting))
    assert said.seconds / 50 < max(taken, 1.0) and said.seconds > taken / 50
    assert 100 * 2**20 < said.memory_bytes < 4 * 2**30 and 0 < said.disk_bytes < 2**30
    assert said.basis


def test_bad_settings_are_user_errors(one_teacher):
    for setting in (
        run("kd", one_teacher).model_copy(update={"task": "nope"}),
        run("nope", one_teacher),
        run("kd", [TeacherSpec(name="lost", source="folder", where="/nowhere")]),
    ):
        assert isinstance(setting, RunConfig)
        with pytest.raises(UserError):
            predict(Plan(setting))


def test_words_that_no_row_holds_cost_no_update():
    """A step without them: ten float32 numbers fewer for each weight of their vectors, at 1e9 bytes a second."""
    shape = ModelSize(layers=1, width=16, heads=2, intermediate=32, vocabulary=1000, positions=64)
    all_words, some = (Pace(8, words, RATES).step(shape, 4) for words in (1000, 400))
    assert all_words - some == pytest.approx(600 * 16 * 40 / 1e9)
    assert Pace(8, 5000, RATES).step(shape, 4) == all_words


def test_memory_counts_teachers_that_run_beside_the_student(three_teachers):
    kept, live = (
        predict(Plan(run("kd", three_teachers[:1], teacher_cache=cached))).memory_bytes for cached in (True, False)
    )
    assert live - kept == 4 * parameters(replace(world.SIZE, labels=2)).total


def test_what_is_read_of_the_last_layer_is_priced(priced):
    """KD reads logits alone, DistilBERT's loss the states of the last layer too, which is the only one here."""
    lean, whole = priced("kd"), priced("distilbert")
    tokens, student = int(lean.basis.split()[-4]), replace(world.SIZE, layers=1)
    gap = work(student, 3 * ROWS * STEPS, tokens, cls_only=False) - work(student, 3 * ROWS * STEPS, tokens)
    assert whole.seconds - lean.seconds == pytest.approx(gap, rel=1e-6) and gap > 0
    assert whole.memory_bytes > lean.memory_bytes


@pytest.mark.parametrize("again", [False, True])
def test_the_rates_are_timed_on_a_layer_that_is_really_run(monkeypatch, again):
    """A clock that ticks a second a look gives each pass one: three forwards are learned in it, one is answered, six
    are differentiated twice."""
    monkeypatch.undo()
    ticks = iter(range(10**6))
    monkeypatch.setattr(pace, "clock", lambda: float(next(ticks)))
    where = compute_for(run("fine-tune").train)
    state = torch.get_rng_state()
    monkeypatch.setattr(pace, "_bandwidth", lambda: 7.0)
    rates = timed.__wrapped__(16, 2, 32, 4, 10, where, again)
    forward = flops(ModelSize(1, 16, 2, 32, vocabulary=100, positions=10, labels=1), 10, 4)
    exact, twice = (2, 6) if again else (3, 3)
    assert rates == Rates(3 * forward, forward, exact * forward, twice * forward, 7.0)
    assert torch.equal(torch.get_rng_state(), state)


# --- several learners, and passes that are run again ------------------------------------------------------------------


class Peers(KD):
    """Four students that learn at once."""

    rerun: ClassVar[tuple[str, ...]] = ()
    passes = gradients = 1
    order = 2
    roles = ("student", "second", "third", "fourth")

    def build_students(self, build):
        return {role: build(draw=number) for number, role in enumerate(self.roles)}

    def stages(self):
        needs = Needs(
            student=want("logits"),
            teacher=want("logits"),
            rerun=self.rerun,
            passes=self.passes,
            gradients=self.gradients,
            order=self.order,
        )
        return [replace(stage, needs=needs, lr=dict.fromkeys(self.roles, 1.0)) for stage in super().stages()]


def test_all_who_learn_at_once_take_memory(one_teacher, monkeypatch):
    """Each needs 16 bytes a parameter and its pass; a checkpoint holds weights and two moments of each, twice."""
    setting = run("kd", one_teacher, precision="fp32")
    alone = predict(Plan(setting))
    monkeypatch.setitem(METHODS, "kd", Peers)
    four = predict(Plan(setting))
    count = parameters(replace(world.SIZE, labels=2)).total
    passes = estimate._activations(world.SIZE, 16, longest(setting), cls_only=True)
    assert four.memory_bytes - alone.memory_bytes == 3 * (16 * count + passes)
    assert four.disk_bytes - alone.disk_bytes == 3 * 2 * 12 * count


def longest(setting: RunConfig) -> int:
    return estimate.pace_of(Plan(setting))[1]


def test_assistants_learn_one_after_the_other(priced):
    """Only the deepest has gradient and moments at a time; the weights of all are there."""
    one, two = (priced("takd", {"assistants": count}) for count in (1, 2))
    five, six, four = (parameters(replace(world.SIZE, layers=n)).total for n in (5, 6, 4))
    more = 4 * (six + four - five) + 12 * (six - five)
    tokens = longest(run("fine-tune"))
    passes = [estimate._activations(replace(world.SIZE, layers=n), ROWS, tokens, cls_only=True) for n in (6, 5)]
    assert two.memory_bytes - one.memory_bytes == more + passes[0] - passes[1]


@pytest.mark.parametrize(("passes", "gradients"), [(1, 1), (1, 3), (4, 1)])
def test_passes_that_are_run_again_are_priced(priced, monkeypatch, passes, gradients):
    """Each forward and each gradient is a forward's worth; a student's are differentiated, which is twice as much."""
    monkeypatch.setattr(Peers, "roles", ("student",))
    monkeypatch.setattr(Peers, "passes", passes)
    monkeypatch.setattr(Peers, "gradients", gradients)
    monkeypatch.setitem(METHODS, "kd", Peers)
    plain = priced("kd")
    tokens, student, teacher = int(plain.basis.split()[-4]), *(replace(world.SIZE, layers=n) for n in (1, 9))
    for rerun, size, worth in (("student", student, 3), ("teacher", teacher, 1)):
        monkeypatch.setattr(Peers, "rerun", (rerun,))
        again = priced("kd")
        forwards = passes * worth * (1 + gradients)
        more = 2 * work(size, forwards * ROWS * STEPS, tokens)  # at half the rate
        assert again.seconds - plain.seconds == pytest.approx(more, rel=1e-6)
        assert again.memory_bytes > plain.memory_bytes


@pytest.mark.parametrize(
    ("key", "options", "passes"), [("gkd", {}, 1), ("ad-kd", {}, 1), ("ad-kd", {"path_steps": 3}, 3)]
)
def test_gradients_of_student_and_teacher_are_priced_beside_kd(priced, key, options, passes):
    """Two forwards' worth of the teacher, six of the student, at half the rate."""
    plain = priced("kd")
    tokens, student, teacher = int(plain.basis.split()[-4]), *(replace(world.SIZE, layers=n) for n in (1, 9))
    more = work(student, 6, tokens) + work(teacher, 2, tokens)
    more *= 2 * passes * ROWS * STEPS
    assert priced(key, options).seconds - plain.seconds == pytest.approx(more, rel=1e-6)


def test_of_passes_that_search_the_last_alone_is_learned_from(priced, monkeypatch):
    """Two searches of a forward and a gradient, and a forward, the student's with its way back; one graph is kept."""
    plain = priced("kd")
    tokens, student, teacher = int(plain.basis.split()[-4]), *(replace(world.SIZE, layers=n) for n in (1, 9))
    again = priced("backward-kd", {"ascent_steps": 2})
    more = work(student, 7, tokens) + work(teacher, 5, tokens)
    assert again.seconds - plain.seconds == pytest.approx(2 * more * ROWS * STEPS, rel=1e-6)
    monkeypatch.setattr(Peers, "roles", ("student",))
    monkeypatch.setattr(Peers, "rerun", ("student",))
    monkeypatch.setattr(Peers, "passes", 5)
    monkeypatch.setitem(METHODS, "kd", Peers)
    twice = priced("kd").memory_bytes
    monkeypatch.setattr(Peers, "order", 1)
    graph = estimate._activations(replace(world.SIZE, layers=1), ROWS, longest(run("fine-tune")), cls_only=True)
    assert twice - priced("kd").memory_bytes == (5 * 2 - 1) * graph + round(estimate.PASSING * graph)


def test_graphs_of_all_passes_and_gradients_of_a_student_take_memory(priced):
    """Of each pass the forward's and as much for its gradient."""
    one, path = (priced("ad-kd", {"path_steps": steps}).memory_bytes for steps in (1, 5))
    tokens = longest(run("fine-tune"))
    graph = estimate._activations(replace(world.SIZE, layers=1), ROWS, tokens, cls_only=True)
    assert path - one == 4 * 2 * graph


def test_what_a_method_probes_is_priced(three_teachers, monkeypatch):
    """Each probe is a pass over `select`; rewards that are read off the training batches cost none."""
    monkeypatch.setattr(estimate, "START_UP", 0.0)
    told = [predict(Plan(run("rl-kd", three_teachers[:2], {"reward": by, "episodes": 5}))) for by in ("hard", "select")]
    tokens = int(told[0].basis.split()[-4])
    assert told[1].seconds - told[0].seconds == pytest.approx(work(world.SIZE, 5 * SELECT, tokens), rel=1e-6)
