"""How many files this process may hold open."""

from __future__ import annotations

import contextlib

WANTED = 8192
"""Each open page holds a few files, and the server keeps up to 128 pages that were closed."""


def raise_file_limit(wanted: int = WANTED) -> None:
    """Raises the soft limit of open files to `wanted`, or as far as the hard limit lets it; never lowers it."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
