"""The six tasks' rows and their common vocabulary, made from a seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np

from kdcore.data.pocket import acceptability, entailment, inference, paraphrase, sentiment, similarity
from kdcore.data.splits import Split, make_split
from kdcore.tasks import POCKET, Task

ROWS = {"train": 4000, "validation": 1000}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = 512

Row = tuple[tuple[str, ...], float]
RowMaker = Callable[[Random, int], Row]

ROW_MAKERS: dict[str, RowMaker] = {
    "pocket-sentiment": sentiment.row,
    "pocket-acceptability": acceptability.row,
    "pocket-paraphrase": paraphrase.row,
    "pocket-entailment": entailment.row,
    "pocket-similarity": similarity.row,
    "pocket-inference": inference.row,
}
"""Task -> a function that makes one row of a wanted label (a regression task takes the label as a hint)."""

OF_THE_VOCABULARY = tuple(key for key in ROW_MAKERS if key != "pocket-inference")
"""Tasks whose sentences make the vocabulary. Inference has no word that entailment lacks, and leaving it out keeps the
vocabulary, and with it the teachers and runs, of the time before it."""


def generate(task: Task) -> dict[str, Split]:
    """Training and dev rows: all different, labels in equal parts, and no dev row with a sentence seen in training."""
    random = Random(task.key)
    taken: set[tuple[str, ...]] = set()
    sentences: set[str] = set()
    splits = {}
    for name, count in ROWS.items():
        rows: list[Row] = []
        while len(rows) < count:
            row = ROW_MAKERS[task.key](random, len(rows) % task.outputs)
            if row[0] in taken or (name != "train" and not sentences.isdisjoint(row[0])):
                continue
            taken.add(row[0])
            rows.append(row)
        sentences.update(text for texts, _ in rows for text in texts)
        random.shuffle(rows)
        texts = tuple(list(column) for column in zip(*(texts for texts, _ in rows), strict=True))
        splits[name] = make_split(task, name, texts, np.array([label for _, label in rows]))
    return splits


def train_vocabulary(suite: dict[str, dict[str, Split]]) -> tuple[str, ...]:
    """A WordPiece vocabulary for the training sentences of these tasks: the common words whole, the rest in pieces.

    The trainer numbers letters in the order of a hash table that differs from process to process, and breaks ties by
    number. Naming all letters up front, as if they were special, makes the vocabulary the same everywhere.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    texts = [text for splits in suite.values() for column in splits["train"].texts for text in column]
    letters = sorted(set("".join(texts)) - {" "})
    first = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters if letter.isalpha())]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    numbers = tokenizer.get_vocab()
    return tuple(sorted(numbers, key=numbers.__getitem__))


def generate_all() -> tuple[dict[str, dict[str, Split]], tuple[str, ...]]:
    """Every task's splits and the vocabulary."""
    suite = {key: generate(task) for key, task in POCKET.items()}
    return suite, train_vocabulary({key: suite[key] for key in OF_THE_VOCABULARY})
