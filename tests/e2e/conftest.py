"""The real app in a real browser: a server of its own, a worker that really trains, Chromium through Playwright."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "test-artifacts"
PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
"""Seconds that a page may take before a test gives up. Generous: nothing here asserts on speed."""
ALLOWED = ("/_stcore/health", "/_stcore/host-config")
"""Streamlit looks for these under the page's own path first; the 404 is part of its start."""


@dataclass
class Server:
    """A running app. log: what it wrote. cache: its own cache folder."""

    url: str
    log: Path
    cache: Path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium. Without one the tests are skipped; on CI that is a failure."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _absent("playwright is not installed (pip install playwright)")
    if chromium is None:
        _absent("no Chromium is on the path (apt-get install chromium)")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--disable-dev-shm-usage"])
        yield started
        started.close()


def _absent(why: str) -> None:
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"CI needs a browser: {why}")
    pytest.skip(why)


@pytest.fixture(scope="module")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app on a free port with a cache of its own; fails if its log holds a traceback at the end."""
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = os.environ | {"KD_CACHE_DIR": str(folder / "cache"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for name in ("KD_DATABASE_URL", "KD_GLUE_DIR"):
        settings.pop(name, None)
    (folder / "cache").mkdir()
    log = folder / "server.log"
    with log.open("w") as out:  # a file: a full pipe would halt the server
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), f"--server.port={port}"],
            cwd=ROOT, env=settings, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _await(f"http://127.0.0.1:{port}/_stcore/health", process, log)
        yield Server(f"http://127.0.0.1:{port}", log, folder / "cache")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
    said = log.read_text(errors="replace")
    assert "Traceback" not in said, said[-4000:]
    assert "missing ScriptRunContext" not in said


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not answer: {log.read_text(errors='replace')[-3000:]}")


@pytest.fixture
def open_page(browser: Any, server: Server, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Opens pages in fresh contexts. Afterwards: no error in any console, no request that left this machine."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def _open(path: str = "", *, dark: bool = False, width: int = 1280, context: Any = None) -> Any:
        if context is None:
            context = _context(browser, dark, width)
            contexts.append(context)
        page = _page(context, server, wrong)
        _go(page, server, path)
        return page

    yield _open
    try:
        failed = getattr(request.node, "failed", False)
        for number, context in enumerate(contexts):
            for page in context.pages:
                if failed:
                    ARTIFACTS.mkdir(exist_ok=True)
                    page.screenshot(path=str(ARTIFACTS / f"{request.node.name}-{number}.png"), full_page=True)
    finally:
        for context in contexts:
            context.close()
    assert not wrong, wrong


@pytest.fixture(scope="module")
def visit(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Opens page after page in one tab a look, for tests that only look: Chromium fetches and reads the code once."""
    tabs: dict[tuple[bool, int], Any] = {}
    wrong: list[str] = []

    def _visit(path: str, *, dark: bool = False, width: int = 1280) -> Any:
        if (dark, width) not in tabs:
            tabs[dark, width] = _page(_context(browser, dark, width), server, wrong)
        _go(tabs[dark, width], server, path)
        return tabs[dark, width]

    yield _visit
    for page in tabs.values():
        page.context.close()
    assert not wrong, wrong


def _context(browser: Any, dark: bool, width: int) -> Any:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        accept_downloads=True,
    )
    context.set_default_timeout(1000 * PATIENCE)
    return context


def _page(context: Any, server: Server, wrong: list[str]) -> Any:
    """wrong: gets what its console says is wrong, and requests that left this machine."""
    page = context.new_page()
    page.on("console", lambda message: _note(wrong, message))
    page.on("pageerror", lambda error: wrong.append(f"error in the page: {error}"))
    page.on("request", lambda call: _stay(wrong, call.url, server.url))
    return page


def _go(page: Any, server: Server, path: str) -> None:
    page.goto(f"{server.url}/{path}")
    page.wait_for_selector("[data-testid=stAppViewContainer]")


@pytest.fixture(scope="session")
def insist(browser: Any) -> Callable[[Callable[[], None], Any], None]:
    """Acts, as a person does: again, twice at most, where nothing comes of it. The caller asserts what is shown."""
    from playwright.sync_api import TimeoutError as Late

    def _insist(act: Callable[[], None], shown: Any) -> None:
        for patience in (20, 20, PATIENCE):
            act()
            try:
                shown.wait_for(timeout=1000 * patience)
            except Late:
                continue
            break

    return _insist


def _note(wrong: list[str], message: Any) -> None:
    where = (message.location or {}).get("url", "")
    if message.type == "error" and not any(where.endswith(end) for end in ALLOWED):
        wrong.append(f"{message.text} ({where})")


def _stay(wrong: list[str], url: str, home: str) -> None:
    if not url.startswith((home, home.replace("http", "ws", 1), "data:", "blob:")):
        wrong.append(f"a request left this machine: {url}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Tells the fixtures whether their test failed, so that they keep a picture."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" and report.failed:
        item.failed = True  # type: ignore[attr-defined]
