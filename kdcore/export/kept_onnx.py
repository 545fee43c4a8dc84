"""ONNX files of a run's best student that are made once, checked, and kept in the run's folder for whoever takes them
away. What goes with them, the tokenizer and the model card, is written anew each time."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdcore.errors import UserError
from kdcore.export.folder import described, export_student, student_files, zipped
from kdcore.export.onnx_check import OnnxCheck
from kdcore.export.record import read_record
from kdcore.export.runtimes import INT8, ONNX
from kdcore.extras import check_installed
from kdcore.paths import run_dir
from kdcore.remote import fetching

if TYPE_CHECKING:
    from kdcore.store import Store

FOLDER, CHECK = "onnx", "check.json"
"""In a run's folder, and in that one."""


@dataclass(frozen=True)
class KeptOnnx:
    """folder: of `ONNX` and `INT8`. check: what was measured of them. sizes: their bytes."""

    folder: Path
    check: OnnxCheck
    sizes: tuple[int, int]

    def file(self, int8: bool) -> Path:
        """The file in float32, or the one with 8-bit weights."""
        return self.folder / (INT8 if int8 else ONNX)

    def megabytes(self, int8: bool) -> float:
        return self.sizes[int8] / 1e6


def check_packages() -> None:
    """Raises UserError where a package that makes ONNX files is not installed; imports none."""
    check_installed(("onnx", "onnxscript", "onnxruntime"), "onnx", "ONNX")


def kept_onnx(run_id: str) -> KeptOnnx | None:
    """The run's ONNX files; None where there are none of its present weights."""
    folder = run_dir(run_id) / FOLDER
    try:
        content = json.loads((folder / CHECK).read_text(encoding="utf-8"))
        kept = KeptOnnx(folder, OnnxCheck(**content["check"]), _sizes(folder))
        whole = content["weights"] == _weights(run_id)
    except UserError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return kept if whole else None


def make_onnx(store: Store, run_id: str) -> KeptOnnx:
    """Makes both files of the best student and keeps them: whole, or not at all.

    Raises:
        UserError: no such student, ONNX cannot hold it, or the disk is full.
    """
    home = run_dir(run_id)
    weights = _weights(run_id)
    try:
        with tempfile.TemporaryDirectory(prefix="onnx.", suffix=".partial", dir=home) as writing:
            made, kept = Path(writing) / "student", Path(writing) / FOLDER
            check = export_student(store, run_id, made, onnx=True, int8=True)
            assert check is not None
            kept.mkdir()
            for name in (ONNX, INT8):
                (made / name).rename(kept / name)
            content = {"weights": weights, "check": check.data()}
            (kept / CHECK).write_text(json.dumps(content, indent=1), encoding="utf-8")
            shutil.rmtree(home / FOLDER, ignore_errors=True)
            kept.rename(home / FOLDER)
        return KeptOnnx(home / FOLDER, check, _sizes(home / FOLDER))
    except OSError as error:
        raise UserError("ONNX", f"the files cannot be written ({error})", "look at disk and rights") from error
    except UserError as error:
        if error.field not in ("--onnx", "--int8"):
            raise
        raise UserError("ONNX", error.problem, "download the weights for torch") from error


def onnx_zip(store: Store, run_id: str, int8: bool = False) -> bytes:
    """One ONNX file with tokenizer, model card and kdboard.json, as a zip file; the weights for torch are left out.

    Raises:
        UserError: no such run or student, or no ONNX files of its present weights.
    """
    record, kept = read_record(store, run_id), kept_onnx(run_id)
    if kept is None:
        raise UserError("run", f"{run_id} has no ONNX files of its present weights", "make them again")
    file = kept.file(int8)
    check = kept.check if int8 else replace(kept.check, int8={}, int8_same=None)
    files = {name: content for name, content in student_files(record).items() if not name.endswith(".safetensors")}
    return zipped(run_id, files | described(record, check, only=file.name) | {file.name: file})


def _weights(run_id: str) -> list[list[object]]:
    """By which weights that were written again are noticed: name, bytes and time of each file."""
    files = sorted((run_dir(run_id) / "student-best").glob("*.safetensors"))
    if not files:
        remedy = fetching(run_id) or "choose another run, or clone it"
        raise UserError("run", f"{run_id} has no student on this disk", remedy)
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _sizes(folder: Path) -> tuple[int, int]:
    return (folder / ONNX).stat().st_size, (folder / INT8).stat().st_size
