"""What a run says comes back as it was said: points, scores and probes, each once."""

import math

import pytest
from sqlalchemy import event, text

from kdcore.events import Evaluated, Probed, RunStarted, StageStarted
from kdcore.store import open_store
from tests.helpers.databases import on_sqlite


def test_points_come_back_with_their_kinds(store, settings, step):
    run = store.add_run(settings())
    store.record(run, [step(10, loss=2.0, gradient_share={"hard": 0.25}, notes={"draws": 3.0})])
    frame = store.metrics(run)
    assert list(frame.columns) == ["run", "stage", "step", "epoch", "seconds", "kind", "name", "value"]
    assert {(r.kind, r.name): r.value for r in frame.itertuples()} == {
        ("loss", "loss"): 2.0, ("raw", "hard"): 2.0, ("raw", "soft"): 4.0, ("weighted", "hard"): 1.0,
        ("weighted", "soft"): 2.0, ("lr", "lr"): 1e-3, ("gradient_norm", "gradient_norm"): 0.5,
        ("speed", "examples_per_second"): 64.0, ("gradient_share", "hard"): 0.25, ("note", "draws"): 3.0,
    }  # fmt: skip
    assert set(frame.run) == {run} and set(frame.step) == {10} and set(frame.seconds) == {10.0}
    assert set(store.metrics(run, kinds=["raw"]).name) == {"hard", "soft"}
    everything = store.metrics(run)
    assert store.quantities(run) == sorted(set(zip(everything.kind, everything.name, strict=True)))
    assert store.quantities(["nope"]) == []


def test_replayed_steps_replace_their_points(store, settings, step):
    run = store.add_run(settings())
    store.record(run, [step(1, 1.0), step(2, 2.0), step(3, 3.0)])
    store.record(run, [step(2, 20.0), step(3, 30.0), step(4, 40.0)])  # resumed from a checkpoint at step 1
    frame = store.metrics(run, kinds=["loss"])
    assert list(zip(frame.step, frame.value, strict=True)) == [(1, 1.0), (2, 20.0), (3, 30.0), (4, 40.0)]


def test_a_step_said_twice_in_one_flush_is_one_point(store, settings, step):
    run = store.add_run(settings())
    store.record(run, [step(1, 1.0), step(1, 5.0)])
    assert list(store.metrics(run, kinds=["loss"]).value) == [5.0]


def test_same_step_of_two_stages_is_two_points(store, settings, step):
    run = store.add_run(settings())
    store.record(run, [step(1, 1.0, stage="hidden"), step(1, 2.0, stage="logits")])
    assert sorted(store.metrics(run, kinds=["loss"]).value) == [1.0, 2.0]


def test_values_that_are_no_numbers_survive(store, settings, step):
    run = store.add_run(settings())
    store.record(run, [step(1, math.nan), step(2, math.inf), step(3, -math.inf)])
    values = list(store.metrics(run, kinds=["loss"]).value)
    assert math.isnan(values[0]) and values[1:] == [math.inf, -math.inf]


def test_runs_do_not_mix_and_order_is_by_step(store, settings, step):
    a, b, other = (store.add_run(settings(seed)) for seed in range(3))
    for run, offset in ((a, 0), (b, 100), (other, 1000)):
        store.record(run, [step(number, offset + number) for number in (3, 1, 2)])
    frame = store.metrics([a, b], kinds=["loss"])
    assert list(zip(frame.run, frame.step, frame.value, strict=True)) == [
        (a, 1, 1.0), (a, 2, 2.0), (a, 3, 3.0), (b, 1, 101.0), (b, 2, 102.0), (b, 3, 103.0),
    ]  # fmt: skip
    assert store.metrics([]).empty and list(store.metrics([]).columns) == list(frame.columns)


def test_evaluations_are_upserted(store, settings, scored):
    run = store.add_run(settings())
    store.record(run, [scored(5, "validation", "last", accuracy=0.6, f1=0.5)])
    store.record(run, [scored(5, "validation", "last", accuracy=0.7, f1=0.4)])
    frame = store.evaluations(run)
    assert list(frame.columns) == ["run", "stage", "step", "split", "which", "metric", "value", "rows"]
    assert {(r.metric, r.value, r.rows) for r in frame.itertuples()} == {("accuracy", 0.7, 100), ("f1", 0.4, 100)}


def test_score_is_that_of_the_student_that_select_chose(store, settings, scored):
    run = store.add_run(settings())
    store.record(run, [
        scored(5, "select", "last", accuracy=0.8), scored(5, "validation", "last", accuracy=0.70, f1=0.9),
        scored(9, "select", "last", accuracy=0.6), scored(9, "validation", "last", accuracy=0.75, f1=0.9),
    ])  # fmt: skip
    row = store.runs().iloc[0]
    # dev is better at step 9, but `select` decides
    assert (row.metric, row.score, row.last_score, row.select_score) == ("accuracy", 0.70, 0.75, 0.8)
    store.record(run, [
        scored(9, "validation", "best", stage="end", accuracy=0.71), scored(9, "select", "best", "end", accuracy=0.8),
        scored(9, "select", "last", stage="end", accuracy=0.6), scored(0, "validation", "teacher:big", accuracy=0.99),
    ])  # fmt: skip
    row = store.runs().iloc[0]
    assert (row.score, row.last_score, row.select_score) == (0.71, 0.75, 0.8)


def test_pilot_students_do_not_count_as_the_student(store, settings, scored):
    run = store.add_run(settings())
    store.record(
        run, [StageStarted("pilot-a", 0, 1, 5, pilot=True), scored(5, "select", "last", "pilot-a", accuracy=0.9)]
    )
    assert math.isnan(store.runs().iloc[0].select_score)
    store.record(run, [scored(9, "select", "last", accuracy=0.5), scored(9, "validation", "last", accuracy=0.4)])
    row = store.runs().iloc[0]
    assert (row.select_score, row.score) == (0.5, 0.4)


def test_matched_split_is_the_score_of_mnli(store, settings, scored):
    run = store.add_run(settings(task="mnli"))
    store.record(run, [
        scored(5, "validation_matched", "best", accuracy=0.7), scored(5, "validation_mismatched", "best", accuracy=0.6),
    ])  # fmt: skip
    assert store.runs().iloc[0].score == 0.7


def test_own_task_takes_its_first_metric(store, scored):
    from kdcore.config import OwnData, RunConfig

    own = OwnData(path="x.csv", text="text", label="label")
    run = store.add_run(RunConfig(task="own", own=own, method="kd"))
    store.record(run, [Evaluated("end", 5, "validation", "best", {"pearson": 0.5, "spearman": 0.4}, 9)])
    row = store.runs().iloc[0]
    assert (row.metric, row.score) == ("pearson", 0.5)


def test_probes_give_the_latest_and_the_latency_is_listed(store, settings):
    run = store.add_run(settings())
    records = [
        {"name": "student", "batch": 32, "median_ms": 40.0}, {"name": "student", "batch": 1, "median_ms": 2.5},
        {"name": "big", "batch": 1, "median_ms": 9.0},
    ]  # fmt: skip
    store.record(run, [Probed("distances", 9, {"x": 2}), Probed("latency", 10, {"records": records})])
    store.record(run, [Probed("distances", 5, {"x": 1})])
    assert store.probes(run) == {"distances": {"x": 2}, "latency": {"records": records}}
    assert store.runs().iloc[0].latency_ms == 2.5


def test_facts_of_a_resumed_run_keep_its_stages(store, settings):
    run = store.add_run(settings())
    store.record(run, [RunStarted({"rows": 5, "steps": 8}), StageStarted("one", 0, 1, 4), StageStarted("two", 1, 5, 4)])
    store.record(run, [RunStarted({"rows": 6, "steps": 8}), StageStarted("two", 1, 5, 4)])
    facts = store.get(run).facts
    assert facts["rows"] == 6 and [stage["stage"] for stage in facts["stages"]] == ["one", "two"]


def test_numpy_values_in_facts_are_plain_numbers(store, settings):
    np = pytest.importorskip("numpy")
    run = store.add_run(settings())
    store.record(run, [RunStarted({"a": np.float32(0.5), "b": np.arange(3), "c": {"d": np.int64(7)}})])
    facts = store.get(run).facts
    assert (facts["a"], facts["b"], facts["c"]) == (0.5, [0, 1, 2], {"d": 7})


def test_many_runs_are_read_with_one_query_each(store, settings, step):
    runs = [store.add_run(settings(seed)) for seed in range(40)]
    for run in runs:
        store.record(run, [step(number) for number in range(1, 26)])
    asked: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    assert len(store.runs()) == 40
    assert len(store.metrics(runs)) == 40 * 25 * 8
    assert store.evaluations(runs).empty
    assert len([statement for statement in asked if "SELECT" in statement]) == 3


@on_sqlite
def test_the_points_of_a_run_are_found_by_the_key_alone(store, settings):
    run = store.add_run(settings())
    with store.engine.begin() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT * FROM metrics JOIN runs ON runs.number = metrics.run WHERE runs.id IN ('x')"
        ).all()
    assert run and not any("SCAN" in str(row[-1]) for row in plan), plan


def test_opening_again_gives_the_same_store(store):
    assert open_store() is store


def test_equal_settings_have_equal_hashes_and_protocol_ignores_the_method(store, settings):
    a, b = store.add_run(settings(0, name="x")), store.add_run(settings(0, name="y"))
    c = store.add_run(settings(3, method="pkd", options={"beta": 7.0}))
    d = store.add_run(settings(0, student={"layers": 4}))
    frame = store.runs().set_index("id")
    assert frame.config_hash[a] == frame.config_hash[b] != frame.config_hash[c]
    assert frame.protocol[a] == frame.protocol[c] != frame.protocol[d]
    assert frame.options[c] == "beta=7.0" and frame.student[d] == "4 layers" and frame.init[d] == "base/first"


def test_statements_are_postgresqls_too():
    from sqlalchemy import create_mock_engine
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateTable

    from kdcore.store import tables

    engine = create_mock_engine("postgresql+psycopg://", executor=None)
    for table in (tables.metrics, tables.evaluations, tables.probes):
        words = str(tables.upsert(engine, table).compile(dialect=postgresql.dialect()))
        assert "ON CONFLICT" in words and "DO UPDATE SET" in words
    for table in tables.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))


def test_many_runs_are_read_in_one_query(store, settings, step):
    made = [store.add_run(settings(seed)) for seed in range(3)]
    store.record(made[0], [Probed("a", 1, {"x": 1}), Probed("a", 2, {"x": 2}), Probed("b", 1, {"y": 3})])
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET config = '{' WHERE id = :run"), {"run": made[2]})
    asked = []
    event.listen(store.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    rows, configs, probes = (read([*made, "nope"]) for read in (store.rows, store.settings, store.probes_of))
    assert len([one for one in asked if one.startswith("SELECT")]) == 3
    assert {run: row.name for run, row in rows.items()} == {run: store.get(run).name for run in made}
    assert set(configs) == set(made[:2]) and configs[made[1]] == settings(1) and rows[made[2]].broken
    assert probes == {made[0]: store.probes(made[0])} == {made[0]: {"a": {"x": 2}, "b": {"y": 3}}}
