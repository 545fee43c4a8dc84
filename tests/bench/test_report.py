"""The tables of a study: one for each task and each state of its training data; an earlier report's rows stay."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from bench import report

SPLIT = "validation_accuracy"


def row(method: str, seed: int, score: float, **changes: object) -> dict[str, object]:
    return {
        "task": "sst2", "data": "", "precision": "bf16", "method": method, "layers": 3, "heads": "",
        "init": "base", "init_layers": "skip", "seed": seed,
        "all_steps": 10, "student_steps": 10, "teacher_rows_cached": 0, "teacher_rows_live": 0,
        "extra_parameters": 0, "exported_parameters": 1e6, "train_rows": 100, "partial": "",
        "loss_shares": "distil: hard 100%", f"best_{SPLIT}": score, f"last_{SPLIT}": score,
        "agreement_with_t_validation": 0.9, "kl_with_t_validation": 0.1,
    } | changes  # fmt: skip


TEACHERS = {
    ("sst2", "", "bf16", "t"): {"validation": {"accuracy": 0.9}},
    ("sst2", "10 % of the labels", "bf16", "t"): {"validation": {"accuracy": 0.8}},
}


def test_a_table_has_the_teacher_of_its_own_data_and_names_what_it_is_compared_with() -> None:
    few = pd.DataFrame([row("alone", 0, 0.7), row("alone", 1, 0.72), row("kd-all", 0, 0.75), row("kd-all", 1, 0.76)])
    text = report._task_table(few.assign(data="10 % of the labels"), TEACHERS)
    assert "100 training rows, 10 % of the labels" in text and "Teachers: t 80.0." in text
    assert "| kd-all | +4.5 | 2 |" in text and "minus alone (points)" in text
    whole = pd.DataFrame([row("fine-tune", 0, 0.7), row("kd", 0, 0.71)])
    text = report._task_table(whole, TEACHERS)
    assert "Teachers: t 90.0." in text and "minus KD (points)" in text and "| fine-tune | -1.0 | 1 |" in text


def test_heads_are_told_where_they_differ() -> None:
    sizes = pd.DataFrame([row("kd", 0, 0.7, heads="1"), row("kd", 0, 0.8, heads="4")])
    lines = [line for line in report._task_table(sizes, TEACHERS).splitlines() if "heads " in line]
    assert [line.split("|")[1].strip() for line in lines] == ["3 layers, heads 1", "3 layers, heads 4"]


@pytest.mark.parametrize("written", ["now", "before data were told apart"])
def test_rows_of_an_earlier_report_stay_and_are_not_doubled(tmp_path: Path, written: str) -> None:
    earlier = pd.DataFrame([row("kd", 0, 0.7), row("kd", 1, 0.8)])
    old = ["data", "heads", "precision"] if written != "now" else []
    (tmp_path / "a.json").write_text('{"precision": "bf16", "teachers": {}}')
    earlier.drop(columns=old).to_csv(tmp_path / "a.csv", index=False)
    both = report._with_earlier(pd.DataFrame([row("kd", 1, 0.9), row("kd", 2, 0.6)]), tmp_path / "a.csv")
    assert dict(zip(both["seed"], both[f"best_{SPLIT}"], strict=True)) == {0: 0.7, 1: 0.9, 2: 0.6}
    assert set(both["data"]) == {""} and both["loss_shares"].notna().all()


def test_scores_of_two_precisions_stand_apart(tmp_path: Path) -> None:
    pd.DataFrame([row("kd", 1, 0.8)]).to_csv(tmp_path / "a.csv", index=False)
    fresh = pd.DataFrame([row("kd", 1, 0.9, precision="fp32"), row("gkd", 1, 0.7, precision="fp32")])
    both = report._with_earlier(fresh, tmp_path / "a.csv")
    assert sorted(both[both["method"] == "kd"]["precision"]) == ["bf16", "fp32"]
    teachers = {("sst2", "", "fp32", "t"): {"validation": {"accuracy": 0.6}}, **TEACHERS}
    text = report._task_table(both[both["precision"] == "fp32"], teachers)
    assert "100 training rows, fp32" in text and "Teachers: t 60.0." in text and "| gkd | -20.0 | 1 |" in text


def test_teachers_of_an_earlier_report_are_found_by_task_data_and_precision(tmp_path: Path) -> None:
    keys = ("mrpc/t", "sst2/10 % of the labels/t", "sst2/fp32/t", "sst2/10 % of the labels/fp32/t")
    (tmp_path / "a.json").write_text(json.dumps({"precision": "bf16", "teachers": {key: {} for key in keys}}))
    assert list(report._earlier_teachers(tmp_path / "a.json")) == [
        ("mrpc", "", "bf16", "t"), ("sst2", "10 % of the labels", "bf16", "t"), ("sst2", "", "fp32", "t"),
        ("sst2", "10 % of the labels", "fp32", "t"),
    ]  # fmt: skip
