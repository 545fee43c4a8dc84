"""What a student of a size costs, from one with new weights: exact, since time and size do not depend on what is
learned, and known before anything is trained."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kdcore.export.onnx_file import write_int8, write_onnx
from kdcore.export.runtimes import INT8, ONNX, onnx_pass
from kdcore.extras import extra_package
from kdcore.models.count import parameters
from kdcore.models.sizes import bert_config
from kdcore.models.weights import build_classifier, write_model
from kdcore.probes import latency
from kdcore.probes.forward_pass import answer, inputs_for, threads
from kdcore.records import ModelSize
from kdcore.search.question import Bound, Cost

ROUNDS = 400
"""Passes of each size behind its median and its 95th percentile, which few would leave to chance."""
SECONDS = 4.0
"""For each size; where they are over, fewer rounds do."""


@dataclass(frozen=True)
class Costs:
    """Costs by name. hardware: of the machine that was timed. busy: other work disturbed the timing."""

    of: dict[str, Cost]
    hardware: str
    busy: bool


def check_runtime(bound: Bound) -> None:
    """Raises UserError where a package of the runtime is not installed."""
    if bound.runtime.startswith("onnx"):
        for name in ("onnx", "onnxscript", "onnxruntime"):
            extra_package(name, "onnx", "bound.runtime")


def measure(sizes: Mapping[str, ModelSize], bound: Bound, tokens: Mapping[str, int]) -> Costs:
    """Builds each size with new weights and takes what the bound asks for, in turn.

    tokens: of a row without padding, as each size reads it.

    Raises:
        UserError: a package of the runtime is not installed, or it cannot hold a size.
    """
    check_runtime(bound)
    with threads(bound.threads), tempfile.TemporaryDirectory() as folder:
        made = {
            name: _made(size, bound, Path(folder) / str(i), tokens[name])
            for i, (name, size) in enumerate(sizes.items())
        }
        times, busy = times_in_turn({name: one for name, (_, one) in made.items()}) if bound.is_timed else ({}, False)
    found = {}
    for name, (cost, _) in made.items():
        p50, p95 = np.percentile(np.array(times[name]) * 1000, (50, 95)).tolist() if name in times else (None, None)
        found[name] = Cost(cost.parameters, cost.disk_mib, p50, p95, tokens[name])
    return Costs(found, latency.hardware_name(), busy)


def times_in_turn(passes: Mapping[str, Callable[[], float]]) -> tuple[dict[str, list[float]], bool]:
    """Seconds of each pass, and whether other work disturbed them."""
    before = latency.foreign_cores()
    times = latency.take_turns(passes, ROUNDS, 3, SECONDS * len(passes))
    return times, latency.is_busy(max(before, latency.foreign_cores()), torch.get_num_threads())


def _made(size: ModelSize, bound: Bound, folder: Path, tokens: int) -> tuple[Cost, Callable[[], float]]:
    """The size's weights on disk, and a pass of it."""
    model = _untrained(size)
    write_model(model, folder)
    if bound.runtime.startswith("onnx"):
        write_onnx(folder, file := folder / ONNX)
        if bound.runtime == "onnx-int8":
            write_int8(file, file := folder / INT8)
        one = onnx_pass(file, bound.batch, tokens, size.vocabulary)
    else:
        (file,) = folder.glob("*.safetensors")
        one = partial(_seconds, model, inputs_for(model, bound.batch, tokens), bound.runtime.removeprefix("torch-"))
    return Cost(parameters(size).total, file.stat().st_size / 2**20), one


def _untrained(size: ModelSize) -> nn.Module:
    config: Any = bert_config(size, size.labels, 0.0)
    if size.form != "plain" or size.pooled_width:
        from kdcore.models.forms import formed_config

        config = formed_config(
            config, form=size.form, pooled_width=size.pooled_width, projection_width=size.projection_width
        )
    return build_classifier(config, {}, seed=0)[0]


def _seconds(model: nn.Module, inputs: Any, precision: str) -> float:
    with torch.inference_mode():
        start = time.perf_counter()
        answer(model, inputs, precision)
        return time.perf_counter() - start
