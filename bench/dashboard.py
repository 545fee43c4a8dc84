"""The dashboard in a real browser for the measurements beside this file: a server of its own, and Chromium.

Needs playwright and Chromium, as the browser tests do. Listens on loopback only; the cache folder is a temporary one.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import sync_playwright

from tests.helpers.store_factory import PAGES, add, grow, run_config  # runs in a store without training them

__all__ = [
    "PAGES",
    "RESULTS",
    "add",
    "browser",
    "cache",
    "dashboard_server",
    "grow",
    "machine",
    "run_config",
    "wait_until_drawn",
]
ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
PATIENCE = 180
"""Seconds that a page may take before a measurement gives up."""


@contextlib.contextmanager
def cache() -> Iterator[Path]:
    """An empty cache folder, used by this process too; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="kdboard-bench-") as folder:
        os.environ["KD_CACHE_DIR"] = folder
        yield Path(folder)


@contextlib.contextmanager
def dashboard_server(root: Path = ROOT, **settings: str) -> Iterator[tuple[str, psutil.Process]]:
    """The app over KD_CACHE_DIR: its address and its process. root: of the checkout whose app it is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(root / "app.py"), f"--server.port={port}"]
    process = subprocess.Popen(
        command, cwd=root, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        _await(f"http://127.0.0.1:{port}/_stcore/health")
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _await(url: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.2)
    raise TimeoutError("the server did not answer")


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Chromium, 1280 x 900."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--disable-dev-shm-usage"]
        )
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        context.set_default_timeout(1000 * PATIENCE)
        yield context
        chromium.close()


def wait_until_drawn(page: Any) -> None:
    """Waits until the script has ended, nothing on the page is stale, and every plot is drawn."""
    page.wait_for_selector("h1")
    page.wait_for_function(
        """() => {
            const app = document.querySelector('[data-testid=stApp]')
            const plots = [...document.querySelectorAll('.kd-plot-figure')]
            return app?.dataset.testScriptState === 'notRunning' && !document.querySelector('[data-stale=true]')
                && !document.querySelector('[data-testid=stSkeleton]')
                && plots.every((plot) => plot.querySelector('.main-svg'))
        }"""
    )


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    from kdcore.engine.device import hardware

    facts = {"hardware": hardware("cpu"), "cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 2)}
    return {**facts, "python": platform.python_version(), **{name: version(name) for name in ("streamlit", "plotly")}}
