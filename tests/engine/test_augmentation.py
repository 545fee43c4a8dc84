"""A run that rewrites rows of other domains: its stages, whom it learns from, its rewards, and where it may stop."""

from __future__ import annotations

import pytest
import torch

from kdcore.engine import step as engine_step
from kdcore.engine.estimate import predict
from kdcore.engine.plan import Plan
from kdcore.engine.preflight import check
from kdcore.events import RunStarted, StepDone
from kdcore.methods.l2a import LearningToAugment
from tests.engine.test_resume import told
from tests.helpers import masked_lm_folder
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import StopAt, run, same

OPTIONS = {"augmenter": 0.5, "pilot": 0.5, "episodes": 3, "masked_share": 0.3}


def l2a(teacher, options=None, **changes):
    return run("l2a", teacher, options=OPTIONS | (options or {}), **changes)


def test_the_augmenter_and_the_selector_learn_beside_the_runs_steps(trained, one_teacher, monkeypatch):
    rows = {}
    real = engine_step._observe

    def noted(job, stage, batch, clock):
        if torch.is_grad_enabled():
            rows.setdefault(stage.name, set()).update(zip(batch.ids.tolist(), batch.source.tolist(), strict=True))
        return real(job, stage, batch, clock)

    monkeypatch.setattr(engine_step, "_observe", noted)
    setting = l2a(one_teacher)
    done = trained(setting)
    facts = done.of(RunStarted)[0].facts
    assert (facts["student_steps"], facts["steps"]) == (12, 24)
    terms = {event.stage: set(event.raw) for event in done.of(StepDone)}
    assert terms == {
        "augmenter": {"words", "domain"}, "episodes": {"soft", "augmented"}, "distil": {"soft", "augmented"}
    }  # fmt: skip
    assert all(event.raw["words"] > 0 for event in done.of(StepDone) if event.stage == "augmenter")
    assert all(row >= 0 for row, _ in rows["augmenter"])
    target = Plan(setting).method.target
    for stage in ("episodes", "distil"):
        altered = {(row, source) for row, source in rows[stage] if row < 0}
        assert altered and all(source != target for _, source in altered)
    learned = {row if row >= 0 else -1 - row for seen in rows.values() for row, _ in seen}
    assert not learned & set(Plan(setting).select_rows.ids.tolist()), "the reward's rows are not learned from"
    last = done.of(StepDone)[-1].notes
    assert set(last) == {
        "rewritten rows used/share", "target domain/loss on held-out rows", "target domain/score on held-out rows",
        "reward/last episode", "reward/mean",
    }  # fmt: skip
    assert done.weights()["classifier.weight"].shape == (2, 16)


@pytest.mark.parametrize(
    "options", [{}, {"selection": "all", "rounds": 1}, {"masked_lm": True}], ids=["learned", "all", "masked-lm"]
)
def test_stopped_in_the_first_a_middle_and_the_last_step_of_each_stage_nothing_differs(
    trained, one_teacher, tmp_path, options
):
    """Three episodes of three steps each: a stop in the fifth of these is inside one."""
    chosen = dict(options)
    if chosen.get("masked_lm"):
        chosen["masked_lm"] = masked_lm_folder.write(tmp_path / "lm", world.VOCABULARY)
    setting = l2a(one_teacher, {"pilot": 0.75, **chosen}, evaluate_every=4, accumulate=1 + bool(options))
    whole = trained(setting)
    stages: dict[str, list[int]] = {}
    for event in whole.of(StepDone):
        stages.setdefault(event.stage, []).append(event.step)
    halts = sorted({step for steps in stages.values() for step in (steps[0], steps[len(steps) // 2], steps[-1])})
    assert len(halts) == 3 * len(stages)
    parts = [trained(setting, tmp_path / "halted", control=StopAt(halt)) for halt in halts]
    last = trained(setting, tmp_path / "halted")
    for which in ("last", "best"):
        assert same(last.weights(which), whole.weights(which)), which
    assert [said for part in (*parts, last) for said in told(part)] == told(whole)


def test_a_selector_that_takes_nothing_leaves_the_run_on_the_targets_rows(trained, one_teacher):
    """Answers of altered batches are computed at the moment, the others are kept: equal up to rounding."""
    nothing = trained(l2a(one_teacher, {"threshold": 1.0}))
    plain = trained(l2a(one_teacher, {"selection": "none"}))
    assert all(event.raw["augmented"] == 0 for event in nothing.of(StepDone) if event.stage == "distil")
    for name, weight in plain.weights().items():
        torch.testing.assert_close(nothing.weights()[name], weight, rtol=1e-3, atol=1e-4)


def test_a_probe_of_a_domain_is_of_its_rows_of_select(trained, one_teacher, monkeypatch):
    seen = []

    def after(self, step):
        seen.append([step.probe(source)["loss"] for source in (0, 1, None)])

    monkeypatch.setattr(LearningToAugment, "after_step", after)
    setting = l2a(one_teacher, {"selection": "none"}, max_steps=2)
    trained(setting)
    plan = Plan(setting)
    held = [rows for _, rows in plan.setup({}).domain_rows]
    assert sum(held) == len(plan.select_rows) and all(held)
    for one, other, whole in seen:
        assert one != other
        assert (held[0] * one + held[1] * other) / sum(held) == pytest.approx(whole, rel=1e-5)


# --- before the start -------------------------------------------------------------------------------------------------


def refused(setting) -> dict[str, str]:
    return {line.field: line.text for line in check(Plan(setting)).blocks}


def test_what_cannot_be_is_refused_before_the_start(one_teacher, tmp_path):
    assert refused(l2a(one_teacher)) == {}
    assert "options.target" in refused(l2a(one_teacher, {"target": "mail"}))
    small = masked_lm_folder.write(tmp_path / "lm", world.VOCABULARY, num_hidden_layers=1)
    assert "its layers is 1, not 2" in refused(l2a(one_teacher, {"masked_lm": small}))["options.masked_lm"]


def test_the_price_counts_augmenter_and_pilot(one_teacher):
    short, long = (predict(Plan(l2a(one_teacher, {"augmenter": share, "pilot": share}))) for share in (0.5, 5.0))
    assert (short.steps, long.steps) == (24, 132) and long.seconds > short.seconds
