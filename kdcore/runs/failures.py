"""What a run says where it fails: the error as one sentence, and what to do."""

from __future__ import annotations

import errno
import traceback

from kdcore import events as said
from kdcore.errors import UserError

_NO_MEMORY = ("allocate memory", "could not create a primitive", "could not create a memory object")
"""What torch and oneDNN say where memory ran out."""

MOST_CALLS = 6
MOST_LINES = 80
"""Of a detail: a message, or a chain of errors, can be of any length."""

_WRONG_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


def explain(error: Exception) -> said.RunFailed:
    """An error as the words that a person sees: one sentence, what to do, and the innermost calls of the traceback."""
    lines = "".join(traceback.format_exception(error, limit=-MOST_CALLS)).strip().splitlines()
    detail = "\n".join(lines[-MOST_LINES:])
    if isinstance(error, UserError):
        return said.RunFailed(f"{error.field}: {error.problem}", error.remedy, detail)
    words = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}" if str(error).strip() else repr(error)
    if _out_of_memory(error):
        remedy = "lower train.batch_size or train.max_length, or raise train.accumulate, and resume"
        return said.RunFailed(f"out of memory ({words[:200]})", remedy, detail)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return said.RunFailed("the disk is full", "free some space (kdcore cache gc) and resume", detail)
    if isinstance(error, OSError) and error.errno in _WRONG_PLACE:
        remedy = "make it a folder or file that this user may write, and resume"
        return said.RunFailed(f"{error.filename}: {error.strerror}", remedy, detail)
    return said.RunFailed(words[:500], "the detail and the run's log say where; resume after mending the cause", detail)


def _out_of_memory(error: Exception) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY))
    )
