"""A small vocabulary of a task's texts: the same everywhere, and one that reads every word of known letters."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import pytest

from kdcore.data.vocabulary import SPECIAL, train_vocabulary
from kdcore.models.tokenizers import tokenizer_from_vocabulary

TEXTS = ["The players were playing a play", "a Café plays 1,234 plays", "replay the played games"] * 3
PIECES = 110


@pytest.fixture(scope="module")
def pieces():
    return train_vocabulary(TEXTS, PIECES)


def test_pieces_of_words_join_back_into_them(pieces):
    tokenizer = tokenizer_from_vocabulary(pieces)
    for text in ("the players were replaying", "cafe 1,234"):
        tokens = tokenizer.tokenize(text)
        assert "[UNK]" not in tokens
        assert "".join(token.removeprefix("##") for token in tokens) == text.replace(" ", "")


def test_special_tokens_come_first_and_the_size_is_kept(pieces):
    assert pieces[: len(SPECIAL)] == SPECIAL
    assert len(pieces) == len(set(pieces)) <= PIECES
    many = [" ".join(map("".join, product("abcd", repeat=4)))]
    assert len(train_vocabulary(many, 100)) == 100
    assert len(train_vocabulary(["a b"], 64)) == len(SPECIAL) + 4, "of few texts come fewer pieces"


def test_frequent_words_are_whole(pieces):
    assert {"the", "plays"} <= set(pieces)


def test_another_process_learns_the_same_vocabulary(pieces):
    """The trainer's hash table differs from process to process."""
    code = f"from kdcore.data.vocabulary import train_vocabulary; print(*train_vocabulary({TEXTS!r}, {PIECES}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert tuple(done.stdout.split()) == pieces


def test_rare_letters_take_no_more_than_their_share():
    rare = [chr(0x4E00 + number) for number in range(500)]
    pieces = train_vocabulary([*TEXTS, " ".join(rare)], 100)
    assert len([token for token in pieces if token in rare]) < 50
    assert "the" in pieces


def test_the_order_of_the_texts_changes_nothing(pieces):
    assert train_vocabulary(TEXTS[::-1], PIECES) == pieces
