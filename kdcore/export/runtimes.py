"""Answers of a published folder on the CPU: by torch from its weights, by ONNX Runtime or OpenVINO from a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdcore.data.encode import Encoded, pad, sorted_order
from kdcore.errors import UserError
from kdcore.extras import extra_package

ONNX, INT8 = "model.onnx", "model-int8.onnx"
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
BATCH = 64
"""Rows at once, those of like length together."""

Runtime = Literal["torch-fp32", "torch-bf16", "onnx-fp32", "onnx-int8", "openvino-fp32"]
RUNTIMES: dict[Runtime, str] = {
    "torch-fp32": "torch, float32", "torch-bf16": "torch, bf16", "onnx-fp32": "ONNX Runtime, float32",
    "onnx-int8": "ONNX Runtime, int8", "openvino-fp32": "OpenVINO, float32",
}  # fmt: skip
"""Runtime -> its name for people. bf16: matrices in bf16, the rest in float32. int8: weights of matrix products and
embeddings in 8 bits, activations scaled as they come. torch's own dynamic int8 is not here: torch has deprecated it."""

Logits = NDArray[np.float32]
"""[rows, outputs], in the order of the rows."""
Words = Mapping[str, NDArray[np.int64]]
"""Of `INPUT_NAMES`, each [rows, tokens]."""
Runner = Callable[[Words], Logits]
"""A model that is loaded. It computes with as many threads as torch had when it was."""


def runtime_title(key: str) -> str:
    """A runtime's name for people; one that is not known here (of another version) stays itself."""
    return next((words for runtime, words in RUNTIMES.items() if runtime == key), key)


def runner(runtime: Runtime, folder: Path) -> Runner:
    """Loads a model. folder: holds the weights for torch, `ONNX` and `INT8` for the others.

    Raises:
        UserError: the package of the runtime is not installed, or the model cannot be read.
    """
    library, _, precision = runtime.partition("-")
    if library == "torch":
        return torch_runner(folder, precision)
    if library == "openvino":
        return openvino_runner(folder / ONNX)
    return onnx_runner(folder / (INT8 if precision == "int8" else ONNX))


def logits_of(run: Runner, rows: Encoded) -> Logits:
    """A model's answers to rows."""
    batches = sorted_order(rows.lengths, BATCH)
    found = []
    for chosen in batches:
        coded = pad(rows, chosen)
        found.append(run({name: getattr(coded, name).numpy() for name in INPUT_NAMES}))
    out = np.empty((len(rows), found[0].shape[1]), dtype=np.float32)
    out[np.concatenate(batches)] = np.concatenate(found)
    return out


def timed_pass(run: Runner, rows: int, tokens: int, vocabulary: int) -> Callable[[], float]:
    """A pass over rows of random words without padding, to be timed; gives its seconds."""
    words = np.random.default_rng(0).integers(min(5, vocabulary - 1), vocabulary, (rows, tokens))
    inputs = dict(zip(INPUT_NAMES, (words, np.ones_like(words), np.zeros_like(words)), strict=True))

    def answer() -> float:
        start = time.perf_counter()
        run(inputs)
        return time.perf_counter() - start

    return answer


def torch_logits(folder: Path, rows: Encoded) -> Logits:
    """By torch, in float32 on the CPU.

    Raises:
        UserError: the folder holds no classifier that can be read.
    """
    return logits_of(torch_runner(folder), rows)


def onnx_logits(file: Path, rows: Encoded) -> Logits:
    """By ONNX Runtime, on the CPU.

    Raises:
        UserError: the package is not installed, or the file is damaged or has other inputs.
    """
    return logits_of(onnx_runner(file), rows)


def onnx_pass(file: Path, rows: int, tokens: int, vocabulary: int) -> Callable[[], float]:
    """A `timed_pass` of ONNX Runtime; raises UserError as `onnx_logits` does."""
    return timed_pass(onnx_runner(file), rows, tokens, vocabulary)


def torch_runner(folder: Path, precision: str = "fp32") -> Runner:
    """By torch, eager, on the CPU. precision: fp32 or bf16.

    Raises:
        UserError: the folder holds no classifier that can be read.
    """
    import torch

    from kdcore.engine.device import Compute
    from kdcore.models.anatomy import anatomy
    from kdcore.models.students import load_classifier

    compute = Compute(torch.device("cpu"), "bf16" if precision == "bf16" else "fp32")
    model = compute.frozen(load_classifier(folder))
    names = INPUT_NAMES if anatomy(model).token_types > 1 else INPUT_NAMES[:2]

    def run(words: Words) -> Logits:
        with torch.inference_mode(), compute.autocast():
            logits = model(**{name: torch.from_numpy(words[name]) for name in names}).logits
        return logits.float().numpy()  # type: ignore[no-any-return]

    return run


def onnx_runner(file: Path) -> Runner:
    """By ONNX Runtime.

    Raises:
        UserError: the package is not installed, or the file is damaged; so does a run where it has other inputs.
    """
    import torch

    runtime = extra_package("onnxruntime", "onnx", "--runtime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would slow who answers next
    options.log_severity_level = 3  # what it warns of is optimised anyway
    with _named(file):
        session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def run(words: Words) -> Logits:
        with _named(file):
            return np.asarray(session.run(["logits"], dict(words))[0], dtype=np.float32)

    return run


def openvino_runner(file: Path) -> Runner:
    """By OpenVINO, in float32: by itself it would compute in bf16 where the processor can.

    Raises:
        UserError: as `onnx_runner`.
    """
    import torch

    openvino: Any = extra_package("openvino", "openvino", "--runtime")
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    with _named(file):
        compiled = openvino.Core().compile_model(str(file), "CPU", settings)

    def run(words: Words) -> Logits:
        with _named(file):
            return np.array(compiled(dict(words))["logits"], dtype=np.float32)

    return run


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """What fails inside names the file: both libraries raise classes of their own, which have nothing in common."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError("folder", f"{file.name} cannot be run ({reason})", "export the run again") from error
