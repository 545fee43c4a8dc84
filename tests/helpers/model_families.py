"""Small teachers of other families, each with a tokenizer of its own kind, as folders that transformers wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    ElectraConfig,
    ElectraForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from kdcore.config import TeacherSpec
from tests.helpers import tiny_task as world

FAMILIES = ("roberta", "electra", "mpnet")
SIZES = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_labels": 2,
    "max_position_embeddings": 66,
    "initializer_range": 0.3,
}


def teacher(shelf: Path, family: str, layers: int = 2) -> TeacherSpec:
    """A finished teacher of this family for the tiny task, made if it is not there."""
    home = shelf / f"{family}-{layers}"
    if not home.exists():
        words = tokenizer(family)
        build(family, len(words), layers).save_pretrained(home)
        words.save_pretrained(home)
    return TeacherSpec(name=family, source="folder", where=str(home))


def build(family: str, vocabulary: int, layers: int = 2, seed: int = 5) -> Any:
    """A model with new weights, wide enough apart that its answers differ from row to row."""
    sizes = {**SIZES, "num_hidden_layers": layers, "vocab_size": vocabulary}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if family == "roberta":
            config = RobertaConfig(**sizes, pad_token_id=1, type_vocab_size=1)
            return RobertaForSequenceClassification(config).eval()
        if family == "mpnet":
            return MPNetForSequenceClassification(MPNetConfig(**sizes)).eval()
        return ElectraForSequenceClassification(ElectraConfig(**sizes, embedding_size=16)).eval()


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Byte-level pairs (RoBERTa), or pieces of words (ELECTRA, MPNet); trained on the tiny task's sentences."""
    texts = world.data_of().train.texts[0]
    names = (
        ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
        if family == "electra"
        else ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    )
    first, pad, last, unknown, mask = names
    if family == "roberta":
        built = Tokenizer(models.BPE())
        built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        built.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=290, special_tokens=list(names), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )  # fmt: skip
    else:
        built = Tokenizer(models.WordPiece(unk_token=unknown))
        built.normalizer = normalizers.BertNormalizer()
        built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=45, special_tokens=list(names), show_progress=False)
    built.train_from_iterator(texts, trainer)
    between = f"{last} {last}" if family != "electra" else last
    built.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {between} $B {last}",
        special_tokens=[(token, built.token_to_id(token)) for token in (first, last)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=built, cls_token=first, pad_token=pad, sep_token=last, unk_token=unknown, mask_token=mask,
        bos_token=first, eos_token=last,
    )  # fmt: skip
