"""Attention maps of a sentence, and which teacher head each student head is nearest to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import rel_entr
from torch import nn

from kdcore.data.words import pieces_of, shared_words, spell, word_numbers
from kdcore.models.observe import evaluating, observe
from kdcore.models.tokenizers import encode_typed
from kdcore.records import ALL_LAYERS

Maps = NDArray[np.float32]
Kind = Literal["js", "kl"]
SPECIAL = frozenset({"[CLS]", "[SEP]", "[PAD]", "<s>", "</s>", "<pad>"})
"""Tokens that the tokenizer adds, as BERT's and RoBERTa's write them."""
_FLOOR = 1e-12
"""Least probability: a softmax in float32 may round to 0, where a divergence would be infinite."""


@dataclass(frozen=True)
class AttentionMaps:
    """tokens: as the tokenizer writes them. maps: float32 [layers, heads, tokens, tokens], rows sum to 1.

    words: of each token the number of its word (`data.words.word_numbers`); None where that is not told.
    """

    tokens: list[str]
    maps: Maps
    words: NDArray[np.int32] | None = None


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
        attention = observe(model, encoding, {"attention": ALL_LAYERS}, grad=False).attention
    maps = torch.stack([attention[layer][0] for layer in sorted(attention)])
    tokens = tokenizer.convert_ids_to_tokens(encoding.input_ids[0].tolist())
    return AttentionMaps(tokens, maps.cpu().numpy(), typed_words(tokenizer, sentence, pair, len(tokens)))


def by_words(teacher: AttentionMaps, student: AttentionMaps) -> tuple[AttentionMaps, AttentionMaps] | None:
    """The attention of two models between the words that both read, where they cut the text into other tokens.

    To a word goes what its pieces get together, from a word the mean of its pieces (Clark et al. 2019, arXiv
    1906.04341, section 4.1). What goes to special tokens is left out and rows sum to 1 again.

    Returns:
        Teacher and student, with the words as the student's pieces spell them; None where the words are not told, or
        none is shared.
    """
    if teacher.words is None or student.words is None:
        return None
    shared = shared_words(teacher.words, student.words)
    if not len(shared):
        return None
    spelt = spell(student.tokens, student.words, shared)
    theirs, ours = (AttentionMaps(spelt, _between_words(each, shared), shared) for each in (teacher, student))
    return theirs, ours


def _between_words(maps: AttentionMaps, shared: NDArray[np.int32]) -> Maps:
    assert maps.words is not None
    pieces = pieces_of(maps.words, shared)
    between = renormalise((pieces @ maps.maps @ (pieces > 0).T).astype(np.float32))
    return np.where(np.isnan(between), np.float32(1 / len(shared)), between)


def typed_words(tokenizer: Any, sentence: str, pair: str | None, tokens: int) -> NDArray[np.int32] | None:
    """The word that each of so many first tokens of a typed text is of (`data.words.word_numbers`).

    None where the tokenizer does not tell.
    """
    texts = [sentence, *([pair] if pair else [])]
    read = tokenizer(*texts, truncation=True, max_length=tokens).encodings
    return word_numbers(read[0], texts) if read else None


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
    p, q = (_probabilities(maps.reshape(-1, *maps.shape[2:])) for maps in (teacher, student))
    divergences = _jensen_shannon(p, q) if kind == "js" else _kullback_leibler(p, q)
    return divergences.reshape(*teacher.shape[:2], *student.shape[:2])


def best_heads(teacher: Maps, student: Maps, kind: Kind = "js") -> list[HeadMatch]:
    """For each student head the nearest teacher head of any layer; ties go to the lowest layer and head."""
    return nearest_heads(head_divergences(teacher, student, kind))


def nearest_heads(divergences: NDArray[np.float64]) -> list[HeadMatch]:
    """For each student head the nearest teacher head; ties go to the lowest layer and head.

    Args:
        divergences: as `head_divergences` gives them.
    """
    matches = []
    for layer in range(divergences.shape[2]):
        for head in range(divergences.shape[3]):
            column = divergences[:, :, layer, head]
            best = np.unravel_index(column.argmin(), column.shape)
            matches.append(HeadMatch(layer + 1, head + 1, int(best[0]) + 1, int(best[1]) + 1, float(column[best])))
    return matches


def head_entropies(maps: Maps) -> NDArray[np.float64]:
    """How widely each head looks: the entropy of its rows, mean over the tokens that attend, in nats.

    0: every token looks at one other; ln(tokens): at all alike.

    Args:
        maps: [layers, heads, tokens, tokens].

    Returns:
        [layers, heads].
    """
    result: NDArray[np.float64] = _entropy(_probabilities(maps)).mean(-1)
    return result


def layer_divergences(teacher: Maps, student: Maps, kind: Kind = "js") -> NDArray[np.float64]:
    """Each teacher layer against each student layer, on maps averaged over heads (so head counts may differ), in nats.

    Returns:
        [teacher layers, student layers].
    """
    return head_divergences(teacher.mean(1, keepdims=True), student.mean(1, keepdims=True), kind)[:, 0, :, 0]


def word_positions(tokens: list[str]) -> NDArray[np.int64]:
    """Positions of the tokens that are not special ones."""
    return np.array([position for position, token in enumerate(tokens) if token not in SPECIAL], np.int64)


def renormalise(maps: Maps) -> Maps:
    """Maps whose columns are a choice of the tokens, with rows that sum to 1 again; NaN where nothing was left."""
    total = maps.sum(-1, keepdims=True)
    result: Maps = np.divide(maps, total, out=np.full_like(maps, np.nan), where=total > 0)
    return result


def _jensen_shannon(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """[maps of p, maps of q]: H(m) - (H(p) + H(q)) / 2 with m = (p + q) / 2 and H the entropy, mean over query tokens.

    One map of p at a time, here and below: all pairs at once would be hundreds of megabytes for 12 x 12 heads.
    """
    p_entropy, q_entropy = _entropy(p), _entropy(q)
    pairs = [_entropy((p_map + q) / 2) - (p_entropy[index] + q_entropy) / 2 for index, p_map in enumerate(p)]
    result: NDArray[np.float64] = np.maximum(np.stack(pairs), 0.0).mean(-1)
    return result


def _kullback_leibler(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.maximum(np.stack([rel_entr(p_map, q).sum(-1) for p_map in p]), 0.0).mean(-1)
    return result


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = -(p * np.log(p)).sum(-1)
    return result


def _probabilities(maps: Maps) -> NDArray[np.float64]:
    raised = np.maximum(maps.astype(np.float64), _FLOOR)
    result: NDArray[np.float64] = raised / raised.sum(-1, keepdims=True)
    return result
