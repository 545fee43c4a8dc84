"""What loading a model and answering with it adds to the memory of a process: the same for every runtime, since none
tells what it holds. Linux counts the peak."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kdcore.export.runtimes import Runtime, runner, timed_pass
from kdcore.paths import python_path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
PATIENCE = 300.0
"""Seconds that a process may take."""


def peak_memory(runtime: Runtime, folder: Path, rows: int, tokens: int, vocabulary: int, threads: int) -> int | None:
    """Bytes at the highest, in a process of its own that answers two batches; None where it fails, or the system
    does not count.

    Args:
        folder: as `runtimes.runner` takes it. rows, tokens: of a batch.
    """
    if not (_STATUS.exists() and os.access(_CLEAR, os.W_OK)):
        return None
    numbers = map(str, (rows, tokens, vocabulary, threads))
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, runtime, str(folder), *numbers], capture_output=True, text=True,
            timeout=PATIENCE, env=os.environ | {"PYTHONPATH": python_path()}, check=True,
        )  # fmt: skip
        return int(done.stdout.split()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _of_status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def _measure(runtime: Runtime, folder: Path, rows: int, tokens: int, vocabulary: int, threads: int) -> int:
    import importlib

    import torch

    import kdcore.models.students  # noqa: F401  # what is imported is no part of the model
    from kdcore.models.library import transformers

    transformers()
    library = runtime.partition("-")[0]
    importlib.import_module({"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}[library])
    torch.set_num_threads(threads)
    _CLEAR.write_text("5")  # the peak counts from here
    before = _of_status("VmRSS")
    one = timed_pass(runner(runtime, folder), rows, tokens, vocabulary)
    one()
    one()
    return _of_status("VmHWM") - before


if __name__ == "__main__":
    _runtime, _folder, *_numbers = sys.argv[1:]
    print(_measure(_runtime, Path(_folder), *map(int, _numbers)))  # type: ignore[arg-type]
