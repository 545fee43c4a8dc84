"""The loop as a whole: what a run says, in which order, and that one choice changes nothing but itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from kdcore.config import ProbeConfig, RunConfig, StudentSpec
from kdcore.engine import batches, dropout, loop, results, step
from kdcore.engine.device import Compute
from kdcore.engine.job import Job
from kdcore.engine.schedule import stage_steps
from kdcore.engine.trainer import train
from kdcore.events import (
    Checkpointed,
    Evaluated,
    Probed,
    Progress,
    RunFinished,
    RunStarted,
    RunStopped,
    StageStarted,
    StepDone,
)
from kdcore.models.students import load_classifier
from kdcore.records import Needs, Stage
from kdcore.store import open_store
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import QUIET, SENTIMENT, SIMILARITY, StopAt, run, same, weights

TIMES = ("seconds", "examples_per_second")
STUDENT_RANK = {"sampling": "student-rank"}


def timeless(events: list) -> list:
    """Steps and scores without what a clock said."""
    steps = [dataclasses.replace(event, **dict.fromkeys(TIMES, 0.0)) for event in world.of(StepDone, events)]
    return steps + world.of(Evaluated, events) + world.of(StageStarted, events) + world.of(Checkpointed, events)


MASKS = 1 + 2 * 3 + 1
"""Dropout's masks in a step of the 2-layer student: embeddings; attention and two states a layer; the classifier's."""


class Watch:
    """What each training step was given, recorded without changing it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[tuple[str, tuple[int, ...]]] = []
        self.masks: list[tuple[tuple[int, ...], bytes]] = []
        self.drawn: list[tuple[str, ...]] = []
        self.first: dict[str, dict[str, torch.Tensor]] = {}
        observe, train_step = step._observe, loop.train_step

        def watched_step(job: Job, stage: Stage, optimizer, batch, clock, dropout, share_due=False):
            self.rows.append((stage.name, tuple(batch.ids.tolist())))
            if stage.name not in self.first:
                self.first[stage.name] = {name: t.clone() for name, t in job.main.state_dict().items()}
            return train_step(job, stage, optimizer, batch, clock, dropout, share_due)

        def watched_observe(job: Job, stage: Stage, batch, clock):
            seen = observe(job, stage, batch, clock)
            self.drawn.append(tuple(seen.rows))
            return seen

        drop = dropout.drop

        def watched_drop(x, p, generator):
            before = generator.get_state()
            mask = drop(torch.ones_like(x), p, generator) != 0
            generator.set_state(before)
            self.masks.append((tuple(x.shape), mask.numpy().tobytes()))
            return drop(x, p, generator)

        monkeypatch.setattr(loop, "train_step", watched_step)
        monkeypatch.setattr(step, "_observe", watched_observe)
        monkeypatch.setattr(dropout, "drop", watched_drop)

    def of(self, stage: str) -> list[tuple[int, ...]]:
        return [rows for name, rows in self.rows if name == stage]


@pytest.fixture
def watch(monkeypatch):
    return Watch(monkeypatch)


def test_a_whole_run_tells_its_story_in_order(trained, one_teacher):
    done = trained(run("kd", one_teacher, probes=ProbeConfig(gradient_share_every=4)))
    kinds = [type(event).__name__ for event in done.events if not isinstance(event, Progress)]
    assert kinds[0] == "RunStarted" and kinds[-1] == "RunFinished"
    assert kinds[1:4] == ["Evaluated", "Evaluated", "StageStarted"]  # the teacher on `select` and dev
    assert kinds.count("StepDone") == 12 and kinds.count("RunFinished") == kinds.count("RunStarted") == 1
    last_step = len(kinds) - 1 - kinds[::-1].index("StepDone")
    assert kinds.index("StageStarted") < kinds.index("StepDone") < kinds.index("Checkpointed") < last_step
    assert {event.name for event in done.of(Probed)} == {"fidelity", "snapshots", "distances", "latency"}
    assert [event.step for event in done.of(StepDone)] == list(range(1, 13))
    shared = [event.step for event in done.of(StepDone) if event.gradient_share]
    assert shared == [4, 8, 12]
    for event in done.of(StepDone):
        assert set(event.raw) == set(event.weighted) == {"hard", "soft"} and np.isfinite(list(event.raw.values())).all()
        assert event.loss == pytest.approx(sum(event.weighted.values()))
        assert event.stage == "distil" and event.steps == 12 and event.gradient_norm > 0
        if event.gradient_share:
            assert sum(event.gradient_share.values()) == pytest.approx(1)

    (facts,) = (event.facts for event in done.of(RunStarted))
    assert facts["steps"] == facts["student_steps"] == 12 and facts["rows"] == 90 and facts["select_rows"] == 10
    assert facts["exact_resume"] is True and facts["synthetic"] is True
    assert set(facts["teachers"]["t0"]["scores"]) == {"select", "validation"}
    (finished,) = (event.summary for event in done.of(RunFinished))
    assert set(finished["scores"]) == {"last", "best"}
    assert finished["seconds"] >= finished["seconds_by_part"]["training"] > 0


def test_what_a_finished_run_leaves_behind(trained, one_teacher):
    done = trained(run("kd", one_teacher, probes=ProbeConfig()))
    kept = {path.name for path in done.folder.iterdir()}
    assert kept == {
        "config.json",
        "content.json",
        "teachers.json",
        "student-best",
        "student-last",
        "predictions",
        "probes",
    }
    assert RunConfig.model_validate_json((done.folder / "config.json").read_text()) == done.run
    predictions = results.predictions(done.folder)
    assert set(predictions) == {(split, name) for split in ("select", "validation") for name in ("student", "t0")}
    model, tokenizer = results.student(done.folder)
    assert len(tokenizer) == len(world.VOCABULARY) and not model.training
    assert set(results.teachers(done.folder)) == {"t0"}
    # the scores that are told are those of the weights that are kept
    (summary,) = (event.summary for event in done.of(RunFinished))
    for split in ("select", "validation"):
        said = predictions[split, "student"]
        accuracy = float((said["logits"].argmax(1) == said["labels"]).mean())
        assert accuracy == pytest.approx(summary["scores"]["best"][split]["accuracy"])


def test_a_student_learns_the_task(trained):
    done = trained(run("fine-tune", epochs=8, dropout=0.0, student=world.STUDENT.model_copy(update={"layers": 1})))
    (summary,) = (event.summary for event in done.of(RunFinished))
    assert summary["scores"]["best"]["validation"]["accuracy"] > 0.8
    losses = [event.loss for event in done.of(StepDone)]
    assert np.mean(losses[-6:]) < np.mean(losses[:6]) / 2


def test_best_and_last_are_told_apart(trained, monkeypatch):
    """The best by `select` is kept where it was reached, and both are scored with the weights they name."""
    told = iter([0.5, 0.9, 0.9, 0.3])
    real = loop.scores

    def scripted(task, logits, labels):
        return {"accuracy": next(told)} if len(labels) == 10 else real(task, logits, labels)

    monkeypatch.setattr(loop, "scores", scripted)
    done = trained(run("fine-tune", epochs=4))
    (summary,) = (event.summary for event in done.of(RunFinished))
    assert summary["best_step"] == 12  # the first of two equals
    assert not same(done.weights("best"), done.weights("last"))
    monkeypatch.undo()
    ends = {event.which for event in done.of(Evaluated) if event.stage == "end"}
    assert ends == {"last", "best"}


def test_where_best_is_last_they_are_the_same(trained, monkeypatch):
    told = iter([0.1, 0.2])
    real = loop.scores
    monkeypatch.setattr(loop, "scores", lambda *a: {"accuracy": next(told)} if len(a[2]) == 10 else real(*a))
    done = trained(run("fine-tune"))
    assert same(done.weights("best"), done.weights("last"))
    (summary,) = (event.summary for event in done.of(RunFinished))
    assert summary["best_step"] == 12 and summary["scores"]["best"] == summary["scores"]["last"]


@pytest.mark.parametrize("task", [world.PARAPHRASE, SIMILARITY])
def test_pairs_and_scores_train_too(trained, shelf, task):
    labels = 1 if task == SIMILARITY else 2
    teacher = world.teacher(shelf, f"for-{task}", labels=labels, seed=3)
    done = trained(run("kd", [teacher], task=task, epochs=1, probes=ProbeConfig(latency=False)))
    (summary,) = (event.summary for event in done.of(RunFinished))
    assert summary["main_metric"] in summary["scores"]["best"]["validation"]


def test_same_settings_say_the_same_events(trained, three_teachers):
    setting = run("skd", three_teachers, epochs=1)
    one, two = trained(setting), trained(setting)
    assert timeless(one.events) == timeless(two.events) and len(timeless(one.events)) > 6
    assert same(one.weights(), two.weights())
    other = trained(run("skd", three_teachers, epochs=1, seed=1))
    assert not same(one.weights(), other.weights())


def test_neither_method_nor_its_settings_change_data_order_initial_weights_or_dropout(
    trained, three_teachers, monkeypatch
):
    seen = []
    for method, options in (
        ("fine-tune", {}),
        ("kd", {"temperature": 2.0}),
        ("kd", {"temperature": 20.0, "alpha": 1.0}),
        ("distilbert", {}),
        ("pkd", {}),
        ("skd", {"sampling": "uniform"}),
        ("skd", {"sampling": "teacher-rank"}),
    ):
        with monkeypatch.context() as patch:
            watch = Watch(patch)
            taken = three_teachers if method in ("skd", "kd") else three_teachers[:1]
            trained(run(method, taken, options, max_steps=3))
            seen.append(watch)
    first, states = seen[0], seen[3]
    assert len(first.rows) == 3 and len(first.masks) == 3 * MASKS
    for other in seen[1:]:
        assert other.rows == first.rows
        assert same(other.first["distil"], first.first["distil"])
        assert other.masks == first.masks or other is states
    # DistilBERT's loss reads all tokens of the last layer, the others [CLS] alone: up to that layer masks are the same
    assert len(states.masks) == len(first.masks) and states.masks != first.masks
    for mask in range(3 * MASKS):
        if mask % MASKS < 1 + 3:
            assert states.masks[mask] == first.masks[mask]


def test_teachers_drawn_differ_by_seed_and_step_and_change_nothing_else(trained, three_teachers, monkeypatch):
    drawn = {}
    for seed in (0, 1):
        with monkeypatch.context() as patch:
            watch = Watch(patch)
            trained(run("skd", three_teachers, seed=seed))
            drawn[seed] = watch.drawn
    assert drawn[0] != drawn[1] and len(set(drawn[0])) > 1
    assert all(len(names) == 1 for names in drawn[0])


def test_another_seed_changes_order_weights_and_masks(trained, monkeypatch):
    seen = []
    for seed in (0, 1):
        with monkeypatch.context() as patch:
            seen.append(Watch(patch))
            trained(run("fine-tune", seed=seed, max_steps=2))
    assert seen[0].rows != seen[1].rows
    assert not same(seen[0].first["distil"], seen[1].first["distil"])
    assert seen[0].masks != seen[1].masks


def test_an_epoch_shows_every_row_once(trained, watch):
    trained(run("fine-tune", epochs=2))
    for epoch in (watch.rows[:6], watch.rows[6:]):
        assert len({row for _, rows in epoch for row in rows}) == sum(len(rows) for _, rows in epoch) == 90


def test_rows_kept_aside_are_never_trained_on(trained, watch):
    done = trained(run("fine-tune", epochs=1))
    told = results.predictions(done.folder)
    shown = {row for _, rows in watch.rows for row in rows}
    assert not shown & set(told["select", "student"]["ids"].tolist())
    assert not shown & set(told["validation", "student"]["ids"].tolist())


def test_pilots_come_first_count_and_leave_the_real_training_as_it_is(trained, three_teachers, monkeypatch):
    two = three_teachers[:2]
    seen = {}
    for sampling in ("student-rank", "uniform"):
        with monkeypatch.context() as patch:
            seen[sampling] = (Watch(patch), trained(run("skd", two, {"sampling": sampling}, epochs=1)))
    ranked, done = seen["student-rank"]
    plain, _ = seen["uniform"]
    started = done.of(StageStarted)
    assert [(e.stage, e.index, e.first_step, e.steps, e.pilot) for e in started] == [
        ("pilot-t0", 0, 0, 6, True),
        ("pilot-t1", 1, 6, 6, True),
        ("distil", 2, 12, 6, False),
    ]
    assert [event.step for event in done.of(StepDone)] == list(range(1, 19))
    assert {event.steps for event in done.of(StepDone)} == {18}
    (facts,) = (event.facts for event in done.of(RunStarted))
    assert facts["steps"] == 18 and facts["student_steps"] == 6
    # every stage starts from the run's fresh weights and sees the rows in the order of a run without pilots
    assert ranked.of("distil") == plain.of("distil") == ranked.of("pilot-t0") == ranked.of("pilot-t1")
    for stage in ("pilot-t0", "pilot-t1", "distil"):
        assert same(ranked.first[stage], plain.first["distil"]), stage
    assert set(ranked.drawn[:6]) == {("t0",)} and set(ranked.drawn[6:12]) == {("t1",)}
    # pilots decide on `select` and never look at dev; their scores are noted
    assert {event.split for event in done.of(Evaluated) if event.stage.startswith("pilot")} == {"select"}
    assert {"pilot/t0", "pilot/t1"} <= set(done.of(StepDone)[-1].notes)
    best = {e.stage: e.scores["accuracy"] for e in done.of(Evaluated) if e.split == "select" and e.which == "last"}
    assert done.of(StepDone)[-1].notes["pilot/t0"] == best["pilot-t0"]


def test_early_stop_counts_evaluations_without_a_better_score(trained, monkeypatch):
    told = iter([0.5, 0.6, 0.6, 0.4, 0.9, 0.9])
    real = loop.scores
    monkeypatch.setattr(loop, "scores", lambda *a: {"accuracy": next(told)} if len(a[2]) == 10 else real(*a))
    done = trained(run("fine-tune", epochs=6, early_stop=2))
    assert len(done.of(StepDone)) == 4 * 6
    (summary,) = (event.summary for event in done.of(RunFinished))
    assert summary["best_step"] == 12


def test_early_stop_spares_pilots(trained, three_teachers, monkeypatch):
    monkeypatch.setattr(loop, "scores", lambda task, logits, labels: {"accuracy": 0.5})
    done = trained(run("skd", three_teachers[:2], STUDENT_RANK, epochs=3, early_stop=1))
    steps = [event.stage for event in done.of(StepDone)]
    assert (steps.count("pilot-t0"), steps.count("pilot-t1"), steps.count("distil")) == (18, 18, 12)


@pytest.mark.parametrize(("every", "expected"), [(4, [4, 8, 12]), (5, [5, 10, 12]), ("epoch", [6, 12])])
def test_evaluations_come_when_asked_and_at_the_end(trained, every, expected):
    done = trained(run("fine-tune", evaluate_every=every))
    at = [event.step for event in done.of(Evaluated) if event.stage == "distil" and event.split == "select"]
    assert at == expected
    assert at == [event.step for event in done.of(Evaluated) if event.stage == "distil" and event.split != "select"]


def test_points_are_logged_when_asked(trained):
    done = trained(run("fine-tune", log_every=5))
    assert [event.step for event in done.of(StepDone)] == [1, 5, 10, 12]


def test_no_value_is_read_between_logged_points(trained, one_teacher, monkeypatch):
    """Reading a number waits for the device, so steps that are not logged read none."""
    read, logged = [0], []
    for name in ("item", "__float__", "tolist", "__int__"):
        real = getattr(torch.Tensor, name)

        def watched(tensor, real=real):
            read[0] += tensor.is_floating_point()
            return real(tensor)

        monkeypatch.setattr(torch.Tensor, name, watched)
    train_step = loop.train_step

    def counted(*args):
        before = read[0]
        outcome = train_step(*args)
        logged.append(read[0] - before)
        return outcome

    monkeypatch.setattr(loop, "train_step", counted)
    done = trained(run("pkd", one_teacher, log_every=4, evaluate_every=100, checkpoint_every=100))
    assert logged == [0] * 12 and len(done.of(StepDone)) == 4
    assert read[0] >= 4, "the watch does not see what is read"


def test_checkpoints_come_when_asked(trained):
    assert [event.step for event in trained(run("fine-tune")).of(Checkpointed)] == [5, 10, 12]


@pytest.mark.parametrize(("steps", "epochs"), [(4, 1), (15, 1)])
def test_max_steps_takes_the_place_of_epochs(trained, steps, epochs):
    done = trained(run("fine-tune", epochs=epochs, max_steps=steps))
    assert [event.step for event in done.of(StepDone)] == list(range(1, steps + 1))
    assert done.of(StepDone)[-1].epoch == pytest.approx(steps / 6)
    assert done.of(StepDone)[-1].lr < done.of(StepDone)[2].lr


def test_the_rate_rises_then_falls(trained):
    rates = [event.lr for event in trained(run("fine-tune", max_steps=10, warmup=0.3, lr=0.01)).of(StepDone)]
    assert rates[:3] == pytest.approx([0.01 / 3, 0.02 / 3, 0.01])
    assert rates[3:] == pytest.approx([0.01 * k / 7 for k in range(7, 0, -1)])


def test_a_stop_keeps_the_student_and_a_later_run_goes_on_to_the_same_end(trained, one_teacher, tmp_path):
    setting = run("kd", one_teacher)
    whole = trained(setting)
    stopped = trained(setting, tmp_path / "stopped", StopAt(7))
    end = stopped.events[-1]
    assert isinstance(end, RunStopped) and end.kept and end.step == 7
    assert set(end.summary["scores"]["last"]) == {"select", "validation"}
    assert [event.step for event in stopped.of(StepDone)] == list(range(1, 8))
    load_classifier(stopped.folder / "student-last")
    on = trained(setting, stopped.folder)
    assert on.of(RunStarted)[0].facts["resumed_at"] == 7 and on.of(RunStarted)[0].facts["exact_resume"]
    assert [event.step for event in on.of(StepDone)] == list(range(8, 13))
    assert isinstance(on.events[-1], RunFinished)
    assert same(on.weights("last"), whole.weights("last")) and same(on.weights("best"), whole.weights("best"))
    assert timeless(stopped.events + on.events)[:12] == timeless(whole.events)[:12]


def test_a_discard_leaves_nothing_to_go_on_from(trained, one_teacher):
    done = trained(run("kd", one_teacher), control=StopAt(8, "discard"))
    end = done.events[-1]
    assert isinstance(end, RunStopped) and not end.kept and end.step == 8
    assert {path.name for path in done.folder.iterdir()} == {"config.json", "content.json", "teachers.json"}


def test_a_run_that_is_left_has_a_checkpoint_of_that_step_and_no_ending(one_teacher, trained):
    setting = run("kd", one_teacher, checkpoint_every=1000)
    whole, left = trained(setting), trained(setting, control=StopAt(7, "leave"))
    assert isinstance(left.events[-1], Checkpointed) and left.events[-1].step == 7
    assert not (left.folder / "student-last").exists()
    on = trained(setting, left.folder)
    assert on.of(RunStarted)[0].facts["resumed_at"] == 7 and same(on.weights(), whole.weights())


def test_closing_the_generator_aborts_and_a_new_one_goes_on(one_teacher, tmp_path, trained):
    setting, folder = run("kd", one_teacher), tmp_path / "closed"
    whole = trained(setting)
    events = train(setting, folder)
    for event in events:
        if isinstance(event, StepDone) and event.step == 8:
            break
    events.close()
    assert same(trained(setting, folder).weights(), whole.weights())


@pytest.mark.parametrize("bucket", [True, False])
def test_accumulation_changes_the_arithmetic_only_in_its_last_digits(trained, one_teacher, bucket):
    ends = []
    for parts in (1, 4):
        done = trained(run("pkd", one_teacher, accumulate=parts, bucket=bucket, dropout=0.0, epochs=1, lr=1e-3))
        ends.append((done.weights(), [event.loss for event in done.of(StepDone)]))
    (one, losses), (four, again) = ends
    np.testing.assert_allclose(losses, again, rtol=1e-4)
    for name in one:
        torch.testing.assert_close(one[name], four[name], rtol=1e-3, atol=1e-4)


def watch_sizes(patch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each batch, padding included."""
    sizes: list[int] = []
    collate = batches.collate

    def watched(*rows):
        batch = collate(*rows)
        sizes.append(batch.encoding.input_ids.numel())
        return batch

    patch.setattr(batches, "collate", watched)
    return sizes


def test_padding_is_what_is_fast_on_the_device():
    assert Compute(torch.device("cpu"), "bf16").pad_to == 2
    assert Compute(torch.device("cuda"), "bf16").pad_to == 8


def test_bucketing_is_a_choice_and_pads_less(trained, monkeypatch):
    widths = {}
    for bucket in (True, False):
        with monkeypatch.context() as patch:
            sizes = watch_sizes(patch)
            trained(run("fine-tune", bucket=bucket, epochs=1))
            widths[bucket] = sum(sizes)
    assert widths[True] < widths[False]


def test_dev_labels_change_no_weight_and_no_decision(trained, one_teacher, monkeypatch):
    from kdcore.data import pocket

    setting = run("skd", one_teacher, epochs=3, early_stop=2, evaluate_every=2)
    before = trained(setting)

    def permuted(task):
        data = world.data(task)
        dev = data.splits["validation"]
        turned = dataclasses.replace(dev, labels=1 - dev.labels)
        return dataclasses.replace(data, splits={**data.splits, "validation": turned})

    monkeypatch.setattr(pocket, "load", permuted)
    after = trained(setting)
    assert same(before.weights("last"), after.weights("last")) and same(before.weights("best"), after.weights("best"))
    dev = [
        [event.scores["accuracy"] for event in done.of(Evaluated) if event.split == "validation"]
        for done in (before, after)
    ]
    assert dev[0] == pytest.approx([1 - score for score in dev[1]]) and dev[0] != dev[1]


def test_select_labels_do_decide(trained, monkeypatch):
    """The counterpart: were `select` unused, the test above would say nothing."""
    told = iter([0.9, 0.1, 0.2, 0.3, 0.4, 0.5])
    real = loop.scores
    monkeypatch.setattr(loop, "scores", lambda *a: {"accuracy": next(told)} if len(a[2]) == 10 else real(*a))
    done = trained(run("fine-tune", evaluate_every=2))
    (summary,) = (event.summary for event in done.of(RunFinished))
    assert summary["best_step"] == 2


def test_shares_of_stages_add_up_whatever_the_budget():
    def stage(name: str, share: float, pilot: bool = False) -> Stage:
        return Stage(name, Needs(), lambda step: {}, share=share, pilot=pilot)

    thirds = [stage(str(i), 1 / 3) for i in range(3)]
    for budget in range(3, 50):
        assert sum(stage_steps(thirds, budget)) == budget
        mixed = stage_steps([stage("p", 1.0, pilot=True), stage("a", 0.3), stage("b", 0.7)], budget)
        assert mixed[0] == budget and sum(mixed[1:]) == budget


def test_events_of_a_real_run_are_taken_by_the_store(trained, one_teacher):
    store = open_store()
    setting = run("kd", one_teacher, epochs=1, probes=ProbeConfig(latency=False))
    run_id = store.add_run(setting)
    done = trained(setting)
    store.record(run_id, done.events)
    assert store.get(run_id).state == "done"
    assert len(store.metrics([run_id]).query("kind == 'loss'")) == 6


def test_a_method_may_be_run_without_probes_or_teachers(trained):
    done = trained(run("fine-tune", epochs=1, probes=QUIET))
    assert not done.of(Probed) and results.teacher_folders(done.folder) == {}


def test_the_students_threads_are_its_own_affair(trained):
    """A run that asks for threads does not decide how many the next run has."""
    before = torch.get_num_threads()
    done = trained(run("fine-tune", max_steps=1, threads=2))
    assert done.of(RunStarted)[0].facts["threads"] == 2
    assert torch.get_num_threads() == before


def test_own_words_of_the_run_folder(trained, one_teacher):
    """Running twice into one folder after the end trains anew and ends the same."""
    setting = run("kd", one_teacher, epochs=1)
    one = trained(setting)
    first = one.weights()
    again = trained(setting, one.folder)
    assert again.of(RunStarted)[0].facts["resumed_at"] == 0 and same(first, again.weights())


def test_first_layers_of_the_teacher_fill_the_student(trained, shelf, watch):
    teacher = world.teacher(shelf, "deep", layers=3, seed=4)
    student = StudentSpec(layers=2, init="teacher", init_layers="first")
    trained(run("kd", [teacher], student=student, max_steps=1))
    source, first = weights(Path(teacher.where)), watch.first["distil"]
    name = "bert.encoder.layer.1.attention.self.query.weight"
    assert torch.equal(first[name], source[name]) and torch.equal(
        first["classifier.weight"], source["classifier.weight"]
    )


def test_task_words(trained):
    done = trained(run("fine-tune", task=SENTIMENT, max_train_rows=40, max_steps=2))
    facts = done.of(RunStarted)[0].facts
    assert facts["rows"] == 40 and facts["partial"] == "trained on 40 of 100 rows"
