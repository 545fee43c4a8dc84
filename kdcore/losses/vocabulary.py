"""Losses on scores over the vocabulary. Each gives one value a row, in float32, so that rows can be taken in parts."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.hidden import row_means
from kdcore.losses.precision import full

IGNORE_INDEX = -100
"""In place of a word: the loss passes over it."""


def soft_words(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) at each token, mean over a row's valid tokens: [batch].

    Sanh et al. 2019, the distillation loss as their code has it.

    Args:
        student, teacher: scores [batch, tokens, vocabulary]. mask: [batch, tokens], 1 = a real token.
        temperature: T > 0.
    """
    log_p = F.log_softmax(full(teacher) / temperature, dim=-1)
    log_q = F.log_softmax(full(student) / temperature, dim=-1)
    return temperature**2 * row_means(F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1), mask)


def hidden_words(student: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy (nats) with the word that was hidden, mean over the places of a row where one was: [batch].

    Devlin et al. 2019, the masked language model of section 3.1. A row in which nothing is asked gives 0.

    Args:
        student: scores [batch, tokens, vocabulary]. words: int64 [batch, tokens], IGNORE_INDEX where nothing is asked.
    """
    each = F.cross_entropy(full(student).transpose(1, 2), words, ignore_index=IGNORE_INDEX, reduction="none")
    return row_means(each, words != IGNORE_INDEX)


def hidden_places(scores: Tensor, words: Tensor) -> Tensor:
    """`hidden_words` from the scores of the places alone that are asked for, so that no others are computed: [batch].

    Args:
        scores: [places, vocabulary], by row and token. words: int64 [batch, tokens], IGNORE_INDEX elsewhere.
    """
    place = words != IGNORE_INDEX
    each = F.cross_entropy(full(scores), words[place], reduction="none")
    return row_means(each.new_zeros(place.shape).masked_scatter(place, each), place)
