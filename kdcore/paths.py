"""Where the program writes. Every path is built here, from fixed words and checked ids, never from typed text."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kdcore.errors import UserError

_REMEDY = "set KD_CACHE_DIR to a folder that this user can read and write"
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}\Z")


def checked_id(text: str, field: str) -> str:
    """`text` if it can name a folder (lower-case letters, digits, '.', '_', '-'; no '..').

    Raises:
        UserError: the text could build a path that leaves its folder.
    """
    if not _ID.match(text) or ".." in text:
        raise UserError(field, f"{text[:60]!r} is not an id", "use lower-case letters, digits, '.', '_' and '-'")
    return text


def cache_dir() -> Path:
    """The folder of everything written: `KD_CACHE_DIR`, or `cache/` beside the package."""
    chosen = os.environ.get("KD_CACHE_DIR")
    path = user_path(chosen, "KD_CACHE_DIR") if chosen else Path(__file__).resolve().parent.parent / "cache"
    _make(path)
    return path


def user_path(text: str, field: str) -> Path:
    """A path that a person named, with ~ and ~user as home folders.

    Raises:
        UserError: there is no such user, or it holds a character that no path can hold.
    """
    try:
        path = Path(text).expanduser()
        os.fsencode(path)
    except (RuntimeError, UnicodeError):
        raise UserError(field, f"{text[:60]!r} names no folder of a user here", "write the whole path") from None
    if "\0" in text:
        raise UserError(field, f"{text[:60]!r} holds a NUL character", "write the path without it")
    return path


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        next(path.iterdir(), None)
        usable = os.access(path, os.R_OK | os.X_OK)
    except OSError as error:
        problem = f"{str(path)[:200]} cannot be used as a folder ({error.strerror})"
        raise UserError("KD_CACHE_DIR", problem, _REMEDY) from None
    if not usable:
        raise UserError("KD_CACHE_DIR", f"{path} cannot be read", _REMEDY)


def cache_subdir(name: str) -> Path:
    """A sub-folder of the cache, made if absent."""
    path = cache_dir() / checked_id(name, "cache folder")
    _make(path)
    return path


def run_dir(run_id: str) -> Path:
    """The folder of one run (not made here)."""
    return cache_subdir("runs") / checked_id(run_id, "run")
