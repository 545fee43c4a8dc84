"""Other words for a word: its nearest in a model's own table of word embeddings, without network or another model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.errors import UserError
from kdcore.records import Encoding, Setup

INSIDE = "##"
"""How a WordPiece vocabulary marks the pieces that continue a word."""

BLOCK = 64
"""Words compared with all others at once, always so many (rows of zeros fill up): the last bits of a product may depend
on its size, and with them the order of neighbours that are equally near."""

_LISTED = """
an the this that these those such same other another each every either neither both all any some none no few fewer
many more most much less least several enough only own
me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers
herself it its itself they them their theirs themselves one ones who whom whose which what whatever whoever
someone somebody something anyone anybody anything everyone everybody everything nobody nothing
and or but nor so yet if unless until while whereas although though because since as than whether when whenever
where wherever why how then else therefore however
of in on at by for from to into onto upon with without within about above across after against along among around
before behind below beneath beside besides between beyond despite down during except inside near off out outside
over past per through throughout toward towards under up via
am is are was were be been being do does did doing done have has had having will would shall should can could may
might must ought cannot
not never hardly scarcely barely very too also just even still again once here there now ever always already
ll re ve don doesn didn isn aren wasn weren hasn haven hadn won wouldn shouldn couldn mustn needn ain
"""
STOP_WORDS = frozenset(_LISTED.split())
"""English function words, and what the tokenizer leaves of them before an apostrophe. They carry a sentence's frame,
and among them its negation, so they are never replaced. Words of one letter are not either."""


class WordNeighbours:
    """The K nearest words of each word, by the cosine of their embeddings. They are looked up when first asked for.

    A word is a token of letters alone, at least two, that is no stop word and no piece of a longer word. Only words
    have neighbours, and only words are neighbours.

    Args:
        embeddings: [vocabulary, width]. vocabulary: the token of each id.
        count: K; fewer where there are not so many words.
    """

    def __init__(self, embeddings: Tensor, vocabulary: Sequence[str], count: int) -> None:
        words = torch.tensor([i for i, token in enumerate(vocabulary) if is_word(token)], dtype=torch.int64)
        if len(words) < 2:
            words = words[:0]  # a word alone has no neighbour
        self.is_word = torch.zeros(len(vocabulary), dtype=torch.bool)
        self.is_word[words] = True
        self.goes_on = torch.tensor([token.startswith(INSIDE) for token in vocabulary], dtype=torch.bool)
        """Tokens that continue a word, bool [vocabulary]."""
        self.count = max(1, min(count, len(words) - 1))
        """K."""
        self._words = words
        self._directions = F.normalize(embeddings[words].float(), dim=-1)
        self._nearest = torch.arange(len(vocabulary))[:, None].repeat(1, self.count)
        self._known = ~self.is_word

    def nearest(self, ids: Tensor) -> Tensor:
        """The K words nearest to each of these, the nearest first: int64 [ids, K]. What is no word has itself."""
        places = torch.searchsorted(self._words, ids[~self._known[ids]].unique())  # type: ignore[no-untyped-call]
        for start in range(0, len(places), BLOCK):
            some = places[start : start + BLOCK]
            cosines = self._cosines(self._directions[some])
            cosines[torch.arange(len(some)), some] = -torch.inf  # a word is no neighbour of itself
            self._nearest[self._words[some]] = self._words[cosines.topk(self.count).indices]
        self._known[ids] = True
        return self._nearest[ids]

    def near(self, embedding: Tensor) -> list[int]:
        """The K words nearest to any embedding [width], the nearest first; none where there are no words."""
        if not len(self._words):
            return []
        cosines = self._cosines(F.normalize(embedding.float(), dim=-1)[None])
        return self._words[cosines[0].topk(self.count).indices].tolist()

    def _cosines(self, directions: Tensor) -> Tensor:
        """Of at most BLOCK directions [rows, width] with all words, [rows, words]."""
        block = F.pad(directions, (0, 0, 0, BLOCK - len(directions)))
        return (block @ self._directions.T)[: len(directions)]

    def replaceable(self, encoding: Encoding) -> Tensor:
        """Where a whole word stands that has neighbours, bool [batch, tokens]."""
        ids = encoding.input_ids
        split = F.pad(self.goes_on[ids][:, 1:], (0, 1))  # the next token belongs to the same word
        return self.is_word[ids] & ~split & encoding.attention_mask.bool()

    def replace_words(self, encoding: Encoding, chance: float, rng: np.random.Generator) -> Encoding:
        """The rows with each replaceable word replaced by one of its neighbours, with probability `chance`.

        The neighbour is drawn evenly. As many numbers are drawn whatever the words are: [batch, tokens], twice.
        """
        ids = encoding.input_ids.clone()
        drawn = torch.from_numpy(rng.random(ids.shape) < chance) & self.replaceable(encoding)
        which = torch.from_numpy(rng.integers(self.count, size=ids.shape))
        ids[drawn] = self.nearest(ids[drawn]).gather(1, which[drawn][:, None]).squeeze(1)
        return replace(encoding, input_ids=ids)


def check_marks_words(setup: Setup, name: str, field: str, otherwise: str) -> None:
    """Raises UserError where a teacher's vocabulary is not the student's, or does not mark the pieces that continue a
    word.

    Args:
        field: the setting that asks for neighbours. otherwise: what to set in place of it.
    """
    if name in setup.other_vocabulary:
        raise UserError(
            field,
            f"near words are found in the table of teacher {name}, which has other words than the student",
            f"{otherwise}, or a teacher that shares the student's tokenizer",
        )
    if setup.teachers[name].model_type in ("roberta", "mpnet"):
        raise UserError(
            field,
            f"the vocabulary of teacher {name} does not mark the pieces that continue a word",
            f"{otherwise}, or a teacher of the BERT kind",
        )


def is_word(token: str) -> bool:
    """Letters alone, at least two, and no stop word (whatever its case)."""
    return len(token) > 1 and token.isalpha() and token.lower() not in STOP_WORDS
