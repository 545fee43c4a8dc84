"""Whether this program shows runs only. Apart from the guard itself: the menu needs the answer, and must load fast."""

from __future__ import annotations

import os


def read_only() -> bool:
    """Whether this program was started to show runs only (`KD_READ_ONLY=1`)."""
    return os.environ.get("KD_READ_ONLY", "").strip().lower() in ("1", "true", "yes", "on")
