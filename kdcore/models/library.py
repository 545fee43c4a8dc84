"""transformers as a whole, for modules that import it on their first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def transformers() -> Any:
    """The library, complete whoever else is importing it.

    While it is first imported it puts another module in its place. A thread that waits for that import and then asks
    `from transformers import X` looks into the one that was replaced, which has no X.
    """
    import_module("transformers")
    return import_module("transformers")
