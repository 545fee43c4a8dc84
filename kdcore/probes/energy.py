"""Joules of a piece of work, from the counters of the processor (RAPL) or of the GPU (NVML), read through zeus.

zeus (You et al. 2023, arXiv 2208.06102) is an optional package, the extra `energy`. It reads counters that
count for the whole processor or board, so idle power and other work are in them. To follow RAPL's counter past its end
it starts a small process by `spawn`, which imports the main module again: so this is for programs whose main module is
guarded, such as `engine/measure_process.py`, not for a dashboard.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

NONE = "no energy counter here: "
"""How every reason begins."""
NOT_INSTALLED = NONE + "the package zeus is not installed (pip install -r requirements-energy.txt)"
NO_RAPL = NONE + "the system shows none of its processor (RAPL), as in most virtual machines"
NO_PERMISSION = NONE + "the processor's (RAPL) can be read by root only"
NO_GPU_COUNTER = NONE + "the GPU's driver gives none"

_WINDOW = "kdboard"


class Meter(Protocol):
    """What counts energy."""

    def joules(self, work: Callable[[], None]) -> float:
        """What was used while the work was done. It should last a second: a GPU's counter moves ten times in it."""
        ...


class ZeusMeter:
    """Counts the device's energy through a `ZeusMonitor`: the processors' packages and memory, or one GPU's board.

    Args:
        monitor: a `zeus.monitor.ZeusMonitor` of that device alone.
    """

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor

    def joules(self, work: Callable[[], None]) -> float:
        self._monitor.begin_window(_WINDOW)
        try:
            work()
        except BaseException:
            self._monitor.end_window(_WINDOW, cancel=True)
            raise
        used = self._monitor.end_window(_WINDOW)
        parts = (used.gpu_energy, used.cpu_energy, used.dram_energy)  # device -> joules; None: has no such counter
        return float(sum(sum(part.values()) for part in parts if part))


def open_meter(device: torch.device) -> Meter | str:
    """What counts the energy of models on this device, or why there is nothing."""
    try:
        from zeus.device import get_cpus, get_gpus
        from zeus.device.cpu.common import ZeusCPUNoPermissionError
        from zeus.exception import ZeusBaseError
        from zeus.monitor import ZeusMonitor
    except ImportError:
        return NOT_INSTALLED
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        try:
            get_gpus()
            return ZeusMeter(ZeusMonitor(gpu_indices=[index], cpu_indices=[]))
        except ZeusBaseError:
            return NO_GPU_COUNTER
    try:
        return ZeusMeter(ZeusMonitor(gpu_indices=[])) if len(get_cpus()) else NO_RAPL
    except ZeusCPUNoPermissionError:
        return NO_PERMISSION
    except ZeusBaseError:
        return NO_RAPL
