"""Numbers to take along: CSV and JSON hold numbers, with units, seeds and split."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kdcore.analysis import comparison as comparisons
from kdcore.analysis.score_numbers import UNITS, score_numbers
from kdcore.analysis.task_table import by_task, numbers_by_task
from pages.parts.common.csv_file import csv_bytes
from pages.parts.common.json_file import json_bytes, with_units
from tests.helpers.store_factory import add, run_config


def _read(table: pd.DataFrame, **about: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json_bytes(table, about))
    return read


def test_json_has_rows_units_seeds_and_what_they_are_of() -> None:
    table = pd.DataFrame({"seed": [1.0, 0.0], "step": [10, 20], "score": [0.5, np.nan], "loss": [np.inf, 1.0]})
    read = _read(table, metric="accuracy", split="dev", units={"loss": "nats"})
    assert read["rows"] == [
        {"seed": 1.0, "step": 10, "score": 0.5, "loss": None},
        {"seed": 0.0, "step": 20, "score": None, "loss": 1.0},
    ]
    assert read["seeds"] == [0, 1] and (read["metric"], read["split"]) == ("accuracy", "dev")
    assert read["units"] == {"step": "training steps", "score": "fraction of 1", "loss": "nats"}


def test_json_holds_any_cell_and_any_column() -> None:
    table = pd.DataFrame([[np.int64(3), [1, np.nan], pd.Timestamp("2026-01-02"), True, "\u00e9<b>"]])
    table.columns = pd.Index(["a", "a", "b", 5, "c"])
    assert _read(table)["rows"] == [{"a": 3, "a 2": [1, None], "b": "2026-01-02T00:00:00", "5": True, "c": "\u00e9<b>"}]
    assert _read(pd.DataFrame())["rows"] == []


def test_seeds_are_read_from_a_list_too() -> None:
    assert _read(pd.DataFrame({"seeds": ["0, 2", "1", ""]}))["seeds"] == [0, 1, 2]


def test_the_table_of_scores_is_numbers(store: Any) -> None:
    made = [add(store, run_config("fine-tune", seed), score=0.5 + 0.1 * seed) for seed in range(2)]
    made += [add(store, run_config("kd", seed), score=0.52 + 0.1 * seed) for seed in range(3)]
    (comparison,) = comparisons.compare(store, store.runs())
    table = score_numbers(store, comparison)
    written = pd.read_csv(io.BytesIO(csv_bytes(with_units(table, UNITS))))
    alone, kd = (written[written["method and student"] == label].iloc[0] for label in comparison.labels.values())
    assert alone["score (points of 100)"] == pytest.approx(55.0)
    assert alone["score std (points of 100)"] == pytest.approx(10 / np.sqrt(2))
    assert kd["gap (points of 100)"] == pytest.approx(2.0) and kd["gap n"] == 2 and kd["n"] == 3
    assert np.isnan(alone["gap (points of 100)"]) and kd["seeds"] == "0, 1, 2"
    words = {"method and student", "seeds", "options", "also differs in"}
    assert all(pd.api.types.is_numeric_dtype(table[name]) for name in table if name not in words)


def test_scores_by_task_are_numbers_too(store: Any) -> None:
    for task, score in (("pocket-sentiment", 0.6), ("pocket-paraphrase", 0.8)):
        for seed in range(2):
            add(store, run_config("kd", seed, task=task), score=score + 0.02 * seed)
    by = comparisons.compare(store, store.runs())
    numbers, common = numbers_by_task(by)
    scores = numbers.set_index("task")
    assert scores.loc["pocket-sentiment", "score"] == pytest.approx(61.0)
    assert scores.loc["average", "score"] == pytest.approx(71.0) and scores.loc["average", "seeds"] == "0, 1"
    assert set(common) == {"pocket-sentiment", "pocket-paraphrase"}
    assert by_task(by)[0]["average"].tolist() == ["71.0 \u00b1 1.4 (N=2)"]


@pytest.mark.parametrize(("tab", "figure"), [("Scores", "gains"), ("Curves", "compare_curves")])
def test_both_files_are_offered_beside_each_other(tab: str, figure: str, store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config(method, seed)) for method in ("fine-tune", "kd") for seed in range(2)]
    app = visit("compare", runs=",".join(made), tab=tab)
    app.session_state[f"{figure}-numbers"] = True
    app.run()
    labels = [button.label for button in app.get("download_button")]
    assert not app.exception and not app.error
    assert "Download these numbers (CSV)" in labels and "Download these numbers (JSON)" in labels
    assert (tab != "Scores") or {"Download the table (CSV)", "Download the table (JSON)"} <= set(labels)
