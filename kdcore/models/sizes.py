"""Sizes of encoders: read from a config, made into a config, and asked for by a person."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcore.config import StudentSpec
from kdcore.errors import UserError
from kdcore.models.factors import MODEL_TYPE, check_form
from kdcore.models.library import transformers
from kdcore.records import ModelSize

if TYPE_CHECKING:
    from transformers import BertConfig


@dataclass(frozen=True)
class StudentPreset:
    """A student size by name. None: as the base has it, so that the base's layers can be copied."""

    name: str
    layers: int
    width: int | None
    heads: int | None
    words: str
    intermediate: int | None = None


PRESETS: dict[str, StudentPreset] = {
    preset.name: preset
    for preset in (
        StudentPreset("one-layer", 1, None, None, "One layer of the base: the least that can be called a Transformer."),
        StudentPreset("two-layers", 2, None, None, "Two layers at full width; quick to train, clearly below its base."),
        StudentPreset("three-layers", 3, None, None, "A half of a 6-layer base, a quarter of BERT-base."),
        StudentPreset("four-layers", 4, None, None, "Two thirds of a 6-layer base; sentence pairs want this depth."),
        StudentPreset("six-layers", 6, None, None, "Half of BERT-base, the size of DistilBERT, PKD and SKD studies."),
        StudentPreset("narrow-64", 2, 64, 4, "Half of the largest pocket teacher's layers, as wide as they.", 128),
        StudentPreset("narrow-32", 2, 32, 2, "Half as wide as the pocket teachers: only their answers can be learned."),
        StudentPreset("narrow-128", 2, 128, 2, "As BERT-tiny: 4 M parameters, nearly all of them embeddings."),
        StudentPreset("narrow-256", 4, 256, 4, "As BERT-mini: 11 M parameters."),
        StudentPreset("narrow-312", 4, 312, 12, "As TinyBERT-4: 14 M parameters, feed-forward size 1200.", 1200),
    )
}
"""Sizes to start from. Those with a width of their own start from new weights: no base of another width fits them."""


def presets_for(base: ModelSize) -> dict[str, StudentPreset]:
    """The presets that are smaller than `base` in depth or width and larger in neither."""

    def smaller(preset: StudentPreset) -> bool:
        width = preset.width or base.width
        return preset.layers <= base.layers and width <= base.width and (preset.layers, width) != _size(base)

    return {name: preset for name, preset in PRESETS.items() if smaller(preset)}


def size_of(config: Any, labels: int | None = None) -> ModelSize:
    """The size that a Hugging Face config of the BERT family describes; `labels` in place of the config's own."""
    embedding = getattr(config, "embedding_size", None)
    return ModelSize(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        intermediate=config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size,
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings,
        labels=config.num_labels if labels is None else labels,
        embedding_width=None if embedding in (None, config.hidden_size) else embedding,
        model_type=family_of(config),
        pad=config.pad_token_id or 0,
        form=getattr(config, "form", "plain"),
        pooled_width=getattr(config, "pooled_width", None),
        projection_width=getattr(config, "projection_width", None),
    )


def family_of(config: Any) -> str:
    """The family whose modules a config's model has: "bert", whatever the form of its matrices."""
    return "bert" if config.model_type == MODEL_TYPE else str(config.model_type)


def usable_positions(config: Any) -> int:
    """The longest row, in tokens, that a model of this config reads."""
    return size_of(config).longest


def student_size(spec: StudentSpec, base: ModelSize, labels: int) -> ModelSize:
    """The student's size: what `spec` says, and where it is silent, what `base` has.

    The feed-forward size left empty is the base's at the base's width, and 4 x width at another.

    Raises:
        UserError: the heads do not divide the width (`student.heads`), or the form the matrices (`student.form`).
    """
    width = spec.width or base.width
    heads = spec.heads or base.heads
    if width % heads:
        fitting = [n for n in range(1, min(width, 64) + 1) if width % n == 0]
        raise UserError(
            "student.heads",
            f"{heads} attention heads do not divide the width {width}",
            f"choose one of {', '.join(map(str, fitting))}",
        )
    size = ModelSize(
        layers=spec.layers,
        width=width,
        heads=heads,
        intermediate=spec.intermediate or (base.intermediate if width == base.width else 4 * width),
        vocabulary=base.vocabulary,
        positions=base.longest,
        labels=labels,
        pad=base.pad,
        form=spec.form,
    )
    check_form(size)
    return size


def bert_config(size: ModelSize, labels: int, dropout: float | None) -> BertConfig:
    """A BERT config of this size, on SDPA and float32; `dropout` for states and attentions, None: BERT's 0.1.

    Raises:
        UserError: the size is not one of a BERT (a narrower embedding table, heads that do not divide the width).
    """
    import torch

    if size.embedding_width not in (None, size.width):
        raise UserError("student.width", "a BERT student's embeddings are as wide as its layers", "leave it empty")
    if size.width % size.heads:
        raise UserError("student.heads", f"{size.heads} heads do not divide width {size.width}", "choose a divisor")
    config = transformers().BertConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate,
        max_position_embeddings=size.positions,
        hidden_dropout_prob=0.1 if dropout is None else dropout,
        attention_probs_dropout_prob=0.1 if dropout is None else dropout,
        num_labels=labels,
        pad_token_id=size.pad,
        problem_type="regression" if labels == 1 else "single_label_classification",
        initializer_range=initializer_range(size.width),
    )
    config.dtype = torch.float32
    config._attn_implementation = "sdpa"
    return config


def initializer_range(width: int) -> float:
    """Standard deviation of new weights: BERT's 0.02 at its width of 768, scaled by 1 / sqrt(width) to any other.

    With 0.02 at width 64 every layer starts close to zero, and a small model from scratch learns nothing for epochs.
    """
    return 0.02 * math.sqrt(768 / width)


def _size(size: ModelSize) -> tuple[int, int]:
    return size.layers, size.width
