"""Runs as deployed: the table of their runtimes, and what int8 does to the answers over seeds."""

from math import comb

import pandas as pd
import pytest

from kdcore.analysis.comparison import compare
from kdcore.analysis.runtime_table import absent, int8_table, mcnemar, runtime_table, survivals, unmeasured
from kdcore.events import Probed
from tests.helpers.runtime_probe import probe
from tests.helpers.store_factory import add, run_config


def counted(store, runs):
    frame = store.runs(["done"])
    return pd.concat([one.finished for one in compare(store, frame[frame["id"].isin(runs)])])


@pytest.fixture
def runs(store):
    made = [add(store, run_config("kd", seed)) for seed in range(3)]
    for run, (lost, gained) in zip(made[:2], [(9, 1), (4, 5)], strict=True):
        store.record(run, [Probed("runtimes", 60, probe(lost, gained))])
    return made


def test_each_model_runtime_and_condition_has_a_row(store, runs):
    table = runtime_table(store, counted(store, runs))
    assert len(table) == 2 * 2 * 2 * 2  # runs, models, runtimes, batches
    one = table[(table["run"] == runs[0]) & (table["kind"] == "student") & (table["runtime"] == "onnx-int8")]
    assert list(one["batch"]) == [1, 8] and set(one["model"]) == {"KD, 2 x 32"} and set(one["disk_mib"]) == {2.0}
    assert list(one["score"]) == [79.2, 79.2] and list(one["p50_ms"]) == [1.0, 8.0] and one["memory_mib"].isna().all()
    assert set(table.loc[table["kind"] == "teacher", "model"]) == {"teacher large"}
    assert absent(store, runs) == {("student", "openvino-fp32"): "not installed"}


def test_models_are_set_beside_each_other_at_a_length_and_read_it_as_tokens_of_their_own(store, runs):
    older = runtime_table(store, counted(store, runs))
    assert set(older["length"]) == {"mean"} and set(older["tokens"]) == {14}, "by an older version, one for all models"
    found = probe(0, 0)
    own = {"student": {"mean": 14, "p95": 20, "maximum": 30}, "large": {"mean": 17, "p95": 26, "maximum": 41}}
    records = [one | {"length": "p95", "tokens": own[one["name"]]["p95"]} for one in found["records"]]
    store.record(runs[2], [Probed("runtimes", 60, found | {"tokens": own, "records": records})])
    table = runtime_table(store, counted(store, runs[2:]))
    assert set(table["length"]) == {"p95"}
    assert table.groupby("kind")["tokens"].unique().map(list).to_dict() == {"student": [20], "teacher": [26]}


def test_groups_without_a_measurement_come_first_and_then_the_other_seeds(store, runs):
    other = [add(store, run_config("pkd", seed)) for seed in range(2)]
    (first,) = unmeasured(store, counted(store, [*runs, *other]))
    assert first in other
    store.record(first, [Probed("runtimes", 60, probe(0, 0))])
    left = unmeasured(store, counted(store, [*runs, *other]))
    assert set(left) == {runs[2], *other} - {first}


def test_int8_loses_where_more_rows_go_wrong_than_chance_gives(store, runs):
    pairs = int8_table(store, counted(store, runs))
    students = pairs[pairs["kind"] == "student"].sort_values("seed")
    assert list(students["lost"]) == [9, 4] and list(students["gained"]) == [1, 5]
    assert students["difference"].round(6).tolist() == [-0.8, 0.1]
    first, second, *_ = [one.sentence() for one in survivals(pairs)]
    assert first == (
        "KD, 2 x 32 (2 seeds): 80.0 in float32, 79.7 in int8; 19 of 2,000 answers changed, 13 from right to wrong and "
        "6 from wrong to right: it loses with 1 of them."
    )
    assert second.startswith("teacher large: 90.0 in float32") and second.endswith("no loss is shown.")


def test_scores_have_no_right_and_wrong(store):
    run = add(store, run_config("kd"))
    store.record(run, [Probed("runtimes", 60, probe(None, None))])
    pairs = int8_table(store, counted(store, [run]))
    assert pairs["p"].isna().all()
    assert next(survivals(pairs)).sentence().endswith("10 of 1,000 answers changed, by a hundredth or more.")


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (9, 1), (5, 5), (2, 11)])
def test_the_test_is_the_exact_binomial_one(lost, gained):
    n = lost + gained
    tail = sum(comb(n, k) for k in range(min(lost, gained) + 1)) / 2**n
    assert mcnemar(lost, gained) == pytest.approx(min(1.0, 2 * tail))


def test_the_command_shows_what_was_measured_and_measures_what_was_not(store, runs, monkeypatch):
    from typer.testing import CliRunner

    from kdcore.cli import app
    from kdcore.cli import runtimes as command

    asked = []
    monkeypatch.setattr(command, "_measure", lambda store, frame, wanted: asked.extend(wanted))
    done = CliRunner().invoke(app, ["runtimes", *runs[:2]])
    assert done.exit_code == 0, done.output
    assert "it loses with 1 of them" in done.output and "onnx-int8" in done.output and not asked
    CliRunner().invoke(app, ["runtimes", *runs])
    assert asked == [runs[2]]
    CliRunner().invoke(app, ["runtimes", runs[0], "--again", "--json"])
    assert asked == [runs[2], runs[0]]
    refused = CliRunner().invoke(app, ["runtimes", "nope"])
    assert refused.exit_code == 2 and "error: run: nope is not a finished run" in refused.output
