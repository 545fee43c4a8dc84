"""Saliency loyalty at the end of a run: of the kept student, priced before, off unless it is asked for."""

from __future__ import annotations

import json

import pytest

from kdcore.config import ProbeConfig
from kdcore.data.encode import encode, pad
from kdcore.engine import preflight, results
from kdcore.engine.estimate import predict
from kdcore.engine.plan import Plan
from kdcore.probes import saliency
from tests.helpers.tiny_task import run

ASKED = ProbeConfig(fidelity=False, latency=False, distances=False, saliency=True)


def test_it_is_that_of_the_kept_student_to_each_teacher(trained, one_teacher):
    setting = run("kd", one_teacher, probes=ASKED)
    done = trained(setting)
    found = json.loads((done.folder / "probes" / "saliency.json").read_text())
    plan = Plan(setting)
    split = plan.data.splits["validation"]
    encoded = encode(split, plan.tokenizer, setting.train.max_length)
    rows = [pad(encoded, part) for part in saliency.sample(encoded.lengths)]
    student, tokenizer = results.student(done.folder)
    teacher, _ = results.teachers(done.folder)["t0"]
    expected = saliency.loyalty(teacher, student, rows, saliency.special_ids(tokenizer))
    assert found["split"] == "validation" and set(found["teachers"]) == {"t0"}
    assert found["teachers"]["t0"] == pytest.approx(expected, rel=1e-4)
    assert found["teachers"]["t0"]["rows"] == sum(encoded.lengths >= saliency.LEAST_WORDS + 2)  # [CLS], [SEP]


def test_its_price_is_said_where_it_is_asked_for(one_teacher):
    plain, asked = (Plan(run("kd", one_teacher, probes=probes)) for probes in (ProbeConfig(), ASKED))
    assert predict(plain).saliency_seconds == 0.0
    more = predict(asked)
    assert 0 < more.saliency_seconds < more.seconds
    lines = {line.field: line.text for line in preflight.check(asked).lines}
    assert "saliency loyalty adds about" in lines["probes.saliency"]
    assert "probes.saliency" not in {line.field for line in preflight.check(plain).lines}
