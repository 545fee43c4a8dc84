"""What all tests share: a cache folder of their own, one CPU thread, no network; and which tests are slow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tiny models gain nothing from a second thread, and several processes that each take all cores slow one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

HERE = Path(__file__).resolve().parent
SLOW = (
    "bench", "cli", "pages", "engine/test_evaluate.py", "engine/test_hostile.py", "engine/test_invariance.py",
    "engine/test_masked_lm.py", "engine/test_protocol.py", "engine/test_remeasure.py", "engine/test_resume.py",
    "engine/test_snapshots.py", "engine/test_stages.py", "engine/test_takd.py", "engine/test_teacher_cache.py",
    "engine/test_teachers.py", "methods/test_contract.py", "report/test_report.py", "runs/test_bundle.py",
    "runs/test_example.py", "runs/test_sweep.py", "runs/test_sweep_properties.py", "runs/test_worker.py",
    "store/test_processes.py", "test_architecture.py", "test_documents.py",
)  # fmt: skip
"""Folders and files that take more than some seconds of a core; `make test-fast` leaves them out, and tests/e2e."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(HERE)
        names = {path.as_posix(), *(parent.as_posix() for parent in path.parents)}
        if "e2e" in names:
            item.add_marker(pytest.mark.e2e)
        elif names & set(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test writes into a folder of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("KD_CACHE_DIR", str(folder))
    monkeypatch.delenv("KD_DATABASE_URL", raising=False)
    return folder
