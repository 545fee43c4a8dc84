"""The methods. Adding one is a file in this folder, its name in `catalog.MODULES` and a test; or a file elsewhere.

Importing this package loads no torch: the classes come with the first use of a name below. `catalog` lists the methods
without them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdcore.methods.base import Method, MethodConfig
    from kdcore.methods.registry import METHODS, find_method, matched_layers, problems, refresh, resolve

__all__ = ["METHODS", "Method", "MethodConfig", "find_method", "matched_layers", "problems", "refresh", "resolve"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("kdcore.methods.registry"), name)
