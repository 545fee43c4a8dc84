"""Annealing KD in the engine: two optimisers, the best weights between them, and a second part without a teacher."""

from __future__ import annotations

import pytest

from kdcore.engine import loop
from kdcore.events import RunFinished, StepDone
from tests.helpers.tiny_task import run

FIRST, SECOND = 9, 3
"""Steps of the two stages, of 12 in all."""


def falls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each score on `select` is worse than the one before."""
    falling, real = iter(range(1000, 0, -1)), loop.scores
    monkeypatch.setattr(loop, "scores", lambda *a: {"accuracy": next(falling)} if len(a[2]) == 10 else real(*a))


def test_the_second_stage_starts_from_the_best_weights_with_an_optimiser_of_its_own(trained, one_teacher, monkeypatch):
    falls(monkeypatch)
    best, starts = [], []
    decide, begin = loop._decide, loop._begin

    def deciding(job, stage, score):
        best.append({name: tensor.clone() for name, tensor in job.main.state_dict().items()})
        decide(job, stage, score)

    def beginning(job, stage, index, resumed):
        optimizer = begin(job, stage, index, resumed)
        weights = {name: tensor.clone() for name, tensor in job.main.state_dict().items()}
        starts.append((weights, len(optimizer.state)))
        return optimizer

    monkeypatch.setattr(loop, "_decide", deciding)
    monkeypatch.setattr(loop, "_begin", beginning)
    done = trained(run("annealing-kd", one_teacher, evaluate_every=3))
    (_, before), (weights, moments) = starts
    assert before == moments == 0, "neither stage takes moments over"
    table = "bert.embeddings.word_embeddings.weight"  # in part elsewhere while a stage trains
    assert all(weights[name].equal(best[0][name]) for name in weights.keys() & best[0].keys() if name != table)
    dense = "bert.encoder.layer.0.output.dense.weight"
    assert not weights[dense].equal(best[1][dense]) and not weights[dense].equal(best[2][dense])
    rates = {stage: [step.lr for step in done.of(StepDone) if step.stage == stage] for stage in ("anneal", "predict")}
    assert [len(each) for each in rates.values()] == [FIRST, SECOND]
    assert rates["predict"][0] == rates["anneal"][0] > rates["anneal"][-1]


def test_the_result_is_the_best_of_the_second_stage(trained, one_teacher, monkeypatch):
    falls(monkeypatch)
    done = trained(run("annealing-kd", one_teacher, evaluate_every=3))
    assert done.of(RunFinished)[0].summary["best_step"] > FIRST


def test_the_second_stage_runs_no_teacher(trained, one_teacher):
    """Without a cache every answer is counted: those of the first stage, 16 rows a step but for each epoch's last."""
    (finished,) = trained(run("annealing-kd", one_teacher, teacher_cache=False)).of(RunFinished)
    rows = 90
    assert finished.summary["cache"]["live"] == rows + 3 * 16


def test_kept_answers_give_the_losses_of_live_ones(trained, one_teacher):
    kept, live = (trained(run("annealing-kd", one_teacher, teacher_cache=cache)) for cache in (True, False))
    assert kept.of(RunFinished)[0].summary["cache"]["live"] == 0
    for a, b in zip(kept.of(StepDone), live.of(StepDone), strict=True):
        assert a.raw == pytest.approx(b.raw, rel=1e-4)
