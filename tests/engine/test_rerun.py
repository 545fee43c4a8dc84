"""Outputs that a stage runs again: in float32 whatever the precision, twice differentiable, and repeatable."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kdcore.engine.device import has_fast_bf16
from kdcore.errors import UndeclaredTensorError
from kdcore.events import StepDone
from kdcore.methods import METHODS
from kdcore.methods.kd import KD
from kdcore.models.observe import observe, rerun_of
from kdcore.records import Term, want
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run


class Slopes(KD):
    """KD, and the student's slope at its embedding output drawn to the teacher's."""

    still = False

    def stages(self):
        return [
            replace(stage, needs=replace(stage.needs, rerun=("student", "teacher")), terms=self.slope_terms)
            for stage in super().stages()
        ]

    def slope_terms(self, step):
        slopes = []
        for outputs in (step.student, step.teacher):
            again = outputs.rerun(still=self.still)
            gold = again.logits.gather(1, step.batch.labels[:, None]).sum()
            slopes.append(torch.autograd.grad(gold, again.hidden[0], create_graph=outputs is step.student)[0])
        assert all(slope.dtype == torch.float32 for slope in slopes)
        distance = (slopes[0].norm(dim=-1) - slopes[1].detach().norm(dim=-1)).square().mean()
        return {**self.terms(step), "slope": Term(distance, 10.0)}


@pytest.fixture
def slopes(monkeypatch):
    monkeypatch.setitem(METHODS, "kd", Slopes)
    return Slopes


def losses(trained, teachers, **changes):
    done = trained(run("kd", teachers, epochs=1, **changes))
    return [(event.raw["slope"], event.loss) for event in done.of(StepDone)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cache", [True, False])
def test_a_teacher_is_run_again_in_float32_with_and_without_cache(slopes, trained, one_teacher, precision, cache):
    if precision == "bf16" and not has_fast_bf16("cpu"):
        pytest.skip("this processor has no fast bf16")
    seen = losses(trained, one_teacher, precision=precision, teacher_cache=cache)
    assert len(seen) == 6 and all(slope > 0 for slope, _ in seen)


def test_it_draws_nothing_from_the_process_wide_generator(slopes, trained, one_teacher):
    """Another global seed, and draws of another thread, change no loss; dropout is on."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = losses(trained, one_teacher, dropout=0.1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert losses(trained, one_teacher, dropout=0.1) == first


def test_without_dropout_it_is_another_pass(slopes, trained, one_teacher, monkeypatch):
    noisy = losses(trained, one_teacher, dropout=0.3)
    monkeypatch.setattr(Slopes, "still", True)
    assert losses(trained, one_teacher, dropout=0.3)[0][0] != noisy[0][0]


def test_who_does_not_declare_it_cannot_run_again(trained, one_teacher, monkeypatch):
    class Undeclared(Slopes):
        def stages(self):
            return [replace(stage, needs=replace(stage.needs, rerun=())) for stage in super().stages()]

    monkeypatch.setitem(METHODS, "kd", Undeclared)
    with pytest.raises(UndeclaredTensorError, match="rerun"):
        trained(run("kd", one_teacher))


def test_the_second_derivative_is_that_of_finite_differences():
    """In float64: d/dw of the squared slope at layer 0, along one direction of a weight."""
    model, encoding = world.model(seed=3).double().eval(), sentence()
    weight = model.bert.encoder.layer[1].output.dense.weight
    direction = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def squared() -> torch.Tensor:
        again = rerun_of(model, encoding, want("logits"))(None, None, True)
        (slope,) = torch.autograd.grad(again.logits[:, 1].sum(), again.hidden[0], create_graph=True)
        return slope.square().sum()

    (gradient,) = torch.autograd.grad(squared(), weight)
    step = 1e-5
    with torch.no_grad():
        weight += step * direction
    high = float(squared().detach())
    with torch.no_grad():
        weight -= 2 * step * direction
    expected = (high - float(squared().detach())) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-6)


def test_layer_0_in_place_of_the_models_own():
    model, encoding = world.model(seed=3).requires_grad_(False).eval(), sentence()
    rerun = rerun_of(model, encoding, want("logits", hidden=(0, 2)))
    seen = observe(model, encoding, want("logits", hidden=(0, 2)), grad=False)
    own = rerun(None, None, False)
    assert own.hidden[0].is_leaf and own.hidden[0].requires_grad
    torch.testing.assert_close(own.logits, seen.logits)
    given = torch.zeros_like(seen.hidden[0]).requires_grad_()
    other = rerun(None, given, False)
    assert other.hidden[0] is given and not torch.allclose(other.logits, seen.logits)
    torch.testing.assert_close(rerun(None, seen.hidden[0], False).hidden[2], seen.hidden[2])


def test_layer_0_is_a_leaf_behind_frozen_embeddings_and_on_the_path_behind_others():
    model, encoding = world.model(seed=3).eval(), sentence()
    rerun = rerun_of(model, encoding, want("logits"))
    assert not rerun(None, None, False).hidden[0].is_leaf
    model.bert.embeddings.requires_grad_(False)
    again = rerun(None, None, False)
    assert again.hidden[0].is_leaf and again.hidden[0].requires_grad
    again.logits.sum().backward()
    assert again.hidden[0].grad.any() and model.classifier.weight.grad.any()
    words = torch.zeros_like(again.embeddings).requires_grad_()
    (gradient,) = torch.autograd.grad(rerun(words, None, False).logits.sum(), words)
    assert gradient.any()


def test_every_state_but_an_undeclared_last_one_is_there_and_can_be_differentiated():
    model, encoding = world.model(seed=3).eval(), sentence()
    assert list(rerun_of(model, encoding, want("logits"))(None, None, False).hidden) == [0, 1]
    declared = rerun_of(model, encoding, want("logits", hidden=(2,)))(None, None, False)
    again = rerun_of(model, encoding, want("logits"))(None, None, False, True)
    assert list(declared.hidden) == list(again.hidden) == [0, 1, 2]
    assert torch.equal(declared.hidden[2], again.hidden[2])
    gradients = torch.autograd.grad(again.logits.sum(), list(again.hidden.values()))
    assert all(gradient.any() for gradient in gradients)


def test_of_the_last_layer_cls_alone_is_computed_with_the_same_slopes_and_slopes_of_slopes():
    """In float64: logits, slopes at layers 0 and 1, and the gradient of these slopes' squares."""
    model, encoding = world.model(seed=3).double().eval(), sentence()
    shapes: list[tuple[int, ...]] = []
    model.bert.encoder.layer[1].output.register_forward_hook(lambda *given: shapes.append(tuple(given[2].shape)))

    def slopes(wanted):
        model.zero_grad()
        again = rerun_of(model, encoding, wanted)(None, None, True)
        found = torch.autograd.grad(again.logits[:, 1].sum(), [again.hidden[0], again.hidden[1]], create_graph=True)
        sum(slope.square().sum() for slope in found).backward()
        return [again.logits, *found, model.bert.encoder.layer[1].intermediate.dense.weight.grad.clone()]

    for lean, whole in zip(slopes(want("logits")), slopes(want("logits", hidden=(2,))), strict=True):
        torch.testing.assert_close(lean, whole, rtol=1e-10, atol=1e-12)
        assert whole.any()
    assert [shape[1] for shape in shapes] == [1, encoding.input_ids.shape[1]]


def sentence():
    from kdcore.data.encode import collate, encode

    rows = encode(world.data_of().train, world.tokenizer(), 32)
    return collate(rows, [0, 1, 2], 2).encoding


def test_words_are_looked_up_and_mixed():
    """Each mixture is the sum of its words' vectors, and its gradient goes to these in their shares."""
    model, encoding = world.model(seed=3).eval(), sentence()
    outputs = observe(model, encoding, want("embeddings")).with_rerun(rerun_of(model, encoding, {}))
    assert torch.equal(outputs.look_up(encoding.input_ids), outputs.embeddings)
    table = model.bert.embeddings.word_embeddings.weight
    ids, shares = torch.tensor([[[3, 5, 3], [7, 1, 0]]]), torch.tensor([[[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]]])
    mixed = outputs.look_up(ids, shares)
    torch.testing.assert_close(mixed, torch.stack([0.7 * table[3] + 0.3 * table[5], table[7]])[None])
    (gradient,) = torch.autograd.grad(mixed.sum(), table)
    assert gradient[:, 0].nonzero()[:, 0].tolist() == [3, 5, 7]
    torch.testing.assert_close(gradient[[3, 5, 7], 0], torch.tensor([0.7, 0.3, 1.0]))
    with pytest.raises(UndeclaredTensorError, match="rerun"):
        observe(model, encoding, want("logits")).look_up(encoding.input_ids)
