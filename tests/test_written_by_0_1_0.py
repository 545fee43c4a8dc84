"""What version 0.1.0 wrote opens as before: its store, its links, and an interrupted run with its checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from kdcore.analysis.comparison import compare
from kdcore.identity import config_hash
from kdcore.paths import cache_dir, cache_subdir
from kdcore.runs.worker import Worker
from kdcore.store import Store, open_store
from tests.pages.conftest import visit

__all__ = ["visit"]
WRITTEN = Path(__file__).parent / "v0_1_0"
KD, ALONE, STOPPED = "kd-pocket-sentiment-f042f8", "fine-tune-pocket-sentiment-aea330", "pkd-pocket-sentiment-9632de"


@pytest.fixture
def store() -> Store:
    """The store of 0.1.0: fine-tuning, two seeds of KD, and PKD that was killed in training."""
    shutil.copy(WRITTEN / "runs.db", cache_dir() / "runs.db")
    shutil.copytree(WRITTEN / "runs", cache_subdir("runs"), dirs_exist_ok=True)
    return open_store()


def test_the_runs_are_listed_with_their_scores(store: Store) -> None:
    runs = store.runs().set_index("id")
    assert runs["state"].to_dict() == {STOPPED: "interrupted", "kd-pocket-sentiment-3d85e8": "done", KD: "done",
                                       ALONE: "done"}  # fmt: skip
    assert runs.loc[[KD, ALONE], "score"].tolist() == [0.5, 0.5] and runs.loc[KD, "name"] == "old KD"
    assert not any(store.get(run).broken for run in runs.index)
    assert len(store.metrics(KD, ["loss"])) > 3 and "latency" in store.probes(KD)


def test_a_sweep_would_find_the_runs(store: Store) -> None:
    for run in store.runs()["id"]:
        kept = store.get(run).config
        assert list(store.find([config_hash(kept)])) == [config_hash(kept)], run


def test_the_runs_compare(store: Store) -> None:
    frame = store.runs(["done"])
    (comparison,) = compare(store, frame)
    table = comparison.summary().set_index("label")
    assert table["n"].to_dict() == {"Fine-tuning alone, 1 x 32": 1, "KD, 1 x 32": 2}
    assert table.loc["KD, 1 x 32", "gap_n"] == 1 and comparison.also_differs() == {}


@pytest.mark.parametrize("link", [{"page": "compare", "runs": f"{KD},{ALONE}"}, {"page": "live", "job": KD}])
def test_its_links_open(store: Store, visit: Any, link: dict[str, str]) -> None:
    app = visit(link["page"], **{name: value for name, value in link.items() if name != "page"})
    assert not app.exception and not app.error and not app.warning
    for name, value in link.items():
        assert name == "page" or app.query_params[name] == value


def test_its_interrupted_run_goes_on_from_its_checkpoint(store: Store) -> None:
    store.requeue(STOPPED)
    worker = Worker(store, "cpu")
    assert worker.take(STOPPED) == STOPPED
    assert worker.drive(STOPPED) == "done", store.get(STOPPED).reason
    facts = store.get(STOPPED).facts
    assert facts["resumed_at"] == 40 and facts["steps"] == 120
    assert (cache_subdir("runs") / STOPPED / "student-best" / "model.safetensors").exists()
