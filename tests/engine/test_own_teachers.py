"""A model that one stage trains teaches in the next as other teachers do: from the cache, and alike after a stop."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from kdcore.engine import estimate, loop, preflight
from kdcore.engine.plan import Plan
from kdcore.errors import CorruptError
from kdcore.events import RunFinished, StepDone
from kdcore.losses.soft_targets import hard_labels, teacher_signal
from kdcore.methods import METHODS
from kdcore.methods.base import Build
from kdcore.methods.introspect import sizes, stages_of
from kdcore.methods.kd import KD
from kdcore.records import Needs, Stage, Step, Term, want
from tests.helpers.tiny_task import StopAt, run, same

HELPER = "assistant"


class Assistant(KD):
    """The teacher trains an assistant of three layers in a pilot stage, the assistant the student."""

    ends: ClassVar[Literal["last", "best"]] = "last"
    layer: ClassVar[int] = 3
    seen: ClassVar[list[Step]] = []

    @classmethod
    def pilots(cls, config, teachers) -> float:
        return 1.0

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        return {"student": build(), HELPER: build(layers=3)}

    def stages(self) -> list[Stage]:
        needs = Needs(want("logits"), want("logits"), by={HELPER: want("logits", cls=(self.layer,))})
        first = Stage(
            "first", replace(needs, by={}), self.lesson, lr={HELPER: 1.0}, students=(HELPER,), pilot=True,
            ends=self.ends, adopt=(HELPER,),
        )  # fmt: skip
        return [
            first,
            Stage("second", needs, self.lesson, lr={"student": 1.0}, students=("student",), teachers=(HELPER,)),
        ]

    def pick_teachers(self, step: Step) -> Mapping[str, Tensor | None]:
        return dict.fromkeys([HELPER] if step.stage == "second" else self.setup.teachers)

    def lesson(self, step: Step) -> dict[str, Term]:
        if torch.is_grad_enabled():
            self.seen.append(step)
        (ours,) = step.students.values()
        hard = hard_labels(ours.logits, step.batch.labels, step.regression)
        return {
            "hard": Term(hard),
            "soft": Term(teacher_signal(ours.logits, step.teacher.logits, 2.0, step.regression)),
        }


@pytest.fixture
def assistant(monkeypatch):
    monkeypatch.setitem(METHODS, "kd", Assistant)
    monkeypatch.setattr(Assistant, "seen", [])
    return Assistant


@pytest.fixture
def models(monkeypatch) -> list[nn.Module]:
    """The assistant at each evaluation of its stage, then as the next stage begins."""
    kept: list[nn.Module] = []
    decide, begin = loop._decide, loop._begin

    def deciding(job, stage, score):
        if stage.name == "first":
            kept.append(copy.deepcopy(job.students[HELPER]))
        decide(job, stage, score)

    def beginning(job, stage, index, *rest):
        if index == 1:
            kept.append(copy.deepcopy(job.students[HELPER]))
        return begin(job, stage, index, *rest)

    monkeypatch.setattr(loop, "_decide", deciding)
    monkeypatch.setattr(loop, "_begin", beginning)
    return kept


def said_by(model: nn.Module, step: Step) -> Tensor:
    encoding = step.batch.encoding
    with torch.no_grad():
        return model.eval()(encoding.input_ids, encoding.attention_mask, encoding.token_type_ids).logits


@pytest.mark.parametrize("cache", [True, False], ids=["cached", "live"])
def test_the_next_stage_learns_from_it(assistant, trained, one_teacher, models, cache):
    done = trained(run("kd", one_teacher, teacher_cache=cache))
    second = [step for step in assistant.seen if step.stage == "second"]
    assert len(second) == 12
    for step in second:
        torch.testing.assert_close(step.teacher.logits, said_by(models[-1], step), rtol=1e-4, atol=1e-4)
        assert list(step.teacher.cls) == [3]
    counts = done.of(RunFinished)[0].summary["cache"]
    assert (counts["misses"], counts["live"]) == ((180, 0) if cache else (0, 360))
    assert not (done.folder / "own-teachers").exists()


def test_it_teaches_with_the_weights_that_its_stage_ends_with(assistant, trained, one_teacher, models, monkeypatch):
    falling, real = iter(range(1000, 0, -1)), loop.scores
    monkeypatch.setattr(loop, "scores", lambda *a: {"accuracy": next(falling)} if len(a[2]) == 10 else real(*a))
    monkeypatch.setattr(assistant, "ends", "best")
    trained(run("kd", one_teacher, evaluate_every=4))
    first, *later = models
    step = assistant.seen[-1]
    torch.testing.assert_close(step.teacher.logits, said_by(first, step), rtol=1e-4, atol=1e-4)
    assert (step.teacher.logits - said_by(later[0], step)).abs().max() > 1e-3


@pytest.mark.parametrize("halt", [1, 7, 12, 13, 18, 24])
def test_stopped_anywhere_it_ends_the_same(assistant, trained, one_teacher, halt):
    setting = run("kd", one_teacher)
    whole = trained(setting)
    half = trained(setting, control=StopAt(halt))
    assert (half.folder / "own-teachers" / HELPER).is_dir() is (halt > 12)
    on = trained(setting, half.folder)
    assert same(on.weights(), whole.weights())
    told = [{step.step: step.raw for step in done.of(StepDone) if step.step > halt} for done in (on, whole)]
    assert told[0] == told[1]


@pytest.mark.parametrize("damage", ["other weights", "none"])
def test_a_resume_without_its_weights_is_refused(assistant, trained, one_teacher, damage):
    setting = run("kd", one_teacher)
    half = trained(setting, control=StopAt(15))
    home = half.folder / "own-teachers" / HELPER
    if damage == "none":
        (home / "config.json").unlink()
    else:
        (home / "model.safetensors").write_bytes((half.folder / "student-last" / "model.safetensors").read_bytes())
    with pytest.raises(CorruptError, match=HELPER) as said:
        trained(setting, half.folder)
    assert "clone" in said.value.remedy


def test_layers_that_it_lacks_and_a_name_that_is_taken_are_said_before_start(assistant, one_teacher, monkeypatch):
    assert not preflight.check(Plan(run("kd", one_teacher))).blocks
    for name in (HELPER, "student"):
        named = one_teacher[0].model_copy(update={"name": name})
        (line,) = preflight.check(Plan(run("kd", [named]))).blocks
        assert line.field == f"teachers.{name}" and "trains a model of this name itself" in line.text
    monkeypatch.setattr(assistant, "layer", 4)
    (line,) = preflight.check(Plan(run("kd", one_teacher))).blocks
    assert line.field == f"teachers.{HELPER}" and "cls has layers 0 to 3, not [4]" in line.text


def test_its_pass_and_its_place_on_disk_are_priced(assistant, one_teacher, monkeypatch):
    plan = Plan(run("kd", one_teacher))
    roles = sizes(plan.method, plan.deployed_size)
    shares = estimate._live_shares(plan.stages, roles, plan.teacher_sizes, True)
    assert set(shares.values()) == {0.0}
    shares = estimate._live_shares(plan.stages, roles, plan.teacher_sizes, False)
    assert shares == {"student": 0.0, HELPER: 1.0, "t0": 1.0}
    kept, plain = estimate.predict(plan), replace(plan.stages[0], adopt=())
    monkeypatch.setattr(plan, "stages", [plain, *plan.stages[1:]])
    assert kept.disk_bytes - estimate.predict(plan).disk_bytes > 4 * 3 * 16 * 16


def test_who_was_made_a_teacher_teaches_in_the_picture(assistant, one_teacher):
    plan = Plan(run("kd", one_teacher))
    first, second = stages_of(assistant, plan.options, plan.setup({"t0": 0.5}))
    assert (first.learner, first.teacher, first.teacher_depth) == (HELPER, "", 2)
    assert (second.learner, second.teacher, second.teacher_depth) == ("student", HELPER, 3)
    assert dict(second.needs.teacher) == {"logits": (), "cls": (3,)}


def test_stages_that_do_not_name_it_do_not_know_it(assistant, trained, one_teacher, monkeypatch):
    known = []
    real = loop.train_step
    monkeypatch.setattr(
        loop, "train_step", lambda job, *rest: (known.append(set(job.ensemble.teachers)), real(job, *rest))[1]
    )
    trained(run("kd", one_teacher))
    assert known == [{"t0"}] * 24
