"""A language model that rewrites rows: what it leaves alone, and that it draws words as it scores them."""

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from kdcore.errors import UserError
from kdcore.models import masked_lm
from kdcore.models.anatomy import anatomy
from kdcore.models.special_tokens import special_tokens
from kdcore.models.word_model import WordModel, new_head
from kdcore.records import Encoding, ModelSize
from tests.helpers import masked_lm_folder

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(11)), "##s"]
SIZE = ModelSize(2, 16, 2, 32, vocabulary=len(VOCABULARY), positions=64)
SPECIAL = torch.arange(5)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    return masked_lm_folder.write(tmp_path_factory.mktemp("lm") / "lm", VOCABULARY)


@pytest.fixture(scope="module")
def words(source) -> WordModel:
    model = masked_lm.load(masked_lm.find(source, SIZE), VOCABULARY)
    return WordModel(model.encoder, model.head, special_tokens(VOCABULARY))


def rows(count: int = 8) -> Encoding:
    """[CLS] a [SEP] b [SEP] of several lengths, padded."""
    length = torch.arange(count) % 4 + 6
    ids = torch.randint(5, len(VOCABULARY), (count, 10), generator=torch.Generator().manual_seed(2))
    ids[:, 0], ids[:, 3] = 2, 3
    ids[torch.arange(count), length - 1] = 3
    mask = (torch.arange(10) < length[:, None]).long()
    return Encoding(ids * mask, mask, (torch.arange(10) > 3) * mask)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("share", "rounds"), [(0.0, 3), (0.9, 0)])
def test_without_a_share_or_a_round_rows_stay_as_they_are(words, share, rounds):
    assert words.resampled(rows(), share, rounds, rng()).input_ids.equal(rows().input_ids)


def test_special_tokens_types_and_lengths_stay_and_no_special_word_is_drawn(words):
    before = rows()
    after = words.resampled(before, 0.9, 5, rng())
    special = torch.isin(before.input_ids, SPECIAL)
    assert torch.isin(after.input_ids, SPECIAL).equal(special)
    assert after.input_ids[special].equal(before.input_ids[special])
    assert after.attention_mask.equal(before.attention_mask) and after.token_type_ids.equal(before.token_type_ids)
    changed = (after.input_ids != before.input_ids)[~special]
    assert changed.float().mean() > 0.5


def test_words_are_drawn_as_the_model_scores_them(words, source):
    """One hidden word many times over, against transformers' own class; special tokens are left out."""
    row, many = torch.tensor([[2, 7, 3]]), 4000
    model = BertForMaskedLM.from_pretrained(source.removeprefix("folder:")).eval()
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([[2, 4, 3]])).logits[0, 1]
    expected = scores.index_fill(0, SPECIAL, -torch.inf).softmax(-1)
    copies = Encoding(row.repeat(many, 1), torch.ones(many, 3).long(), torch.zeros(many, 3).long())
    drawn = words.resampled(copies, 1.0, 1, rng()).input_ids[:, 1]
    shares = torch.bincount(drawn, minlength=len(VOCABULARY)) / many
    spread = (expected * (1 - expected) / many).sqrt()
    assert ((shares - expected).abs() <= 5 * spread).all() and shares[5:].max() < 0.9


def test_the_share_of_tokens_that_a_round_hides(words, monkeypatch):
    """A word may be drawn again, so what changes is less."""
    seen = []
    real = WordModel._states

    def noted(self, encoding):
        seen.append((encoding.input_ids == 4).sum().item())
        return real(self, encoding)

    monkeypatch.setattr(WordModel, "_states", noted)
    many = rows(400)
    words.resampled(many, 0.3, 2, rng())
    free = int((~torch.isin(many.input_ids, SPECIAL)).sum())
    for count in seen:
        assert abs(count / free - 0.3) < 4 * (0.21 / free) ** 0.5
    assert len(seen) == 2


def test_what_is_drawn_follows_from_the_generator_alone(words):
    before = torch.get_rng_state()
    one, two, other = (words.resampled(rows(), 0.5, 2, rng(seed)).input_ids for seed in (1, 1, 2))
    assert one.equal(two) and not one.equal(other)
    assert torch.get_rng_state().equal(before)


def test_a_new_head_passes_states_on():
    before = torch.get_rng_state()
    head, states, table = new_head(8, 11, 3), torch.randn(5, 8), torch.randn(11, 8)
    torch.set_rng_state(before)
    new_head(8, 11, 3)
    assert torch.get_rng_state().equal(before)
    passed = torch.nn.functional.gelu(states)
    passed = (passed - passed.mean(-1, keepdim=True)) / passed.std(-1, unbiased=False, keepdim=True)
    torch.testing.assert_close(head(states, table), passed @ table.T, rtol=1e-4, atol=1e-4)
    assert all(parameter.requires_grad for parameter in head.parameters())


def test_a_masked_language_model_fills_a_copy_of_its_size(source, words):
    from kdcore.config import StudentSpec
    from kdcore.models.students import build_student

    copy = build_student(SIZE, 3, StudentSpec(layers=2, init="random"), None, seed=5)
    classifier = copy.classifier.weight.clone()
    masked_lm.fill(copy, masked_lm.find(source, SIZE), VOCABULARY)
    assert anatomy(copy).word_vectors().equal(anatomy(words.encoder).word_vectors())
    assert all(a.equal(b) for a, b in zip(copy.bert.parameters(), words.encoder.bert.parameters(), strict=True))
    assert copy.classifier.weight.equal(classifier)


@pytest.mark.parametrize(("other", "said"), [({"layers": 4}, "its layers is 2, not 4"), ({"width": 32}, "width is 16")])
def test_one_of_another_size_is_refused_by_name(source, other, said):
    from dataclasses import replace

    with pytest.raises(UserError, match=rf"options\.masked_lm.*teacher big.*{said}.*big was fine-tuned from"):
        masked_lm.check_same_shape(masked_lm.find(source, SIZE), replace(SIZE, **other), "big")


def test_special_tokens_are_told_from_a_vocabulary():
    found = special_tokens(VOCABULARY)
    assert (found.size, found.ids, found.mask) == (len(VOCABULARY), (0, 1, 2, 3, 4), 4)
    with pytest.raises(UserError, match=r"no \[MASK\]"):
        special_tokens(["[PAD]", "film"])
