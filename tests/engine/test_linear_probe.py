"""A finished run's layers probed: one record a layer, a teacher equal to itself, and refusals that say why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdcore.engine import linear_probe as engine
from kdcore.engine.linear_probe import measure
from kdcore.errors import UserError
from kdcore.events import Probed, Progress, RunStarted
from kdcore.probes.linear_probe import POOLINGS
from tests.helpers import tiny_task
from tests.helpers.tiny_task import PARAPHRASE, SIMILARITY, run, same, teacher

ROWS = 240


@pytest.fixture(autouse=True)
def more_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiny_task.ROWS, "validation", ROWS)


def measured(done: Any, folder: Path | None = None) -> dict[str, Any]:
    (started,) = done.of(RunStarted)
    home = folder or done.folder
    events = list(measure(done.run, home, started.facts, rivals_of=done.run.teachers[0].name))
    assert {event.what for event in events if isinstance(event, Progress)} >= {"student, states of its layers"}
    (probed,) = (event for event in events if isinstance(event, Probed))
    assert probed.name == "linear_probe"
    assert json.loads((home / "probes" / "linear_probe.json").read_text()) == probed.data
    return dict(probed.data)


def test_every_layer_is_probed_and_the_same_each_time(trained: Any, shelf: Path) -> None:
    done = trained(run("kd", [teacher(shelf, "deep", layers=3)]))
    before = done.weights()
    found = measured(done)
    assert (found["fit"], found["score"], found["teacher"]) == (ROWS // 2, ROWS // 2, "deep")
    asked = {one["key"]: one for one in found["properties"]}
    assert asked["negation"]["absent"].startswith("0 of 120 rows to fit on") and not asked["label"]["absent"]
    assert set(found["models"]) == {"student", "deep"}
    for name, layers in (("student", 3), ("deep", 4)):
        for pooling in POOLINGS:
            records = found["models"][name][pooling]
            assert set(records) == {"length", "word", "label"}, "one text column, and no negation in these words"
            for layer in (record for of in records.values() for record in of):
                assert 0 <= layer["low"] <= layer["value"] <= layer["high"] <= 1
            assert {len(of) for of in records.values()} == {layers}
    cls = found["models"]["student"]["cls"]["label"]
    assert cls[0]["value"] == pytest.approx(asked["label"]["chance"]), "[CLS] is the same in all rows at the embeddings"
    assert same(done.weights(), before)
    assert measured(done) == found


def test_the_label_word_is_in_the_mean_of_the_embeddings(trained: Any, shelf: Path) -> None:
    """A row's label is a word of it, which the mean of its words tells without any training."""
    found = measured(trained(run("kd", [teacher(shelf, "wide", width=32)])))
    assert found["models"]["wide"]["mean"]["label"][0]["low"] > 0.75


def test_a_teacher_is_equal_to_itself(trained: Any, shelf: Path) -> None:
    done = trained(run("kd", [teacher(shelf, "pair", layers=2)], task=PARAPHRASE))
    shutil.rmtree(done.folder / "student-best")
    shutil.copytree(shelf / "pair", done.folder / "student-best")
    found = measured(done)
    assert found["models"]["student"] == found["models"]["pair"]
    assert "overlap" in found["gaps"]["mean"]
    assert all(gap == {"value": 0, "low": 0, "high": 0} for of in found["gaps"].values() for gap in of.values())


def test_the_gap_is_that_of_the_last_layers(trained: Any, shelf: Path) -> None:
    found = measured(trained(run("kd", [teacher(shelf, "wise-1", labels=1)], task=SIMILARITY)))
    for pooling, of in found["gaps"].items():
        for key, gap in of.items():
            theirs, ours = (found["models"][name][pooling][key][-1]["value"] for name in ("wise-1", "student"))
            assert gap["value"] == pytest.approx(theirs - ours) and gap["low"] <= gap["value"] <= gap["high"]
    assert [one["title"] for one in found["properties"]][-1] == "The task's score"


def test_batches_do_not_change_a_rows_vector(trained: Any, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding is part of no mean, and vectors come back in the order of the rows."""
    from kdcore.data.encode import encode
    from kdcore.engine import results
    from kdcore.engine.predict import result_of
    from kdcore.engine.remeasure import compute_here

    done = trained(run("kd", [teacher(shelf, "t0")]))
    model, tokenizer = results.student(done.folder)
    rows = encode(tiny_task.data_of().splits["validation"], tokenizer, 32)
    together = result_of(engine._states(model, rows, compute_here(done.run.train), "student"))
    monkeypatch.setattr(engine, "BATCH", 1)
    alone = result_of(engine._states(model, rows, compute_here(done.run.train), "student"))
    for pooling in POOLINGS:
        assert together[pooling].shape == (3, ROWS, 16)
        assert np.allclose(together[pooling], alone[pooling], atol=1e-5)


def test_what_cannot_be_probed_says_why(trained: Any, one_teacher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = trained(run("kd", one_teacher))
    (started,) = done.of(RunStarted)
    with pytest.raises(UserError, match="not those this run was scored on"):
        list(measure(done.run, done.folder, {**started.facts, "data_fingerprint": "other"}, rivals_of="t0"))
    with pytest.raises(UserError, match="no longer where the run found it"):
        list(measure(done.run, done.folder, started.facts, rivals_of="gone"))
    shutil.rmtree(done.folder / "student-best")
    with pytest.raises(UserError, match="kept no best student"):
        list(measure(done.run, done.folder, started.facts, rivals_of="t0"))


def test_a_small_dev_split_is_refused(trained: Any, one_teacher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiny_task.ROWS, "validation", 30)
    done = trained(run("kd", one_teacher))
    (started,) = done.of(RunStarted)
    with pytest.raises(UserError, match="30 rows, a linear probe takes 100"):
        list(measure(done.run, done.folder, started.facts, rivals_of="t0"))
