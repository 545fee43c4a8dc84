"""Where an encoder keeps its parts: the one table that knows the families' module names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcore.errors import UserError
from kdcore.models.factors import MODEL_TYPE
from kdcore.records import Part


@dataclass(frozen=True)
class LayerParts:
    """One Transformer layer. queries, keys, values: the three linears; output: the linear after the heads.

    heads: the module that transformers' attention functions are called with. after_heads: (heads side by side, the
    layer's input) -> the state between attention and feed-forward. feed_forward: that state -> the layer's output.
    """

    module: nn.Module
    queries: nn.Module
    keys: nn.Module
    values: nn.Module
    output: nn.Module
    heads: Any
    after_heads: Callable[[Tensor, Tensor], Tensor]
    feed_forward: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Anatomy:
    """A classifier's parts.

    vocabulary: how many token ids it knows. word_embeddings: the module that makes vectors of them, a table or not.
    embeddings: the module whose output is layer 0; before_layers: all modules up to there. pooler and
    pooler_activation: together they make `pooled`. classifier: the linear that gives the logits. token_types: rows of
    the token type table, 0 where there is none. position_bias: states [batch, tokens, width] -> what the scores of
    every layer add for the distance of two tokens, [batch, heads, tokens, tokens]; None: nothing.
    """

    family: str
    heads: int
    token_types: int
    vocabulary: int
    word_embeddings: nn.Module
    embeddings: nn.Module
    before_layers: tuple[nn.Module, ...]
    layers: tuple[LayerParts, ...]
    pooler: nn.Module
    pooler_activation: Callable[[Tensor], Tensor]
    classifier: nn.Module
    position_bias: Callable[[Tensor], Tensor] | None = None

    def state(self, layer: int) -> nn.Module:
        """The module whose output is the state of this layer; 0 is the embeddings."""
        return self.layers[layer - 1].module if layer else self.embeddings

    def part(self, name: Part) -> tuple[nn.Module, ...]:
        """The modules of a part."""
        if name == "embeddings":
            return self.before_layers
        return (self.pooler,) if name == "pooler" else (self.classifier,)

    @torch.no_grad()
    def word_vectors(self) -> Tensor:
        """The vector of every token id, a copy: [vocabulary, width of the word embeddings]."""
        device = next(self.word_embeddings.parameters()).device
        vectors: Tensor = self.word_embeddings(torch.arange(self.vocabulary, device=device))
        return vectors

    def split_heads(self, flat: Tensor) -> Tensor:
        """[batch, tokens, width] -> [batch, heads, tokens, head width]."""
        batch, tokens, _ = flat.shape
        return flat.view(batch, tokens, self.heads, -1).transpose(1, 2)


def anatomy(model: nn.Module) -> Anatomy:
    """The parts of a sequence classifier of the BERT family (transformers' classes).

    Raises:
        UserError: another family.
    """
    whole: Any = model
    family = getattr(getattr(whole, "config", None), "model_type", type(model).__name__)
    if family == MODEL_TYPE:
        family = "bert"
    if family not in _LAYERS or not hasattr(whole, "classifier"):
        raise UserError(
            "model", f"cannot look into a {family}", "choose a BERT, RoBERTa, DistilBERT, ELECTRA or MPNet classifier"
        )
    base = getattr(whole, whole.base_model_prefix)
    layers = base.transformer.layer if family == "distilbert" else base.encoder.layer
    pooler, activation, classifier = _head(whole, base, family)
    return Anatomy(
        family=family,
        heads=whole.config.num_attention_heads,
        token_types=getattr(whole.config, "type_vocab_size", 0),
        vocabulary=whole.config.vocab_size,
        word_embeddings=base.embeddings.word_embeddings,
        embeddings=getattr(base, "embeddings_project", base.embeddings),
        before_layers=(base.embeddings, *([base.embeddings_project] if hasattr(base, "embeddings_project") else [])),
        layers=tuple(_LAYERS[family](layer) for layer in layers),
        pooler=pooler,
        pooler_activation=activation,
        classifier=classifier,
        position_bias=base.encoder.compute_position_bias if family == "mpnet" else None,
    )


def _bert_layer(layer: Any) -> LayerParts:
    heads, after = layer.attention.self, layer.attention.output
    return LayerParts(
        layer, heads.query, heads.key, heads.value, after.dense, heads, after, layer.feed_forward_chunk
    )  # fmt: skip


def _distilbert_layer(layer: Any) -> LayerParts:
    heads = layer.attention

    def after_heads(context: Tensor, state: Tensor) -> Tensor:
        result: Tensor = layer.sa_layer_norm(heads.out_lin(context) + state)
        return result

    def feed_forward(state: Tensor) -> Tensor:
        result: Tensor = layer.output_layer_norm(layer.ffn(state) + state)
        return result

    return LayerParts(layer, heads.q_lin, heads.k_lin, heads.v_lin, heads.out_lin, heads, after_heads, feed_forward)


def _mpnet_layer(layer: Any) -> LayerParts:
    heads = layer.attention.attn

    def after_heads(context: Tensor, state: Tensor) -> Tensor:
        result: Tensor = layer.attention.LayerNorm(layer.attention.dropout(heads.o(context)) + state)
        return result

    def feed_forward(state: Tensor) -> Tensor:
        result: Tensor = layer.output(layer.intermediate(state), state)
        return result

    return LayerParts(layer, heads.q, heads.k, heads.v, heads.o, heads, after_heads, feed_forward)


_LAYERS: dict[str, Callable[[Any], LayerParts]] = {
    "bert": _bert_layer,
    "roberta": _bert_layer,
    "electra": _bert_layer,
    "distilbert": _distilbert_layer,
    "mpnet": _mpnet_layer,
}


def _head(whole: Any, base: Any, family: str) -> tuple[nn.Module, Callable[[Tensor], Tensor], nn.Module]:
    """Module and activation that give `pooled`, and the last linear. BERT's pooler applies its tanh itself."""
    if family == "bert":
        return base.pooler, _as_it_is, whole.classifier
    if family == "distilbert":
        return whole.pre_classifier, F.relu, whole.classifier
    activation = F.gelu if family == "electra" else torch.tanh
    return whole.classifier.dense, activation, whole.classifier.out_proj


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
