"""Pages run in this process against a store of their own; no worker trains anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


class NoWorker:
    """Stands where the background worker would: it queues and never trains."""

    def __init__(self, store: Any) -> None:
        self.store, self.problem, self.started = store, "", 0

    def start(self) -> NoWorker:
        self.started += 1
        return self

    def submit(self, run: Any, **more: Any) -> str:
        run_id: str = self.store.add_run(run, **more)
        return run_id

    def resume(self, run_id: str) -> None:
        self.store.requeue(run_id)

    def shutdown(self) -> None: ...


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A store in a folder of its own, and a worker that does nothing."""
    import streamlit as st

    import kdcore.runs.worker
    from kdcore.store import open_store

    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("KD_DATABASE_URL", raising=False)
    monkeypatch.delenv("KD_GLUE_DIR", raising=False)
    st.cache_resource.clear()
    st.cache_data.clear()
    held = NoWorker(open_store())
    monkeypatch.setattr(kdcore.runs.worker, "jobs", lambda: held)
    yield open_store()
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def visit(store: Any) -> Callable[..., Any]:
    """Opens a page of the app with these parameters in its address."""
    from streamlit.testing.v1 import AppTest

    def _visit(page: str, theme: str = "light", **query: str) -> Any:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        app.context = {"theme": theme}
        app.run()
        for key, value in query.items():
            app.query_params[key] = value
        app.switch_page(f"pages/{page}.py").run()
        return app

    return _visit
