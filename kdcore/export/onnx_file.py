"""model.onnx of a student, checked against it on rows of its task; model-int8.onnx, scored on them."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore import data
from kdcore.data.encode import Encoded, encode
from kdcore.errors import UserError
from kdcore.export.onnx_check import OnnxCheck
from kdcore.export.pipeline_files import longest_row
from kdcore.export.record import StudentRecord
from kdcore.export.runtimes import INPUT_NAMES, INT8, ONNX, onnx_logits, torch_logits
from kdcore.extras import extra_package
from kdcore.models.tokenizers import load_tokenizer

OPSET = 20
TOLERANCE = 1e-3
"""Largest difference of two logits that passes. Both compute in float32 and sum in other orders: 1e-6 is usual."""

MOST_ROWS = 512
"""Of the task, of all lengths, that are compared."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def add_onnx(folder: Path, record: StudentRecord, int8: bool) -> OnnxCheck:
    """Writes model.onnx into a student's folder, and model-int8.onnx where asked.

    Raises:
        UserError: a package is not installed, an operator has no counterpart, or the answers are not the student's.
        OSError: the disk is full.
    """
    for name in _PACKAGES:
        extra_package(name, "onnx", "--onnx")
    splits = _splits(folder, record)
    rows, source = (_spread(next(iter(splits.values()))), "rows of the task") if splits else (
        _made_up(folder), "rows of random words, since those of the task are not here")  # fmt: skip
    write_onnx(folder, folder / ONNX)
    expected, found = torch_logits(folder, rows), onnx_logits(folder / ONNX, rows)
    largest, same = float(np.abs(expected - found).max()), _same(expected, found)
    if not largest <= TOLERANCE:  # not a number is no agreement either
        raise UserError(
            "--onnx", f"the ONNX file answers otherwise than the student: a logit differs by {largest:.2g}, "
            f"{TOLERANCE:g} is allowed", "export without --onnx, and report it",
        )  # fmt: skip
    scores: dict[str, dict[str, float]] = {}
    int8_same = None
    if int8:
        write_int8(folder / ONNX, folder / INT8)
        int8_same = _same(expected, onnx_logits(folder / INT8, rows))
        scores = _scores(folder / INT8, record, splits)
    return OnnxCheck(
        source=source, rows=len(rows), largest=largest, tolerance=TOLERANCE, same=same, opset=OPSET,
        versions={name: version(name) for name in _PACKAGES}, int8=scores, int8_same=int8_same,
    )  # fmt: skip


def write_onnx(folder: Path, file: Path) -> None:
    """The student's graph: input_ids, attention_mask, token_type_ids, int64 [batch, tokens], both free; logits.

    Raises:
        UserError: a package is not installed, or an operator of the student has no counterpart in ONNX.
        OSError: the disk is full.
    """
    import torch

    from kdcore.models.students import load_classifier

    for name in _PACKAGES[:2]:
        extra_package(name, "onnx", "--onnx")
    words = torch.ones(2, 4, dtype=torch.int64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])  # where nothing is masked, transformers leaves the mask out
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", min=1, max=_positions(folder))}
    with _silence():
        try:
            program = torch.onnx.export(
                _logits_only(load_classifier(folder)), (words, mask, torch.zeros_like(words)), dynamo=True,
                input_names=list(INPUT_NAMES), output_names=["logits"], dynamic_shapes=(shape, shape, shape),
                opset_version=OPSET, verbose=False,
            )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            raise UserError(
                "--onnx", f"ONNX cannot hold this student ({_reason(error)})", "leave --onnx out"
            ) from error
        program.save(str(file))  # type: ignore[union-attr]


def write_int8(source: Path, file: Path) -> None:
    """The same graph with weights of matrix products and embeddings in 8 bits; activations are scaled as they come.

    Raises:
        UserError: ONNX Runtime cannot convert it.
    """
    quantization = extra_package("onnxruntime.quantization", "onnx", "--int8")
    with _silence():
        try:
            quantization.quantize_dynamic(str(source), str(file), weight_type=quantization.QuantType.QInt8)
        except OSError:
            raise
        except Exception as error:  # it raises classes of its own and of protobuf
            raise UserError(
                "--int8", f"the weights cannot be converted ({_reason(error)})", "leave --int8 out"
            ) from error


def _splits(folder: Path, record: StudentRecord) -> dict[str, Encoded]:
    """The task's dev rows as the folder's own tokenizer reads them; empty where they are not here."""
    try:
        rows = data.load(record.config.task, record.config.own)
    except UserError:
        return {}
    fingerprint = record.facts.get("data_fingerprint")
    if fingerprint and not rows.has_fingerprint(fingerprint):
        return {}
    tokenizer = load_tokenizer(folder)
    longest = longest_row(folder, record.config.train.max_length)
    return {name: encode(rows.splits[name], tokenizer, longest) for name in rows.task.splits}


def _spread(rows: Encoded) -> Encoded:
    """At most `MOST_ROWS` of the rows, evenly over their lengths; shortest and longest are among them."""
    order = np.argsort(rows.lengths, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(MOST_ROWS, len(order))).round().astype(np.int64))]
    parts = [slice(rows.offsets[row], rows.offsets[row + 1]) for row in chosen]
    offsets = np.concatenate([[0], np.cumsum(rows.lengths[chosen])])
    return Encoded(
        np.concatenate([rows.input_ids[part] for part in parts]),
        np.concatenate([rows.token_types[part] for part in parts]),
        offsets, rows.labels[chosen], rows.ids[chosen], rows.pad_id,
    )  # fmt: skip


def _made_up(folder: Path) -> Encoded:
    """Rows of random words, of every length that can be read up to 64 rows."""
    tokenizer, positions = load_tokenizer(folder), _positions(folder)
    rng = np.random.default_rng(0)
    lengths = np.unique(np.linspace(min(3, positions), positions, 64).astype(np.int64))
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    rows = [[first, *rng.integers(0, len(tokenizer), length - 2).tolist(), last] for length in lengths]
    ids = np.concatenate(rows).astype(np.int32)
    return Encoded(
        ids, np.zeros(len(ids), np.uint8), np.concatenate([[0], np.cumsum(lengths)]), np.zeros(len(rows), np.int64),
        np.arange(len(rows)), int(tokenizer.pad_token_id or 0),
    )  # fmt: skip


def _scores(file: Path, record: StudentRecord, splits: Mapping[str, Encoded]) -> dict[str, dict[str, float]]:
    from kdcore.engine.evaluate import scores

    return {name: scores(record.task, onnx_logits(file, rows), rows.labels) for name, rows in splits.items()}


def _same(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    """Share of rows with the same answer: the same class, or a score within a hundredth."""
    if one.shape[1] == 1:
        return float((np.abs(one - two) < 0.01).mean())
    return float((one.argmax(1) == two.argmax(1)).mean())


def _positions(folder: Path) -> int:
    return longest_row(folder, 10**9)


def _logits_only(model: Any) -> Any:
    from torch import nn

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits

    return Logits().eval()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporters warn of what does not concern a person who only wants the file."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _reason(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())[:200] or type(error).__name__
