"""Attention maps of a sentence, and which teacher head each student head looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import rel_entr
from torch import nn

from kdcore.models.observe import evaluating, observe
from kdcore.models.tokenizers import encode_typed
from kdcore.records import ALL_LAYERS

Maps = NDArray[np.float32]
Kind = Literal["js", "kl"]
_FLOOR = 1e-12
"""Least probability: a softmax in float32 may round to 0, where a divergence would be infinite."""


@dataclass(frozen=True)
class AttentionMaps:
    """tokens: as the tokenizer writes them. maps: float32 [layers, heads, tokens, tokens], rows sum to 1."""

    tokens: list[str]
    maps: Maps


@dataclass(frozen=True)
class HeadMatch:
    """The teacher head (layers and heads from 1) whose map is nearest to a student head's."""

    student_layer: int
    student_head: int
    teacher_layer: int
    teacher_head: int
    divergence: float


def attention_maps(
    model: nn.Module, tokenizer: Any, sentence: str, pair: str | None = None, max_length: int = 128
) -> AttentionMaps:
    """Every head's attention over one sentence or pair, in eval mode.

    Args:
        max_length: tokens kept, never more than the model has positions.

    Raises:
        UserError: the sentence is empty.
    """
    encoding = encode_typed(model, tokenizer, sentence, pair, max_length)
    with evaluating(model):
        seen = observe(model, encoding, {"attention": ALL_LAYERS}, grad=False)
    maps = torch.stack([seen.attention[layer][0] for layer in sorted(seen.attention)])
    return AttentionMaps(tokenizer.convert_ids_to_tokens(encoding.input_ids[0].tolist()), maps.cpu().numpy())


def head_divergences(teacher: Maps, student: Maps, kind: Kind = "js") -> NDArray[np.float64]:
    """Each teacher head against each student head, mean over query tokens, in nats.

    Args:
        teacher, student: [layers, heads, tokens, tokens] over the same tokens.
        kind: js: Jensen-Shannon, symmetric, at most ln 2. kl: KL(teacher || student).

    Returns:
        [teacher layers, teacher heads, student layers, student heads].

    Raises:
        ValueError: the maps are of different tokens.
    """
    if teacher.shape[2:] != student.shape[2:]:
        raise ValueError(f"maps over different tokens: {teacher.shape[2:]} and {student.shape[2:]}")
    ours = teacher.reshape(-1, *teacher.shape[2:])
    theirs = student.reshape(-1, *student.shape[2:])
    # one teacher head at a time: all pairs at once would be hundreds of megabytes for 12 x 12 heads
    found = np.stack([_divergence(head[None], theirs, kind).mean(-1) for head in ours])
    return found.reshape(*teacher.shape[:2], *student.shape[:2])


def best_heads(teacher: Maps, student: Maps, kind: Kind = "js") -> list[HeadMatch]:
    """For each student head the nearest teacher head of any layer; ties go to the lowest layer and head."""
    divergences = head_divergences(teacher, student, kind)
    matches = []
    for layer in range(student.shape[0]):
        for head in range(student.shape[1]):
            column = divergences[:, :, layer, head]
            best = np.unravel_index(column.argmin(), column.shape)
            matches.append(HeadMatch(layer + 1, head + 1, int(best[0]) + 1, int(best[1]) + 1, float(column[best])))
    return matches


def layer_divergences(teacher: Maps, student: Maps, kind: Kind = "js") -> NDArray[np.float64]:
    """Each teacher layer against each student layer, on maps averaged over heads (so head counts may differ), in nats.

    Returns:
        [teacher layers, student layers].
    """
    return head_divergences(teacher.mean(1, keepdims=True), student.mean(1, keepdims=True), kind)[:, 0, :, 0]


def _divergence(teacher: Maps, student: Maps, kind: Kind) -> NDArray[np.float64]:
    """Per map and query token: [maps, tokens]."""
    p, q = _probabilities(teacher), _probabilities(student)
    if kind == "kl":
        found = rel_entr(p, q).sum(-1)
    else:
        middle = (p + q) / 2
        found = (rel_entr(p, middle).sum(-1) + rel_entr(q, middle).sum(-1)) / 2
    return np.maximum(found, 0.0)


def _probabilities(maps: Maps) -> NDArray[np.float64]:
    raised = np.maximum(maps.astype(np.float64), _FLOOR)
    return raised / raised.sum(-1, keepdims=True)
