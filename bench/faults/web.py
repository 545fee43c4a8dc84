"""Foreign names, origins and paths at the dashboard's door."""

from __future__ import annotations

import re
import socket
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.dashboard import cache, dashboard_server

LOCAL = ("127.0.0.1", "localhost")
FOREIGN = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evillocalhost", "[::ffff:1.2.3.4]", "")
ORIGINS = ("http://evil.example", "https://evil.example", "null", "http://localhost.evil.example", "file://")
SECRET = "what no page may read"
CLIMBS = ("..", "%2e%2e", "..%2f..", "%252e%252e", "..%5c..", "....//", ".%00.")
ROUTES = ("/app/static/{}/requirements.txt", "/app/static/{}/secret.txt", "/{}/secret.txt", "/media/{}/secret.txt",
          "/static/{}/app.py", "/component/{}/secret.txt")  # fmt: skip


def web() -> dict[str, Any]:
    """Handshakes of the page's WebSocket under local and foreign names, and paths that climb out of what is served."""
    with cache() as folder, dashboard_server(KD_CACHE_DIR=str(folder)) as (url, _):
        (folder / "secret.txt").write_text(SECRET)
        port = urlsplit(url).port or 0
        local = [_handshake(port, f"{name}:{port}", f"http://{name}:{port}") for name in LOCAL]
        rebound = [_handshake(port, f"{name}:{port}", f"http://{name}:{port}") for name in FOREIGN]
        foreign = [_handshake(port, f"{name}:{port}", origin) for name, origin in product(LOCAL, ORIGINS)]
        paths = [route.format("/".join([climb] * depth)) for route, climb, depth in product(ROUTES, CLIMBS, (1, 3, 6))]
        bodies = [_get(port, path) for path in paths]
        upload = _status(_talk(port, ["PUT /_stcore/upload_file/a/b HTTP/1.1", f"Host: 127.0.0.1:{port}"]))
    return {
        "local_names": len(local), "accepted": local.count(101),
        "foreign_names": len(rebound), "foreign_names_accepted": rebound.count(101),
        "foreign_origins": len(foreign), "foreign_origins_accepted": foreign.count(101),
        "climbing_paths": len(paths), "files_read": sum(_is_file(body) for body in bodies),
        "upload_without_session": upload,
    }  # fmt: skip


def _is_file(body: str) -> bool:
    ours = Path(__file__).resolve().parents[2]
    starts = [(ours / name).read_text()[:20] for name in ("requirements.txt", "app.py")]
    return SECRET in body or any(start in body for start in starts)


def _handshake(port: int, host: str, origin: str) -> int:
    lines = [
        "GET /_stcore/stream HTTP/1.1", f"Host: {host}", f"Origin: {origin}", "Connection: Upgrade",
        "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: streamlit",
    ]  # fmt: skip
    return _status(_talk(port, lines, all_of_it=False))


def _get(port: int, path: str) -> str:
    return _talk(port, [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"])


def _talk(port: int, lines: list[str], all_of_it: bool = True) -> str:
    """What the server answers to these header lines."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.settimeout(5)
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        try:
            while part := connection.recv(1 << 16):
                answer += part
                if not all_of_it:
                    break
        except TimeoutError:
            pass
    return answer.decode(errors="replace")


def _status(answer: str) -> int:
    match = re.match(r"HTTP/1\.1 (\d{3})", answer)
    return int(match[1]) if match else 0
