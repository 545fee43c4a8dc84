"""A small WordPiece vocabulary, learned from the texts of a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
INSIDE = "##"
LETTERS = 0.5
"""Largest share of a vocabulary that single letters may take; words with rarer ones are read as [UNK]."""


def train_vocabulary(texts: Iterable[str], pieces: int) -> tuple[str, ...]:
    """The pieces of a lower-casing WordPiece vocabulary for these texts: special tokens, letters, then the most useful
    joins of them. Of few texts come fewer pieces than are asked for.

    The trainer of `tokenizers` numbers letters in the order of a hash table that differs from process to process, and
    breaks ties by number. Here all letters are named up front, as if they were special tokens, and words with other
    letters are left out, so that the same texts give the same vocabulary everywhere.

    Args:
        pieces: how many, special tokens included.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words = _word_counts(texts)
    kept = _letters(words, int((pieces - len(SPECIAL)) * LETTERS / 2))
    words = {word: count for word, count in words.items() if kept.issuperset(word)}
    inside = {letter for letter in kept if letter.isalnum()}.union(*(word[1:] for word in words))
    known = [*SPECIAL, *sorted(kept), *(INSIDE + letter for letter in sorted(inside))]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(vocab_size=pieces, special_tokens=known, show_progress=False)
    tokenizer.train_from_iterator(_repetitions(words), trainer)
    numbers = tokenizer.get_vocab()
    return tuple(sorted(numbers, key=numbers.__getitem__))


def _word_counts(texts: Iterable[str]) -> dict[str, int]:
    """How often each word comes, as a lower-casing BERT splits a text."""
    from tokenizers import normalizers, pre_tokenizers

    normal, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normal.normalize_str(text)))
    return counts


def _letters(words: dict[str, int], most: int) -> set[str]:
    """The most frequent letters, ties by code point."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        counts.update(dict.fromkeys(word, count))
    return set(sorted(counts, key=lambda letter: (-counts[letter], letter))[:most])


def _repetitions(words: dict[str, int]) -> Iterator[str]:
    for word in sorted(words):
        yield f"{word} " * words[word]
