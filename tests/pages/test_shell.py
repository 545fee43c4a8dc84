"""The frame of every page: one navigation, one sidebar, however a page was entered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def test_a_page_entered_without_the_app_draws_the_whole_app(store: Any) -> None:
    from streamlit.testing.v1 import AppTest

    sys.modules.pop("app", None)
    page = AppTest.from_file(str(ROOT / "pages" / "system.py"), default_timeout=60).run()
    assert not page.exception and "Idle: nothing is training." in [one.value for one in page.sidebar.caption]
    assert len(page.title) == 1 and "app" not in sys.modules, "app.py is run once and imported by nobody"
