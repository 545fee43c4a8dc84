"""The latency probe's order, counts and words; its times are never asserted."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from kdcore.models.sizes import bert_config
from kdcore.models.weights import build_classifier
from kdcore.probes import latency
from kdcore.probes.latency import hardware_name, measure
from kdcore.records import ModelSize


@pytest.fixture
def models():
    return {
        name: build_classifier(bert_config(ModelSize(layers, 16, 2, 24, 30, 16, 2), 2, None), {}, 0)[0]
        for name, layers in (("teacher", 2), ("student", 1))
    }


def test_one_record_per_model_and_batch_size_with_its_circumstances(models):
    found = measure(models, batch_sizes=(1, 4), tokens=8, repeats=6, warmup=1)
    assert [(r.name, r.batch) for r in found] == [("teacher", 1), ("teacher", 4), ("student", 1), ("student", 4)]
    for record in found:
        assert 0 < record.p10_ms <= record.median_ms <= record.p90_ms
        assert record.per_second == pytest.approx(1000 * record.batch / record.median_ms)
        assert (record.tokens, record.repeats, record.precision) == (8, 6, "fp32")
        assert record.threads == torch.get_num_threads() and record.hardware == hardware_name()
    assert json.loads(json.dumps(found[0].data()))["name"] == "teacher"


def test_models_take_turns_and_run_as_they_would_be_used(models, monkeypatch):
    order = []

    def noting(model, inputs, precision):
        order.append((next(name for name, m in models.items() if m is model), len(inputs["input_ids"])))
        assert torch.is_inference_mode_enabled() and not any(module.training for module in model.modules())
        assert inputs["attention_mask"].all() and inputs["input_ids"].shape[1] == 8
        return 1.0

    monkeypatch.setattr(latency, "_time", noting)
    models["student"].train()
    before = torch.get_rng_state()
    measure(models, batch_sizes=(1, 2), tokens=8, repeats=5, warmup=2)
    assert torch.equal(before, torch.get_rng_state())
    assert models["student"].training and not models["teacher"].training
    rounds = [order[start : start + 4] for start in range(0, len(order), 4)]
    assert len(rounds) == 7 and all(len(set(turn)) == 4 for turn in rounds)
    assert len({turn[0] for turn in rounds}) == 4  # another one goes first each time


def test_median_and_spread_by_hand(models, monkeypatch):
    times = iter([9.0] * 2 + [0.001, 0.002, 0.003, 0.004, 0.011, 0.012, 0.013, 0.014, 0.015, 0.100, 0.200])
    monkeypatch.setattr(latency, "_time", lambda *_: next(times))
    (record,) = measure({"m": models["student"]}, batch_sizes=(32,), tokens=4, repeats=11, warmup=2)
    assert (record.median_ms, record.p10_ms, record.p90_ms) == pytest.approx((12.0, 2.0, 100.0))


def test_a_time_limit_leaves_a_few_rounds(models):
    found = measure(models, batch_sizes=(1,), tokens=4, repeats=1000, warmup=0, seconds=0.0)
    assert {record.repeats for record in found} == {5}


@pytest.mark.parametrize(("foreign", "busy"), [(0.0, False), (0.1, False), (1.2, True)])
def test_foreign_work_is_flagged_where_it_takes_cores_that_were_needed(models, monkeypatch, foreign, busy):
    monkeypatch.setattr(latency, "foreign_cores", lambda: foreign)
    monkeypatch.setattr(latency.os, "cpu_count", lambda: torch.get_num_threads())
    found = measure(models, batch_sizes=(1,), tokens=4, repeats=1, warmup=0)
    assert [record.busy for record in found] == [busy, busy]
    monkeypatch.setattr(latency.os, "cpu_count", lambda: torch.get_num_threads() + 2)
    assert not measure(models, batch_sizes=(1,), tokens=4, repeats=1, warmup=0)[0].busy


def test_bf16_is_said_and_done(models, monkeypatch):
    seen = []
    models["student"].classifier.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    found = measure(models, batch_sizes=(1,), tokens=4, repeats=1, warmup=0, precision="bf16")
    assert found[1].precision == "bf16" and set(seen) == {torch.bfloat16}


def test_misuse(models):
    for wrong in ({"repeats": 0}, {"tokens": 0}, {"batch_sizes": (0,)}):
        with pytest.raises(ValueError, match="at least 1"):
            measure(models, **wrong)
    with pytest.raises(ValueError, match="more than the 16 teacher can read"):
        measure(models, tokens=17)
    with pytest.raises(ValueError, match="need a model"):
        measure({})


@pytest.mark.parametrize(("answers", "busy"), [([False, False], False), ([True, False], True), ([False, True], True)])
def test_a_training_beside_it_marks_the_timing_whatever_the_load(models, monkeypatch, answers, busy):
    monkeypatch.setattr(latency, "foreign_cores", lambda: 0.0)
    asked = iter(answers)
    found = measure(models, batch_sizes=(1,), tokens=4, repeats=1, warmup=0, beside=lambda: next(asked, False))
    assert {record.busy for record in found} == {busy}


def test_each_model_may_have_a_precision_of_its_own(models):
    precisions = {"teacher": "bf16", "student": "int8"}
    found = measure(models, batch_sizes=(1,), tokens=4, repeats=1, warmup=0, precision=precisions)
    assert {record.name: record.precision for record in found} == precisions


def test_each_model_is_timed_on_its_own_tokens_of_one_row(models, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        latency, "_time", lambda model, inputs, _: seen.setdefault(id(model), inputs["input_ids"].shape[1])
    )
    found = measure(models, batch_sizes=(1,), tokens={"teacher": 12, "student": 7}, words=5, repeats=1, warmup=0)
    assert {record.name: (record.tokens, record.words) for record in found} == {"teacher": (12, 5), "student": (7, 5)}
    assert {name: seen[id(model)] for name, model in models.items()} == {"teacher": 12, "student": 7}
    with pytest.raises(ValueError, match="17 tokens are more than the 16 student can read"):
        measure(models, tokens={"teacher": 12, "student": 17})


def test_new_records_replace_those_of_the_same_model_and_condition(models):
    new = measure({"student": models["student"]}, batch_sizes=(1,), tokens=4, repeats=1, warmup=0)
    same, other = new[0].data() | {"median_ms": -1.0}, new[0].data() | {"hardware": "another"}
    teacher = new[0].data() | {"name": "large"}
    assert latency.merge([same, other, teacher], new) == [new[0].data(), other, teacher]
    assert latency.merge([], new) == [new[0].data()]


def test_a_model_whose_words_have_no_plain_table_is_timed_too(models):
    models["student"].set_input_embeddings(nn.Sequential(nn.Embedding(30, 2), nn.Linear(2, 16)))
    found = measure(models, batch_sizes=(1,), tokens=8, repeats=2, warmup=1)
    assert [record.name for record in found] == ["teacher", "student"]
