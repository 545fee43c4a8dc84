"""Kept probes as a table over layers and relative depth."""

from __future__ import annotations

from typing import Any

from kdcore.analysis.linear_probe import read_probes
from kdcore.events import Probed
from tests.helpers.linear_probes import probe
from tests.helpers.store_factory import add, run_config


def test_layers_are_placed_by_relative_depth(store: Any) -> None:
    run = add(store, run_config("kd"))
    assert read_probes(store, run, "large", "mean") is None
    store.record(run, [Probed("linear_probe", 60, probe())])
    found = read_probes(store, run, "large", "mean")
    assert found is not None and read_probes(store, run, "another", "mean") is None
    assert (found.layers("student"), found.layers("teacher"), found.score) == (2, 4, 150)
    depths = found.rows[found.rows["property"] == "label"].groupby("model")["depth"].apply(list).to_dict()
    assert depths == {"student": [0, 0.5, 1], "teacher": [0, 0.25, 0.5, 0.75, 1]}
    assert [one.key for one in found.told()] == ["length", "label"], "too rare negations are told nothing of"
    assert found.gaps["label"].shown and not found.gaps["length"].shown
    cls = read_probes(store, run, "large", "cls")
    assert cls is not None and set(cls.rows["accuracy"]) == {0.5}
