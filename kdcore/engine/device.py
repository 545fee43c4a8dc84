"""Where and in which arithmetic a run is computed, and what the machine is called."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from kdcore.config import TrainConfig
from kdcore.errors import UserError


@dataclass(frozen=True)
class Compute:
    """device: where tensors live. precision: of the forward passes; weights, losses and updates stay float32."""

    device: torch.device
    precision: Literal["fp32", "bf16"]

    @property
    def pad_to(self) -> int:
        """Tokens of a batch are padded to a multiple of this.

        GPUs are slow at odd sizes. CPUs are not, but each size gets kernels of its own, which are kept in memory.
        """
        return 8 if self.device.type == "cuda" else 2

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def frozen(self, model: nn.Module) -> nn.Module:
        """The model on the device, to be run under `autocast` and never trained.

        In bf16 its matrices are rounded here, once, as autocast would at every batch: no output changes a bit.
        """
        if self.precision == "bf16":
            for module in model.modules():
                if isinstance(module, nn.Linear):
                    module.bfloat16()
        return model.requires_grad_(False).eval().to(self.device)


def compute_for(train: TrainConfig) -> Compute:
    """The device and precision that a run's settings mean here.

    Raises:
        UserError: a GPU was asked for and there is none, or bf16 where the hardware would emulate it.
    """
    device = _device(train.device)
    fast = has_fast_bf16(str(device))
    if train.precision == "bf16" and not fast:
        raise UserError("train.precision", f"this {device.type} has no fast bf16", "choose 'auto' or 'fp32'")
    return Compute(device, "bf16" if fast and train.precision != "fp32" else "fp32")


def _device(setting: str) -> torch.device:
    """The device that `train.device` means here; "cuda" and "auto" are the GPU that is current in this thread."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if setting == "cpu" or (setting == "auto" and not count):
        return torch.device("cpu")
    if not count:
        raise UserError("train.device", "no CUDA device is available", "choose 'auto' or 'cpu'")
    index = setting.partition(":")[2]
    if index and int(index) >= count:
        there = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise UserError("train.device", f"there is no GPU {setting} here", f"choose 'auto', 'cuda', or {there}")
    return torch.device("cuda", int(index)) if index else torch.device("cuda")


@functools.cache
def has_fast_bf16(device: str) -> bool:
    """True on GPUs from Ampere on and on CPUs with AVX512-BF16 or AMX. device: cpu, cuda or cuda:1."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device)[0] >= 8
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


@functools.cache
def hardware(device: str) -> str:
    """The name of the processor or GPU, for labels on figures. device: cpu, cuda or cuda:1."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return model


def build_facts(compute: Compute) -> dict[str, str | int]:
    """What bit-for-bit repetition depends on: versions, instruction set, threads, device, precision."""
    return {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": compute.device.type,
        "precision": compute.precision,
        "hardware": hardware(str(compute.device)),
        "python": platform.python_version(),
    }


@functools.cache
def keep_freed_memory() -> bool:
    """Asks glibc to keep large freed blocks. Else each step's big tensors are given back to the kernel and faulted in
    again, which took half of a small student's CPU step. Once per process; returns whether it took effect."""
    libc = _glibc()
    if libc is None:
        return False
    mmap_max, trim_threshold, arena_max = -4, -1, -8
    return bool(libc.mallopt(mmap_max, 0) and libc.mallopt(trim_threshold, 2**31 - 1) and libc.mallopt(arena_max, 1))


def give_back_memory() -> None:
    """Returns freed memory to the system after a run."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
