from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kdcore.errors import UserError
from kdcore.models.observe import observe
from kdcore.models.sizes import bert_config
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from kdcore.models.weights import build_classifier
from kdcore.probes.attention import (
    attention_maps,
    best_heads,
    head_divergences,
    head_entropies,
    layer_divergences,
    renormalise,
    word_positions,
)
from kdcore.records import ALL_LAYERS, Encoding, ModelSize

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "cat", "##s", "sat"]


@pytest.fixture
def model():
    config = bert_config(ModelSize(2, 16, 4, 24, len(TOKENS), 12, 2), 2, None)
    config.initializer_range = 0.8
    return build_classifier(config, {}, 0)[0]


@pytest.fixture
def tokenizer():
    return tokenizer_from_vocabulary(TOKENS)


def some_maps(seed, layers, heads, tokens=5):
    raw = np.random.default_rng(seed).dirichlet([0.4] * tokens, size=(layers, heads, tokens))
    return raw.astype(np.float32)


def slow(p, q, kind):
    """Mean over query tokens, one probability at a time."""

    def kl(a, b):
        return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)

    rows = []
    for a, b in zip(p.astype(np.float64), q.astype(np.float64), strict=True):
        middle = (a + b) / 2
        rows.append(kl(a, b) if kind == "kl" else (kl(a, middle) + kl(b, middle)) / 2)
    return sum(rows) / len(rows)


def test_maps_of_a_pair_carry_its_tokens(model, tokenizer):
    found = attention_maps(model.train(), tokenizer, "The dogs sat", "the cat")
    assert found.tokens == ["[CLS]", "the", "dog", "##s", "sat", "[SEP]", "the", "cat", "[SEP]"]
    assert found.maps.shape == (2, 4, 9, 9) and found.maps.dtype == np.float32
    np.testing.assert_allclose(found.maps.sum(-1), 1.0, rtol=1e-5)
    assert model.training
    types = torch.tensor([[0] * 6 + [1] * 3])
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(found.tokens)])
    seen = observe(model.eval(), Encoding(ids, torch.ones_like(ids), types), {"attention": ALL_LAYERS}, False)
    np.testing.assert_allclose(found.maps[1], seen.attention[2][0].numpy(), rtol=1e-6)


def test_long_text_is_cut_and_no_text_is_told(model, tokenizer):
    assert len(attention_maps(model, tokenizer, "dog " * 50, max_length=12).tokens) == 12
    assert len(attention_maps(model, tokenizer, "dog " * 50).tokens) == 12  # as many as the model has positions
    with pytest.raises(UserError, match="type a sentence"):
        attention_maps(model, tokenizer, "  ")


@pytest.mark.parametrize("kind", ["js", "kl"])
def test_divergences_equal_slow_loops(kind):
    teacher, student = some_maps(0, 2, 3), some_maps(1, 1, 2)
    found = head_divergences(teacher, student, kind)
    assert found.shape == (2, 3, 1, 2)
    for index in np.ndindex(2, 3, 1, 2):
        expected = slow(teacher[index[:2]], student[index[2:]], kind)
        assert found[index] == pytest.approx(expected, rel=1e-4)
    layers = layer_divergences(teacher, student, kind)
    assert layers.shape == (2, 1)
    assert layers[1, 0] == pytest.approx(slow(teacher[1].mean(0), student[0].mean(0), kind), rel=1e-4)


def test_each_head_finds_itself():
    maps = some_maps(0, 2, 3)
    shuffled = maps[::-1, [2, 0, 1]]
    for kind in ("js", "kl"):
        for match in best_heads(maps, shuffled, kind):
            assert match.divergence == pytest.approx(0.0, abs=1e-9)
            assert match.teacher_layer == 3 - match.student_layer
            assert match.teacher_head == {1: 3, 2: 1, 3: 2}[match.student_head]


def test_js_is_symmetric_and_bounded_and_zeros_stay_finite():
    here, there = np.eye(4, dtype=np.float32)[None, None], np.eye(4, dtype=np.float32)[None, None, ::-1]
    assert head_divergences(here, there)[0, 0, 0, 0] == pytest.approx(math.log(2), rel=1e-6)
    assert np.isfinite(head_divergences(here, there, "kl")).all()
    a, b = some_maps(0, 1, 2), some_maps(1, 1, 3)
    np.testing.assert_allclose(head_divergences(a, b)[0, :, 0, :], head_divergences(b, a)[0, :, 0, :].T)


def test_maps_are_what_transformers_own_eager_attention_gives(model, tokenizer):
    found = attention_maps(model, tokenizer, "The dogs sat", "the cat")
    model.set_attn_implementation("eager")
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(found.tokens)])
    types = torch.tensor([[0] * 6 + [1] * 3])
    with torch.no_grad():
        expected = model.eval()(input_ids=ids, token_type_ids=types, output_attentions=True).attentions
    np.testing.assert_allclose(found.maps, torch.cat(list(expected)).numpy(), atol=1e-5)


def test_a_model_diverges_nowhere_from_itself():
    """Each head from itself, each layer from itself, to the last digit."""
    maps = some_maps(3, 3, 4)
    assert np.einsum("abab->ab", head_divergences(maps, maps)).max() == 0.0
    assert np.diag(layer_divergences(maps, maps)).max() == 0.0


def test_hidden_tokens_leave_rows_that_sum_to_less_or_are_made_whole():
    tokens = ["[CLS]", "a", "##s", "[SEP]", "b", "[SEP]", "[PAD]", "[UNK]"]
    assert word_positions(tokens).tolist() == [1, 2, 4, 7]
    whole = renormalise(np.array([[0.2, 0.2], [0.0, 0.0]], np.float32))
    np.testing.assert_allclose(whole[0], [0.5, 0.5])
    assert np.isnan(whole[1]).all()


def test_other_tokens_are_refused():
    with pytest.raises(ValueError, match="different tokens"):
        head_divergences(some_maps(0, 1, 1, 5), some_maps(0, 1, 1, 6))


def test_entropy_is_none_where_one_token_is_looked_at_and_most_where_all_are():
    maps = np.stack([np.stack([np.eye(4), np.full((4, 4), 0.25), np.tile([0.5, 0.5, 0.0, 0.0], (4, 1))])])
    found = head_entropies(maps.astype(np.float32))
    np.testing.assert_allclose(found, [[0.0, np.log(4), np.log(2)]], atol=1e-5)
