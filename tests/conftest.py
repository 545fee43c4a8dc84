"""What all tests share: a cache folder of their own, one CPU thread, no network; and which tests are slow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tiny models gain nothing from a second thread, and several processes that each take all cores slow one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test writes into a folder of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("KD_CACHE_DIR", str(folder))
    monkeypatch.delenv("KD_DATABASE_URL", raising=False)
    return folder
