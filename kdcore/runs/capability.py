"""What a worker in this process can train."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kdcore.errors import UserError

if TYPE_CHECKING:
    from kdcore.store import Capability


def capability(device: str = "auto", memory: float | None = None) -> Capability:
    """Value of `train.device` -> bytes of memory that such a run may take: of the processor, or of the GPU.

    device: auto, for whatever this process sees; cpu or cuda for one of them. An index of a GPU counts only for "auto":
    "cuda:1" and the like see one GPU alone (`work.take_device`), whose index is then another. memory: bytes of the
    processor's memory that may be taken; default: all there is.

    Raises:
        UserError: no GPU is seen, and one was asked for.
    """
    import psutil
    import torch  # heavy, and only the one who trains needs it

    ram = float(memory or psutil.virtual_memory().total)
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    if not gpus:
        if device.startswith("cuda"):
            raise UserError("--device", f"no CUDA device is seen for {device}", "choose auto or cpu")
        return {"auto": ram, "cpu": ram}
    sizes = [float(torch.cuda.get_device_properties(index).total_memory) for index in range(gpus)]
    can = {"auto": sizes[0], "cuda": sizes[0]}
    if device == "auto":
        can |= {"cpu": ram} | {f"cuda:{index}": size for index, size in enumerate(sizes)}
    return can


def has_own_worker() -> bool:
    """False where `KD_WORKER=off` leaves training to other processes: `kdcore work`, or another dashboard."""
    return os.environ.get("KD_WORKER", "").strip().lower() not in ("off", "0", "no", "false")
