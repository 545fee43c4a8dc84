"""Masked language models: an optional helper of methods, which says what words may stand in a place.

Where it comes from is one string, written as teachers are on the command line: `folder:/path`, `hub:organisation/name`
(this machine's cache of the hub, no network) or `package:name`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from kdcore.config import TeacherSpec
from kdcore.errors import UserError
from kdcore.losses.vocabulary import IGNORE_INDEX
from kdcore.models.anatomy import anatomy
from kdcore.models.convert_weights import bert_settings
from kdcore.models.observe import observe
from kdcore.models.sizes import size_of
from kdcore.models.sources import Located, load_encoder, locate, read_config
from kdcore.models.tokenizers import load_tokenizer
from kdcore.models.weights import read_weights, stored_names
from kdcore.records import Encoding, ModelSize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIELD = "options.masked_lm"
"""The setting that names the model, in every method that takes one."""

SOURCES = ("folder", "hub", "package")

_HEADS: dict[str, dict[str, str]] = {
    "bert": {
        "dense.weight": "cls.predictions.transform.dense.weight",
        "dense.bias": "cls.predictions.transform.dense.bias",
        "layer_norm.weight": "cls.predictions.transform.LayerNorm.weight",
        "layer_norm.bias": "cls.predictions.transform.LayerNorm.bias",
        "bias": "cls.predictions.bias",
    },
    "distilbert": {
        "dense.weight": "vocab_transform.weight",
        "dense.bias": "vocab_transform.bias",
        "layer_norm.weight": "vocab_layer_norm.weight",
        "layer_norm.bias": "vocab_layer_norm.bias",
        "bias": "vocab_projector.bias",
    },
}
"""Family -> our name of a head's tensor -> the name it is stored under."""

_TABLES = {"bert": "cls.predictions.decoder.weight", "distilbert": "vocab_projector.weight"}
"""Family -> the table of output words, stored only where it is not the one of the embeddings."""

TOKENS_AT_ONCE = 512
"""Tokens whose scores over the vocabulary are in memory at the same time."""

HIDDEN, SWAPPED = 0.8, 0.1
"""Of the tokens that are asked for: the shares that become [MASK], and another token; the rest stays as it is."""


class WordHead(nn.Module):
    """Token states to scores over the vocabulary: dense, activation, LayerNorm, then a table of words and a bias.

    The table belongs to the model and comes with each call, so that several heads can share one.
    """

    def __init__(self, width: int, vocabulary: int, activation: Callable[[Tensor], Tensor], eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.layer_norm = nn.LayerNorm(width, eps)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self._activation = activation

    def forward(self, states: Tensor, table: Tensor) -> Tensor:
        """[..., width], [vocabulary, width] -> [..., vocabulary]."""
        result: Tensor = self.layer_norm(self._activation(self.dense(states))) @ table.T + self.bias
        return result


class MaskedLM:
    """A frozen masked language model: float32, eval mode, no gradients. No module, so nobody's weights include it.

    Args:
        encoder: as `load_encoder` gives it, with a classifier that is never asked.
        table: output words, [vocabulary, width].
    """

    def __init__(self, encoder: nn.Module, head: WordHead, table: Tensor, tokenizer: PreTrainedTokenizerBase) -> None:
        self.encoder, self.head, self.table = encoder.requires_grad_(False), head.requires_grad_(False), table
        self.tokens = _tokens(tokenizer)
        """The token of each id."""
        self.special = torch.zeros(len(table), dtype=torch.bool)
        """Ids that stand for no text, bool [vocabulary]."""
        self.special[tokenizer.all_special_ids] = True
        self.mask_id, self.pad_id = int(tokenizer.mask_token_id), int(tokenizer.pad_token_id or 0)
        self._depth: int = encoder.config.num_hidden_layers  # type: ignore[union-attr,assignment]

    def to(self, place: Any) -> MaskedLM:
        """The same model, moved to a device (or another precision)."""
        self.encoder.to(place)
        self.head.to(place)
        self.table = self.table.to(place)
        return self

    @property
    def device(self) -> torch.device:
        return self.table.device

    def states(self, encoding: Encoding) -> Tensor:
        """The last layer's token states, [batch, tokens, width]."""
        result: Tensor = observe(self.encoder, encoding, {"hidden": (self._depth,)}, grad=False).hidden[self._depth]
        return result

    @torch.no_grad()
    def scores(self, states: Tensor) -> Tensor:
        """Of each token of the vocabulary, before the softmax: [..., width] -> [..., vocabulary]."""
        result: Tensor = self.head(states, self.table)
        return result

    @torch.no_grad()
    def likeliest(self, encoding: Encoding, count: int, temperature: float) -> tuple[Tensor, Tensor]:
        """The words that may stand in each place of the rows as they are, and how likely each is among them.

        Args:
            count: words a place; at most the vocabulary. temperature: of the softmax over their scores.

        Returns:
            ids, int64 [batch, tokens, count], the likeliest first; probabilities [batch, tokens, count] of sum 1.
        """
        rows = max(1, TOKENS_AT_ONCE // encoding.input_ids.shape[1])  # scores over a vocabulary are large
        parts = [
            self.scores(some).topk(min(count, len(self.tokens)))
            for some in self.states(encoding).split(rows)  # type: ignore[no-untyped-call]
        ]
        scores, ids = (torch.cat(each) for each in zip(*parts, strict=True))
        return ids, (scores / temperature).softmax(-1)

    def hide(self, encoding: Encoding, chance: float, rng: np.random.Generator) -> tuple[Encoding, Tensor]:
        """Some tokens of the rows hidden, and what stood there (Devlin et al. 2019, section 3.1).

        Each valid token that is not special is asked for with probability `chance`: 80 % of those become [MASK], 10 %
        any token, and 10 % stay. As many numbers are drawn whatever the rows are.

        Returns:
            the rows; and the tokens asked for, int64 [batch, tokens], IGNORE_INDEX elsewhere.
        """
        ids = encoding.input_ids
        drawn, how = torch.from_numpy(rng.random((2, *ids.shape)))
        other = torch.from_numpy(rng.integers(len(self.tokens), size=ids.shape))
        asked = (drawn < chance) & encoding.attention_mask.bool() & ~self.special[ids]
        shown = torch.where(how < HIDDEN, self.mask_id, torch.where(how < HIDDEN + SWAPPED, other, ids))
        return replace(encoding, input_ids=torch.where(asked, shown, ids)), torch.where(asked, ids, IGNORE_INDEX)


@contextmanager
def _named() -> Iterator[None]:
    """What goes wrong in here is told of the setting that names the model."""
    try:
        yield
    except UserError as error:
        raise UserError(FIELD, error.problem, error.remedy) from error


@_named()
def find(source: str, student: ModelSize) -> Located:
    """The folder of a masked language model that fits this student, from its config and the names of its weights alone.

    Raises:
        UserError: no such source, nothing there, no head for masked words, another size of vocabulary, fewer positions.
    """
    kind, _, location = source.partition(":")
    if kind not in SOURCES or not location:
        raise UserError(
            FIELD,
            f"{source[:80]!r} names no masked language model" if source else "no masked language model is named",
            "write folder:/path, hub:organisation/name or package:name",
        )
    located = locate(TeacherSpec(name="masked-lm", source=kind, where=location))
    config = read_config(located.path, FIELD)
    if config.model_type not in _HEADS:
        raise UserError(
            FIELD, f"{located.words} is of the family {config.model_type}", f"choose one of {', '.join(_HEADS)}"
        )
    missing = set(_HEADS[config.model_type].values()) - stored_names(located.path, FIELD)
    if missing:
        raise UserError(
            FIELD,
            f"{located.words} has no head for masked words: it lacks {min(missing)}",
            "choose a model saved as BertForMaskedLM, BertForPreTraining or DistilBertForMaskedLM",
        )
    size = size_of(config)
    if size.vocabulary != student.vocabulary:
        raise UserError(
            FIELD,
            f"its vocabulary has {size.vocabulary} tokens, the student's {student.vocabulary}",
            "choose a model with the teacher's vocabulary",
        )
    if size.positions < student.positions:
        raise UserError(
            FIELD,
            f"{located.words} reads {size.positions} tokens, the student {student.positions}",
            "choose a model that reads as many",
        )
    return located


@_named()
def read_head(located: Located) -> WordHead:
    """The head for masked words with its stored weights, and nothing else of the model.

    Raises:
        UserError: weights that cannot be read or do not fit their config.
    """
    from transformers.activations import ACT2FN

    config = read_config(located.path, FIELD)
    names = _HEADS[config.model_type]
    stored = read_weights(located.path, FIELD, tuple(names.values()))
    settings = bert_settings(config)
    try:
        with torch.device("meta"):
            size = size_of(config)
            head = WordHead(
                size.width, size.vocabulary, ACT2FN[settings["hidden_act"]], float(settings["layer_norm_eps"])
            )
        head.load_state_dict({ours: stored[theirs].clone() for ours, theirs in names.items()}, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            FIELD, f"the head of {located.words} does not fit its config: {str(error)[:200]}", "save the model again"
        ) from error
    return head


@_named()
def load(located: Located, vocabulary: Sequence[str]) -> MaskedLM:
    """The whole model, on the CPU.

    Args:
        vocabulary: the token of each id, as student and teachers have them.

    Raises:
        UserError: another vocabulary, no [MASK] in it, or weights that are missing or do not fit.
    """
    tokenizer = load_tokenizer(located.path)
    _check_vocabulary(tokenizer, vocabulary, located.words)
    config = read_config(located.path, FIELD)
    encoder = load_encoder(located, config.num_labels)
    head = read_head(located)
    return MaskedLM(encoder, head, _table(located, config, encoder), tokenizer)


@_named()
def check_same_shape(located: Located, size: ModelSize, teacher: str) -> None:
    """Raises UserError where the model is not of a teacher's family and size, so that its layers cannot fill a copy."""
    own = size_of(read_config(located.path, FIELD))
    names = ("model_type", "layers", "width", "heads", "intermediate", "vocabulary", "positions")
    for name in names:
        ours, theirs = getattr(own, name), getattr(size, name)
        if ours != theirs:
            raise UserError(
                FIELD,
                f"it fills a copy of teacher {teacher}, and its {name} is {ours}, not {theirs}",
                f"name the masked language model that {teacher} was fine-tuned from, or leave it empty",
            )


@_named()
def fill(encoder: nn.Module, located: Located, vocabulary: Sequence[str]) -> None:
    """Gives an encoder of the same family and size this model's weights, all but the classifier's.

    Raises:
        UserError: as `load`.
    """
    source: Any = load(located, vocabulary).encoder
    target: Any = encoder
    prefix = source.base_model_prefix
    getattr(target, prefix).load_state_dict(getattr(source, prefix).state_dict())


def _table(located: Located, config: Any, encoder: nn.Module) -> Tensor:
    """The table of output words: the word embeddings, unless another is stored."""
    name = _TABLES[config.model_type]
    embeddings = anatomy(encoder).word_vectors()
    table = read_weights(located.path, FIELD, (name,)).get(name, embeddings)
    if table.shape != embeddings.shape:
        raise UserError(
            FIELD,
            f"{name} is {list(table.shape)} in the file, but config.json asks for {list(embeddings.shape)}",
            "use the config.json that belongs to these weights",
        )
    return table


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, vocabulary: Sequence[str], words: str) -> None:
    theirs = _tokens(tokenizer)
    if theirs != list(vocabulary):
        pairs = enumerate(zip(theirs, vocabulary, strict=False))
        apart = next((f"id {i} is {a!r}, the student's {b!r}" for i, (a, b) in pairs if a != b), "one is longer")
        raise UserError(
            FIELD,
            f"the vocabulary of {words} differs from the student's: {apart}",
            "choose a model with the teacher's vocabulary",
        )
    if tokenizer.mask_token_id is None:
        raise UserError(FIELD, f"the vocabulary of {words} has no [MASK]", "choose another model")


def _tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    known: Mapping[str, int] = tokenizer.get_vocab()
    return sorted(known, key=known.__getitem__)
