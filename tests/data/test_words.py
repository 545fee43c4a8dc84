"""The words of a text, whatever pieces a tokenizer cuts it into."""

from __future__ import annotations

import numpy as np

from kdcore.data.encode import encode
from kdcore.data.splits import make_split
from kdcore.data.words import pieces_of, shared_words, spell, word_numbers
from kdcore.records import NO_WORD
from kdcore.tasks import TASKS
from tests.helpers import model_families
from tests.helpers import tiny_task as world

TEXTS = ["the  film was good, very", " a plot is dull"]


def test_all_tokenizers_tell_the_same_words():
    """A pair's second sentence counts on; punctuation belongs to the word that it stands at."""
    for tokenizer in (world.tokenizer(), *map(model_families.tokenizer, model_families.FAMILIES)):
        coded = tokenizer(*TEXTS)
        numbers = word_numbers(coded.encodings[0], TEXTS)
        assert len(numbers) == len(coded["input_ids"])
        assert np.unique(numbers).tolist() == [NO_WORD, *range(9)]
        assert (np.diff(numbers[numbers != NO_WORD]) >= 0).all()


def test_pieces_spell_their_words():
    for family in model_families.FAMILIES:
        tokenizer = model_families.tokenizer(family)
        coded = tokenizer("the film was good")
        numbers = word_numbers(coded.encodings[0], ["the film was good"])
        assert spell(coded.tokens(), numbers, np.arange(4)) == ["the", "film", "was", "good"], family


def test_a_mean_over_pieces_and_words_that_both_read():
    first, second = np.array([-1, 0, 0, 1, -1]), np.array([-1, 0, 1, 2, -1])
    shared = shared_words(first, second)
    assert shared.tolist() == [0, 1]
    assert np.allclose(pieces_of(first, shared) @ np.array([9, 2, 4, 5, 9.0]), [3, 5])


def test_rows_keep_their_readings_when_some_are_taken():
    texts = [f"{' '.join(world.PLAIN[: 2 + row])} good" for row in range(5)]
    split = make_split(TASKS[world.SENTIMENT], "train", (texts,), np.zeros(5, np.int64))
    rows = encode(split, world.tokenizer(), 8, {"other": model_families.tokenizer("roberta")})
    taken, alone = rows.take(np.array([3, 1])), rows.reading("other").take(np.array([3, 1]))
    assert np.array_equal(taken.reading("other").input_ids, alone.input_ids)
    assert taken.words is not None and len(taken.words) == taken.offsets[-1]
    assert taken.reading("") is taken and rows.lengths.max() <= 8 >= alone.lengths.max()
