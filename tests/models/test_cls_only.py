"""The lean last layer against the whole one: the same values and gradients, of one token's work."""

from __future__ import annotations

import copy

import pytest
import torch

from kdcore.engine.dropout import seeded_dropout
from kdcore.models.anatomy import anatomy
from kdcore.models.cls_only import cls_only, reads_cls_alone
from kdcore.models.observe import observe, rerun_of
from kdcore.models.shared_layers import run_again
from kdcore.records import ALL_LAYERS, TENSORS, want

FAMILIES = ["bert", "roberta", "distilbert", "electra"]
LEAN = want("logits", "pooled", "embeddings", cls=ALL_LAYERS, hidden=(0, 1), scores=(1,), values=(1,))
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def layer_outputs(model, encoding, wanted, **how):
    """The shapes that the layers give in one pass."""
    shapes = []
    handles = [
        layer.module.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape)))
        for layer in anatomy(model).layers
    ]
    observe(model, encoding, wanted, **how)
    for handle in handles:
        handle.remove()
    return shapes


@pytest.mark.parametrize("family", FAMILIES)
def test_values_are_those_of_the_whole_layer(tiny, encoding, family):
    model = tiny(family)
    lean, whole = (observe(model, encoding, LEAN, grad=False, whole=whole) for whole in (False, True))
    assert lean.names() == whole.names()
    for name in lean.names():
        torch.testing.assert_close(getattr(lean, name), getattr(whole, name), **CLOSE)
    assert whole.logits.std() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_the_whole_layer(tiny, encoding, family):
    found = []
    for whole in (False, True):
        model = tiny(family).double()
        seen = observe(model, encoding, want("logits", cls=(1, 2)), whole=whole)
        (seen.logits.square().sum() + seen.cls[1].sin().sum() + seen.cls[2].cos().sum()).backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_last_layer_and_only_where_it_may(tiny, encoding, family):
    model = tiny(family)
    whole, first = (3, 7, 16), (3, 1, 16)
    assert layer_outputs(model, encoding, want("logits")) == [whole, first]
    assert layer_outputs(model, encoding, want("logits", hidden=(1,))) == [whole, first]
    assert layer_outputs(model, encoding, want("logits", hidden=(2,))) == [whole, whole]
    assert layer_outputs(model, encoding, want("logits"), whole=True) == [whole, whole]


@pytest.mark.parametrize("name", sorted(TENSORS))
def test_what_needs_the_other_tokens_says_so(name):
    layered = name not in ("logits", "pooled", "embeddings")
    assert reads_cls_alone({name: (2,) if layered else ()}, 3)
    for last in ((1, 3), ALL_LAYERS):
        assert reads_cls_alone({name: last if layered else ()}, 3) == (name == "cls" or not layered)


def test_the_layer_is_whole_again_afterwards_even_where_a_pass_breaks(tiny, encoding):
    model = tiny()
    with pytest.raises(RuntimeError), cls_only(anatomy(model)):
        assert "forward" in vars(model.bert.encoder.layer[1])
        raise RuntimeError
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_repeated_layer_is_whole_where_it_runs_first(tiny, encoding):
    model = run_again(tiny(), [1, 2], swap=True)
    assert layer_outputs(model, encoding, want("logits")) == [(3, 7, 16)] * 3 + [(3, 1, 16)]
    lean, whole = (observe(model, encoding, want("logits"), grad=False, whole=whole).logits for whole in (False, True))
    torch.testing.assert_close(lean, whole, **CLOSE)


def test_seeded_dropout_reaches_the_one_token(tiny, encoding):
    model = tiny().train()
    generator = torch.Generator()
    with seeded_dropout(model, generator):
        said = [observe(model, encoding, want("logits")).logits for _ in (0, 1) if generator.manual_seed(3)]
        assert torch.equal(*said)
        assert not torch.equal(said[0], observe(model, encoding, want("logits")).logits)
        for module in model.modules():
            if hasattr(module, "p"):
                module.p = 0.0
        dry = observe(model, encoding, want("logits")).logits
    torch.testing.assert_close(dry, observe(model.eval(), encoding, want("logits"), whole=True).logits, **CLOSE)


def test_eager_models_run_as_they_are(tiny, encoding):
    model = tiny()
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    assert layer_outputs(eager, encoding, want("logits")) == [(3, 7, 16)] * 2
    expected = observe(model, encoding, want("logits"), grad=False).logits
    torch.testing.assert_close(observe(eager, encoding, want("logits"), grad=False).logits, expected, **CLOSE)


def test_a_whole_pass_never_depends_on_what_else_is_wanted(tiny, encoding):
    model = tiny()
    alone = observe(model, encoding, want("logits"), grad=False, whole=True).logits
    beside = observe(model, encoding, want("logits", hidden=ALL_LAYERS), grad=False, whole=True).logits
    assert torch.equal(alone, beside)


def test_a_pass_from_embeddings_that_is_differentiated_twice_is_whole(tiny, encoding):
    model = tiny()
    seen = observe(model, encoding, want("logits", "embeddings"))
    words = seen.embeddings.detach().requires_grad_()
    logits = rerun_of(model, encoding, want("logits"))(words, None, False).logits
    (slope,) = torch.autograd.grad(logits.square().sum(), words, create_graph=True)
    slope.square().sum().backward()
    torch.testing.assert_close(logits, seen.logits, **CLOSE)
    assert model.bert.encoder.layer[1].output.dense.weight.grad is not None
