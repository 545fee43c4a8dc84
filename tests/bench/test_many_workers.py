"""The bench of many workers counts what was written, on a few of them."""

import json

from bench import many_workers


def test_each_run_is_claimed_and_written_once(tmp_path, monkeypatch):
    monkeypatch.delenv("KD_DATABASE_URL", raising=False)
    sizes = ["--workers", "4", "--processes", "2", "--runs", "12", "--seconds", "1"]
    many_workers.main([*sizes, "--into", str(tmp_path)])
    counts = json.loads((tmp_path / "many-workers.json").read_text())["sqlite"]
    claiming, training = counts["claiming"], counts["training"]
    assert claiming["claims"] == claiming["done"] == claiming["runs"] == 12
    assert training["done"] == training["runs"] == 4 and training["steps_written"] == training["steps"] == 16
    assert claiming["errors"] == training["errors"] == 0
    assert set(training["page_ms"]) == {"All runs", "Running"} and training["server_cores"] >= 0


def test_address_is_not_kept():
    words = "python -m bench.many_workers --database postgresql+psycopg://me:secret@host/db --seconds 3"
    assert many_workers._without_address(words) == "python -m bench.many_workers --database ADDRESS --seconds 3"
    assert many_workers._without_address("python -m bench.many_workers") == "python -m bench.many_workers"
