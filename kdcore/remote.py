"""`KD_REMOTE`: a place from which computers without a common disk take each other's folders; any address of fsspec.

Each file of a folder is stored under the SHA-256 of its content, and goes there under another name first. A manifest,
which comes last, says which content is which file; nobody sees what no manifest names. What is taken is checked against
it before it gets its name here. Only weights (safetensors), arrays and text travel, never code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

from kdcore.disk import full_disk, is_full
from kdcore.errors import UserError
from kdcore.paths import cache_subdir, run_dir

FIELD = "KD_REMOTE"
SUFFIXES = frozenset(
    (".safetensors", ".json", ".jsonl", ".txt", ".parquet", ".npz", ".values", ".present", ".sums", ".md")
)
"""Files that travel. numpy reads its archives without pickle here."""
MANIFEST = "manifest.json"
_PART = 1 << 22
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_LARGEST_MANIFEST = 16 * 2**20
_NOTHING_LOST = "what is on this computer stays; see that it can be reached and has room"


class RemoteError(UserError):
    """The place cannot be used, or what is there is not as it was written."""


class DamagedRemoteError(RemoteError):
    """What is there is not as it was written: no other computer, and no later moment, finds it better."""


@dataclass(frozen=True)
class Remote:
    """A file system of fsspec and a folder on it."""

    system: Any
    root: str

    def files(self, name: str) -> dict[str, str] | None:
        """File -> SHA-256 of the folder that has this name there; None where there is none.

        Raises:
            RemoteError: it cannot be read, or names files that no folder of ours holds.
        """
        with _explained(f"read {name}"):
            try:
                listed = json.loads(self.system.cat_file(self._path(name, MANIFEST), end=_LARGEST_MANIFEST))
            except FileNotFoundError:
                return None
        if not isinstance(listed, dict) or not all(_may_travel(file) and _is_digest(listed[file]) for file in listed):
            raise DamagedRemoteError(FIELD, f"{name} there is no folder of this program", f"remove {name} there")
        return listed

    def names(self, folder: str) -> list[str]:
        """Names of the folders in a folder there, in order; none where it is not there.

        Raises:
            RemoteError: it cannot be read.
        """
        with _explained(f"list {folder}"):
            try:
                paths = self.system.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        return sorted(PurePosixPath(path).name for path in paths)

    def remove(self, name: str) -> None:
        """Removes the folder of this name there: first its name, then its content.

        Raises:
            RemoteError: it cannot be removed.
        """
        with _explained(f"remove {name}"):
            for path, whole in ((self._path(name, MANIFEST), False), (self._path(name), True)):
                with suppress(FileNotFoundError):
                    self.system.rm(path, recursive=whole)

    def push(
        self,
        name: str,
        files: Mapping[str, Path],
        before_naming: Callable[[], None] = lambda: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Makes these files the folder of this name. What is there already is not sent again.

        before_naming: called when all is there and the name still stands for what it was; may raise.
        check: called with each part of a file that is sent; may raise, too.

        Raises:
            RemoteError: there is no room, no right, or no connection. The name stands for what it did before.
        """
        before = set((self.files(name) or {}).values())
        with _explained(f"write {name}"):
            self.system.makedirs(self._path(name), exist_ok=True)
            listed = {file: self._upload(name, path, before, check) for file, path in sorted(files.items())}
        before_naming()
        with _explained(f"write {name}"):
            self._put(name, MANIFEST, lambda file: file.write(json.dumps(listed, indent=1).encode()))
            for digest in before - set(listed.values()):
                with suppress(FileNotFoundError):
                    self.system.rm_file(self._path(name, digest))

    @contextmanager
    def pulled(self, name: str, check: Callable[[], None] = lambda: None) -> Iterator[Path | None]:
        """The folder of this name, whole and checked, to be renamed; what is left of it goes. None: there is none.

        check: called with each part of a file that comes; may raise.

        Raises:
            RemoteError: it cannot be read, or is not as it was written.
        """
        here = cache_subdir("pulled") / uuid.uuid4().hex
        try:
            yield self._pull(name, here, check)
        finally:
            shutil.rmtree(here, ignore_errors=True)

    def _pull(self, name: str, here: Path, check: Callable[[], None]) -> Path | None:
        listed = self.files(name)
        while listed is not None:
            try:
                with _of_this_disk(here):
                    here.mkdir(parents=True, exist_ok=True)
                with _explained(f"read {name}"):
                    for file, digest in listed.items():
                        self._download(name, digest, here / file, check)
                return here
            except RemoteError as error:
                again = self.files(name)  # a newer one may have taken its place meanwhile
                if again == listed or not isinstance(error.__cause__, FileNotFoundError):
                    raise
                shutil.rmtree(here, ignore_errors=True)
                listed = again
        return None

    def _upload(self, name: str, path: Path, there: set[str], check: Callable[[], None]) -> str:
        with path.open("rb") as content:
            digest = _copy(content, lambda part: None, check)
            if digest not in there:
                content.seek(0)
                sent = self._put(name, digest, lambda file: _copy(content, file.write, check))
                if sent != digest:
                    raise OSError(f"{path.name} changed while it was sent")
        return digest

    def _put(self, name: str, file: str, write: Callable[[IO[bytes]], Any]) -> Any:
        """Writes a file under another name, then renames it."""
        partial = self._path(name, f"{uuid.uuid4().hex}.partial")
        try:
            with self.system.open(partial, "wb") as opened:
                result = write(opened)
            self.system.mv(partial, self._path(name, file))
            return result
        except BaseException:
            with suppress(Exception):
                self.system.rm_file(partial)
            raise

    def _download(self, name: str, digest: str, target: Path, check: Callable[[], None]) -> None:
        with self.system.open(self._path(name, digest), "rb") as content, _written_here(target) as write:
            if _copy(content, write, check) != digest:
                problem = f"{target.name} of {name} is not as it was written"
                raise DamagedRemoteError(FIELD, problem, f"remove {name} there")

    def _path(self, *parts: str) -> str:
        return "/".join((self.root.rstrip("/"), *parts))


def open_remote() -> Remote | None:
    """The place that `KD_REMOTE` names; None where it is not set.

    Raises:
        RemoteError: it is no address, its driver is missing, or it cannot be written to.
    """
    url = os.environ.get(FIELD, "").strip()
    return _opened(url) if url else None


def fetching(run_id: str) -> str:
    """How a person gets the run's folder, where it is not here and may be there; else empty."""
    known = os.environ.get(FIELD, "").strip() and not (run_dir(run_id) / "config.json").is_file()
    return f"if it was trained on another computer, fetch it with `kdcore cache pull {run_id}`" if known else ""


def files_of(folder: Path) -> dict[str, Path]:
    """Name -> path of the files below a folder that travel; not what is half written, nor links."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if not path.is_symlink()}
    return {name: path for name, path in found.items() if _may_travel(name) and path.is_file()}


@cache
def _opened(url: str) -> Remote:
    from fsspec.core import url_to_fs

    shown = re.sub(r"//[^/@]*@", "//", url)[:120]  # without a password
    remedy = "set it to an address such as file:///shared/kdboard or s3://bucket/kdboard"
    if "://" not in url:  # a path, which another process would read from its own folder
        raise RemoteError(FIELD, f"{shown} is no address", remedy)
    try:
        system, root = url_to_fs(url, use_listings_cache=False)  # others write there while this process lives
    except ImportError as error:
        raise RemoteError(FIELD, f"{shown} needs a driver ({error})", "install it beside kdboard") from error
    except Exception as error:
        raise RemoteError(FIELD, f"{shown} is no address ({str(error)[:120]})", remedy) from error
    with _explained(f"open {shown}"):
        system.makedirs(root, exist_ok=True)
        with suppress(FileNotFoundError):  # object stores have no empty folders
            system.ls(root)
    return Remote(system, root)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Drivers raise errors of many kinds; a person hears what was tried, and that nothing here is lost."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        words = "there is no room" if is_full(error) else f"{type(error).__name__}: {str(error)[:160]}"
        raise RemoteError(FIELD, f"cannot {what} ({words})", _NOTHING_LOST) from error


@contextmanager
def _of_this_disk(path: Path) -> Iterator[None]:
    """Errors of this computer's own disk are not the place's."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full_disk() from error
        problem = f"cannot write {path} ({error.strerror or error})"
        raise UserError("KD_CACHE_DIR", problem, "make it a folder that this user may write") from error


@contextmanager
def _written_here(path: Path) -> Iterator[Callable[[bytes], None]]:
    """A function that writes into a new file on this computer's disk.

    Raises:
        FullDiskError: the disk is full. UserError: the file cannot be written.
    """
    with _of_this_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")

    def write(part: bytes) -> None:
        with _of_this_disk(path):
            file.write(part)

    try:
        yield write
    finally:
        with _of_this_disk(path):
            file.close()


def _copy(source: IO[bytes], write: Callable[[bytes], Any], check: Callable[[], None]) -> str:
    """Copies to the end; returns the SHA-256. check: called before each part; may raise."""
    digest = hashlib.sha256()
    while part := source.read(_PART):
        check()
        digest.update(part)
        write(part)
    return digest.hexdigest()


def _may_travel(name: str) -> bool:
    parts = PurePosixPath(name).parts
    plain = bool(parts) and not any(part.startswith(".") or part.endswith((".partial", ".writing")) for part in parts)
    return plain and "\\" not in name and not name.startswith("/") and PurePosixPath(name).suffix in SUFFIXES


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and bool(_DIGEST.match(text))
