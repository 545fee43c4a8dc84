"""What a distilled student must beat: its teacher made cheaper without any training.

bf16 weights   the teacher stored and run in bfloat16 (Kalamkar et al. 2019, arXiv 1905.12322)
int8           its linear layers in 8 bits: weights once, activations as they come, by torch's dynamic quantisation
               (the scheme of Zafrir et al. 2019, arXiv 1910.06188, without their quantisation-aware training)
cut            only some of its layers, embeddings and classifier kept (Sajjad et al. 2023, arXiv 2004.03844, without
               their fine-tuning afterwards)
"""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from kdcore.config import StudentSpec
from kdcore.models.anatomy import anatomy
from kdcore.models.count import flops, parameters
from kdcore.models.sizes import size_of
from kdcore.models.students import source_layers
from kdcore.probes.latency import Precision

Kind = Literal["bf16", "int8", "cut"]
KINDS: tuple[Kind, ...] = ("bf16", "int8", "cut")


@dataclass(frozen=True)
class Rival:
    """An undistilled model. words: what it is, for the screen. precision: of its arithmetic."""

    kind: Kind
    words: str
    precision: Precision
    model: nn.Module


@dataclass(frozen=True)
class Size:
    """What a model costs whatever machine runs it.

    parameters: weights, the quantised ones included. flops: operations of one forward pass over one row, a multiply-add
    counts 2, an operation in 8 bits like any other. bytes: of its weights in a file.
    """

    parameters: int
    flops: int
    bytes: int

    def data(self) -> dict[str, int]:
        """As plain JSON values."""
        return asdict(self)


def build(
    teacher: nn.Module, kept: Sequence[int], precision: Literal["fp32", "bf16"] = "fp32"
) -> tuple[list[Rival], dict[str, str]]:
    """The rivals of a teacher, on the teacher's device; the teacher itself stays as it is.

    Args:
        kept: layers (from 1) of the cut teacher; none: there is nothing to cut. precision: in which the cut one runs.

    Returns:
        the rivals, and for each kind that cannot be had here, why.

    Raises:
        ValueError: a layer that the teacher does not have.
        UserError: the teacher is of no family that is known here.
    """
    found = [Rival("bf16", "bf16 weights", "bf16 weights", copy.deepcopy(teacher).to(torch.bfloat16))]
    absent: dict[str, str] = {}
    quantised = _int8(teacher)
    if isinstance(quantised, nn.Module):
        found.append(Rival("int8", "int8", "int8", quantised))
    else:
        absent["int8"] = quantised
    if kept:
        layers = f"layer {kept[0]}" if len(kept) == 1 else f"layers {', '.join(map(str, kept))}"
        found.append(Rival("cut", f"cut to {layers}", precision, cut(teacher, kept)))
    else:
        absent["cut"] = "the student is not shallower than the teacher"
    return found, absent


def cut(teacher: nn.Module, kept: Sequence[int]) -> nn.Module:
    """A copy of the teacher with only these layers (from 1), in this order; its embeddings and head stay.

    Raises:
        ValueError: a layer that the teacher does not have. UserError: a family that is not known here.
    """
    depth = len(anatomy(teacher).layers)
    if not kept or not all(1 <= layer <= depth for layer in kept):
        raise ValueError(f"the teacher has layers 1 to {depth}, not {list(kept)}")
    shorter: Any = copy.deepcopy(teacher)
    body = getattr(shorter, shorter.base_model_prefix)
    stack = body.transformer if anatomy(teacher).family == "distilbert" else body.encoder
    layers = list(stack.layer)
    stack.layer = nn.ModuleList(copy.deepcopy(layers[layer - 1]) for layer in kept)
    shorter.config.num_hidden_layers = len(kept)
    result: nn.Module = shorter
    return result


def kept_layers(student: StudentSpec, depth: int, teacher_depth: int) -> list[int]:
    """The teacher layers (from 1) that a student of this depth starts from, by its `init_layers`.

    A list made for another depth (a method may build students deeper than their settings say) becomes evenly spread.
    Empty where the student is not shallower than the teacher.
    """
    if depth >= teacher_depth:
        return []
    named = student.init_layers
    fits = isinstance(named, str) or (len(named) == depth and all(1 <= layer <= teacher_depth for layer in named))
    wanted = student.model_copy(update={"layers": depth, "init_layers": named if fits else "skip"})
    return source_layers(wanted, teacher_depth)


def footprint_of(rival: Rival, tokens: int) -> Size:
    """What the rival costs on rows of `tokens` tokens."""
    shape = size_of(rival.model.config)
    return Size(parameters(shape).total, flops(shape, tokens), _stored_bytes(rival))


def _stored_bytes(rival: Rival) -> int:
    """Bytes of the weights as they would be saved: safetensors, or torch's own format where they are packed."""
    if rival.kind == "int8":
        buffer = io.BytesIO()
        torch.save(rival.model.state_dict(), buffer)
        return buffer.getbuffer().nbytes
    from safetensors.torch import save

    return len(save({name: tensor.cpu().contiguous().clone() for name, tensor in rival.model.state_dict().items()}))


def _int8(teacher: nn.Module) -> nn.Module | str:
    """The teacher with its linear layers in 8 bits, or why there is none."""
    if next(teacher.parameters()).device.type != "cpu":
        return "torch's dynamic quantisation runs on the CPU, the others are measured on the GPU"
    try:
        quantised: nn.Module = torch.ao.quantization.quantize_dynamic(teacher, {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]
        ids = torch.ones((1, 2), dtype=torch.int64)
        with torch.inference_mode():  # the kernels are looked up here, not when the layers are made
            quantised(input_ids=ids, attention_mask=ids)
    except (RuntimeError, AttributeError, ImportError, NotImplementedError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"this build of torch has no dynamic int8 ({first[:120]})"
    return quantised
