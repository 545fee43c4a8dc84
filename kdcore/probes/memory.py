"""What a model takes of memory while it answers: its weights, and the most that torch held beside them in one pass.

On a GPU that is what `torch.cuda.max_memory_allocated` counts; on the CPU the same sum of what torch's allocator gives
and takes back, as its profiler records it. So it depends on the model, the rows, the precision and the kernels, not on
what else the process holds or the machine does. What a process has before any model (Python, torch) is not in it, nor
is what matrix kernels keep for themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, kineto_available, profile

from kdcore.probes.forward_pass import Inputs, answer


def answering(model: nn.Module, inputs: Inputs, precision: str = "fp32") -> int | None:
    """Bytes: the weights, and the highest sum of what one forward pass over the inputs holds beside them.

    Call it in eval mode under `inference_mode`, as the model would answer. None on the CPU where torch has been built
    without its profiler.
    """
    device, work = inputs["input_ids"].device, partial(answer, model, inputs, precision)
    if device.type == "cuda":
        return weights(model) + _peak_on_gpu(work, device)
    return weights(model) + _peak_on_cpu(work) if kineto_available() else None


def weights(model: nn.Module) -> int:
    """Bytes of what a model's file holds: parameters and kept buffers, shared ones once, quantised ones as they are."""
    storages = {}
    for tensor in _tensors(list(model.state_dict().values())):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _tensors(values: list[Any]) -> Iterator[Tensor]:
    """The tensors of a state; torch's quantised layers keep theirs in tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from _tensors(list(value))


def _peak_on_gpu(work: Callable[[], None], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu(work: Callable[[], None]) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it writes two lines to stderr each time
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = seen.profiler.kineto_results.events()
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    return highest_sum([change for _, change in sorted(changes, key=lambda entry: entry[0])])


def highest_sum(changes: list[int]) -> int:
    """The most that was held at once, of allocations (positive) and releases (negative) in their order."""
    held = highest = 0
    for change in changes:
        held += change
        highest = max(highest, held)
    return highest
