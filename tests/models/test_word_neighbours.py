"""Words put in the place of near words: which are words, which are near, and what a replacement leaves alone."""

import numpy as np
import pytest
import torch

from kdcore.models.word_neighbours import BLOCK, STOP_WORDS, WordNeighbours, is_word
from kdcore.records import Encoding

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", "7", "the", "x", "film", "movie", "plot", "good",
              "fine", "bad", "##s", "##y", "café"]  # fmt: skip
WORDS = {"film", "movie", "plot", "good", "fine", "bad", "café"}
TABLE = torch.randn(len(VOCABULARY), 6, generator=torch.Generator().manual_seed(0))


def ids(*tokens: str) -> list[int]:
    return [VOCABULARY.index(token) for token in tokens]


def encoding(*rows: str) -> Encoding:
    """Rows of tokens between [CLS] and [SEP], padded by one more than the longest needs."""
    coded = [ids("[CLS]", *row.split(), "[SEP]") for row in rows]
    width = max(map(len, coded)) + 1
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in coded])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in coded])
    return Encoding(tokens, mask, torch.zeros_like(tokens))


def tokens(row: torch.Tensor) -> list[str]:
    return [VOCABULARY[index] for index in row.tolist()]


def nearest(words: WordNeighbours, *wanted: int) -> list[list[int]]:
    return words.nearest(torch.tensor(wanted)).tolist()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def words() -> WordNeighbours:
    return WordNeighbours(TABLE, VOCABULARY, count=3)


def test_words_are_of_letters_and_no_stop_words():
    assert {token for token in VOCABULARY if is_word(token)} == WORDS
    for token in ("The", "NOT", "a", "don", "[MASK]", "##ing", "x2", "well-known", "'", ""):
        assert not is_word(token)


def test_stop_words_are_lower_case_words_that_the_rule_for_letters_would_let_pass():
    assert len(STOP_WORDS) > 150
    assert all(word.isalpha() and word.islower() and len(word) > 1 for word in STOP_WORDS)
    assert {"the", "not", "never", "and", "of", "is", "because"} <= STOP_WORDS


def test_neighbours_are_the_nearest_words_by_cosine(words):
    for token in WORDS:
        me = VOCABULARY.index(token)
        near = {other: torch.cosine_similarity(TABLE[me], TABLE[VOCABULARY.index(other)], dim=0).item()
                for other in WORDS - {token}}  # fmt: skip
        expected = sorted(near, key=near.__getitem__, reverse=True)[:3]
        assert tokens(words.nearest(torch.tensor([me]))[0]) == expected


def test_nearest_by_hand_is_blind_to_length():
    table = torch.tensor([[1.0, 0.0], [9.0, 1.0], [0.0, 0.1], [-1.0, -0.1]])
    words = WordNeighbours(table, ["film", "movie", "plot", "good"], 3)
    assert nearest(words, 0, 1, 2, 3) == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 0, 1]]
    assert words.near(torch.tensor([0.0, 9.0])) == [2, 1, 0]


def test_neighbours_are_the_same_whichever_words_are_asked_together():
    """Looked up at once, one by one, in any order: all as in one table of all cosines."""
    count = 2 * BLOCK + 40
    names = ["word" + "".join(chr(97 + int(digit)) for digit in str(i)) for i in range(count)]
    table = torch.randn(count, 8, generator=torch.Generator().manual_seed(1))
    directions = torch.nn.functional.normalize(table, dim=-1)
    expected = (directions @ directions.T).fill_diagonal_(-torch.inf).topk(5).indices
    orders = [torch.arange(count).split(count), torch.arange(count).split(1), torch.randperm(count).split(7)]
    for order in orders:
        words = WordNeighbours(table, names, 5)
        for some in order:
            assert torch.equal(words.nearest(some), expected[some])
        assert torch.equal(words.nearest(torch.arange(count)), expected)


def test_what_is_no_word_has_itself(words):
    for token in ("[PAD]", "the", "##s", "7"):
        assert nearest(words, VOCABULARY.index(token)) == [[VOCABULARY.index(token)] * 3]


def test_fewer_words_than_asked_for():
    assert WordNeighbours(TABLE, VOCABULARY, count=100).count == len(WORDS) - 1
    for few in (["[PAD]", "film", "the"], ["[PAD]", "the"]):  # a word alone has no neighbour
        alone = WordNeighbours(TABLE, few, count=3)
        assert not alone.is_word.any() and nearest(alone, *range(len(few))) == [[i] for i in range(len(few))]
        assert alone.near(TABLE[0]) == []


def test_a_table_longer_than_the_vocabulary_does_no_harm(words):
    longer = WordNeighbours(torch.cat([TABLE, torch.ones(4, 6)]), VOCABULARY, count=3)
    every = range(len(VOCABULARY))
    assert nearest(longer, *every) == nearest(words, *every)


def test_only_whole_words_are_replaceable(words):
    row = encoding("the film ! film ##s x 7 good bad ##y [MASK] plot", "good")
    found = [[token for token, yes in zip(tokens(line), where, strict=True) if yes]
             for line, where in zip(row.input_ids, words.replaceable(row).tolist(), strict=True)]  # fmt: skip
    assert found == [["film", "good", "plot"], ["good"]]
    assert words.replaceable(row)[0].tolist().index(True) == 2  # the first film, not the one of `film ##s`


def test_padding_is_not_replaceable_even_where_its_id_is_a_word(words):
    row = encoding("film")
    odd = Encoding(torch.full_like(row.input_ids, VOCABULARY.index("film")), row.attention_mask, row.token_type_ids)
    assert torch.equal(words.replaceable(odd), row.attention_mask.bool())


def test_replaced_words_are_neighbours_and_the_rest_stays(words):
    row = encoding("the film ##s [UNK] good !", "movie plot bad fine")
    may = words.replaceable(row)
    seen = set()
    for seed in range(60):
        changed = words.replace_words(row, 1.0, rng(seed))
        assert torch.equal(changed.input_ids[~may], row.input_ids[~may])
        assert changed.attention_mask is row.attention_mask and changed.token_type_ids is row.token_type_ids
        for old, new in zip(row.input_ids[may].tolist(), changed.input_ids[may].tolist(), strict=True):
            assert new in nearest(words, old)[0] and new != old
            seen.add((old, new))
    assert len(seen) == 5 * 3  # each of the three neighbours of each word comes up


def test_chance_is_that_of_each_word(words):
    row = encoding(*["good bad film plot"] * 200)
    may = words.replaceable(row)
    changed = words.replace_words(row, 0.4, rng()).input_ids != row.input_ids
    assert changed[may].float().mean().item() == pytest.approx(0.4, abs=0.06)


def test_chance_zero_gives_the_rows_back(words):
    row = encoding("the good film", "bad plot")
    assert torch.equal(words.replace_words(row, 0.0, rng()).input_ids, row.input_ids)


def test_the_same_seed_draws_the_same_and_nothing_else_is_used(words):
    row = encoding(*["good bad film plot"] * 8)
    before = torch.get_rng_state()
    one, two, other = (words.replace_words(row, 0.5, rng(seed)).input_ids for seed in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_rows_that_went_in_are_not_written_to(words):
    row = encoding("good bad film plot")
    before = row.input_ids.clone()
    words.replace_words(row, 1.0, rng())
    assert torch.equal(row.input_ids, before)
