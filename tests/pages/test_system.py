"""The page System: it tells what is here and no secrets, and frees what a person confirms."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kdcore
from kdcore.paths import cache_subdir, run_dir
from kdcore.runs import cleanup
from tests.helpers.store_factory import add, run_config, words


def shown(app: Any, key: str) -> Any:
    """The table with these columns first."""
    return next(frame.value for frame in app.dataframe if next(iter(frame.value)) == key)


def test_an_idle_machine_is_described(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("system")
    assert not app.exception and not app.error
    assert "Nothing is training" in words(app)
    assert {"torch", "Python", "KDBoard"} <= set(shown(app, "versions")["versions"])
    assert "Processor" in set(shown(app, "device")["device"])
    here = shown(app, "task").set_index("task")["here"]
    assert here["Pocket sentiment"] == "yes" and here["QQP"] == "no"
    assert "KD_GLUE_DIR" in words(app).replace("\\", "")


def test_who_trains_and_who_waits_is_listed(store: Any, visit: Callable[..., Any]) -> None:
    second, third = store.add_run(run_config("kd", 1)), store.add_run(run_config("kd", 2))
    add(store, run_config("kd", 0), end="running")
    store.move(third, -1)
    queue = shown(visit("system"), "run")
    assert queue["run"].tolist() == ["kd seed 0", "kd seed 2", "kd seed 1"]
    assert queue["state"].tolist() == ["running", "queued", "queued"]
    assert queue["worker"].tolist() == ["written", "–", "–"]
    assert queue["lease"].iloc[0].startswith("valid for") and queue["lease"].iloc[1] == "–"
    assert second != third


def test_values_that_may_be_secret_are_not_shown(
    store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KD_DATABASE_URL", f"sqlite:///{tmp_path / 'runs.db'}?password=hunter2")
    monkeypatch.setenv("KD_GLUE_DIR", "/somewhere/of/a/person")
    monkeypatch.setenv("KD_TEACHER_CACHE_GB", "7")
    app = visit("system")
    table = shown(app, "variable").set_index("variable")["now"]
    assert table["KD_DATABASE_URL"] == table["KD_GLUE_DIR"] == "set" and table["KD_TEACHER_CACHE_GB"] == "7"
    everything = words(app) + "".join(frame.value.to_string() for frame in app.dataframe)
    assert "hunter2" not in everything and "somewhere" not in everything


def test_teacher_outputs_are_freed_but_those_in_use(store: Any, visit: Callable[..., Any]) -> None:
    entry, pinned = _entry("old"), _entry("read-now")
    (pinned / "pin-1-abc").touch()  # of a process that cannot be seen, and just now
    app = visit("system")
    app.button(key="system_free").click().run()
    assert "8 KiB" in words(app) and entry.exists(), "the first click only asks"
    assert cleanup.free_outputs() == 4096
    assert not entry.exists() and pinned.exists()


def test_what_no_run_needs_is_named_and_removed(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"))
    kept = run_dir(run) / "checkpoint"
    kept.mkdir(parents=True)
    (kept / "weights").write_bytes(b"x" * 2048)
    app = visit("system")
    app.button(key="system_gc").click().run()
    assert f"checkpoint of {run}" in words(app).replace("\\", "") and kept.exists()
    assert cleanup.remove(cleanup.find_garbage(store)) == 2048
    assert not kept.exists() and run_dir(run).exists()


def test_read_only_offers_no_button_that_frees(
    store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KD_READ_ONLY", "1")
    _entry("old")
    app = visit("system")
    assert not app.exception and not app.error
    assert not [button.key for button in app.button if button.key in ("system_free", "system_gc")]


def test_an_unreadable_store_leaves_the_rest_of_the_page(
    store: Any, visit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "runs.db").write_text("this is no database " * 100)
    monkeypatch.setenv("KD_CACHE_DIR", str(other))
    app = visit("system")
    assert not app.exception and "What to do" in words(app)
    assert len(shown(app, "versions"))


def _entry(name: str) -> Path:
    folder = cache_subdir("outputs") / name
    folder.mkdir()
    (folder / "logits.values").write_bytes(b"x" * 4096)
    return folder


def test_the_computer_that_trains_is_named_where_it_is_another(store: Any, visit: Callable[..., Any]) -> None:
    far, here = add(store, run_config("kd", 0), end="running"), add(store, run_config("kd", 1), end="running")
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE runs SET node = 'gpu-3' WHERE id = '{far}'")
    app = visit("system")
    assert shown(app, "run").set_index("run")["device"].to_dict() == {"kd seed 0": "cpu of gpu-3", "kd seed 1": "cpu"}
    assert "on cpu of gpu-3" in words(app).replace("\\", "")
    live = visit("live", job=far)
    assert "cpu of gpu-3, fp32" in [str(metric.value) for metric in live.metric]
    (listed,) = (frame.value for frame in visit("runs").dataframe if "state" in frame.value)
    assert list(listed["computer"]) == [store.get(here).node, "gpu-3"]
    columns = list(listed.columns)
    assert columns.index("computer") == columns.index("state") + 1  # further right it would be out of sight


@pytest.mark.parametrize(("value", "said"), [("off", "kdcore work"), ("", "when a worker is free")])
def test_a_dashboard_without_a_worker_says_who_trains(
    store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    monkeypatch.setenv("KD_WORKER", value)
    run = add(store, run_config("kd", 0), end="queued")
    live = visit("live", job=run)
    assert said in words(live).replace("\\", "") and not live.exception


def test_a_run_for_another_device_says_so(store: Any, visit: Callable[..., Any], monkeypatch: Any) -> None:
    from kdcore.runs.worker import jobs

    monkeypatch.setattr(jobs(), "can", {"auto": 1e9, "cpu": 1e9}, raising=False)
    train = {"epochs": 1, "device": "cuda:1"}
    gpu = store.add_run(run_config("kd", 0, train=train))
    large = store.add_run(run_config("kd", 1), facts={"predicted": {"memory": 2e9}})
    assert "a worker with the device cuda:1" in words(visit("live", job=gpu)).replace("\\", "")
    assert "a worker with more memory" in words(visit("live", job=large)).replace("\\", "")


def test_every_folder_of_the_cache_is_explained() -> None:
    files = Path(kdcore.__file__).parent.rglob("*.py")
    names = {name for file in files for name in re.findall(r'cache_subdir\("(\w+)"\)', file.read_text("utf-8"))}
    assert {"runs", "outputs", "searches"} <= names <= set(cleanup.CONTENTS)
