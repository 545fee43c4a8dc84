"""Other words for the words of a row: what a masked language model would say in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from kdcore.models.masked_lm import MaskedLM
from kdcore.models.word_neighbours import INSIDE, WordNeighbours, is_word
from kdcore.records import Encoding

KEPT = 100_000
"""Rows whose proposals are kept in memory, some kB each."""


@dataclass(frozen=True)
class Proposal:
    """Ids of the words that may take the place of the tokens from `start` up to `end`."""

    start: int
    end: int
    words: tuple[int, ...]


class WordProposals:
    """Other words for each word of a row (Jiao et al. 2020, algorithm 1).

    A word of one piece is masked, alone in its row, and the model's K most probable tokens there are proposed, pieces
    inside a word and special tokens left out; the word itself may be among them. For a word of several pieces the K
    words nearest to the mean of its pieces are, in the model's own table. What is no word (`is_word`) stays.

    What is proposed follows from the row alone, and not from what was asked before.

    Args:
        model: where it is, the rows are read. count: K; fewer where there are not so many words.
    """

    def __init__(self, model: MaskedLM, count: int) -> None:
        self._model = model
        self._table = model.table.detach().cpu()
        self._near = WordNeighbours(self._table, model.tokens, count)
        allowed = ~model.special.clone()
        allowed[: len(model.tokens)] &= ~self._near.goes_on
        allowed[len(model.tokens) :] = False
        self._allowed = allowed.to(model.device)
        self._count = min(count, int(allowed.sum()))
        self._of_row = lru_cache(KEPT)(self._propose)

    def replace_words(self, encoding: Encoding, chance: float, rng: np.random.Generator) -> Encoding:
        """The rows with each word replaced by one of those proposed, with probability `chance`, drawn evenly.

        A row becomes shorter where one token takes the place of several; padding fills it up. As many numbers are drawn
        whatever the words are: [batch, tokens], twice.
        """
        ids, mask, types = (tensor.clone() for tensor in encoding.tensors())
        drawn, which = rng.random((2, *ids.shape))
        for row, length in enumerate(mask.sum(-1).tolist()):
            tokens, kinds = ids[row, :length].tolist(), types[row, :length].tolist()
            for proposal in reversed(self.proposals(tokens, kinds)):
                at = slice(proposal.start, proposal.end)
                if drawn[row, proposal.start] < chance:
                    tokens[at] = [proposal.words[int(which[row, proposal.start] * len(proposal.words))]]
                    kinds[at] = kinds[at][:1]
            gone = length - len(tokens)
            ids[row, :length] = torch.tensor(tokens + [self._model.pad_id] * gone)
            types[row, :length] = torch.tensor(kinds + [0] * gone)
            mask[row, length - gone :] = 0
        return Encoding(ids, mask, types)

    def proposals(self, ids: Sequence[int], types: Sequence[int]) -> tuple[Proposal, ...]:
        """What may stand in place of each word of a row without padding, from left to right."""
        return self._of_row(tuple(ids), tuple(types))

    def _propose(self, ids: tuple[int, ...], types: tuple[int, ...]) -> tuple[Proposal, ...]:
        spans = list(self._word_spans(ids))
        alone = [start for start, end in spans if end == start + 1]
        proposed = dict(zip(alone, self._predictions(ids, types, alone), strict=True))
        proposals = (
            Proposal(start, end, tuple(proposed.get(start) or self._nearest(ids[start:end]))) for start, end in spans
        )
        return tuple(proposal for proposal in proposals if proposal.words)

    def _word_spans(self, ids: Sequence[int]) -> Iterator[tuple[int, int]]:
        """(start, end) of each word that may be replaced."""
        tokens = [self._model.tokens[i] for i in ids]
        starts = [at for at, token in enumerate(tokens) if not token.startswith(INSIDE)]
        for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
            if is_word("".join([tokens[start], *(token.removeprefix(INSIDE) for token in tokens[start + 1 : end])])):
                yield start, end

    def _predictions(self, ids: Sequence[int], types: Sequence[int], places: list[int]) -> list[list[int]]:
        """The most probable tokens at each of these places, each masked in a copy of the row of its own."""
        if not places:
            return []
        rows, at = torch.tensor(ids).repeat(len(places), 1), torch.arange(len(places))
        rows[at, places] = self._model.mask_id
        encoding = Encoding(rows, torch.ones_like(rows), torch.tensor(types).repeat(len(places), 1))
        states = self._model.states(encoding.to(self._model.device))
        scores = self._model.scores(states[at, places]).masked_fill(~self._allowed, -torch.inf)
        return scores.topk(self._count).indices.tolist()

    def _nearest(self, pieces: Sequence[int]) -> list[int]:
        return self._near.near(self._table[list(pieces)].mean(0))
