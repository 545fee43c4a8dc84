from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from kdcore.errors import UserError
from kdcore.models.sizes import bert_config
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from kdcore.models.weights import build_classifier
from kdcore.probes import saliency
from kdcore.probes.saliency import GRADIENT, INTEGRATED, agreement, attribute, explain, loyalty, sample, word_mask
from kdcore.records import Encoding, ModelSize

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "cat", "##s", "sat", "on", "a", "mat"]
SPECIAL = frozenset({0, 2, 3, 4})


def build(seed: int, outputs: int = 3, layers: int = 2, dtype: torch.dtype = torch.float64):
    config = bert_config(ModelSize(layers, 16, 4, 24, len(TOKENS), 12, 2), outputs, None)
    config.initializer_range = 0.4
    return build_classifier(config, {}, seed)[0].to(dtype).eval()


def rows(count: int = 5, seed: int = 0) -> Encoding:
    """[CLS], 4 to 8 words, [SEP], padding."""
    rng = np.random.default_rng(seed)
    ids, mask = torch.zeros(count, 10, dtype=torch.int64), torch.zeros(count, 10, dtype=torch.int64)
    for row in range(count):
        words = rng.integers(5, len(TOKENS), size=4 + row % 5)
        line = torch.tensor([2, *words, 3])
        ids[row, : len(line)], mask[row, : len(line)] = line, 1
    return Encoding(ids, mask, torch.zeros_like(ids))


def slow_score(model, embeddings, encoding, classes):
    """transformers' own eager forward pass; [rows]."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        logits = model(inputs_embeds=embeddings, attention_mask=encoding.attention_mask).logits
    model.set_attn_implementation("sdpa")
    if logits.shape[-1] == 1:
        return logits[:, 0]
    return torch.stack([line[label] - sum(line) / len(line) for line, label in zip(logits, classes, strict=True)])


@pytest.mark.parametrize("outputs", [1, 3])
def test_gradient_times_input_is_a_finite_difference(outputs):
    """e · df/de is the change of f when the word's embedding grows by a factor of 1 + h."""
    model, encoding = build(0, outputs), rows()
    words, classes = word_mask(encoding, SPECIAL), torch.tensor([0, 1, 2, 1, 0])
    found = attribute(model, encoding, words, classes)
    embeddings, step = model.bert.embeddings.word_embeddings(encoding.input_ids).detach(), 1e-5
    for token in range(10):
        more, less = embeddings.clone(), embeddings.clone()
        more[:, token] *= 1 + step
        less[:, token] *= 1 - step
        slope = slow_score(model, more, encoding, classes) - slow_score(model, less, encoding, classes)
        expected = (slope / (2 * step)) * words[:, token]
        torch.testing.assert_close(found[:, token], expected, rtol=1e-5, atol=1e-7)
    assert found.abs().max() > 1e-3 and not found[~words].any()


@pytest.mark.parametrize("outputs", [1, 3])
def test_integrated_gradients_are_complete(outputs):
    """Sundararajan et al. 2017, Proposition 1: they sum to f(words) - f(baseline)."""
    model, encoding = build(1, outputs), rows()
    words, classes = word_mask(encoding, SPECIAL), torch.tensor([2, 1, 0, 1, 2])
    embeddings = model.bert.embeddings.word_embeddings(encoding.input_ids).detach()
    blank = embeddings.masked_fill(words[..., None], 0.0)
    expected = slow_score(model, embeddings, encoding, classes) - slow_score(model, blank, encoding, classes)
    off = [
        (attribute(model, encoding, words, classes, INTEGRATED, steps).sum(-1) - expected).abs().max().item()
        for steps in (4, 256)
    ]
    assert off[1] < 1e-4 and off[1] < off[0]
    plain = attribute(model, encoding, words, classes).sum(-1)
    assert (plain - expected).abs().max() > 1e-2, "gradient x input is not complete, so the check can fail"


def test_a_riemann_sum_on_the_line_gives_the_same():
    model, encoding = build(2), rows(2)
    words, classes = word_mask(encoding, SPECIAL), torch.tensor([0, 2])
    embeddings = model.bert.embeddings.word_embeddings(encoding.input_ids).detach()
    change, total, points = embeddings * words[..., None], torch.zeros_like(embeddings), 400
    for point in range(points):
        at = (embeddings - change * (1 - (point + 0.5) / points)).requires_grad_()
        logits = model(inputs_embeds=at, attention_mask=encoding.attention_mask).logits
        score = sum(line[label] - line.mean() for line, label in zip(logits, classes, strict=True))
        total += torch.autograd.grad(score, at)[0] / points
    found = attribute(model, encoding, words, classes, INTEGRATED, 256)
    torch.testing.assert_close(found, (total * change).sum(-1), rtol=1e-3, atol=1e-4)


def test_both_are_exact_where_the_score_is_linear(monkeypatch):
    """f = sum of w · e: every word gets w · e by either method."""
    model, encoding = build(3, outputs=1), rows()
    weight = torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    class Linear:
        def __init__(self, embeddings):
            self.logits = (embeddings @ weight).sum(-1, keepdim=True)

    monkeypatch.setattr(saliency, "rerun_of", lambda *_: lambda embeddings, *_: Linear(embeddings))
    words, classes = word_mask(encoding, SPECIAL), torch.zeros(5, dtype=torch.int64)
    expected = (model.bert.embeddings.word_embeddings(encoding.input_ids).detach() @ weight) * words
    for method in (GRADIENT, INTEGRATED):
        torch.testing.assert_close(attribute(model, encoding, words, classes, method, 3), expected)


def test_a_shift_of_all_logits_and_padding_change_nothing():
    model, encoding = build(4), rows()
    words, classes = word_mask(encoding, SPECIAL), torch.tensor([0, 1, 2, 1, 0])
    before = attribute(model, encoding, words, classes)
    short = Encoding(*(tensor[:1, :6] for tensor in encoding.tensors()))
    torch.testing.assert_close(attribute(model, short, words[:1, :6], classes[:1])[0], before[0, :6])
    with torch.no_grad():
        model.classifier.weight += torch.randn(1, 16, dtype=torch.float64)
    torch.testing.assert_close(attribute(model, encoding, words, classes), before)


def test_weights_mode_and_gradients_stay_as_they_were():
    model = build(5).train()
    encoding = rows()
    words = word_mask(encoding, SPECIAL)
    with torch.no_grad():
        once, again = (attribute(model, encoding, words, torch.zeros(5, dtype=torch.int64)) for _ in range(2))
    torch.testing.assert_close(once, again, rtol=0, atol=0)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())


def test_explain_leaves_special_tokens_out_and_keeps_unknown_words():
    model, tokenizer = build(6, dtype=torch.float32), tokenizer_from_vocabulary(TOKENS)
    found = explain(model, tokenizer, "The dogs sat", "a zebra", label=1)
    assert found.tokens == ["the", "dog", "##s", "sat", "a", "[UNK]"] and found.label == 1
    exact = explain(build(6), tokenizer, "The dogs sat", "a zebra", label=1)
    np.testing.assert_allclose(found.values, exact.values, rtol=1e-3, atol=1e-5)
    own = explain(model, tokenizer, "The dogs sat")
    with torch.no_grad():
        assert own.label == model(torch.tensor([[2, 5, 6, 8, 9, 3]])).logits.argmax().item()
    assert explain(build(6, outputs=1), tokenizer, "a cat").label is None


def test_bad_input_is_refused():
    model, tokenizer = build(7), tokenizer_from_vocabulary(TOKENS)
    with pytest.raises(UserError, match="type a sentence"):
        explain(model, tokenizer, " ")
    with pytest.raises(ValueError, match="unknown method"):
        explain(model, tokenizer, "a cat", method="lime")
    with pytest.raises(ValueError, match="classes are 0 to 2"):
        explain(model, tokenizer, "a cat", label=3)
    with pytest.raises(ValueError, match="same words"):
        agreement([1.0, 2.0], [1.0])


def test_agreement_by_hand_and_by_scipy():
    found = agreement([3.0, 0.0, -4.0], [0.0, 5.0, -12.0])
    assert found.spearman == pytest.approx(0.5) and found.cosine == pytest.approx(48 / (5 * 13))
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=12), rng.normal(size=12)
    assert agreement(a, b).spearman == pytest.approx(spearmanr(a, b).statistic)
    assert agreement(a, -2 * a) == saliency.Agreement(pytest.approx(-1.0), pytest.approx(-1.0))
    assert agreement(a, np.zeros(12)) == saliency.Agreement(0.0, 0.0)


def test_a_shuffled_map_agrees_about_nowhere():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(400, 12))
    mean = np.mean([agreement(line, rng.permutation(line)).spearman for line in values])
    assert abs(mean) < 4 / np.sqrt(400 * 11)  # four standard errors: the variance of Spearman's is 1 / (n - 1)


def test_a_teacher_is_loyal_to_itself_and_not_to_a_stranger():
    teacher = build(8)
    own = loyalty(teacher, build(8), [rows()], SPECIAL)
    assert own == {"spearman": pytest.approx(1.0), "cosine": pytest.approx(1.0), "rows": 5}
    other = loyalty(teacher, build(9), [rows(5, seed) for seed in range(8)], SPECIAL)
    assert other["rows"] == 40 and abs(other["spearman"]) < 0.7


def test_loyalty_is_the_mean_over_rows_for_the_teachers_answers():
    teacher, student, encoding = build(10), build(11, layers=1), rows()
    words = word_mask(encoding, SPECIAL)
    with torch.no_grad():
        classes = teacher(encoding.input_ids, attention_mask=encoding.attention_mask).logits.argmax(-1)
    theirs, ours = attribute(teacher, encoding, words, classes), attribute(student, encoding, words, classes)
    expected = [spearmanr(theirs[row][words[row]], ours[row][words[row]]).statistic for row in range(5)]
    parts = [encoding.rows(torch.tensor(part)) for part in ([0, 1], [2, 3, 4])]
    assert loyalty(teacher, student, parts, SPECIAL)["spearman"] == pytest.approx(np.mean(expected))


def test_rows_of_two_words_do_not_count():
    ids = torch.tensor([[2, 5, 6, 3]])
    few = Encoding(ids, torch.ones_like(ids), torch.zeros_like(ids))
    found = loyalty(build(12), build(13), [few], SPECIAL)
    assert found["rows"] == 0 and np.isnan(found["spearman"])


def test_the_sample_is_the_same_rows_each_time_and_sorted_by_length():
    lengths = np.random.default_rng(2).integers(3, 60, size=500)
    parts = sample(lengths)
    rows_ = np.concatenate(parts)
    assert len(rows_) == len(set(rows_)) == saliency.ROWS and (np.diff(lengths[rows_]) >= 0).all()
    assert [part.tolist() for part in parts] == [part.tolist() for part in sample(lengths)]
    assert sorted(np.concatenate(sample(lengths[:5]))) == [0, 1, 2, 3, 4] and sample(lengths[:0]) == []
