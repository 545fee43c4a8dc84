"""Packages that come with an extra of this one (`pip install 'kdboard[onnx]'`) and may be absent."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from kdcore.errors import UserError


def extra_package(name: str, extra: str, field: str) -> ModuleType:
    """The package.

    Args:
        extra: that brings it. field: what a person asked for that needs it.

    Raises:
        UserError: it is not installed, or does not start.
    """
    try:
        return import_module(name)
    except ImportError as error:
        missing = getattr(error, "name", None) or name
        raise UserError(
            field, f"the package {missing} is not installed", f"install it with `pip install 'kdboard[{extra}]'`"
        ) from error
