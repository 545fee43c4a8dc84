"""Packages that come with an extra of this one (`pip install 'kdboard[onnx]'`) and may be absent."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
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
        raise _absent(getattr(error, "name", None) or name, extra, field) from error


def check_installed(names: Iterable[str], extra: str, field: str) -> None:
    """Raises UserError, as `extra_package`, where one of the packages is not installed; none is imported."""
    for name in names:
        if find_spec(name) is None:
            raise _absent(name, extra, field)


def _absent(name: str, extra: str, field: str) -> UserError:
    return UserError(field, f"the package {name} is not installed", f"install it with `pip install 'kdboard[{extra}]'`")
