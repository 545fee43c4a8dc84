"""Runs as one file: exported here, imported elsewhere.

A bundle is a zip file of `bundle.json` and, for each run, `runs/<id>/` with `run.json` (settings, state, words),
`metrics.parquet`, `evaluations.parquet`, `probes.json` and `files/` (students, predictions, probes, log). Checkpoints
and teachers stay at home. What is imported comes from a stranger: names, sizes and contents are checked before
anything is written, and nothing in it is ever run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdcore import __version__
from kdcore.errors import CorruptError, UserError
from kdcore.paths import cache_subdir, checked_id, run_dir

if TYPE_CHECKING:
    from kdcore.store import Store
    from kdcore.store.transfer import Carried, Points

VERSION = 1
MAX_BYTES = 20 * 2**30
MAX_FILES = 20_000
MAX_JSON = 64 * 2**20
_MAX_RATIO = 200
_FOLDERS = ("student-best", "student-last", "predictions", "probes")
_SUFFIXES = (".json", ".txt", ".safetensors", ".npz", ".md")
_TOP_FILES = ("config.json", "log.txt")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,120}\Z")
_NO_TENSORS = b"\x08" + bytes(7) + b"{}      "
_NO_TENSORS_0_1_0 = b"\x18" + bytes(7) + b'{},"__metadata__":{}}   '
"""A safetensors file without tensors, and how 0.1.0 wrote it for the teachers of a run without any: not quite JSON."""


class _Contents(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kdboard_bundle: int
    program: str = Field("", max_length=40)
    runs: list[str] = Field(min_length=1, max_length=10_000)


class _Probe(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=100)
    step: int = Field(ge=0, le=2**31 - 1)
    data: dict[str, Any] | None


# --- out -------------------------------------------------------------------------------------------------------------


def export_runs(store: Store, run_ids: Sequence[str], target: Path) -> None:
    """Writes ended runs into one new file.

    Raises:
        UserError: a run does not exist or has not ended, or the file exists or cannot be written.
    """
    from kdcore.store.transfer import take_out

    try:
        taken_already = target.exists()
    except OSError as error:
        raise UserError("--to", f"{target} cannot be opened ({error})", "name a file that can") from error
    if taken_already:
        raise UserError("--to", f"{target} exists", "name a new file")
    ids = list(dict.fromkeys(run_ids))
    taken = [take_out(store, run_id) for run_id in ids]
    partial = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "x", zipfile.ZIP_DEFLATED) as file:
            contents = _Contents(kdboard_bundle=VERSION, program=__version__, runs=ids)
            file.writestr("bundle.json", contents.model_dump_json())
            for run, points in taken:
                _write_run(file, run, points)
        partial.rename(target)
    except OSError as error:
        raise UserError("--to", f"{target} cannot be written ({error})", "name a file that can") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _write_run(file: zipfile.ZipFile, run: Carried, points: Points) -> None:
    from kdcore.store.transfer import PARQUET, to_parquet

    stem = f"runs/{run.id}"
    file.writestr(f"{stem}/run.json", run.model_dump_json())
    file.writestr(f"{stem}/probes.json", json.dumps(points["probes"], default=str))
    for name in PARQUET:
        file.writestr(f"{stem}/{name}.parquet", to_parquet(points[name], name), zipfile.ZIP_STORED)
    folder = run_dir(run.id)
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        inside = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and _belongs(inside):
            how = zipfile.ZIP_DEFLATED if path.suffix in (".json", ".txt", ".md") else zipfile.ZIP_STORED
            file.write(path, f"{stem}/files/{inside}", how)


# --- in --------------------------------------------------------------------------------------------------------------


def import_runs(store: Store, path: Path) -> dict[str, str]:
    """Adds the runs of a bundle; returns their id there -> their id here.

    A run that is listed already is left as it is; one whose id is taken by another gets a new id.

    Raises:
        UserError: no bundle, one of an unknown version, or one too large. CorruptError: it is damaged or unsafe.
    """
    with _reading(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError("file", f"{path} is not a regular file", "name a file that `export --bundle` wrote")
    with _reading(path), zipfile.ZipFile(path) as file:
        _check_members(file, path)
        contents = _contents(file)
        read = [_read_run(file, run_id) for run_id in contents.runs]
        return _add_all(store, file, read)


def _add_all(store: Store, file: zipfile.ZipFile, read: list[tuple[Carried, Points]]) -> dict[str, str]:
    """Rows after files: a run that is listed has its folder. What fails half-way leaves nothing behind."""
    from kdcore.store.transfer import is_here, put_in

    ids: dict[str, str] = {}
    for run, points in read:
        if is_here(store, run):
            ids[run.id] = run.id
            continue
        partial = cache_subdir("runs") / f".import-{uuid.uuid4().hex}"
        try:
            _extract(file, run.id, partial)
            wanted = None if run_dir(run.id).exists() else run.id
            new = put_in(store, _rename(run, ids), points, wanted)
            ids[run.id] = new
            try:
                partial.rename(run_dir(new))
            except OSError:
                store.delete(new)
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return ids


def _rename(run: Carried, ids: dict[str, str]) -> Carried:
    """The run with its references to other runs of the bundle as they are called here."""
    teachers = tuple(
        teacher.model_copy(update={"where": ids.get(teacher.where, teacher.where)})
        if teacher.source == "run"
        else teacher
        for teacher in run.config.teachers
    )
    config = run.config.model_copy(update={"teachers": teachers})
    return run.model_copy(update={"config": config, "parent": ids.get(run.parent or "")})


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError("file", f"there is no {path}", "name a bundle") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise CorruptError("file", f"{path} cannot be read as a bundle ({error})", "export it again") from error
    except OSError as error:
        raise UserError("file", f"{path}: {error}", "check the file and the free disk space") from error


def _check_members(file: zipfile.ZipFile, path: Path) -> None:
    """Names, kinds and sizes, as the directory of the zip says; `_extract` holds the contents to them."""
    members = file.infolist()
    if len(members) > MAX_FILES:
        raise UserError("file", f"{path} holds {len(members)} files, more than {MAX_FILES}", "export fewer runs")
    names = [member.filename for member in members]
    if len({name.lower() for name in names}) < len(names):
        raise _unsafe("two files of one name")
    for member in members:
        mode = member.external_attr >> 16
        if member.is_dir() or (mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode)):
            raise _unsafe(f"{member.filename[:80]!r} is not a plain file")
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _unsafe(f"{member.filename[:80]!r} is encrypted, or packed in an unusual way")
        _check_name(member.filename)
        if member.file_size > _MAX_RATIO * max(member.compress_size, 4096):
            raise _unsafe(f"{member.filename[:80]!r} grows more than {_MAX_RATIO}-fold")
    total = sum(member.file_size for member in members)
    if total > MAX_BYTES:
        raise UserError(
            "file", f"{path} unpacks to {total >> 30} GiB, more than {MAX_BYTES >> 30}", "export fewer runs"
        )
    free = shutil.disk_usage(cache_subdir("runs")).free
    if total > free:
        raise UserError("file", f"{path} needs {total >> 20} MiB, {free >> 20} are free", "free some disk space")


def _check_name(name: str) -> None:
    if name == "bundle.json":
        return
    parts = name.split("/")
    if len(parts) < 3 or parts[0] != "runs" or not all(_PART.match(part) for part in parts) or ".." in name:
        raise _unsafe(f"the name {name[:80]!r}")
    checked_id(parts[1], "file")
    inside = "/".join(parts[2:])
    if inside in ("run.json", "metrics.parquet", "evaluations.parquet", "probes.json"):
        return
    if parts[2] != "files" or not _belongs("/".join(parts[3:])):
        raise _unsafe(f"the name {name[:80]!r}")


def _belongs(inside: str) -> bool:
    """Whether a file of a run's folder travels: students, predictions, probes, settings and log."""
    path = PurePosixPath(inside)
    if inside in _TOP_FILES:
        return True
    return (
        1 < len(path.parts) <= 4
        and path.parts[0] in _FOLDERS
        and path.suffix in _SUFFIXES
        and all(_PART.match(part) for part in path.parts)
    )


def _unsafe(what: str) -> CorruptError:
    return CorruptError("file", f"the bundle is unsafe: {what}", "take only bundles that `export --bundle` wrote")


def _contents(file: zipfile.ZipFile) -> _Contents:
    raw = _json(file, "bundle.json")
    version = raw.get("kdboard_bundle") if isinstance(raw, dict) else None
    if type(version) is not int or version != VERSION:
        raise UserError(
            "file", f"bundle version {str(version)[:20]} is not known here (this program reads {VERSION})",
            "use the program that wrote it, or a newer one",
        )  # fmt: skip
    contents: _Contents = _valid(_Contents, raw, "bundle.json")
    for run_id in contents.runs:
        checked_id(run_id, "file")
    if len(set(contents.runs)) < len(contents.runs):
        raise _unsafe("a run listed twice")
    return contents


def _read_run(file: zipfile.ZipFile, run_id: str) -> tuple[Carried, Points]:
    from kdcore.store.transfer import PARQUET, Carried, from_parquet

    run: Carried = _valid(Carried, _json(file, f"runs/{run_id}/run.json"), f"{run_id}/run.json")
    if run.id != run_id:
        raise _unsafe(f"run {run_id} calls itself {run.id[:80]!r}")
    raw = _json(file, f"runs/{run_id}/probes.json")
    if not isinstance(raw, list):
        raise CorruptError("file", f"{run_id}/probes.json is not a list", "export it again")
    probes = [_valid(_Probe, probe, f"{run_id}/probes.json").model_dump() for probe in raw]
    points: dict[str, Any] = {"probes": probes}
    for name in PARQUET:
        points[name] = from_parquet(_bytes(file, f"runs/{run_id}/{name}.parquet", 4 * MAX_JSON), name)
    return run, points


def _valid(model: type[Any], raw: Any, name: str) -> Any:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise CorruptError("file", f"{name}: {field}: {first['msg']}", "export it again") from error


def _json(file: zipfile.ZipFile, name: str) -> Any:
    try:
        return json.loads(_bytes(file, name, MAX_JSON))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptError("file", f"{name} is not JSON ({error})", "export it again") from error


def _bytes(file: zipfile.ZipFile, name: str, limit: int) -> bytes:
    try:
        with file.open(name) as member:
            data = member.read(limit + 1)
    except KeyError:
        raise CorruptError("file", f"the bundle has no {name}", "name a file that `export --bundle` wrote") from None
    if len(data) > limit:
        raise _unsafe(f"{name} is larger than {limit >> 20} MiB")
    return data


def _extract(file: zipfile.ZipFile, run_id: str, folder: Path) -> None:
    """Writes the run's files below `folder`, never more bytes than announced, and checks the weights' headers."""
    stem = f"runs/{run_id}/files/"
    folder.mkdir(parents=True)
    for member in file.infolist():
        if not member.filename.startswith(stem):
            continue
        target = folder / member.filename.removeprefix(stem)
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open(member) as source, target.open("xb") as out:
            _copy(source, out, member.file_size)
        if target.suffix == ".safetensors":
            _check_weights(target, member.filename)


def _copy(source: Any, out: Any, size: int) -> None:
    written = 0
    while chunk := source.read(2**20):
        written += len(chunk)
        if written > size:
            raise _unsafe("a file is longer than announced")
        out.write(chunk)


def _check_weights(path: Path, name: str) -> None:
    from safetensors import SafetensorError, safe_open

    if path.stat().st_size == len(_NO_TENSORS_0_1_0) and path.read_bytes() == _NO_TENSORS_0_1_0:
        path.write_bytes(_NO_TENSORS)
    try:
        with safe_open(path, framework="np") as tensors:
            list(tensors.keys())
    except SafetensorError as error:
        raise CorruptError("file", f"{name} holds no weights ({error})", "export it again") from error


def _beside(target: Path) -> Path:
    """A free name on the same disk, so that the last step is a rename."""
    return target.parent / f".{target.name}.{os.getpid()}.partial"
