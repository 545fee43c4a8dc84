"""What all tests share: a cache folder of their own, one CPU thread, no network; and which tests are slow."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kdcore.methods.catalog import built_in
from kdcore.store import Store, open_store
from tests.helpers import databases

# Tiny models gain nothing from a second thread, and several processes that each take all cores slow one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

HERE = Path(__file__).resolve().parent
SLOW = (
    "bench", "cli", "export", "pages", "engine/test_evaluate.py", "engine/test_hostile.py", "engine/test_invariance.py",
    "engine/test_masked_lm.py", "engine/test_own_method.py", "engine/test_protocol.py", "engine/test_remeasure.py",
    "engine/test_resume.py", "engine/test_snapshots.py", "engine/test_stages.py", "engine/test_takd.py",
    "engine/test_teacher_cache.py", "engine/test_teachers.py", "methods/test_contract.py", "report/test_report.py",
    "runs/test_bundle.py", "runs/test_example.py", "runs/test_farm.py", "runs/test_remote_runs.py",
    "runs/test_sweep.py", "runs/test_sweep_properties.py", "runs/test_work.py", "runs/test_worker.py",
    "store/test_processes.py", "test_architecture.py", "test_documents.py", "test_public_api.py",
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
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test writes into a folder of its own, and leaves no method from outside behind."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("KD_CACHE_DIR", str(folder))
    for name in ("KD_DATABASE_URL", "KD_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("KD_METHOD_FILES", "KD_METHODS_DIR"):  # commands that run in this process may set the first
        monkeypatch.setenv(name, "")
    yield folder
    if registry := sys.modules.get("kdcore.methods.registry"):
        for key in set(registry.METHODS) - set(built_in()):
            del registry.METHODS[key]


@pytest.fixture
def methods_as_before() -> Iterator[None]:
    """What a test takes in from outside is gone after it."""
    from kdcore.methods import registry

    before = dict(registry.METHODS)
    yield
    registry.METHODS.clear()
    registry.METHODS.update(before)
    registry._broken.clear()


@pytest.fixture
def new_database(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _addresses: Callable[[], str]
) -> Callable[[str], None]:
    """`new_database(name)`: from here on another computer, with a cache and an empty database of its own."""

    def go(name: str) -> None:
        monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / name))
        if url := _addresses():
            monkeypatch.setenv("KD_DATABASE_URL", url)

    return go


@pytest.fixture(params=databases.KINDS)
def database(request: pytest.FixtureRequest) -> str:
    """The kind of database that the store of this test is: each test runs on each."""
    kind: str = request.param
    return kind


@pytest.fixture
def _addresses(database: str) -> Iterator[Callable[[], str]]:
    with databases.addresses(database) as make:
        yield make


@pytest.fixture
def empty_store(own_cache: Path, _addresses: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store on each kind of database; processes that a test starts find it, too.

    The server has long been there, as far as leases are concerned: a test's may have been started a moment ago.
    """
    monkeypatch.setattr("kdcore.store.claims.serving_since", lambda connection: 0.0)
    if url := _addresses():
        monkeypatch.setenv("KD_DATABASE_URL", url)
    return open_store()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server on this computer that answers as S3 does."""
    for package in ("s3fs", "moto.server"):
        pytest.importorskip(package, reason="S3 is tried where s3fs and moto[server] are installed")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket."""
    settings = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}
    for name, value in (settings | {"ENDPOINT_URL": s3_server}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    import s3fs

    name = tmp_path.name.strip("_").replace("_", "-").lower()[:50]
    s3fs.S3FileSystem(use_listings_cache=False).mkdir(name)
    return f"s3://{name}/kdboard"
