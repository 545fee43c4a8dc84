"""Runs that ask a masked language model: they end, resume bit for bit, and export a student without its head."""

from __future__ import annotations

import pytest
import torch

from kdcore.config import ProbeConfig, StudentSpec
from kdcore.engine import checkpoint, preflight
from kdcore.engine.plan import Plan
from kdcore.events import Evaluated, RunFinished, RunStarted, StageStarted, StepDone
from kdcore.models.students import load_classifier
from tests.helpers import masked_lm_folder
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import StopAt, run, same

NARROW = StudentSpec(layers=1, width=8, heads=2, init="random")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    return masked_lm_folder.write(tmp_path_factory.mktemp("lm") / "lm", world.VOCABULARY)


def distilbert(source, teachers, **changes):
    return run("distilbert", teachers, {"masked_lm": source, "masked_chance": 0.3}, **changes)


def tinybert(source, teachers, **changes):
    options = {"augment": "masked-lm", "masked_lm": source, "augment_words": 4}
    return run("tinybert", teachers, options, **changes)


def smoothing(source, teachers, **changes):
    return run("text-smoothing", teachers, {"words": "masked-lm", "masked_lm": source}, **changes)


def test_a_run_with_a_masked_stage(trained, one_teacher, source):
    done = trained(distilbert(source, one_teacher, probes=ProbeConfig(gradient_share_every=4), accumulate=2))
    assert [(event.stage, event.first_step) for event in done.of(StageStarted)] == [("masked", 0), ("distil", 6)]
    terms = {event.stage: set(event.raw) for event in done.of(StepDone)}
    assert terms == {"masked": {"vocabulary", "words", "states"}, "distil": {"hard", "soft", "cosine"}}
    masked = [event for event in done.of(StepDone) if event.stage == "masked"]
    assert all(event.raw["words"] > 0 for event in masked)
    assert masked[-1].loss < masked[0].loss
    assert set(masked[3].gradient_share) == {"vocabulary", "words", "states"}
    assert all(share > 0 for share in masked[3].gradient_share.values())
    judged = [event.scores for event in done.of(Evaluated) if event.stage == "masked"]
    assert judged and all(set(scores) == {"loss"} for scores in judged)
    (facts,) = (event.facts for event in done.of(RunStarted))
    width, words = world.SIZE.width, len(world.VOCABULARY)
    assert facts["extra_parameters"] == width * width + 3 * width + words
    assert done.of(RunFinished)


def test_the_exported_student_has_no_head_for_masked_words(trained, one_teacher, source):
    done, plain = trained(distilbert(source, one_teacher)), trained(run("distilbert", one_teacher))
    for which in ("best", "last"):
        assert set(done.weights(which)) == set(plain.weights(which))
        assert not any(name.startswith(("cls.", "head.")) for name in done.weights(which))
        load_classifier(done.folder / f"student-{which}", 2)


@pytest.mark.parametrize("made", [distilbert, tinybert, smoothing])
@pytest.mark.parametrize("step", [2, 5, 8])
def test_stopped_and_resumed_it_ends_the_same_bit_for_bit(trained, one_teacher, source, made, step):
    setting = made(source, one_teacher)
    whole, begun = trained(setting), trained(setting, control=StopAt(step))
    assert checkpoint.newest(begun.folder / "checkpoint") is not None
    on = trained(setting, begun.folder)
    assert on.of(RunStarted)[0].facts["resumed_at"] == step
    assert same(on.weights(), whole.weights()) and same(on.weights("best"), whole.weights("best"))
    told = {event.step: event.raw for event in [*begun.of(StepDone), *on.of(StepDone)]}
    assert told == {event.step: event.raw for event in whole.of(StepDone)}


def test_a_checkpoint_holds_the_head_and_not_the_masked_language_model(trained, one_teacher, source):
    from safetensors.torch import load_file

    begun = trained(distilbert(source, one_teacher), control=StopAt(3))
    kept = load_file(checkpoint.newest(begun.folder / "checkpoint") / "module-method.safetensors")
    assert len(kept) == 5 and all(name.startswith("head.") for name in kept)


def test_a_student_of_another_width_learns_through_a_projection(trained, one_teacher, tmp_path):
    wide = masked_lm_folder.write(tmp_path / "wide", world.VOCABULARY, hidden_size=24, num_attention_heads=4)
    done = trained(distilbert(wide, one_teacher))
    masked = [event.loss for event in done.of(StepDone) if event.stage == "masked"]
    assert masked[-1] < masked[0]


def test_tinybert_takes_altered_rows(trained, one_teacher, source):
    done, plain = trained(tinybert(source, one_teacher)), trained(run("tinybert", one_teacher))
    losses, others = ([event.loss for event in run.of(StepDone)] for run in (done, plain))
    assert losses[0] == others[0]  # the first batch is an original one
    assert losses[1] != others[1]
    assert done.of(RunFinished) and set(done.weights()) == set(plain.weights())


@pytest.mark.parametrize("task", [world.SENTIMENT, world.PARAPHRASE, world.SIMILARITY])
def test_a_student_of_smoothed_texts_is_a_plain_one_and_draws_nothing_at_large(trained, source, shelf, task):
    """The teacher only lends its size. Words that no row holds learn, and no generator but the run's own is used."""
    teachers = (world.teacher(shelf, f"for-{task}", labels=1 if task == world.SIMILARITY else 2),)
    setting = smoothing(source, teachers, task=task, student=NARROW, dropout=0.1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    done = trained(setting)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(trained(setting).weights(), done.weights())
    plain = trained(run("fine-tune", teachers, task=task, student=NARROW, dropout=0.1))
    assert set(done.weights()) == set(plain.weights())
    table = "bert.embeddings.word_embeddings.weight"
    unheard = world.VOCABULARY.index("[UNK]")
    assert not torch.allclose(done.weights()[table][unheard], plain.weights()[table][unheard], rtol=1e-6)


@pytest.mark.parametrize("made", [distilbert, tinybert, smoothing])
def test_what_is_wrong_is_told_before_the_run(one_teacher, source, made):
    def blocks(setting):
        return preflight.check(Plan(setting)).blocks

    assert not blocks(made(source, one_teacher))
    (line,) = blocks(made("folder:/nowhere", one_teacher))
    assert line.field == "options.masked_lm" and line.remedy
