"""Tokens, batches and padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from kdcore.data.encode import Encoded, collate, encode, epoch_order, sorted_order
from kdcore.data.splits import Split

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer with BERT's template: every token can be told by hand."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]")


def split(*texts: list[str]) -> Split:
    rows = len(texts[0])
    return Split("train", texts, np.arange(rows) % 2, np.arange(rows, dtype=np.int64) + 100)


def lengths_only(lengths: list[int]) -> Encoded:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.arange(1, offsets[-1] + 1, dtype=np.int32)
    ids = np.arange(len(lengths), dtype=np.int64)
    return Encoded(tokens, (tokens % 2).astype(np.uint8), offsets, np.zeros(len(lengths), np.int64), ids)


def test_pair_is_laid_out_as_bert_reads_it(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode(split(["a b", "c"], ["d", "e f"]), tokenizer, 16)
    assert encoded.lengths.tolist() == [6, 6]
    assert [WORDS[i] for i in encoded.input_ids[:6]] == ["[CLS]", "a", "b", "[SEP]", "d", "[SEP]"]
    assert encoded.token_types.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1]
    assert encoded.ids.tolist() == [100, 101]


def test_longer_sentence_is_cut_first(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode(split(["a b c d e f g h"], ["i j"]), tokenizer, 9)
    assert [WORDS[i] for i in encoded.input_ids] == ["[CLS]", "a", "b", "c", "d", "[SEP]", "i", "j", "[SEP]"]


def test_batch_equals_the_tokenizers_own(tokenizer: PreTrainedTokenizerFast) -> None:
    rng = np.random.default_rng(0)
    texts = tuple([" ".join(rng.choice(list("abcdefghij"), rng.integers(1, 12))) for _ in range(50)] for _ in range(2))
    encoded = encode(split(*texts), tokenizer, 24)
    rows = rng.permutation(50)[:13]
    batch = collate(encoded, rows)
    reference = tokenizer(
        *([column[i] for i in rows] for column in texts),
        truncation=True, max_length=24, padding=True, return_tensors="pt",
        return_token_type_ids=True,
    )  # fmt: skip
    assert torch.equal(batch.encoding.input_ids, reference["input_ids"])
    assert torch.equal(batch.encoding.attention_mask, reference["attention_mask"])
    assert torch.equal(batch.encoding.token_type_ids, reference["token_type_ids"])
    assert batch.ids.tolist() == (rows + 100).tolist()
    assert batch.labels.tolist() == (rows % 2).tolist()


def test_many_rows_are_tokenised_piece_by_piece(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [" ".join("abcdefghij"[: 1 + i % 10]) for i in range(30)]
    whole = encode(split(texts), tokenizer, 16)
    monkeypatch.setattr("kdcore.data.encode.ROWS_AT_ONCE", 7)
    pieces = encode(split(texts), tokenizer, 16)
    assert np.array_equal(whole.input_ids, pieces.input_ids)
    assert np.array_equal(whole.offsets, pieces.offsets)


def test_no_rows(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode(split([]), tokenizer, 16)
    assert len(encoded) == 0
    assert encoded.lengths.tolist() == []
    assert epoch_order(encoded.lengths, 4, 0, 0) == []
    assert sorted_order(encoded.lengths, 4) == []


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20), multiple=st.sampled_from([1, 8]), data=st.data())
@settings(deadline=None, max_examples=60)
def test_padding_is_right_of_the_tokens_and_to_the_multiple(
    lengths: list[int], multiple: int, data: st.DataObject
) -> None:
    encoded = lengths_only(lengths)
    rows = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8)))
    encoding = collate(encoded, rows, multiple).encoding
    width = encoding.input_ids.shape[1]
    longest = max(lengths[row] for row in rows)
    assert width % multiple == 0
    assert longest <= width < longest + multiple
    for i, row in enumerate(rows):
        tokens = encoded.input_ids[encoded.offsets[row] : encoded.offsets[row + 1]].tolist()
        assert encoding.input_ids[i].tolist() == tokens + [0] * (width - len(tokens))
        assert encoding.attention_mask[i].tolist() == [1] * len(tokens) + [0] * (width - len(tokens))
        assert encoding.token_type_ids[i].tolist() == [t % 2 for t in tokens] + [0] * (width - len(tokens))
    assert {t.dtype for t in encoding.tensors()} == {torch.int64}


@given(
    lengths=st.lists(st.integers(1, 60), max_size=400),
    batch_size=st.integers(1, 33),
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 50),
    bucket=st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_every_row_comes_exactly_once(lengths: list[int], batch_size: int, seed: int, epoch: int, bucket: bool) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    batches = epoch_order(sizes, batch_size, seed, epoch, bucket)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    again = epoch_order(sizes, batch_size, seed, epoch, bucket)
    assert all(np.array_equal(one, two) for one, two in zip(batches, again, strict=True))
    canonical = sorted_order(sizes, batch_size)
    assert sorted(row for batch in canonical for row in batch) == list(range(len(lengths)))
    assert [sizes[row] for batch in canonical for row in batch] == sorted(lengths)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    sizes = np.arange(200) % 17 + 1
    order = {
        (seed, epoch): [row for batch in epoch_order(sizes, 8, seed, epoch) for row in batch]
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len({tuple(rows) for rows in order.values()}) == 4
    np.random.seed(3)
    torch.manual_seed(3)
    before = (np.random.get_state()[1].copy(), torch.get_rng_state())  # type: ignore[index]
    assert order[0, 0] == [row for batch in epoch_order(sizes, 8, 0, 0) for row in batch]
    assert np.array_equal(before[0], np.random.get_state()[1])  # type: ignore[index]
    assert torch.equal(before[1], torch.get_rng_state())


def test_buckets_hold_rows_of_like_length_in_shuffled_batches() -> None:
    sizes = np.random.default_rng(0).integers(4, 100, 4000)

    def padded(bucket: bool) -> int:
        return sum(len(batch) * sizes[batch].max() for batch in epoch_order(sizes, 32, 0, 0, bucket))

    assert padded(True) < 0.65 * padded(False)
    longest = [sizes[batch].max() for batch in epoch_order(sizes, 32, 0, 0)]
    assert longest != sorted(longest)
    assert not all(np.diff(longest[:62]) >= 0)


def test_taken_rows_are_those_of_the_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["a b c", "a", "c b", "b b b b"]
    encoded, rows = encode(split(texts), tokenizer, 16), np.array([3, 1])
    taken, alone = encoded.take(rows), encode(split([texts[row] for row in rows]), tokenizer, 16)
    assert taken.input_ids.tolist() == alone.input_ids.tolist() and taken.offsets.tolist() == alone.offsets.tolist()
    assert taken.token_types.tolist() == alone.token_types.tolist()
    assert taken.ids.tolist() == encoded.ids[rows].tolist() and taken.labels.tolist() == encoded.labels[rows].tolist()
