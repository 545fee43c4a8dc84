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


def user_path(text: str, field: str) -> Path:
    """A path that a person typed, `~` expanded.

    Raises:
        UserError: no path of this system (too long, a NUL in it, the home of a user who is not there); names `field`.
    """
    try:
        path = Path(text).expanduser()
        os.stat(path)  # only to ask the system whether it takes the name
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return path
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(field, f"{text[:80]!r} is not a path ({reason})", "give an existing file or folder") from None
    return path


def cache_dir() -> Path:
    """The folder of everything written: `KD_CACHE_DIR`; `cache/` in a checkout; `~/.cache/kdboard` once installed."""
    chosen = os.environ.get("KD_CACHE_DIR")
    path = user_path(chosen, "KD_CACHE_DIR") if chosen else _default_cache(Path(__file__).resolve().parent.parent)
    _make(path)
    return path


def _default_cache(home: Path) -> Path:
    """Where to write by default. home: the folder that holds the package."""
    if (home / "app.py").is_file():
        return home / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdboard"


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


def python_path() -> str:
    """PYTHONPATH with which another process imports this package from where this one did."""
    home = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(part for part in (home, os.environ.get("PYTHONPATH", "")) if part)


def run_dir(run_id: str) -> Path:
    """The folder of one run (not made here)."""
    return cache_subdir("runs") / checked_id(run_id, "run")
