"""Pages that draw what the store has open without torch, those that explain a method without transformers: their
imports take seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("start", "live", "runs", "compare", "speed", "examples", "beyond")
WITH_TORCH = ("layers", "lost", "learn", "system")
"""They read layer maps or ask torch for the device; none of them runs a model when it opens."""
OPEN = """
import sys
from streamlit.testing.v1 import AppTest
from kdcore.runs import example
from kdcore.store import open_store
example.open_study(open_store())
app = AppTest.from_file({app!r}, default_timeout=120).run()
for page in {pages!r}:
    app.switch_page(f"pages/{{page}}.py").run()
    assert not app.exception, page
    assert "torch" not in sys.modules, page
for page in {with_torch!r}:
    app.switch_page(f"pages/{{page}}.py").run()
    assert not app.exception, page
    assert "transformers" not in sys.modules, page
"""


def test_pages_over_the_example_open_without_torch_or_without_transformers(tmp_path: Path) -> None:
    code = OPEN.format(app=str(ROOT / "app.py"), pages=PAGES, with_torch=WITH_TORCH)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"KD_CACHE_DIR": str(tmp_path), "KD_WORKER": "off"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
