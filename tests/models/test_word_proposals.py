"""Words that a masked language model proposes for those of a row: which, and what a replacement leaves alone."""

import numpy as np
import pytest
import torch

from kdcore.models import masked_lm
from kdcore.models.word_proposals import WordProposals
from kdcore.records import Encoding, ModelSize
from tests.helpers import masked_lm_folder

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", "7", "the", "x", "film", "movie", "plot", "good",
              "fine", "bad", "##s", "##y", "##7"]  # fmt: skip
STUDENT = ModelSize(2, 16, 2, 32, vocabulary=len(VOCABULARY), positions=32)
BEGINS = {token for token in VOCABULARY if token[0] not in "[#"}


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    source = masked_lm_folder.write(tmp_path_factory.mktemp("lm") / "lm", VOCABULARY)
    return masked_lm.load(masked_lm.find(source, STUDENT), VOCABULARY)


@pytest.fixture
def words(lm) -> WordProposals:
    return WordProposals(lm, 3)


def ids(text: str) -> list[int]:
    return [VOCABULARY.index(token) for token in ["[CLS]", *text.split(), "[SEP]"]]


def encoding(*rows: str, pair: int = 99) -> Encoding:
    """Rows padded by one more than the longest needs; token types are 1 from position `pair`."""
    coded = [ids(row) for row in rows]
    width = max(map(len, coded)) + 1
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in coded])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in coded])
    return Encoding(tokens, mask, (torch.arange(width) >= pair) * mask)


def tokens(found) -> list[str]:
    return [VOCABULARY[i] for i in found]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_word_of_one_piece_gets_what_the_model_says_where_it_is_masked(words, lm):
    row, types = ids("the good film ! bad"), [0, 0, 0, 0, 1, 1, 1]
    found = words.proposals(row, types)
    assert [(p.start, p.end) for p in found] == [(2, 3), (3, 4), (5, 6)]  # no stop word, no sign
    for proposal in found:
        masked = torch.tensor([row])
        masked[0, proposal.start] = lm.mask_id
        alone = Encoding(masked, torch.ones_like(masked), torch.tensor([types]))
        said = lm.scores(lm.states(alone))[0, proposal.start]
        best = [token for token in tokens(said.argsort(descending=True).tolist()) if token in BEGINS]
        assert tokens(proposal.words) == best[:3]


def test_a_word_of_several_pieces_gets_the_nearest_to_the_mean_of_its_pieces(words, lm):
    (proposal,) = words.proposals(ids("film ##s ##y"), [0] * 5)
    assert (proposal.start, proposal.end) == (1, 4)
    mean = lm.table[[VOCABULARY.index(token) for token in ("film", "##s", "##y")]].mean(0)
    near = {token: torch.cosine_similarity(mean, lm.table[VOCABULARY.index(token)], dim=0).item()
            for token in ("film", "movie", "plot", "good", "fine", "bad")}  # fmt: skip
    assert tokens(proposal.words) == sorted(near, key=near.__getitem__, reverse=True)[:3]


def test_what_is_no_word_is_left_alone(words):
    assert words.proposals(ids("the x ! 7 film ##7 [MASK] [UNK]"), [0] * 10) == ()
    assert [p.start for p in words.proposals(ids("x ##s the ##y ##s"), [0] * 7)] == [1, 3]  # `xs`, `theys`: words


def test_proposals_do_not_hang_on_what_was_asked_before(lm):
    texts = ["good film", "bad plot ! the movie", "fine film ##s good", "movie"]
    one, two = WordProposals(lm, 3), WordProposals(lm, 3)
    first = [one.proposals(ids(text), [0] * len(ids(text))) for text in texts]
    second = [two.proposals(ids(text), [0] * len(ids(text))) for text in reversed(texts)]
    assert first == second[::-1]


def test_a_row_is_read_once(words, lm, monkeypatch):
    read = []
    states = lm.states
    monkeypatch.setattr(lm, "states", lambda encoding: read.append(len(encoding.input_ids)) or states(encoding))
    for seed in range(3):
        words.replace_words(encoding("good film", "bad"), 0.5, rng(seed))
    assert read == [2, 1]


def test_fewer_words_than_asked_for(lm):
    (proposal,) = WordProposals(lm, 100).proposals(ids("film"), [0] * 3)
    assert set(tokens(proposal.words)) == BEGINS and len(proposal.words) == len(BEGINS)


def test_replaced_words_are_those_proposed(words):
    row, seen = encoding("the good ! film", "bad plot"), set()
    for seed in range(60):
        changed = words.replace_words(row, 1.0, rng(seed))
        for at, line in enumerate(row.input_ids.tolist()):
            length = int(row.attention_mask[at].sum())
            may = {p.start: p.words for p in words.proposals(line[:length], [0] * length)}
            for place, (old, new) in enumerate(zip(line, changed.input_ids[at].tolist(), strict=True)):
                assert new in may.get(place, (old,))
                seen |= {(at, place, new)} if place in may else set()
        assert torch.equal(changed.attention_mask, row.attention_mask)
    assert len(seen) == 4 * 3  # each of the three words of each place comes up


def test_a_row_is_shorter_where_one_token_takes_the_place_of_several(words):
    row = encoding("film ##s ##y ! x", "the x ! 7 the x", pair=4)
    changed = words.replace_words(row, 1.0, rng())
    start, word, *rest = tokens(changed.input_ids[0].tolist())
    assert start == "[CLS]" and word in BEGINS and rest == ["!", "x", "[SEP]", *4 * ["[PAD]"]]
    assert changed.attention_mask[0].tolist() == [1] * 5 + [0] * 4
    assert row.token_type_ids[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 0]
    assert changed.token_type_ids[0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0]
    for before, after in zip(row.tensors(), changed.tensors(), strict=True):
        assert torch.equal(after[1], before[1]) and after.dtype == before.dtype


def test_chance_is_that_of_each_word(lm):
    words = WordProposals(lm, 100)
    row = encoding(*["good bad film plot"] * 300)
    changed = (words.replace_words(row, 0.4, rng()).input_ids != row.input_ids)[:, 1:5]
    assert changed.float().mean().item() == pytest.approx(0.4 * (1 - 1 / len(BEGINS)), abs=0.05)
    assert torch.equal(words.replace_words(row, 0.0, rng()).input_ids, row.input_ids)


def test_the_same_seed_draws_the_same_and_nothing_else_is_used(words):
    row = encoding(*["good bad film ##s plot"] * 8)
    before, kept = torch.get_rng_state(), row.input_ids.clone()
    one, two, other = (words.replace_words(row, 0.5, rng(seed)).input_ids for seed in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(row.input_ids, kept)
