"""Weights in and out of files and models.

Models are built on the `meta` device and filled here: every new weight comes from a generator of its own, seeded by
(seed, parameter name). torch's global generator is never touched, not even for a moment, so loading a model in one
thread cannot change the dropout of a training in another; and one choice (depth, say) does not change the others'
weights. All is float32.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdcore.errors import UserError
from kdcore.models.header import StoredTensor, read_header, wrapper
from kdcore.models.library import transformers

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_LEGACY = {"gamma": "weight", "beta": "bias"}
"""LayerNorm's names in checkpoints converted from TensorFlow."""
_REBUILT = re.compile(r"(^|\.)(position_ids|token_type_ids)$")
"""Buffers that older checkpoints store and models count anew."""


def weight_files(folder: Path, field: str) -> list[Path]:
    """The safetensors files of a model folder.

    Raises:
        UserError: there are none, with the remedy for a folder that only has pickled weights.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        names = _shard_files(folder / INDEX, field)
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise UserError(field, f"{folder} lacks {', '.join(missing[:3])}", "copy all files of the model")
        return [folder / name for name in names]
    pickled = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickled:
        raise UserError(
            field,
            f"{folder} holds its weights as {pickled[0]}, which can run code when it is read",
            "convert it once: load it where you trust it and call save_pretrained(...), which writes model.safetensors",
        )
    raise UserError(field, f"{folder} holds no weights", f"it needs {SINGLE}")


def stored_tensors(folder: Path, field: str) -> dict[str, StoredTensor]:
    """Name, as the model calls it, -> type and shape of each stored tensor, from the files' headers alone.

    Raises:
        UserError: no safetensors files, or files that cannot be read.
    """
    stored: dict[str, StoredTensor] = {}
    for file in weight_files(folder, field):
        stored |= read_header(file, field)
    before = wrapper(stored)
    return {_modern(name.removeprefix(before)): tensor for name, tensor in stored.items()}


def stored_names(folder: Path, field: str) -> set[str]:
    """Names of the stored tensors, from the files' headers alone."""
    return set(stored_tensors(folder, field))


def read_weights(folder: Path, field: str, starts: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """The stored tensors by name, floating ones as float32.

    Args:
        starts: only those whose name begins with one of these are read.

    Raises:
        UserError: no safetensors files, files that cannot be read, or values that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    headers = {file: read_header(file, field) for file in weight_files(folder, field)}
    before = wrapper(name for header in headers.values() for name in header)
    state: dict[str, Tensor] = {}
    for file, header in headers.items():
        names = {name: _modern(name.removeprefix(before)) for name in header if not _REBUILT.search(name)}
        try:
            with safe_open(str(file), framework="pt") as opened:
                read = {ours: opened.get_tensor(name) for name, ours in names.items() if ours.startswith(starts)}
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(
                field, f"{file} cannot be read: {str(error)[:200]}", "copy or save the model again"
            ) from error
        state |= {name: _finite(name, tensor, file, field) for name, tensor in read.items()}
    return state


def _finite(name: str, tensor: Tensor, file: Path, field: str) -> Tensor:
    """The tensor, floating ones as float32. Raises UserError where a value is infinite or not a number."""
    if not tensor.is_floating_point():
        return tensor
    if not tensor.isfinite().all():
        raise UserError(
            field,
            f"{file} is damaged or of a training that diverged: {name} holds values that are not finite",
            "copy the model again, or choose another",
        )
    return tensor.float()


def empty_classifier(config: Any) -> Any:
    """A sequence classifier of this config on the `meta` device, on SDPA: names and shapes, no weights.

    The config is copied: the attention setting would leak through a shared one.

    Raises:
        UserError: nothing can be built from the config.
    """
    config = copy.deepcopy(config)
    config.dtype = torch.float32
    config.output_attentions = False
    config.output_hidden_states = False
    attention = "eager" if config.model_type == "mpnet" else "sdpa"  # it has no other
    try:
        with torch.device("meta"):
            return transformers().AutoModelForSequenceClassification.from_config(config, attn_implementation=attention)
    except Exception as error:  # a hostile config breaks in as many ways as it has fields
        raise UserError("model", f"no model follows from its config: {str(error)[:200]}", "save it again") from error


def build_classifier(config: Any, state: Mapping[str, Tensor], seed: int) -> tuple[nn.Module, list[str]]:
    """A sequence classifier of this config, its weights from `state` and, where that has none, new.

    `state` names its tensors as the classifier does, with or without the encoder's prefix (`bert.`); other heads in it
    are passed over.

    Returns:
        the model in eval mode, float32, on SDPA; and the names of the parameters that are new.

    Raises:
        UserError: a stored tensor has another shape than the config says, or nothing can be built from the config.
    """
    model = empty_classifier(config)
    prefix = f"{model.base_model_prefix}."
    fresh = []
    for name, parameter in list(model.named_parameters()):
        stored = state.get(name)
        if stored is None and name.startswith(prefix):
            stored = state.get(name.removeprefix(prefix))
        if stored is None:
            fresh.append(name)
            stored = new_weight(model, name, seed)
        elif stored.shape != parameter.shape:
            raise UserError(
                "weights",
                f"{name} is {list(stored.shape)} in the file, but config.json asks for {list(parameter.shape)}",
                "use the config.json that belongs to these weights",
            )
        _put(model, name, nn.Parameter(stored.clone()))
    _refill_buffers(model)
    return model.eval(), fresh


def new_weight(model: nn.Module, name: str, seed: int) -> Tensor:
    """BERT's initial weight of this parameter: N(0, initializer_range), biases 0, norms 1; from (seed, name) alone."""
    path, _, kind = name.rpartition(".")
    module = model.get_submodule(path)
    shape = model.get_parameter(name).shape
    if kind == "bias":
        return torch.zeros(shape)
    if isinstance(module, nn.LayerNorm):
        return torch.ones(shape)
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    weight = torch.empty(shape).normal_(0.0, float(model.config.initializer_range), generator=generator)  # type: ignore[union-attr,arg-type]
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        weight[module.padding_idx] = 0
    return weight


def parameter_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of a classifier of this config.

    Raises:
        UserError: nothing can be built from the config.
    """
    return dict(_shapes(json.dumps(config.to_dict(), sort_keys=True, default=str)))


@lru_cache(maxsize=64)
def _shapes(text: str) -> dict[str, tuple[int, ...]]:
    content = json.loads(text)
    model = empty_classifier(transformers().CONFIG_MAPPING[content["model_type"]].from_dict(content))
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def write_model(model: nn.Module, folder: Path) -> None:
    """config.json and model.safetensors, as `save_pretrained` lays them out; parameters that are tied become copies.

    Raises:
        UserError: the model's parameters are not those of a classifier of its config: whoever loads such a folder gets
            new weights in place of those that do not fit, without an error.
    """
    from safetensors.torch import save_file

    tensors = model.state_dict()
    _check_form(model, tensors)
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]  # type: ignore[union-attr]
    config.save_pretrained(str(folder))  # type: ignore[union-attr,operator]
    state: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        state[name] = plain.clone() if plain.data_ptr() in written else plain
        written.add(plain.data_ptr())
    save_file(state, str(folder / SINGLE), metadata={"format": "pt"})


def _check_form(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    ours = {name: tuple(tensor.shape) for name, tensor in tensors.items() if not _REBUILT.search(name)}
    theirs = parameter_shapes(model.config)
    other = sorted({name for name, _ in ours.items() ^ theirs.items()})
    if other:
        raise UserError(
            "student",
            f"the model is no plain {type(model).__name__}: {len(other)} parameters differ, {other[0]} first",
            "give its form a model type of its own before it is saved",
        )


def weights_hash(model: nn.Module) -> str:
    """SHA-256 (hex) over names, types, shapes and bytes of the weights: the model's identity for the teacher cache."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _put(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, parameter)


def _refill_buffers(model: nn.Module) -> None:
    """Position ids count up, token types are 0; no other buffers are known in the BERT family."""
    for name, buffer in list(model.named_buffers()):
        if not _REBUILT.search(name):
            raise UserError("model", f"the buffer {name} is not known", "use a plain BERT-family model")
        filled = torch.zeros(buffer.shape, dtype=torch.long)
        if name.endswith("position_ids"):
            filled = torch.arange(buffer.shape[-1]).expand(buffer.shape).clone()
        path, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(path), leaf, filled)


def _modern(name: str) -> str:
    head, _, last = name.rpartition(".")
    return f"{head}.{_LEGACY[last]}" if last in _LEGACY else name


def _shard_files(index: Path, field: str) -> list[str]:
    try:
        names: Iterable[Any] = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        files = sorted({str(name) for name in names})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(field, f"{index} cannot be read: {str(error)[:200]}", "copy or save the model again") from error
    if not files or any(Path(name).name != name or not name.endswith(".safetensors") for name in files):
        raise UserError(field, f"{index} names files that are not safetensors beside it", "save the model again")
    return files
