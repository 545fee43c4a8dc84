"""A masked language model that a method trains: an encoder, and a head over the encoder's own words."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcore.models.anatomy import anatomy
from kdcore.models.masked_lm import TOKENS_AT_ONCE, WordHead
from kdcore.models.observe import evaluating, observe
from kdcore.models.projections import linear
from kdcore.models.special_tokens import SpecialTokens
from kdcore.records import Encoding


def new_head(width: int, vocabulary: int, seed: int) -> WordHead:
    """A head with BERT's activation that passes states on at first: as many words as the encoder has vectors."""
    with torch.device("meta"):
        head = WordHead(width, vocabulary, F.gelu, 1e-12)
    dense = linear(width, width, seed)
    start = {"dense.weight": dense.weight.detach(), "dense.bias": dense.bias.detach()}
    norm = {"layer_norm.weight": torch.ones(width), "layer_norm.bias": torch.zeros(width)}
    head.load_state_dict({**start, **norm, "bias": torch.zeros(vocabulary)}, assign=True)
    return head.requires_grad_(True)


@dataclass(frozen=True)
class WordModel:
    """An encoder with a head for masked words, to be read from.

    encoder: a classifier model, whose words are as wide as its states. special: of its vocabulary.
    """

    encoder: nn.Module
    head: WordHead
    special: SpecialTokens

    @torch.no_grad()
    def resampled(self, encoding: Encoding, share: float, rounds: int, rng: np.random.Generator) -> Encoding:
        """The rows after some rounds in which words are hidden and drawn anew, so that they come nearer to what the
        model has read: a reading of Feng et al. 2021, whose augmenter is not known.

        In a round each token that is not special is hidden with probability `share`, and all hidden ones are drawn at
        once from the softmax over the model's words. Special tokens, token types and lengths stay. As many numbers are
        drawn whatever the rows are: [batch, tokens], twice a round.

        Args:
            encoding: on the CPU, where the result is too.
        """
        ids, device = encoding.input_ids, next(self.encoder.parameters()).device
        special = torch.tensor(self.special.ids)
        free = encoding.attention_mask.bool() & ~torch.isin(ids, special)
        table = anatomy(self.encoder).word_vectors().float()
        for _ in range(rounds):
            drawn, lots = torch.from_numpy(rng.random((2, *ids.shape)))
            hidden = free & (drawn < share)
            shown = replace(encoding, input_ids=torch.where(hidden, self.special.mask, ids))
            states = self._states(shown.to(device))[hidden.to(device)]
            ids = ids.masked_scatter(hidden, self._draw(states, table, lots[hidden].to(device)).cpu())
        return replace(encoding, input_ids=ids)

    def _states(self, encoding: Encoding) -> Tensor:
        """Last states, [batch, tokens, width], without dropout."""
        depth = len(anatomy(self.encoder).layers)
        with evaluating(self.encoder):
            states: Tensor = observe(self.encoder, encoding, {"hidden": (depth,)}, grad=False, whole=True).hidden[depth]
        return states.float()

    def _draw(self, states: Tensor, table: Tensor, lots: Tensor) -> Tensor:
        """A word of each state [places, width], by a number from 0 to 1 of each: int64 [places]."""
        words = [torch.zeros(0, dtype=torch.int64, device=states.device)]
        for start in range(0, len(states), TOKENS_AT_ONCE):  # scores over a vocabulary are large
            some = slice(start, start + TOKENS_AT_ONCE)
            scores = self.head(states[some], table)
            scores[:, list(self.special.ids)] = -torch.inf
            scores[:, self.special.size :] = -torch.inf
            total = scores.double().softmax(-1).cumsum(-1)
            at = torch.searchsorted(total, lots[some, None].double() * total[:, -1:], right=True)
            words.append(at[:, 0].clamp(max=self.special.size - 1))
        return torch.cat(words)
