"""Only this machine's own names reach the app: no page of another site can drive it by DNS rebinding. No browser."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE, ROOT


@pytest.fixture(scope="module", params=["in the checkout", "in another folder"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an app that is started in this folder."""
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    log = folder / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), f"--server.port={number}"],
            cwd=ROOT if request.param == "in the checkout" else folder, env=os.environ | {"KD_CACHE_DIR": str(folder)},
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _await(number, log)
        yield number
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _await(port: int, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        time.sleep(0.1)
    pytest.fail(log.read_text()[-3000:])


def status(port: int, host: str, origin: str | None) -> int:
    """The status that the server gives to the handshake of the page's WebSocket. 101: it talks."""
    lines = [
        "GET /_stcore/stream HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: streamlit",
        *([f"Origin: {origin}"] if origin else []),
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = connection.recv(4096).decode(errors="replace")
    match = re.match(r"HTTP/1\.1 (\d{3}) ", answer)
    assert match, answer
    return int(match[1])


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_local_page_is_served(port, name):
    assert status(port, f"{name}:{port}", f"http://{name}:{port}") == 101


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evillocalhost"])
def test_a_page_whose_name_is_pointed_here_is_refused(port, name):
    assert status(port, f"{name}:{port}", f"http://{name}:{port}") == 403
    assert status(port, f"{name}:{port}", None) == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_a_page_of_another_site_is_refused(port, origin):
    assert status(port, f"127.0.0.1:{port}", origin) == 403
