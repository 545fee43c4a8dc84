"""A process as a container starts it: with process ids of its own, on the same computer."""

import shutil
import subprocess

import pytest

CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Before a command."""


def _may_unshare() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*CONTAINER, "true"], capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(not _may_unshare(), reason="this user may make no process namespace (unshare)")
