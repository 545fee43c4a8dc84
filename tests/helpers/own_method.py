"""The method that docs/add-a-method.md shows, as text and as a file."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "add-a-method.md"
KEY, TITLE = "angle-kd", "Angle KD"


def text() -> str:
    """The document's example."""
    code = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    return code[1]


def write(folder: Path, name: str = "angle_kd.py", **changes: str) -> Path:
    """Writes it. changes: key, title: in place of its own; more: lines at the end."""
    source = text()
    for word, value in changes.items():
        if word != "more":
            old = {"key": f'"{KEY}"', "title": f'"{TITLE}"'}[word]
            assert old in source
            source = source.replace(old, f'"{value}"')
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(source + changes.get("more", ""), encoding="utf-8")
    return path
