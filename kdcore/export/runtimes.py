"""Answers of a published folder: by torch from its weights, or by ONNX Runtime from a file beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.data.encode import Encoded, pad, sorted_order
from kdcore.errors import UserError
from kdcore.extras import extra_package

ONNX, INT8 = "model.onnx", "model-int8.onnx"
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
BATCH = 64
"""Rows at once, those of like length together."""

Logits = NDArray[np.float32]
"""[rows, outputs], in the order of the rows."""


def torch_logits(folder: Path, rows: Encoded) -> Logits:
    """By torch, in float32 on the CPU.

    Raises:
        UserError: the folder holds no classifier that can be read.
    """
    import torch

    from kdcore.engine.device import Compute
    from kdcore.engine.predict import predict
    from kdcore.models.students import load_classifier

    passes = predict(load_classifier(folder), rows, Compute(torch.device("cpu"), "fp32"), "")
    while True:
        try:
            next(passes)
        except StopIteration as end:
            logits: Logits = end.value
            return logits


def onnx_logits(file: Path, rows: Encoded) -> Logits:
    """By ONNX Runtime, on the CPU.

    Raises:
        UserError: the package is not installed, or the file is damaged or has other inputs.
    """
    session = _session(file)
    batches = sorted_order(rows.lengths, BATCH)
    found = []
    for chosen in batches:
        coded = pad(rows, chosen)
        found.append(_run(session, {name: getattr(coded, name).numpy() for name in INPUT_NAMES}, file))
    out = np.empty((len(rows), found[0].shape[1]), dtype=np.float32)
    out[np.concatenate(batches)] = np.concatenate(found)
    return out


def onnx_pass(file: Path, rows: int, tokens: int, vocabulary: int) -> Callable[[], float]:
    """A pass of ONNX Runtime over rows of random words without padding, to be timed; gives its seconds.

    As many threads as torch has now.

    Raises:
        UserError: the package is not installed, or the file cannot be run.
    """
    session = _session(file)
    words = np.random.default_rng(0).integers(min(5, vocabulary - 1), vocabulary, (rows, tokens))
    inputs = dict(zip(INPUT_NAMES, (words, np.ones_like(words), np.zeros_like(words)), strict=True))

    def answer() -> float:
        start = time.perf_counter()
        _run(session, inputs, file)
        return time.perf_counter() - start

    return answer


def _session(file: Path) -> Any:
    import torch

    runtime = extra_package("onnxruntime", "onnx", "--runtime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # what it warns of is optimised anyway
    try:
        return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes, which derive from nothing in common
        raise _damaged(file, error) from error


def _run(session: Any, inputs: dict[str, NDArray[np.int64]], file: Path) -> Logits:
    try:
        return np.asarray(session.run(["logits"], inputs)[0], dtype=np.float32)
    except Exception as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError("folder", f"{file.name} cannot be run ({reason})", "export the run again")
