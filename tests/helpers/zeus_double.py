"""The part of the package zeus that energy is read through, with counters that a test sets.

Names, arguments, units (joules) and what raises are those of zeus 0.16.0.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest


class ZeusBaseError(Exception): ...


class ZeusCPUInitError(ZeusBaseError): ...


class ZeusCPUNoPermissionError(ZeusBaseError): ...


class ZeusGPUInitError(ZeusBaseError): ...


@dataclass
class Measurement:
    time: float
    gpu_energy: dict[int, float]
    cpu_energy: dict[int, float] | None = None
    dram_energy: dict[int, float] | None = None


@dataclass
class Counters:
    """What the machine has. cpus, dram, gpus: index -> joules so far; an error in place of cpus or gpus is raised."""

    cpus: dict[int, float] | Exception = field(default_factory=dict)
    dram: dict[int, float] = field(default_factory=dict)
    gpus: dict[int, float] | Exception = field(default_factory=lambda: ZeusGPUInitError("no NVML"))
    windows: list[str] = field(default_factory=list)

    def listed(self, counters: dict[int, float] | Exception) -> dict[int, float]:
        if isinstance(counters, Exception):
            raise counters
        return counters


def install(monkeypatch: pytest.MonkeyPatch, counters: Counters) -> None:
    """Makes `import zeus` find this."""

    class ZeusMonitor:
        def __init__(self, gpu_indices: list[int] | None = None, cpu_indices: list[int] | None = None) -> None:
            gpus = {} if isinstance(counters.gpus, Exception) else counters.gpus
            cpus = {} if isinstance(counters.cpus, Exception) else counters.cpus
            self.gpus = list(gpus) if gpu_indices is None else gpu_indices
            self.cpus = list(cpus) if cpu_indices is None else cpu_indices
            self.states: dict[str, tuple[dict[int, float], dict[int, float], dict[int, float]]] = {}

        def _now(self) -> tuple[dict[int, float], dict[int, float], dict[int, float]]:
            gpus: Any = counters.gpus
            cpus: Any = counters.cpus
            dram = {index: counters.dram[index] for index in self.cpus if index in counters.dram}
            return {index: gpus[index] for index in self.gpus}, {index: cpus[index] for index in self.cpus}, dram

        def begin_window(self, key: str, sync_execution: bool = True, restart: bool = False) -> None:
            if key in self.states:
                raise ValueError(f"Measurement window '{key}' already exists")
            self.states[key] = self._now()

        def end_window(self, key: str, sync_execution: bool = True, cancel: bool = False) -> Measurement:
            before = self.states.pop(key)
            counters.windows.append("cancelled" if cancel else "counted")
            used = [
                {index: now[index] - old[index] for index in old} for old, now in zip(before, self._now(), strict=True)
            ]
            return Measurement(0.0, used[0], used[1] or None, used[2] or None)

    modules: dict[str, dict[str, Any]] = {
        "zeus": {}, "zeus.device.cpu": {},
        "zeus.device": {"get_cpus": lambda: counters.listed(counters.cpus),
                        "get_gpus": lambda: counters.listed(counters.gpus)},
        "zeus.device.cpu.common": {"ZeusCPUNoPermissionError": ZeusCPUNoPermissionError},
        "zeus.exception": {"ZeusBaseError": ZeusBaseError},
        "zeus.monitor": {"ZeusMonitor": ZeusMonitor},
    }  # fmt: skip
    for name, contents in modules.items():
        module = ModuleType(name)
        module.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, module)


def uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `import zeus` fail, whether the package is there or not."""
    for name in ("zeus", "zeus.device"):
        monkeypatch.setitem(sys.modules, name, None)


Work = Callable[[], None]
