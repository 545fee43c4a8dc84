"""Parameters and operations of an encoder, from its size alone: nothing is built."""

from __future__ import annotations

from dataclasses import dataclass

from kdcore.errors import UserError
from kdcore.models.factors import products, weights
from kdcore.records import ModelSize

TOKEN_TYPES: dict[str, int] = {"bert": 2, "roberta": 1, "distilbert": 0, "electra": 2, "mpnet": 0}
"""Rows of each family's token type table."""


_DISTANCES = 32
"""Rows of MPNet's table of distances between tokens, which all layers share."""


@dataclass(frozen=True)
class Parameters:
    """Numbers of weights.

    head: what stands between the last layer and the logits (pooler, projection, classifier). words: of the embeddings,
        those of the table of words.
    """

    total: int
    embeddings: int
    encoder: int
    head: int
    words: int

    @property
    def word_share(self) -> float:
        """The part of all weights that is in the table of words."""
        return self.words / self.total


def parameters(size: ModelSize) -> Parameters:
    """The weights of an encoder with a classifier, pooler included.

    Raises:
        UserError: a family that is not known here.
    """
    if size.model_type not in TOKEN_TYPES:
        raise UserError("model", f"cannot count a {size.model_type!r}", f"known are {', '.join(TOKEN_TYPES)}")
    table = size.embedding_width or size.width
    rows = size.vocabulary + size.positions + TOKEN_TYPES[size.model_type]
    words = weights(size.form, "table", size.vocabulary, table)
    embeddings = words + (rows - size.vocabulary) * table + _norm(table)
    if table != size.width:
        embeddings += _linear(table, size.width)
    layer = (
        4 * (weights(size.form, "attention", size.width, size.width) + size.width)
        + (weights(size.form, "up", size.intermediate, size.width) + size.intermediate)
        + (weights(size.form, "down", size.width, size.intermediate) + size.width)
        + 2 * _norm(size.width)
    )
    encoder = size.layers * layer + (_DISTANCES * size.heads if size.model_type == "mpnet" else 0)
    head = _linear(size.width, size.width) + sum(_linear(*shape) for shape in _head(size))
    head += 2 * _norm(size.projection_width) if size.projection_width else 0
    return Parameters(embeddings + encoder + head, embeddings, encoder, head, words)


def flops(size: ModelSize, tokens: int, batch: int = 1, cls_only: bool = False) -> int:
    """Operations of one forward pass over `batch` rows of `tokens` tokens; a multiply-add counts 2.

    Matrix products only (projections, Q K^T, attention times V, feed-forward, head): softmax, norms, activations and
    look-ups are left out, as is usual.

    Args:
        cls_only: of the last layer nothing but [CLS] is computed (`models.cls_only`), which still needs all keys and
            values.
    """
    width, table = size.width, size.embedding_width or size.width
    projections = 4 * products(size.form, "attention", width, width)
    attention = 2 * tokens * width
    feed_forward = products(size.form, "up", size.intermediate, width)
    feed_forward += products(size.form, "down", width, size.intermediate)
    per_token = size.layers * (projections + attention + feed_forward)
    per_row = width * width + sum(inputs * outputs for inputs, outputs in _head(size))
    if table != width:
        per_token += table * width
    if cls_only:
        for_one = projections // 2 + attention + feed_forward
        per_token -= for_one
        per_row += for_one
    return 2 * batch * (tokens * per_token + per_row)


def _head(size: ModelSize) -> list[tuple[int, int]]:
    """Inputs and outputs of the linears after the pooler: a projection's three, and the classifier."""
    pooled, inner = size.pooled_width or size.width, size.projection_width
    projection = [(size.width, inner), (inner, inner), (inner, pooled)] if inner else []
    return [*projection, (pooled, size.labels)]


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _norm(width: int) -> int:
    return 2 * width


def row_length(mean: float) -> int:
    """Tokens of a typical row, from the mean over the training rows: what latencies and operations are given for."""
    return max(8, round(mean))
