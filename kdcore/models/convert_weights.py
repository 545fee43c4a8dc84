"""A model of any known family as BERT would hold it: names of weights and settings, so that it can fill a BERT student.

The layers of the families but MPNet compute the same; what differs is told here. RoBERTa's head is BERT's pooler and
classifier under other names; DistilBERT's and ELECTRA's use another activation and cannot be carried over.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from kdcore.errors import UserError
from kdcore.models.sizes import family_of, size_of

_POSITIONS = "bert.embeddings.position_embeddings.weight"
_TYPES = "bert.embeddings.token_type_embeddings.weight"
_DISTILBERT = {
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}
_ROBERTA_HEAD = {"classifier.dense": "bert.pooler.dense", "classifier.out_proj": "classifier"}
_KEPT = ("hidden_act", "layer_norm_eps", "type_vocab_size", "initializer_range", "pad_token_id")
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")


def bert_weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights, float32 on the CPU, under the names of a BERT classifier; no copies where none are needed.

    Raises:
        UserError: its embedding table is narrower than its layers, as in small ELECTRA models, or it is an MPNet.
    """
    config: Any = model.config
    if size_of(config).embedding_width is not None:
        raise UserError(
            "student.init",
            "the source's embeddings are narrower than its layers, a BERT's are not",
            "choose init=random",
        )
    if size_of(config).model_type == "mpnet":
        raise no_mpnet()
    stored = model.dense_weights() if hasattr(model, "dense_weights") else model.state_dict()  # type: ignore[operator]
    state = {name: tensor.detach().cpu().float() for name, tensor in stored.items()}
    family = family_of(config)
    if family == "bert":
        return state
    state = {name: tensor for name, tensor in state.items() if family == "roberta" or _in_encoder(name, family)}
    state = {_bert_name(name, family): tensor for name, tensor in state.items()}
    if family == "roberta":
        state[_POSITIONS] = state[_POSITIONS][size_of(config).first_position :]
    if family == "distilbert":  # it adds no token types: rows of zeros say the same
        state[_TYPES] = torch.zeros(2, size_of(config).width)
    return state


def no_mpnet() -> UserError:
    """Why an MPNet fills no student."""
    return UserError(
        "student.init",
        "the layers of an MPNet count the distance of two tokens, a BERT's do not",
        "choose init=random, or a source of another family",
    )


def bert_settings(config: Any) -> dict[str, Any]:
    """The settings that the copied layers only work with, and the dropouts, as a BERT config names them."""
    if config.model_type == "distilbert":
        return {
            "hidden_act": config.activation,
            "layer_norm_eps": 1e-12,
            "initializer_range": config.initializer_range,
            "pad_token_id": config.pad_token_id,
            "hidden_dropout_prob": config.dropout,
            "attention_probs_dropout_prob": config.attention_dropout,
            "classifier_dropout": config.seq_classif_dropout,
        }
    return {name: getattr(config, name) for name in _KEPT + _DROPOUTS if hasattr(config, name)}


def _in_encoder(name: str, family: str) -> bool:
    return name.startswith(f"{family}.")


def _bert_name(name: str, family: str) -> str:
    name = re.sub(rf"^{family}\.", "bert.", name)
    if family == "roberta":
        for theirs, ours in _ROBERTA_HEAD.items():
            name = re.sub(rf"^{re.escape(theirs)}\.", f"{ours}.", name)
    if family == "distilbert":
        name = name.replace("bert.transformer.layer.", "bert.encoder.layer.")
        for theirs, ours in _DISTILBERT.items():
            name = re.sub(rf"(layer\.\d+)\.{re.escape(theirs)}\.", rf"\1.{ours}.", name)
    return name
