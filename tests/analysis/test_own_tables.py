"""Runs on two own tables are told apart in lists and never set against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kdcore import report
from kdcore.analysis.comparison import compare
from kdcore.analysis.task_table import by_task
from kdcore.cli import app
from kdcore.events import Evaluated
from kdcore.formatting import metric_label, task_name, task_title
from kdcore.store import Store, open_store
from tests.helpers.store_factory import add, run_config


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path))
    return open_store()


def on(store: Store, path: str, method: str = "fine-tune", **own: Any) -> str:
    table = {"path": path, "text": "text", "label": "label"} | own
    return add(store, run_config(method, task="own", own=table, name=f"{method} {path}"))


def test_a_comparison_holds_one_table(store: Store) -> None:
    for path in ("/a/train.csv", "/b/train.csv", "/a/other.csv"):
        on(store, path)
        on(store, path, "kd")
    on(store, "/a/train.csv", label="stars")
    comparisons = compare(store, store.runs())
    assert sorted(task_title(each.task) for each in comparisons) == ["other.csv", "train.csv", "train.csv", "train.csv"]
    assert len({each.task for each in comparisons}) == 4
    assert sorted(len(each.gaps()) for each in comparisons) == [0, 1, 1, 1]
    table, _ = by_task(comparisons)
    assert "other.csv" in table.columns


def test_runs_of_one_table_stay_together_and_glue_keeps_its_key(store: Store) -> None:
    on(store, "/a/train.csv")
    on(store, "/a/train.csv", "kd")
    (comparison,) = compare(store, store.runs())
    assert len(comparison.gaps()) == 1
    run = add(store, run_config(task="pocket-sentiment"))
    assert store.get(run).task == "pocket-sentiment"
    assert task_name("pocket-sentiment") == "pocket-sentiment"


def test_lists_name_the_file(store: Store) -> None:
    ids = [on(store, "/a/spam & ham.csv"), on(store, "/b/films.csv")]
    assert [task_title(store.get(run).task) for run in ids] == ["spam & ham.csv", "films.csv"]
    printed = CliRunner().invoke(app, ["compare", *ids]).output
    assert "own:films.csv" in printed
    assert "own:spam & ham.csv" in printed
    assert "own:films.csv" in CliRunner().invoke(app, ["runs"]).output
    assert "films.csv" not in CliRunner().invoke(app, ["compare", "--task", "own:spam & ham.csv"]).output
    assert "films.csv" in CliRunner().invoke(app, ["compare", "--task", "own"]).output


def test_a_report_of_two_tables_has_an_anchor_for_each(store: Store) -> None:
    on(store, "/a/<b>.csv")
    on(store, "/b/films.csv")
    page = report.html(store, list(store.runs()["id"]))
    anchors = [part.split('"', 1)[0] for part in page.split('id="task-own-')[1:]]
    assert len(set(anchors)) == 2
    assert "<b>.csv" not in page


def test_show_says_of_which_class_f1_is(store: Store) -> None:
    with_classes = {"classes": ["fake", "real"]}
    other = store.add_run(
        run_config(task="own", own={"path": "/a/n.csv", "text": "t", "label": "l"}), facts=with_classes
    )
    store.claim("written", "cpu", other)
    store.record(other, [Evaluated("distil", 1, "validation", "best", {"f1": 0.5}, 10)])
    assert "f1 (of the class 'real')" in CliRunner().invoke(app, ["show", other]).output
    facts = {"classes": ["a", "b", "c"]}
    assert metric_label("f1", facts["classes"]) == "f1 (mean over 3 classes)"
