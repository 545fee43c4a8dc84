"""GKD, AD-KD and Backward KD in the engine: what is frozen, what is repeatable, and what runs in which precision."""

from __future__ import annotations

import pytest
import torch

from kdcore.engine.device import has_fast_bf16
from kdcore.events import RunFinished, StepDone
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run

TERM = {"gkd": "direction", "ad-kd": "attribution", "backward-kd": "auxiliary"}
COPY = world.STUDENT.model_copy(update={"init": "teacher"})


def said(done) -> list[dict[str, float]]:
    return [event.raw for event in done.of(StepDone)]


def test_gkd_leaves_the_embeddings_as_the_teachers(trained, one_teacher):
    """Words that no row holds neither: weight decay does not reach them."""
    (teacher,) = one_teacher
    theirs = world.weights(world.Path(teacher.where))
    for frozen in (True, False):
        ours = trained(run("gkd", one_teacher, {"freeze_embeddings": frozen}, student=COPY)).weights()
        embeddings = [name for name in ours if name.startswith("bert.embeddings")]
        assert len(embeddings) == 5
        assert all(torch.equal(ours[name], theirs[name]) is frozen for name in embeddings if "position" not in name)
        dense = "bert.encoder.layer.0.output.dense.weight"
        assert not torch.equal(ours[dense], theirs[dense])


@pytest.mark.parametrize(
    ("key", "options", "dropout", "zero"),
    [("gkd", {}, 0.1, True), ("gkd", {"dropout": True}, 0.1, False), ("gkd", {"dropout": True}, 0.0, True),
     ("ad-kd", {}, 0.1, False), ("ad-kd", {}, 0.0, True),
     ("backward-kd", {}, 0.1, False), ("backward-kd", {}, 0.0, True)],
)  # fmt: skip
def test_a_copy_of_the_teacher_starts_at_0_but_for_dropout(trained, one_teacher, key, options, dropout, zero):
    """Without dropout the term is a function of the weights: the same rows give the same value."""
    done = trained(run(key, one_teacher, options, student=COPY, dropout=dropout, max_steps=1))
    assert (said(done)[0][TERM[key]] < 1e-8) is zero


@pytest.mark.parametrize("key", TERM)
@pytest.mark.parametrize("task", [world.SENTIMENT, world.PARAPHRASE, world.SIMILARITY])
def test_trains_on_every_kind_of_task(trained, one_teacher, shelf, key, task):
    teachers = one_teacher
    if task == world.SIMILARITY:
        teachers = (world.teacher(shelf, "scores", labels=1, seed=61),)
    done = trained(run(key, teachers, student=COPY, task=task, dropout=0.0, epochs=8, lr=3e-3))
    first, last = (sum(step["hard"] for step in part) for part in (said(done)[:6], said(done)[-6:]))
    assert last < first and done.of(RunFinished)[0].summary["best_step"] > 0


@pytest.mark.parametrize("key", TERM)
def test_kept_answers_give_the_losses_of_live_ones(trained, one_teacher, key):
    """Rerun teachers are beside the cache: only their logits are read from it."""
    kept, live = (trained(run(key, one_teacher, teacher_cache=cache)) for cache in (True, False))
    assert kept.of(RunFinished)[0].summary["cache"]["live"] == 0
    for a, b in zip(said(kept), said(live), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize("key", TERM)
def test_in_bf16_gradients_are_taken_in_float32(trained, one_teacher, key):
    """Before the first update the term is that of float32; the answers that soft compares are rounded."""
    if not has_fast_bf16("cpu"):
        pytest.skip("this processor has no fast bf16")
    rounded, exact = (
        said(trained(run(key, one_teacher, precision=precision, dropout=0.0, max_steps=1)))[0]
        for precision in ("bf16", "fp32")
    )
    assert rounded[TERM[key]] == pytest.approx(exact[TERM[key]], rel=1e-6)
    assert rounded["soft"] != exact["soft"]


@pytest.mark.parametrize(("key", "options"), [("gkd", {"dropout": True}), ("ad-kd", {}), ("backward-kd", {})])
def test_nothing_is_drawn_from_the_process_wide_generator(trained, one_teacher, key, options):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = said(trained(run(key, one_teacher, options, epochs=1, dropout=0.1)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert said(trained(run(key, one_teacher, options, epochs=1, dropout=0.1))) == first


@pytest.mark.parametrize(
    ("key", "off"),
    [("gkd", {"gradient_weight": 0.0}), ("ad-kd", {"beta": 0.0}), ("backward-kd", {"auxiliary_weight": 0.0})],
)
def test_without_its_term_it_is_kd_bit_for_bit(trained, one_teacher, key, off):
    options = {"alpha": 0.4, "temperature": 3.0}
    free = {"freeze_embeddings": False} if key == "gkd" else {}
    ours = trained(run(key, one_teacher, {**options, **off, **free}))
    theirs = trained(run("kd", one_teacher, options))
    assert world.same(ours.weights(), theirs.weights()) and said(ours) == said(theirs)
