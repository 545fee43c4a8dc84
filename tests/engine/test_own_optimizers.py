"""A policy that learns by a rule of its own, from rewards on `select`, beside the stage's optimiser."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from kdcore.engine import loop
from kdcore.events import Evaluated, StepDone
from kdcore.losses.soft_targets import hard_labels
from kdcore.methods import METHODS
from kdcore.methods.kd import KD
from kdcore.records import Stage, Step, Term
from tests.helpers.tiny_task import StopAt, run, same


class Policy(KD):
    """KD whose soft term is taken or not by a coin, which becomes likelier where the loss on `select` fell.

    Score gradients of an episode of 3 steps are one sum in a buffer; at its end the reward is how far the loss fell.
    """

    rate: ClassVar[float] = 0.5
    rule: ClassVar[type[Optimizer]] = Adam
    rewards: ClassVar[list[float]] = []
    seen: ClassVar[list[tuple[int, dict[str, float]]]] = []

    def __init__(self, *settings):
        super().__init__(*settings)
        self.score = nn.Parameter(torch.zeros(()))
        self.register_buffer("gradient", torch.zeros(()))
        self.register_buffer("before", torch.tensor(torch.nan))

    def own_optimizers(self) -> dict[str, Optimizer]:
        return {"policy": self.rule([self.score], lr=self.rate)}

    def stages(self) -> list[Stage]:
        (whole,) = super().stages()
        return [replace(whole, name=name, share=0.5, terms=self.coin) for name in ("first", "second")]

    def coin(self, step: Step) -> dict[str, Term]:
        terms = self.terms(step)
        chance = self.score.detach().sigmoid()
        heads = bool(torch.rand((), generator=step.rng) < chance)
        if torch.is_grad_enabled():
            self.gradient += float(heads) - chance
        return {**terms, "soft": Term(terms["soft"].value, float(heads))}

    def after_step(self, step: Step) -> None:
        if step.step % 3:
            return
        said = dict(step.probe())
        self.seen.append((step.step, said))
        if not self.before.isnan():
            self.rewards.append(self.before.item() - said["loss"])
            self.score.grad = -self.rewards[-1] * self.gradient
            self.optimizers["policy"].step()
            self.optimizers["policy"].zero_grad()
        self.gradient.zero_()
        self.before.fill_(said["loss"])

    def notes(self) -> dict[str, float]:
        return {"score": float(self.score.detach())}


@pytest.fixture
def policy(monkeypatch):
    monkeypatch.setitem(METHODS, "kd", Policy)
    monkeypatch.setattr(Policy, "rewards", [])
    monkeypatch.setattr(Policy, "seen", [])
    return Policy


def notes(done) -> dict[int, float]:
    return {step.step: step.notes["score"] for step in done.of(StepDone)}


def test_it_learns_by_its_own_rule_alone(policy, trained, one_teacher, monkeypatch):
    """Adam's first step is the rate, whatever the gradient; between episodes, and at a weight decay, nothing moves."""
    told = notes(trained(run("kd", one_teacher, weight_decay=0.5)))
    assert len(policy.rewards) == 3 and all(reward != 0 for reward in policy.rewards)
    assert told[1] == told[5] == 0.0 and abs(told[6]) == pytest.approx(0.5, rel=1e-4)
    assert told[6] == told[8] != told[9] == told[11] != told[12]
    monkeypatch.setattr(policy, "rate", 0.0)
    assert set(notes(trained(run("kd", one_teacher, weight_decay=0.5))).values()) == {0.0}


def test_its_gradient_takes_no_part_in_clipping(policy, trained, one_teacher, monkeypatch):
    class Steep(Policy):
        """Its terms give the policy a gradient of a million, which its own rule throws away."""

        def coin(self, step: Step) -> dict[str, Term]:
            return {**super().coin(step), "steep": Term(1e6 * self.score)}

        def after_step(self, step: Step) -> None:
            assert self.score.grad is not None
            self.optimizers["policy"].zero_grad()
            super().after_step(step)

    plain = trained(run("kd", one_teacher, clip=0.1))
    monkeypatch.setitem(METHODS, "kd", Steep)
    assert same(trained(run("kd", one_teacher, clip=0.1)).weights(), plain.weights())


@pytest.mark.parametrize("rule", [Adam, SGD])
@pytest.mark.parametrize("halt", [1, 5, 6, 7, 10, 12])
def test_stopped_within_an_episode_or_between_stages_it_goes_on_alike(
    policy, trained, one_teacher, monkeypatch, rule, halt
):
    monkeypatch.setattr(policy, "rule", rule)
    setting = run("kd", one_teacher)
    whole = trained(setting)
    on = trained(setting, trained(setting, control=StopAt(halt)).folder)
    assert same(on.weights(), whole.weights())
    assert notes(on) == {step: score for step, score in notes(whole).items() if step > halt}


def test_a_probe_is_what_an_evaluation_says_and_changes_nothing(policy, trained, one_teacher, monkeypatch):
    """At the same moment, of the same rows; and a run without probes ends with the same weights."""
    done = trained(run("kd", one_teacher, evaluate_every=3))
    scores = [
        event.scores for event in done.of(Evaluated) if event.split == "select" and event.stage in ("first", "second")
    ]
    assert [{name: value for name, value in said.items() if name != "loss"} for _, said in policy.seen] == scores
    monkeypatch.setattr(policy, "rate", 0.0)
    silent = trained(run("kd", one_teacher))
    monkeypatch.setattr(policy, "after_step", lambda self, step: None)
    assert same(trained(run("kd", one_teacher)).weights(), silent.weights())


def test_the_loss_of_a_probe_is_that_of_the_gold_labels(policy, trained, one_teacher, monkeypatch):
    expected = []
    decide = loop._decide

    def watched(job, stage, score):
        from kdcore.data.encode import collate

        rows = job.splits["select"]
        batch = collate(rows, range(len(rows)), 2)
        with torch.no_grad():
            logits = job.main.eval()(batch.encoding.input_ids, batch.encoding.attention_mask).logits
        expected.append(hard_labels(logits, batch.labels, False).item())
        decide(job, stage, score)

    monkeypatch.setattr(loop, "_decide", watched)
    trained(run("kd", one_teacher, evaluate_every=3))
    assert [said["loss"] for _, said in policy.seen] == pytest.approx(expected, rel=1e-5)
