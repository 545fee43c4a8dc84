"""From what runs say to the points of the page Speed, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kdcore.analysis import cost_points, cost_table
from kdcore.models.count import flops, parameters
from kdcore.records import ModelSize
from kdcore.runs.remeasure import best_teacher

SHAPE = {"layers": 2, "width": 16, "heads": 2, "intermediate": 32, "vocabulary": 30, "positions": 32, "labels": 2}
LARGE = SHAPE | {"layers": 4}


def _record(name: str, batch: int = 1, ms: float = 2.0, busy: bool = False, **more: Any) -> dict[str, Any]:
    about = {"hardware": "CPU", "precision": "bf16", "threads": 1, "tokens": 20, "per_second": 1000 * batch / ms}
    return {"name": name, "batch": batch, "median_ms": ms, "busy": busy, **about, **more}


def _run(run: str = "r", seed: int = 0, score: float = 0.8, group: str = "g", task: str = "mrpc") -> pd.Series:
    return pd.Series(
        {"id": run, "task": task, "group": group, "label": f"label {group}", "method": "kd", "seed": seed,
         "score": score, "metric": "accuracy", "parameters": 99, "teachers": "large"}
    )  # fmt: skip


def _of_run(run: pd.Series, facts: Any = None, probes: Any = None, **more: Any) -> pd.DataFrame:
    rows = cost_table.of_run(
        run, facts or {}, probes or {}, more.get("scores", {}), more.get("stored", {}), "validation"
    )
    return pd.DataFrame(list(rows), columns=list(cost_table.COLUMNS))


def test_sizes_follow_from_the_shape_and_files() -> None:
    facts = {"mean_tokens": 19.6, "student": SHAPE, "teachers": {"large": {"shape": LARGE}}}
    found = _of_run(_run(), facts, scores={"large": 0.9}, stored={"student": 2**20, "large": 3 * 2**20})
    costs = found.set_index(["label", "axis"])["cost"]
    assert costs["label g", "parameters"] == parameters(ModelSize(**SHAPE)).total
    assert costs["teacher large", "flops"] == flops(ModelSize(**LARGE), 20)
    assert (costs["label g", "disk"], costs["teacher large", "disk"]) == (1, 3)
    assert set(found.loc[found["axis"] == "flops", "length"]) == {"20 tokens"}
    assert set(found.set_index("label").loc["teacher large", "quality"]) == {90.0}
    share = SHAPE["vocabulary"] * SHAPE["width"] / parameters(ModelSize(**SHAPE)).total
    assert costs["label g", cost_table.WORDS] == pytest.approx(100 * share)


ROW = {"words": 15, "tokens": {"student": 20, "large": 31}}
READ = {"mean_tokens": 19.6, "row": ROW, "student": SHAPE, "teachers": {"large": {"shape": LARGE}}}


def test_each_model_is_priced_at_its_own_tokens_of_the_same_row() -> None:
    records = [_record("student", words=15, tokens=20), _record("large", words=15, tokens=31)]
    found = _of_run(_run(), READ, {"latency": {"records": records}}, scores={"large": 0.9})
    costs = found.set_index(["label", "axis"])
    assert costs.loc[("teacher large", "flops"), "cost"] == flops(ModelSize(**LARGE), 31)
    assert costs.loc[("label g", "flops"), "cost"] == flops(ModelSize(**SHAPE), 20)
    here = found[found["axis"].isin(["latency-1", "flops", cost_table.TOKENS])]
    assert set(here["length"]) == {"15 words"}, "one row, so one condition for all"
    beside = cost_points.costs_beside(found, "CPU, bf16, 1 thread", {"mrpc": "15 words"}, [cost_table.TOKENS])
    assert beside[cost_table.TOKENS].to_dict() == {"label g": 20, "teacher large": 31}
    assert cost_points.length_text("15 words", found) == "15 words, 20 to 31 tokens"
    alone = found[found["kind"] == "student"]
    assert cost_points.length_text("15 words", alone) == "15 words, 20 tokens"
    assert cost_points.length_text("53 tokens", found) == "53 tokens"


def test_students_that_read_a_row_as_other_tokens_do_not_share_a_price() -> None:
    other = READ | {"row": {"words": 15, "tokens": {"student": 26}}}
    same = cost_table.student_size("a", READ) == cost_table.student_size("b", READ)
    assert same and cost_table.student_size("a", READ) != cost_table.student_size("a", other)


def test_an_older_timing_stays_beside_a_new_one() -> None:
    old = {"mean_tokens": 19.6, "student": SHAPE}
    records = [_record("student", words=15, tokens=21), _record("student", ms=3.0)]
    found = _of_run(_run(), old, {"latency": {"records": records}})
    times = found[found["axis"] == "latency-1"].set_index("length")["cost"]
    assert times.to_dict() == {"15 words": 2.0, "20 tokens": 3.0}
    operations = found[found["axis"] == "flops"].set_index("length")["cost"]
    assert operations.to_dict() == {
        "15 words": flops(ModelSize(**SHAPE), 21), "20 tokens": flops(ModelSize(**SHAPE), 20),
    }  # fmt: skip


def test_the_ninth_decile_is_an_axis_of_its_own() -> None:
    found = _of_run(_run(), {}, {"latency": {"records": [_record("student", p90_ms=2.5)]}})
    assert found.set_index("axis").loc["latency-1-p90", "cost"] == 2.5
    sessions = [_record("student", session="x"), _record("student", threads=2, session="y")]
    assert _of_run(_run(), {}, {"latency": {"records": sessions}})["session"].nunique() == 3  # of parameters: none


def test_memory_is_a_cost_of_its_condition_and_other_work_does_not_change_it() -> None:
    records = [
        _record("student", memory=3 * 2**20, busy=True),
        _record("student", 32, memory=6 * 2**20),
        _record("large"),
    ]
    found = _of_run(_run(), {}, {"latency": {"records": records}}, scores={"large": 0.9})
    here = found[found["axis"].str.startswith("memory")].set_index("axis")
    assert here["cost"].to_dict() == {"memory-1": 3.0, "memory-32": 6.0}, "the teacher's record is older than this"
    assert set(here["place"]) == {"CPU, bf16, 1 thread"} and set(here["length"]) == {"20 tokens"}
    assert not here["busy"].any() and set(here["session"]) == {""}


def test_energy_is_disturbed_by_other_work_as_time_is() -> None:
    records = [_record("student", energy_mj=40.0, busy=True, session="x"), _record("student", 32, energy_mj=10.0)]
    found = _of_run(_run(), {}, {"latency": {"records": records}})
    here = found[found["axis"].str.startswith("energy")].set_index("axis")
    assert here["cost"].to_dict() == {"energy-1": 40.0, "energy-32": 10.0}
    assert here["busy"].tolist() == [True, False] and here.loc["energy-1", "session"] == "r x"


def test_size_on_disk_is_that_of_the_files_else_what_the_probe_found() -> None:
    records = [_record("student", disk=5 * 2**20), _record("large", disk=8 * 2**20)]
    found = _of_run(_run(), {}, {"latency": {"records": records}}, scores={"large": 0.9}, stored={"student": 2**20})
    assert found[found["axis"] == "disk"].set_index("label")["cost"].to_dict() == {"label g": 1.0, "teacher large": 8.0}


def test_the_table_has_every_cost_of_one_condition() -> None:
    records = [_record("student", ms=2.0, memory=3 * 2**20, disk=2**20), _record("large", ms=8.0, disk=4 * 2**20),
               _record("student", ms=9.0, memory=7 * 2**20, hardware="GPU")]  # fmt: skip
    table = _of_run(_run(), {}, {"latency": {"records": records}}, scores={"large": 0.9})
    place, axes = "CPU, bf16, 1 thread", ["latency-1", "memory-1", "disk"]
    found = cost_points.costs_beside(table, place, {"mrpc": "20 tokens"}, axes)
    assert found.loc["label g"].tolist() == [2, 3, 1]
    assert found.loc["teacher large"].tolist()[::2] == [8, 4] and np.isnan(found.loc["teacher large", "memory-1"])
    assert cost_points.costs_beside(table, "", {"mrpc": ""}, axes).loc["label g", "latency-1"] in (2, 9)
    second = _of_run(_run("q", task="rte"), {}, {"latency": {"records": [_record("student", ms=4.0)]}})
    both = cost_points.costs_beside(pd.concat([table, second]), place, {"mrpc": "20 tokens", "rte": "20 tokens"}, axes)
    assert both.loc["label g", "latency-1"] == 3.0, "over tasks the mean"


def test_a_run_that_says_nothing_has_its_parameters_alone() -> None:
    found = _of_run(_run())
    assert found["axis"].tolist() == ["parameters"] and found["cost"].tolist() == [99]
    unknown = _of_run(_run(), {"student": {"unknown": 1}, "mean_tokens": 20})
    assert unknown.set_index("axis")["cost"].to_dict() == {"parameters": 99, cost_table.TOKENS: 20}


def test_times_keep_their_conditions_apart() -> None:
    records = [
        _record("student"),
        _record("student", 32, 8.0),
        _record("large", precision="fp32"),
        _record("student", 4),
    ]
    found = _of_run(_run(), {}, {"latency": {"records": records}}, scores={"large": 0.9})
    timed = found[found["axis"].isin(["latency-1", "latency-32", "throughput"])]
    assert timed["axis"].tolist() == ["latency-1", "latency-32", "throughput", "latency-1"]
    assert timed["cost"].tolist() == [2, 8, 4000, 2]
    assert timed["session"].nunique() == 1
    assert timed["place"].tolist() == ["CPU, bf16, 1 thread"] * 3 + ["CPU, fp32, 1 thread"]


def _rivals() -> dict[str, Any]:
    scores = {"validation": {"accuracy": 0.85}}
    models = [
        {"name": f"large:{kind}", "kind": kind, "words": kind, "parameters": 5, "flops": 7, "bytes": 2**20,
         "scores": scores}
        for kind in ("int8", "cut")
    ]  # fmt: skip
    records = [_record("large:int8", precision="int8", ms=3.0), _record("large:cut", ms=1.0)]
    return {"teacher": "large", "tokens": 20, "models": models, "records": records, "absent": {}}


def test_a_rival_stands_beside_the_models_that_it_was_timed_with() -> None:
    probes = {"latency": {"records": [_record("student")]}, "rivals": _rivals()}
    found = _of_run(_run(), {}, probes)
    here = found[(found["axis"] == "latency-1") & (found["place"] == "CPU, bf16, 1 thread")].set_index("kind")
    assert here["cost"].to_dict() == {"student": 2.0, "int8": 3.0, "cut": 1.0}
    assert here.loc["int8", "label"] == "teacher large, int8" and here.loc["int8", "quality"] == 85
    elsewhere = {"latency": {"records": [_record("student", threads=2)]}, "rivals": _rivals()}
    found = _of_run(_run(), {}, elsewhere)
    assert found.loc[(found["kind"] == "int8") & (found["axis"] == "latency-1"), "place"].empty


def _times(*rows: tuple[str, str, float, bool], place: str = "p", task: str = "mrpc", tokens: int = 20) -> pd.DataFrame:
    """run, size, cost, busy of students, timed by an older version."""
    table = pd.DataFrame(rows, columns=["run", "size", "cost", "busy"])
    about = {"task": task, "kind": "student", "label": "x", "quality": 0.0, "axis": "latency-1"}
    return table.assign(place=place, length=f"{tokens} tokens", session="", **about)


def test_runs_of_one_size_share_the_median_of_quiet_times() -> None:
    price = cost_points.prices(
        _times(("a", "s", 1.0, False), ("b", "s", 3.0, False), ("c", "s", 99.0, True), ("d", "t", 7.0, True))
    )
    assert price.loc["s"].to_dict() == {"cost": 2.0, "busy": False}
    assert price.loc["t"].to_dict() == {"cost": 7.0, "busy": True}


def _runs(*runs: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(list(runs)).reset_index(drop=True)


def test_a_run_without_a_time_has_that_of_its_size_and_else_none() -> None:
    runs = _runs(_run("a"), _run("b", 1, 0.9), _run("c", group="h"))
    seen = cost_points.of_task(_times(("a", "s", 1.0, False)), "p", "20 tokens", runs, {"a": "s", "b": "s", "c": "t"})
    assert seen["cost"].tolist()[:2] == [1.0, 1.0] and np.isnan(seen["cost"].iloc[2])
    assert seen["quality"].tolist() == [80, 90, 80] and seen["key"].tolist() == ["g", "g", "h"]
    assert set(seen["condition"]) == {"p, 20 tokens"} and not seen["busy"].any()


def _turns(*rows: tuple[str, str, str, float, bool]) -> pd.DataFrame:
    """session, kind, size, cost, busy; a run a session."""
    table = pd.DataFrame(rows, columns=["session", "kind", "size", "cost", "busy"])
    return table.assign(run=table["session"], label=table["size"], task="mrpc", place="p", length="20 tokens")


SESSIONS = _turns(
    ("a", "student", "s", 1.0, False), ("a", "teacher", "t", 3.0, False),
    ("b", "student", "s", 2.0, False), ("b", "teacher", "t", 8.0, False),
    ("c", "student", "s", 3.0, False), ("c", "teacher", "t", 15.0, False),
    ("d", "student", "s", 9.0, True), ("d", "teacher", "t", 9.0, True),
    ("e", "student", "other", 0.1, False), ("f", "cut", "x", 5.0, False),
)  # fmt: skip


def test_a_ratio_is_of_models_that_took_turns_in_a_quiet_session() -> None:
    ratio = cost_points.speed_ratio(SESSIONS, "p", {"mrpc": "20 tokens"}, {"s"}, "t")
    assert ratio == (pytest.approx(4.0), False), "3, 4 and 5 times; not the medians' 8 over 1.5, nor the busy 1"
    busy = cost_points.speed_ratio(SESSIONS[SESSIONS["busy"]], "p", {"mrpc": "20 tokens"}, {"s"}, "t")
    assert busy == (pytest.approx(1.0), True)
    for sizes, other, place, tokens in (({"other"}, "t", "p", 20), ({"s"}, "x", "p", 20), ({"s"}, "t", "q", 20),
                                        ({"s"}, "t", "p", 40)):  # fmt: skip
        assert cost_points.speed_ratio(SESSIONS, place, {"mrpc": f"{tokens} tokens"}, sizes, other) is None


def test_a_ratio_over_tasks_is_the_geometric_mean_and_needs_each() -> None:
    second = SESSIONS[SESSIONS["session"] == "a"].assign(task="rte", session="g")
    both = pd.concat([SESSIONS, second.assign(cost=[1.0, 9.0])])
    ratio = cost_points.speed_ratio(both, "p", {"mrpc": "20 tokens", "rte": "20 tokens"}, {"s"}, "t")
    assert ratio is not None and ratio[0] == pytest.approx((4 * 9) ** 0.5)
    assert cost_points.speed_ratio(both, "p", {"mrpc": "20 tokens", "cola": "20 tokens"}, {"s"}, "t") is None


def test_a_slow_session_is_taken_out_of_the_costs() -> None:
    slow = _turns(
        ("a", "student", "small", 2.0, False), ("a", "teacher", "t", 8.0, False),
        ("b", "student", "small", 2.0, False), ("b", "teacher", "t", 8.0, False),
        ("c", "student", "large", 1.5, False), ("c", "teacher", "t", 4.0, False),
        ("d", "student", "alone", 7.0, False),
    )  # fmt: skip
    cost = cost_points.prices(slow)["cost"]
    assert cost.to_dict() == {"small": 2.0, "large": 3.0, "alone": 7.0, "t": 8.0}


def test_other_places_and_lengths_are_never_mixed_in() -> None:
    times = pd.concat([_times(("a", "s", 1.0, False)), _times(("b", "s", 50.0, False), place="q"),
                       _times(("b", "s", 70.0, False), tokens=40)])  # fmt: skip
    runs, sizes = _runs(_run("a")), {"a": "s"}
    assert cost_points.of_task(times, "p", "20 tokens", runs, sizes)["cost"].tolist() == [1.0]
    assert set(cost_points.conditions(times, whole=True).values()) == {
        ("p", "20 tokens"), ("p", "40 tokens"), ("q", "20 tokens"),
    }  # fmt: skip
    assert list(cost_points.conditions(times, whole=False)) == ["p", "q"]


def test_an_average_is_within_seeds_over_tasks_at_each_ones_length() -> None:
    runs = _runs(_run("a", 0, 0.8), _run("b", 1, 0.6), _run("c", 0, 0.6, task="rte"), _run("d", 1, 0.8, task="rte"))
    found = pd.concat([_times(("a", "s", 1.0, False), ("b", "s", 1.0, False)),
                       _times(("c", "s", 3.0, False), ("d", "s", 3.0, True), task="rte", tokens=60)])  # fmt: skip
    teachers = [
        {"run": run, "task": task, "kind": "teacher", "label": "teacher x", "size": "teacher x", "quality": quality,
         "axis": "latency-1", "place": "p", "length": f"{tokens} tokens", "cost": 10.0, "busy": False, "session": ""}
        for run, task, quality, tokens in (("a", "mrpc", 90.0, 20), ("c", "rte", 70.0, 60))
    ]  # fmt: skip
    alone = [teachers[0] | {"label": "teacher y", "size": "teacher y"}]
    found = pd.concat([found, pd.DataFrame([*teachers, *alone])])
    assert cost_points.shared_tasks(runs) == ("mrpc", "rte")
    sizes = dict.fromkeys("abcd", "s")
    seen = cost_points.task_means(found, "p", runs, sizes, ("mrpc", "rte"))
    students = seen[seen["kind"] == "student"]
    assert students["quality"].tolist() == pytest.approx([70, 70]) and students["cost"].tolist() == [2, 2]
    assert seen[seen["kind"] == "teacher"][["label", "quality", "cost"]].values.tolist() == [["teacher x", 80, 10]]
    assert not seen["busy"].any()


def test_the_best_teacher_is_that_of_the_dev_split() -> None:
    facts = {"teachers": {"a": {"scores": {"validation": {"accuracy": 0.8}, "select": {"accuracy": 0.99}}},
                          "b": {"scores": {"validation": {"accuracy": 0.9}}}}}  # fmt: skip
    assert best_teacher(facts, ["a", "b"], "accuracy") == "b"
    assert best_teacher({}, ["a", "b"], "accuracy") == "a"
    assert best_teacher(facts, [], "accuracy") is None


def test_weights_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path))
    home = tmp_path / "runs" / "r" / "student-best"
    home.mkdir(parents=True)
    (home / "model.safetensors").write_bytes(b"12345")
    assert cost_table.weights_on_disk("r") == {"student": 5}
    (home.parent / "teachers.json").write_text("{broken")
    assert cost_table.weights_on_disk("r") == {}
    assert cost_table.weights_on_disk("another") == {}
