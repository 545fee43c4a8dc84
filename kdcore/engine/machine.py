"""What this machine is: device, versions, memory and disk. Nothing that names a person or a folder."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from kdcore import __version__
from kdcore.engine.device import hardware, has_fast_bf16

PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "scikit-learn", "pandas", "streamlit", "plotly")
"""Those whose version decides how a run or a page behaves."""


@dataclass(frozen=True)
class Capacity:
    """Bytes of something finite: in all, and still free."""

    total: int
    free: int


def device() -> dict[str, str]:
    """Where runs are trained here, in words."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    facts = {
        "Processor": f"{hardware('cpu')} ({cores} cores)",
        "Threads of torch": str(torch.get_num_threads()),
        "Instruction set": torch.backends.cpu.get_cpu_capability(),
    }
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        facts["GPU"] = hardware("cuda") + (f", the first of {count}" if count > 1 else "")
        facts["CUDA"] = str(torch.version.cuda)
    else:
        facts["GPU"] = "none found: runs are trained on the processor"
    used = "cuda" if torch.cuda.is_available() else "cpu"
    facts["Compute"] = "bf16 forward passes, float32 weights" if has_fast_bf16(used) else "float32"
    return facts


def versions() -> dict[str, str]:
    """KDBoard, Python, the system and the packages: name -> version."""
    facts = {"KDBoard": __version__, "Python": platform.python_version(), "System": platform.system()}
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def memory() -> Capacity:
    """Of the machine: what a new run could still take."""
    memory = psutil.virtual_memory()
    return Capacity(memory.total, memory.available)


def gpu_memory() -> Capacity | None:
    """Of the first GPU; None where there is none."""
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return Capacity(total, free)


def own_memory() -> int:
    """Bytes that this process holds."""
    return int(psutil.Process().memory_info().rss)


def disk(folder: Path) -> Capacity:
    """Of the file system that holds the folder."""
    usage = psutil.disk_usage(str(folder))
    return Capacity(usage.total, usage.free)
