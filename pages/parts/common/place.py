"""Containers of a least height: a page stands still while the browser fetches the code of what stands in them."""

from __future__ import annotations

TALLEST, STEP = 1000, 10
"""Pixels: the heights that there are."""


def place_of(height: int) -> str:
    """Begins the key of a container that is at least about as high as this, in pixels."""
    return f"place{height // STEP * STEP}_"


def place_css() -> str:
    """The style sheet of such containers."""
    heights = range(TALLEST, 0, -STEP)
    return "\n".join(f'[class*="st-key-{place_of(each)}"] {{ min-height: {each}px; }}' for each in heights)
