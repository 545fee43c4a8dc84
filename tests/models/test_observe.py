"""Every observed tensor against transformers' own eager outputs or a computation by hand; and nothing but those."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcore.errors import UndeclaredTensorError, UserError
from kdcore.models.anatomy import anatomy
from kdcore.models.observe import evaluating, observe, rerun_of
from kdcore.records import ALL_LAYERS, TENSORS, Encoding, want

FAMILIES = ["bert", "roberta", "distilbert", "electra", "mpnet"]
EVERYTHING = dict.fromkeys(TENSORS, ALL_LAYERS)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def by_transformers(model, encoding):
    """Hidden states and attentions as transformers itself returns them, from an eager copy."""
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    inputs = {"input_ids": encoding.input_ids, "attention_mask": encoding.attention_mask}
    if model.config.model_type in ("bert", "electra"):
        inputs["token_type_ids"] = encoding.token_type_ids
    with torch.no_grad():
        found = eager(**inputs, output_hidden_states=True, output_attentions=True)
    assert len(found.attentions) == 2 and len(found.hidden_states) == 3
    return found


def hooks_left(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_states_logits_and_attention_equal_transformers_own(tiny, encoding, family):
    model = tiny(family)
    seen = observe(model, encoding, EVERYTHING, grad=False)
    expected = by_transformers(model, encoding)
    torch.testing.assert_close(seen.logits, expected.logits, **CLOSE)
    assert sorted(seen.hidden) == [0, 1, 2] and sorted(seen.attention) == [1, 2]
    for layer, state in enumerate(expected.hidden_states):
        torch.testing.assert_close(seen.hidden[layer], state, **CLOSE)
        torch.testing.assert_close(seen.cls[layer], state[:, 0], **CLOSE)
    for layer, attention in enumerate(expected.attentions, start=1):
        torch.testing.assert_close(seen.attention[layer], attention, **CLOSE)
        assert attention.std() > 0.05  # a flat attention would match too easily


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_of_attention_by_hand(tiny, encoding, family):
    model = tiny(family)
    seen = observe(model, encoding, EVERYTHING, grad=False)
    parts = anatomy(model)
    torch.testing.assert_close(seen.embeddings, F.embedding(encoding.input_ids, parts.word_embeddings.weight))
    for layer in (1, 2):
        before = seen.hidden[layer - 1]
        for name in ("queries", "keys", "values"):
            linear = getattr(parts.layers[layer - 1], name)
            for head in range(4):
                rows = slice(4 * head, 4 * head + 4)
                by_hand = before @ linear.weight[rows].T + linear.bias[rows]
                torch.testing.assert_close(getattr(seen, name)[layer][:, head], by_hand, **CLOSE)
        for row, head, i, j in [(0, 0, 0, 6), (1, 3, 2, 5), (2, 1, 0, 0)]:
            product = (seen.queries[layer][row, head, i] * seen.keys[layer][row, head, j]).sum() / 2.0
            if family == "mpnet":  # it adds what its table says of the distance j - i
                encoder = model.mpnet.encoder
                bucket = encoder.relative_position_bucket(torch.tensor(j - i), num_buckets=32)
                product = product + encoder.relative_attention_bias(bucket)[head]
            torch.testing.assert_close(seen.scores[layer][row, head, i, j], product, **CLOSE)
        mixed = seen.attention[layer] @ seen.values[layer]
        side_by_side = torch.cat([mixed[:, head] for head in range(4)], dim=-1)
        torch.testing.assert_close(seen.head_outputs[layer], side_by_side, **CLOSE)
        assert seen.scores[layer].dtype == seen.attention[layer].dtype == torch.float32


def test_attention_is_a_distribution_over_the_tokens_that_are_there(tiny, encoding):
    attention = observe(tiny(), encoding, want(attention=ALL_LAYERS), grad=False).attention[2]
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 4, 7))
    assert torch.equal(attention[1, :, :, 4:], torch.zeros(4, 7, 3))


@pytest.mark.parametrize("family", FAMILIES)
def test_pooled_is_what_the_last_linear_reads_in_eval_mode(tiny, encoding, family):
    model = tiny(family)
    seen = observe(model, encoding, want("pooled", "logits"), grad=False)
    torch.testing.assert_close(anatomy(model).classifier(seen.pooled), seen.logits, **CLOSE)
    assert seen.pooled.shape == (3, 16)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_no_valid_position(tiny, encoding, family):
    model = tiny(family)
    longer = Encoding(*(F.pad(t, (0, 5), value=fill) for t, fill in zip(encoding.tensors(), (1, 0, 0), strict=True)))
    short = observe(model, encoding, EVERYTHING, grad=False)
    long = observe(model, longer, EVERYTHING, grad=False)
    valid = encoding.attention_mask.bool()
    for layer in (1, 2):
        torch.testing.assert_close(long.hidden[layer][:, :7][valid], short.hidden[layer][valid], **CLOSE)
        torch.testing.assert_close(long.attention[layer][..., :7, :7], short.attention[layer], **CLOSE)
    torch.testing.assert_close(long.logits, short.logits, **CLOSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_follow_from_states_and_not_from_side_branches(tiny, encoding, family):
    """What a method can differentiate them with respect to, as `records.TENSORS` has it."""
    seen = observe(tiny(family), encoding, EVERYTHING)
    reached = set()
    for name in set(seen.names()) - {"logits"}:
        said = getattr(seen, name)
        for tensor in said.values() if isinstance(said, dict) else [said]:
            (gradient,) = torch.autograd.grad(seen.logits.sum(), tensor, retain_graph=True, allow_unused=True)
            if gradient is not None:
                reached.add(name)
    assert reached == {"embeddings", "hidden", "head_outputs"} | ({"pooled"} if family == "bert" else set())
    first = torch.autograd.grad(seen.logits.sum(), seen.hidden[2])[0]
    assert first[:, 0].abs().sum() > 0 and not first[:, 1:].any()


def test_only_what_was_declared_is_there_and_the_error_says_what_was(tiny, encoding):
    seen = observe(tiny(), encoding, want("logits", cls=(1,), hidden=(2,)))
    assert seen.names() == ["cls", "hidden", "logits"] and list(seen.cls) == [1] and list(seen.hidden) == [2]
    with pytest.raises(UndeclaredTensorError, match=r"'attention'.*\['cls', 'hidden', 'logits'\]"):
        _ = seen.attention


def test_hooks_stand_only_where_something_is_wanted(tiny, encoding, monkeypatch):
    model, parts = tiny(), anatomy(tiny())
    placed = []
    original = torch.nn.Module.register_forward_hook
    names = {module: name for name, module in model.named_modules()}

    def noting(self, hook, *args, **kwargs):
        placed.append(names[self])
        return original(self, hook, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "register_forward_hook", noting)
    observe(model, encoding, want("logits"))
    assert placed == []
    observe(model, encoding, want("logits", values=(2,), cls=(1,)))
    assert sorted(placed) == ["bert.encoder.layer.0", "bert.encoder.layer.1.attention.self.value"]
    assert len(parts.layers) == 2


def test_cls_does_not_keep_the_whole_state_alive(tiny, encoding):
    seen = observe(tiny(), encoding, want(cls=ALL_LAYERS), grad=False)
    assert all(state.untyped_storage().nbytes() == 3 * 16 * 4 for state in seen.cls.values())


def test_hooks_go_away_also_after_an_error(tiny, encoding):
    model = tiny()
    observe(model, encoding, EVERYTHING)
    assert hooks_left(model) == 0
    broken = Encoding(encoding.input_ids + 1000, encoding.attention_mask, encoding.token_type_ids)
    with pytest.raises(IndexError):
        observe(model, broken, EVERYTHING)
    assert hooks_left(model) == 0


def test_with_and_without_a_graph(tiny, encoding):
    model = tiny()
    kept = observe(model, encoding, EVERYTHING, grad=True)
    for name in ("scores", "attention", "queries", "head_outputs", "cls"):
        (gradient,) = torch.autograd.grad(
            getattr(kept, name)[2].square().sum(), anatomy(model).word_embeddings.weight, retain_graph=True
        )
        assert gradient.abs().sum() > 0, name
    free = observe(model, encoding, EVERYTHING, grad=False)
    assert not free.logits.requires_grad and not free.attention[1].requires_grad
    with torch.no_grad():
        assert not observe(model, encoding, want("logits"), grad=True).logits.requires_grad


@pytest.mark.parametrize("family", FAMILIES)
def test_rerun_gives_the_same_from_embeddings_and_can_be_differentiated_twice(tiny, encoding, family):
    model = tiny(family)
    seen = observe(model, encoding, EVERYTHING, grad=False)
    inputs = seen.embeddings.clone().requires_grad_()
    again = rerun_of(model, encoding, EVERYTHING)(inputs, None, False)
    # RoBERTa numbers positions from the ids; from embeddings it cannot see padding, so only tokens are alike
    valid = encoding.attention_mask.bool()
    torch.testing.assert_close(again.hidden[2][valid], seen.hidden[2][valid], **CLOSE)
    torch.testing.assert_close(again.logits, seen.logits, **CLOSE)
    assert again.embeddings is inputs
    (saliency,) = torch.autograd.grad(again.logits[:, 0].sum(), inputs, create_graph=True)
    saliency.square().sum().backward()
    assert inputs.grad is not None and inputs.grad[valid].abs().sum() > 0
    assert model.config._attn_implementation == ("eager" if family == "mpnet" else "sdpa")


def test_scores_are_float32_under_autocast(tiny, encoding):
    model = tiny()
    with torch.autocast("cpu", torch.bfloat16):
        seen = observe(model, encoding, EVERYTHING, grad=False)
    assert seen.queries[1].dtype == torch.bfloat16
    exact = seen.queries[1].double() @ seen.keys[1].double().transpose(-1, -2) / 2
    assert seen.scores[1].dtype == torch.float32
    torch.testing.assert_close(seen.scores[1].double(), exact, rtol=1e-5, atol=1e-5)


def test_dropout_leaves_attention_alone(tiny, encoding):
    model = tiny().train()
    torch.manual_seed(0)
    seen = observe(model, encoding, want(attention=(2,)))
    torch.testing.assert_close(seen.attention[2].sum(-1), torch.ones(3, 4, 7))
    assert (seen.attention[2][0] > 0).all()


def test_wrong_layers_tensors_and_models_are_named(tiny, encoding):
    with pytest.raises(ValueError, match=r"cls has layers 0 to 2, not \[3\]"):
        observe(tiny(), encoding, want(cls=(3,)))
    with pytest.raises(ValueError, match=r"queries has layers 1 to 2, not \[0\]"):
        observe(tiny(), encoding, want(queries=(0, 1)))
    with pytest.raises(ValueError, match="unknown tensor 'gradients'"):
        observe(tiny(), encoding, {"gradients": ()})
    with pytest.raises(UserError, match="cannot look into a Linear"):
        observe(torch.nn.Linear(2, 2), encoding, want("logits"))


def test_two_threads_observe_two_models(tiny, encoding):
    models = [tiny(seed=seed) for seed in (0, 1)]
    alone = [observe(model, encoding, EVERYTHING, grad=False) for model in models]
    wrong = []

    def look(index):
        for _ in range(20):
            seen = observe(models[index], encoding, EVERYTHING, grad=False)
            if not torch.allclose(seen.attention[2], alone[index].attention[2], atol=1e-6):
                wrong.append(index)

    threads = [threading.Thread(target=look, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_evaluating_gives_each_module_its_mode_back(tiny):
    model = tiny().train()
    model.bert.pooler.eval()
    with pytest.raises(RuntimeError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError
    assert model.training and not model.bert.pooler.training


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "electra-wide"])
def test_parts_are_all_but_the_layers(tiny, family):
    model = tiny(family)
    parts = anatomy(model)
    named = {name: {id(p) for module in parts.part(name) for p in module.parameters()}
             for name in ("embeddings", "pooler", "classifier")}  # fmt: skip
    layers = {id(p) for layer in parts.layers for p in layer.module.parameters()}
    every = [id(p) for p in model.parameters()]
    assert sorted([*named["embeddings"], *named["pooler"], *named["classifier"], *layers]) == sorted(every)


class Factors(nn.Module):
    """Word vectors as a narrow table and a matrix that widens it."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.table, self.matrix = nn.Embedding(words, 3), nn.Parameter(torch.arange(3.0 * width).view(3, width))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids) @ self.matrix


def test_word_vectors_of_a_table_and_of_factors(tiny, encoding):
    model = tiny("bert")
    assert torch.equal(anatomy(model).word_vectors(), model.bert.embeddings.word_embeddings.weight)
    factors = Factors(model.config.vocab_size, 16)
    model.set_input_embeddings(factors)
    vectors = anatomy(model).word_vectors()
    torch.testing.assert_close(vectors, factors.table.weight.detach() @ factors.matrix.detach())
    assert not vectors.requires_grad
    seen = observe(model.eval(), encoding, want("logits", "embeddings"))
    torch.testing.assert_close(seen.embeddings, vectors[encoding.input_ids])
