"""Pictures: pure functions from DataFrames and arrays to plotly figures. Nothing here knows of the browser."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """The module of this name: `kdcore.figures.scores`."""
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
