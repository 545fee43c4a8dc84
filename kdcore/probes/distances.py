"""How alike the hidden states of teacher and student are, each layer of one against each of the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdcore.data.encode import Encoded, pad
from kdcore.data.words import pieces_of, shared_words
from kdcore.models.observe import evaluating, observe
from kdcore.records import ALL_LAYERS, Encoding

States = Mapping[int, Tensor] | Sequence[Tensor]
"""Layer -> [batch, tokens, width], as `Outputs.hidden` gives it, or a list from layer 0."""

SAMPLE_ROWS = 64
"""Dev rows that the layers of a run are compared on, through the training and at its end."""
SAMPLE_TOKENS = 1024
"""Tokens of these rows that are compared at most, evenly taken; the teachers' states of them stay in memory."""

_CHUNK = 512
"""Tokens per kernel matrix: 2 MB each in float64."""


@dataclass(frozen=True)
class Distances:
    """Matrices [teacher layers + 1, student layers + 1]; row and column 0 are the embeddings. NaN: not defined.

    mse: mean squared distance over the teacher's variance (1: no better than the teacher's mean state); NaN where
        widths differ. cosine: mean of 1 - cos; NaN where widths differ. cka: linear CKA, 1 where equal up to rotation
        and scale, about 0 where unrelated (the unbiased estimate may fall a little below). cls: linear CKA of the
        rows' [CLS] states alone; NaN where they are the same in all rows, as at the embeddings, and from a meter.
    tokens: how many tokens were seen.
    """

    mse: Tensor
    cosine: Tensor
    cka: Tensor
    cls: Tensor
    tokens: int

    def data(self) -> dict[str, Any]:
        """As plain JSON values, None for NaN."""
        matrices = {"mse": self.mse, "cosine": self.cosine, "cka": self.cka, "cls": self.cls}
        return {name: _rows(matrix) for name, matrix in matrices.items()} | {"tokens": self.tokens}


@dataclass(frozen=True)
class LayerStates:
    """A model's states in the sample, layer by layer from 0. tokens: [1, tokens, width]; cls: [1, rows, width]."""

    tokens: list[Tensor]
    cls: list[Tensor]


def sample(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the dev rows that layers are compared on: `SAMPLE_ROWS` drawn by a fixed seed, or all.

    Args:
        lengths: tokens of each row.
    """
    return np.random.default_rng(0).permutation(len(lengths))[:SAMPLE_ROWS]


def layer_states(model: nn.Module, encoding: Encoding, pieces: Sequence[Tensor] | None = None) -> LayerStates:
    """What a model makes of the sample; every n-th of its tokens, padding left out, and each row's first.

    Args:
        encoding: the rows of `sample`, in its order.
        pieces: of each row [words, tokens], as `data.words.pieces_of` gives them: the mean states of these words are
            taken in place of tokens, so that models of other tokens have states of the same. None: all tokens.
    """
    with evaluating(model):
        hidden = observe(model, encoding, {"hidden": ALL_LAYERS}, grad=False).hidden
    states = [hidden[layer] for layer in sorted(hidden)]
    if pieces is None:
        real = encoding.attention_mask.bool()
        tokens = [state[real] for state in states]
    else:
        tokens = [
            torch.cat([_of_words(part, row) for part, row in zip(pieces, state, strict=True)]) for state in states
        ]
    every = math.ceil(len(tokens[0]) / SAMPLE_TOKENS) or 1
    return LayerStates([state[None, ::every] for state in tokens], [state[None, :, 0] for state in states])


def word_pieces(
    student: Encoded, teacher: Encoded, rows: NDArray[np.int64]
) -> tuple[list[Tensor], list[Tensor]] | None:
    """For `layer_states` of student and teacher: the pieces of the words that both read of these rows; None where a
    tokenizer does not tell words.

    Args:
        student, teacher: the same rows, as each of them reads them.
    """
    if student.words is None or teacher.words is None:
        return None
    ours, theirs = [], []
    for row in rows:
        mine = student.words[student.offsets[row] : student.offsets[row + 1]]
        other = teacher.words[teacher.offsets[row] : teacher.offsets[row + 1]]
        shared = shared_words(mine, other)
        ours.append(torch.from_numpy(pieces_of(mine, shared)))
        theirs.append(torch.from_numpy(pieces_of(other, shared)))
    return ours, theirs


def compare_readings(
    teacher: nn.Module, student: nn.Module, rows: tuple[Encoded, Encoded], chosen: NDArray[np.int64], device: Any
) -> Distances:
    """The distances between two models that cut a text into other tokens: over words, and of the rows' [CLS].

    Args:
        rows: the same rows as teacher and student read them. chosen: numbers of the rows that are compared.
    """
    theirs, ours = (pad(each, chosen).to(device) for each in rows)
    pieces = word_pieces(rows[1], rows[0], chosen)
    if pieces is None:
        return compare_first_tokens(layer_states(teacher, theirs), layer_states(student, ours))
    return compare_states(layer_states(teacher, theirs, pieces[1]), layer_states(student, ours, pieces[0]))


def compare_first_tokens(teacher: LayerStates, student: LayerStates) -> Distances:
    """The distances of [CLS] alone; the others are NaN, since between other tokens they are not defined."""
    alone = compare_states(LayerStates(teacher.cls, teacher.cls), LayerStates(student.cls, student.cls))
    nothing = torch.full_like(alone.mse, math.nan)
    return replace(alone, mse=nothing, cosine=nothing, cka=nothing, tokens=0)


def _of_words(pieces: Tensor, states: Tensor) -> Tensor:
    """[words, tokens] times [tokens, width], padding left out."""
    return pieces.to(states) @ states[: pieces.shape[1]]


def compare_states(teacher: LayerStates, student: LayerStates) -> Distances:
    """The distances between two models in one sample: the same estimate wherever a run's layers are compared."""
    over_tokens, over_rows = DistanceMeter(), DistanceMeter()
    for meter, theirs, ours in ((over_tokens, teacher.tokens, student.tokens), (over_rows, teacher.cls, student.cls)):
        meter.update(theirs, ours, torch.ones(ours[0].shape[:2], device=ours[0].device))
    cls = over_rows.result().cka
    cls[[_constant(state) for state in teacher.cls], :] = math.nan
    cls[:, [_constant(state) for state in student.cls]] = math.nan
    return replace(over_tokens.result(), cls=cls)


def sample_tokens(lengths: NDArray[np.int64]) -> int:
    """How many tokens `layer_states` gives of rows of these lengths."""
    total = int(lengths.sum())
    return math.ceil(total / math.ceil(total / SAMPLE_TOKENS)) if total else 0


def layer_distances(teacher_hidden: States, student_hidden: States, mask: Tensor) -> Distances:
    """The distances over one batch; `DistanceMeter` takes many.

    Args:
        teacher_hidden, student_hidden: all layers from 0, of the same tokens. mask: [batch, tokens], 1 = a token.
    """
    meter = DistanceMeter()
    meter.update(teacher_hidden, student_hidden, mask)
    return meter.result()


class DistanceMeter:
    """Sums over minibatches; keeps no states. Padding is dropped, all sums are float64.

    CKA: Kornblith et al. 2019, arXiv 1905.00414, with sums of unbiased HSIC over minibatches (Nguyen et al. 2021,
    arXiv 2010.15327, equations 2 and 3; HSIC_1 of Song et al. 2012, JMLR 13), so that the size of a minibatch does not
    bias it.
    """

    def __init__(self) -> None:
        self._tokens = 0
        self._sums: dict[str, Tensor] = {}

    def update(self, teacher_hidden: States, student_hidden: States, mask: Tensor) -> None:
        """Takes one batch.

        Raises:
            ValueError: teacher and student saw different tokens, or there is no layer.
        """
        teacher, student = _tokens_of(teacher_hidden, mask), _tokens_of(student_hidden, mask)
        self._tokens += len(teacher[0])
        self._pairwise(teacher, student)
        chunks = math.ceil(len(teacher[0]) / _CHUNK)
        for start in range(chunks):
            # every n-th token: a chunk mixes rows, where neighbours would be of one sentence
            self._kernels([t[start::chunks] for t in teacher], [s[start::chunks] for s in student])

    def result(self) -> Distances:
        """The distances over all batches so far.

        Raises:
            ValueError: no batch was taken.
        """
        if not self._tokens:
            raise ValueError("no tokens were seen")
        sums = self._sums
        variance = (sums["norm"] - sums["total"].square().sum(1) / self._tokens)[:, None]
        floor = 1e-12 * sums["norm"][:, None]
        mse = torch.where(variance > floor, sums["distance"] / variance, math.nan)
        undefined = torch.full_like(mse, math.nan)
        if "both" in sums:
            scale = (sums["teacher"][:, None] * sums["student"][None, :]).clamp(min=0).sqrt()
            cka = torch.where(scale > 0, sums["both"] / scale, math.nan)
        cosine = (sums["cosine"] / self._tokens).clamp(min=0)
        return Distances(mse, cosine, cka if "both" in sums else undefined, undefined, self._tokens)

    def _pairwise(self, teacher: list[Tensor], student: list[Tensor]) -> None:
        self._add("norm", torch.stack([t.square().sum() for t in teacher]))
        self._add("total", torch.stack([t.sum(0) for t in teacher]))
        self._add("distance", _matrix(teacher, student, lambda t, s: (t - s).square().sum()))
        self._add("cosine", _matrix(teacher, student, lambda t, s: (1 - torch.cosine_similarity(t, s)).sum()))

    def _kernels(self, teacher: list[Tensor], student: list[Tensor]) -> None:
        if len(teacher[0]) < 4:  # HSIC_1 divides by n - 3
            return
        ours, theirs = [_kernel(t) for t in teacher], [_kernel(s) for s in student]
        self._add("both", _hsic(ours, theirs))
        self._add("teacher", torch.stack([_hsic([k], [k])[0, 0] for k in ours]))
        self._add("student", torch.stack([_hsic([k], [k])[0, 0] for k in theirs]))

    def _add(self, name: str, value: Tensor) -> None:
        value = value.cpu()
        self._sums[name] = self._sums[name] + value if name in self._sums else value


def _tokens_of(states: States, mask: Tensor) -> list[Tensor]:
    """Per layer the real tokens' states, [tokens, width] in float64."""
    layers = [states[layer] for layer in sorted(states)] if isinstance(states, Mapping) else list(states)
    if not layers or any(state.shape[:2] != mask.shape for state in layers):
        raise ValueError("teacher and student need the states of the same tokens as the mask, one layer at least")
    return [state.detach()[mask.bool()].double() for state in layers]


def _constant(states: Tensor) -> bool:
    """Whether all rows [1, rows, width] have the same state, but for rounding."""
    spread = (states - states.mean(1, keepdim=True)).norm()
    return bool(spread <= 1e-5 * states.norm())


def _matrix(teacher: list[Tensor], student: list[Tensor], distance: Any) -> Tensor:
    """[teacher layers, student layers]; NaN where widths differ."""
    if teacher[0].shape != student[0].shape:
        return torch.full((len(teacher), len(student)), math.nan, dtype=torch.float64)
    return torch.stack([torch.stack([distance(t, s) for s in student]) for t in teacher])


def _kernel(states: Tensor) -> Tensor:
    """Linear kernel with its diagonal zeroed, [n, n]. Centring first changes nothing in HSIC_1 but loses less."""
    centred = states - states.mean(0)
    return (centred @ centred.T).fill_diagonal_(0)


def _hsic(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """HSIC_1 of each kernel of `first` with each of `second`, [first, second] (Song et al. 2012, equation 5)."""
    n = len(first[0])
    a, b = torch.stack(first), torch.stack(second)
    trace = a.flatten(1) @ b.flatten(1).T
    rows_a, rows_b = a.sum(2), b.sum(2)
    totals = rows_a.sum(1)[:, None] * rows_b.sum(1)[None, :] / ((n - 1) * (n - 2))
    return (trace + totals - 2 / (n - 2) * rows_a @ rows_b.T) / (n * (n - 3))


def _rows(matrix: Tensor) -> list[list[float | None]]:
    return [[value if math.isfinite(value) else None for value in row] for row in matrix.tolist()]
