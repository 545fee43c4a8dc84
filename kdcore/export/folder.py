"""A student's folder as it is published, on the disk or as one zip file: weights, settings, tokenizer, model card."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcore import __version__
from kdcore.errors import UserError
from kdcore.export.card import model_card
from kdcore.export.dense import dense_record
from kdcore.export.onnx_check import OnnxCheck
from kdcore.export.pipeline_files import check_form, config_json, longest_row, tokenizer_files
from kdcore.export.record import StudentRecord, public_settings, read_record
from kdcore.paths import user_path
from kdcore.runs.export import student_folder

if TYPE_CHECKING:
    from kdcore.store import Store

CARD, FACTS = "README.md", "kdboard.json"
FORMAT = 1
"""Of kdboard.json."""

_MACHINE_FACTS = ("torch", "python", "hardware", "device", "precision", "capability", "threads")
_COPIED = (".safetensors", ".json", ".txt")


def student_zip(store: Store, run_id: str, which: str = "best") -> bytes:
    """The published folder as one zip file, named after the run inside.

    Raises:
        UserError: no such run or student, or one of no plain form.
    """
    return zipped(run_id, student_files(read_record(store, run_id, which)))


def zipped(home: str, files: Mapping[str, bytes | Path]) -> bytes:
    """Files in one folder of a zip file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:  # weights do not shrink
        for name, content in sorted(files.items()):
            if isinstance(content, Path):
                file.write(content, f"{home}/{name}")
            else:
                file.writestr(f"{home}/{name}", content)
    return packed.getvalue()


def export_student(
    store: Store, run_id: str, target: Path, which: str = "best", onnx: bool = False, int8: bool = False,
    dense: bool = False,
) -> OnnxCheck | None:  # fmt: skip
    """Writes the published folder: whole, or not at all. Returns what was measured of the ONNX file.

    Args:
        onnx: also write model.onnx, checked against the student. int8: also model-int8.onnx, scored.
        dense: of a student of another form, the plain BERT that answers the same.

    Raises:
        UserError: no such run or student, one of no plain form, a target that is not free or cannot be written, or an
            ONNX file that cannot be made or gives other answers.
    """
    user_path(str(target), "--to")
    student_folder(store, run_id, which)
    _check_free(target)
    with contextlib.ExitStack() as inside:
        record = read_record(store, run_id, which)
        if dense:
            record = inside.enter_context(dense_record(record))
        return _write(record, target, onnx, int8)


def _write(record: StudentRecord, target: Path, onnx: bool, int8: bool) -> OnnxCheck | None:
    files, check = student_files(record), None
    with _whole(target) as folder:
        for name, content in files.items():
            if isinstance(content, Path):
                shutil.copyfile(content, folder / name)  # the rights are those of a new file, not of the run's
            else:
                (folder / name).write_bytes(content)
        if onnx or int8:
            from kdcore.export.onnx_file import add_onnx

            check = add_onnx(folder, record, int8)
            for name, content in described(record, check).items():
                (folder / name).write_bytes(content)
    return check


def student_files(record: StudentRecord) -> dict[str, bytes | Path]:
    """Name -> content of each file that is published; a Path where it is the run's own file.

    Raises:
        UserError: the student is of no plain form, or a file of it cannot be read.
    """
    check_form(record.folder, record.run)
    longest = longest_row(record.folder, record.config.train.max_length)
    kept = [path for path in sorted(record.folder.iterdir()) if path.is_file() and path.suffix in _COPIED]
    return {
        **{path.name: path for path in kept},
        "config.json": config_json(record.folder, record.task),
        **tokenizer_files(record.folder, longest),
        **described(record, None),
    }


def described(record: StudentRecord, onnx: OnnxCheck | None, only: str = "") -> dict[str, bytes]:
    """The model card and kdboard.json. only: name of the ONNX file that stands in for the weights."""
    longest = longest_row(record.folder, record.config.train.max_length)
    facts = json.dumps(facts_of(record, longest, onnx), indent=1, ensure_ascii=False, default=str)
    card = model_card(record, longest, onnx, only)
    return {CARD: card.encode("utf-8", "replace"), FACTS: f"{facts}\n".encode("utf-8", "replace")}


def facts_of(record: StudentRecord, longest: int, onnx: OnnxCheck | None = None) -> dict[str, Any]:
    """The content of kdboard.json."""
    task, facts = record.task, record.facts
    return {
        "kdboard": FORMAT,
        "run": record.run,
        "name": record.name,
        "state": record.state,
        "weights": record.which,
        "step": record.step,
        "task": {
            "key": task.key, "title": task.title, "columns": list(task.columns), "kind": task.kind,
            "labels": list(task.labels), "metrics": list(task.metrics), "synthetic": task.synthetic,
            "partial": facts.get("partial"), "data": facts.get("data_fingerprint"),
        },
        "max_length": longest,
        "scores": record.scores,
        "rows": {**record.rows, "train": facts.get("rows"), "select": facts.get("select_rows")},
        "blind_guess": facts.get("blind_guess"),
        "teacher_scores": record.teachers,
        "seeds": list(record.seeds),
        "parameters": facts.get("exported_parameters"),
        "flops": facts.get("flops"),
        "seconds": record.seconds,
        "versions": {"written by": __version__, "trained by": facts.get("kdcore")},
        "machine": {name: facts[name] for name in _MACHINE_FACTS if name in facts},
        "onnx": onnx.data() if onnx else None,
        "settings": public_settings(record.config),
    }  # fmt: skip


def read_facts(folder: Path) -> Mapping[str, Any]:
    """What kdboard.json of a folder says; empty where there is none.

    Raises:
        UserError: it cannot be read, or is of a later format.
    """
    file = folder / FACTS
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        known = isinstance(content, dict) and content.get("kdboard") == FORMAT
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("folder", f"{file} cannot be read ({str(error)[:200]})", "export the run again") from error
    if not known:
        raise UserError(
            "folder", f"{file} is of a format that is not known here", "use a newer version, or export again"
        )
    return content  # type: ignore[no-any-return]


def _check_free(target: Path) -> None:
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UserError("--to", f"{target} exists and is not empty", "name a new folder")
    except OSError as error:
        raise UserError("--to", f"{target} cannot be opened ({error})", "name a folder that can") from error


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its name at the end; where the block fails, nothing is left."""
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except OSError as error:
        raise UserError("--to", f"{target} cannot be written ({error})", "name a folder that can") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
