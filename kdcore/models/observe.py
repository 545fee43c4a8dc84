"""Look into a model while it runs: exactly the tensors that were declared, through hooks, and nothing else.

Families: BERT, RoBERTa, DistilBERT, ELECTRA and MPNet, with transformers' own classes. The model stays on SDPA (but for
MPNet, which has none), which gives no attentions: scores and attention are computed again in float32 from the hooked
queries and keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kdcore.models.anatomy import Anatomy, anatomy
from kdcore.models.cls_only import cls_only, reads_cls_alone
from kdcore.models.written_out import written_out
from kdcore.records import ALL_LAYERS, TENSORS, Encoding, Outputs, Rerun, Want, want

__all__ = ["Anatomy", "anatomy", "evaluating", "layers_read", "observe", "rerun_of"]

_FROM_ZERO = ("cls", "hidden")
_PLAIN = ("logits", "pooled", "embeddings")
_ATTENTION = ("scores", "attention")


def observe(model: nn.Module, encoding: Encoding, wanted: Want, grad: bool = True, whole: bool = False) -> Outputs:
    """One forward pass, and the tensors of `wanted` (name -> layers; (-1,) is every layer).

    The model's mode (train or eval), device and autocast are the caller's. Hooks are gone when this returns or raises.

    Args:
        grad: False: no graph is kept and every tensor is detached.
        whole: False: where nothing of the last layer but [CLS] is wanted, nothing else of it is computed. True: all of
            it is, so that no bit of a tensor depends on what else is wanted.

    Raises:
        ValueError: an unknown tensor, or a layer that the model does not have.
        UserError: the model is of no family that is known here.
    """
    parts = anatomy(model)
    layers = layers_read(wanted, len(parts.layers))
    lean = not whole and reads_cls_alone(layers, len(parts.layers))
    with torch.set_grad_enabled(grad and torch.is_grad_enabled()), cls_only(parts) if lean else nullcontext():
        return _run(model, parts, encoding, layers)


def rerun_of(model: nn.Module, encoding: Encoding, wanted: Want) -> Rerun:
    """How `Outputs.rerun` runs this model on these rows: in float32, its mode (train or eval) kept.

    Args:
        wanted: what is observed beside the logits, the word embeddings and the hidden states but the last, which the
            graph holds anyway. Where it names nothing of the last layer but [CLS], nothing else of it is computed.
    """
    parts = anatomy(model)
    depth = len(parts.layers)
    layers = layers_read({**wanted, **want("logits", "embeddings")}, depth)
    layers["hidden"] = tuple(sorted({*range(depth), *layers.get("hidden", ())}))
    return _Rerun(model, parts, encoding, layers)


@dataclass(frozen=True)
class _Rerun:
    model: nn.Module
    parts: Anatomy
    encoding: Encoding
    layers: dict[str, tuple[int, ...]]

    def __call__(self, words: Tensor | None, first: Tensor | None, still: bool, whole: bool = False) -> Outputs:
        def start(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            if first is not None:
                return first
            return output if output.requires_grad else output.detach().requires_grad_()

        device, depth = self.encoding.input_ids.device.type, len(self.parts.layers)
        layers = {**self.layers, "hidden": tuple(range(depth + 1))} if whole else self.layers
        last_layer = cls_only(self.parts) if reads_cls_alone(layers, depth) else nullcontext()
        with torch.enable_grad(), torch.autocast(device, enabled=False), written_out(self.model):
            handle = self.parts.state(0).register_forward_hook(start)
            try:
                with evaluating(self.model) if still else nullcontext(), last_layer:
                    return _run(self.model, self.parts, self.encoding, layers, words).with_rerun(self)
            finally:
                handle.remove()

    def words(self, ids: Tensor, shares: Tensor | None) -> Tensor:
        if shares is None:
            vectors: Tensor = self.parts.word_embeddings(ids)
            return vectors
        # a vector for each word of each mixture would fill memory
        different, places = ids.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        vectors = self.parts.word_embeddings(different)
        flat = places.flatten(0, -2), shares.flatten(0, -2).to(vectors)
        mixed = F.embedding_bag(flat[0], vectors, per_sample_weights=flat[1], mode="sum")
        return mixed.view(*ids.shape[:-1], -1)


def _run(
    model: nn.Module,
    parts: Anatomy,
    encoding: Encoding,
    wanted: dict[str, tuple[int, ...]],
    words: Tensor | None = None,
) -> Outputs:
    """One pass. words: word embeddings in place of those of the ids."""
    seen: dict[tuple[str, int], Tensor] = {}
    handles = _hook(parts, wanted, seen)
    try:
        result = model(**_inputs(parts, encoding, words))
    finally:
        for handle in handles:
            handle.remove()
    if words is not None:
        seen["embeddings", 0] = words
    seen["logits", 0] = result.logits
    return Outputs(_tensors(parts, encoding, wanted, seen), encoding.attention_mask)


def _inputs(parts: Anatomy, encoding: Encoding, inputs_embeds: Tensor | None) -> dict[str, Any]:
    inputs: dict[str, Any] = {"attention_mask": encoding.attention_mask, "return_dict": True}
    if parts.token_types > 1:
        inputs["token_type_ids"] = encoding.token_type_ids
    if inputs_embeds is None:
        inputs["input_ids"] = encoding.input_ids
    else:
        inputs["inputs_embeds"] = inputs_embeds
    return inputs


def _hook(
    parts: Anatomy, wanted: dict[str, tuple[int, ...]], seen: dict[tuple[str, int], Tensor]
) -> list[RemovableHandle]:
    """A hook on each module whose output is wanted; none where only logits are."""

    def keep(name: str, layer: int, change: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen[name, layer] = change(output[0] if isinstance(output, tuple) else output)

        return hook

    def keep_input(name: str, layer: int) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[name, layer] = inputs[0]

        return hook

    handles = []
    if "embeddings" in wanted:
        handles.append(parts.word_embeddings.register_forward_hook(keep("embeddings", 0)))
    if "pooled" in wanted:
        handles.append(parts.pooler.register_forward_hook(keep("pooled", 0, parts.pooler_activation)))
    for layer in wanted.get("hidden", ()):
        handles.append(parts.state(layer).register_forward_hook(keep("hidden", layer)))
    for layer in wanted.get("cls", ()):
        # [:, 0] in the hook: a view keeps the whole state alive, a copy of one row does not
        handles.append(parts.state(layer).register_forward_hook(keep("cls", layer, lambda state: state[:, 0].clone())))
    for name, layers in _linears(wanted).items():
        for layer in layers:
            module = getattr(parts.layers[layer - 1], name)
            handles.append(module.register_forward_hook(keep(name, layer, parts.split_heads)))
    for layer in wanted.get("head_outputs", ()):
        module = parts.layers[layer - 1].output
        handles.append(module.register_forward_pre_hook(keep_input("head_outputs", layer)))
    return handles


def _linears(wanted: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Which of queries, keys and values are hooked, and where: scores and attention need the first two."""
    scored = {layer for name in _ATTENTION for layer in wanted.get(name, ())}
    return {
        "queries": tuple(scored.union(wanted.get("queries", ()))),
        "keys": tuple(scored.union(wanted.get("keys", ()))),
        "values": tuple(wanted.get("values", ())),
    }


def _tensors(
    parts: Anatomy, encoding: Encoding, wanted: dict[str, tuple[int, ...]], seen: dict[tuple[str, int], Tensor]
) -> dict[str, Any]:
    scores = {
        layer: _scores(seen["queries", layer], seen["keys", layer], parts)
        for layer in {layer for name in _ATTENTION for layer in wanted.get(name, ())}
    }
    tensors: dict[str, Any] = {}
    for name, layers in wanted.items():
        if name in _PLAIN:
            tensors[name] = seen[name, 0]
        elif name == "scores":
            tensors[name] = {layer: scores[layer] for layer in layers}
        elif name == "attention":
            tensors[name] = {layer: _attention(scores[layer], encoding.attention_mask) for layer in layers}
        else:
            tensors[name] = {layer: seen[name, layer] for layer in layers}
    return tensors


def _scores(queries: Tensor, keys: Tensor, parts: Anatomy) -> Tensor:
    """Q K^T / sqrt(head width), with the model's bias where it has one, [batch, heads, tokens, tokens], in float32
    whatever the autocast."""
    with torch.autocast(queries.device.type, enabled=False):
        scores = queries.float() @ keys.float().transpose(-1, -2) / math.sqrt(queries.shape[-1])
        return scores if parts.position_bias is None else scores + parts.position_bias(queries.transpose(1, 2)).float()


def _attention(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the keys that are tokens; 0 on padding."""
    with torch.autocast(scores.device.type, enabled=False):
        padding = (mask == 0)[:, None, None, :]
        return scores.masked_fill(padding, torch.finfo(scores.dtype).min).softmax(-1)


def layers_read(wanted: Want, depth: int) -> dict[str, tuple[int, ...]]:
    """Tensor -> the layers at which a model of this depth is read; none for tensors that have none.

    Raises:
        ValueError: an unknown tensor, or a layer that such a model does not have.
    """
    return {name: _layers(name, chosen, depth) for name, chosen in wanted.items()}


def _layers(name: str, chosen: tuple[int, ...], depth: int) -> tuple[int, ...]:
    if name not in TENSORS:
        raise ValueError(f"unknown tensor {name!r}; known are {sorted(TENSORS)}")
    if name in _PLAIN:
        return ()
    first = 0 if name in _FROM_ZERO else 1
    if tuple(chosen) == ALL_LAYERS:
        return tuple(range(first, depth + 1))
    wrong = [layer for layer in chosen if not first <= layer <= depth]
    if wrong:
        raise ValueError(f"{name} has layers {first} to {depth}, not {wrong}")
    return tuple(chosen)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode, and each module's own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
