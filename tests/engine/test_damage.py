"""Runs on damaged training data: who sees which rows, for how many steps, and that whole data are the plain run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kdcore.config import DataConfig, FineTune, TeacherSpec
from kdcore.engine import loop
from kdcore.engine.plan import Plan
from kdcore.engine.preflight import check
from kdcore.engine.teacher_source import teacher_folder
from kdcore.engine.teachers import prepare_teacher
from kdcore.events import RunStarted, StepDone
from kdcore.methods import METHODS, resolve
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import SENTIMENT, SIMILARITY, StopAt, run, same

FEW = DataConfig(label_fraction=0.3)
LEFT_OUT = DataConfig(label_fraction=0.3, unlabelled="leave out")
ROWS, LABELLED = 90, 27
"""Training rows of the small world, and how many of them keep their label."""


class Seen:
    """The ids and labels of each training step's rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stages: list[str] = []
        self.ids: list[list[int]] = []
        self.labels: list[torch.Tensor] = []
        train_step = loop.train_step

        def watched(job: Any, stage: Any, optimizer: Any, batch: Any, *rest: Any) -> Any:
            self.stages.append(stage.name)
            self.ids.append(batch.ids.tolist())
            self.labels.append(batch.labels)
            return train_step(job, stage, optimizer, batch, *rest)

        monkeypatch.setattr(loop, "train_step", watched)

    def missing(self, stage: str | None = None) -> int:
        """How often a row without a label was seen."""
        labels = [each for name, each in zip(self.stages, self.labels, strict=True) if stage in (None, name)]
        return int(sum((~(each >= 0)).sum() for each in labels))  # NaN is neither

    def rows(self) -> set[int]:
        return {row for ids in self.ids for row in ids}


@pytest.fixture
def seen(monkeypatch):
    return Seen(monkeypatch)


def facts_of(done: Any) -> dict[str, Any]:
    (facts,) = (event.facts for event in done.of(RunStarted))
    return facts


def test_whole_data_are_the_plain_run_bit_for_bit(trained, one_teacher):
    plain = trained(run("kd", one_teacher))
    settings = DataConfig(label_fraction=1, label_noise=0, imbalance=1, seed=7, noise_kind="confused")
    assert same(trained(run("kd", one_teacher, data=settings)).weights(), plain.weights())
    assert facts_of(plain)["partial"] is None and "labelled_rows" not in facts_of(plain)


@pytest.mark.parametrize("task", [SENTIMENT, SIMILARITY])
def test_training_alone_sees_labelled_rows_only_in_as_many_steps(trained, seen, task):
    done = trained(run("fine-tune", task=task, data=FEW, base=None))
    assert seen.missing() == 0 and len(seen.rows()) == LABELLED and len(seen.ids) == 12
    facts = facts_of(done)
    assert (facts["rows"], facts["labelled_rows"], facts["student_steps"]) == (LABELLED, LABELLED, 12)
    assert [event.epoch for event in done.of(StepDone)][-1] == 2, "an epoch is as long as with all labels"


@pytest.mark.parametrize("task", [SENTIMENT, SIMILARITY])
def test_distillation_sees_every_row(trained, seen, shelf, task):
    labels = 1 if task == SIMILARITY else 2
    teacher = world.teacher(shelf, f"wise-{labels}", labels=labels)
    done = trained(run("kd", [teacher], task=task, data=FEW))
    assert len(seen.rows()) == ROWS and seen.missing() == 2 * (ROWS - LABELLED)
    facts = facts_of(done)
    assert (facts["rows"], facts["labelled_rows"], facts["select_rows"]) == (ROWS, LABELLED, 3)
    assert all(np.isfinite(event.loss) for event in done.of(StepDone))


def test_rows_without_a_label_can_be_left_out(trained, seen, one_teacher):
    done = trained(run("kd", one_teacher, data=LEFT_OUT))
    assert seen.missing() == 0 and len(seen.rows()) == LABELLED and len(seen.ids) == 12, "as many steps"
    assert facts_of(done)["partial"] == "30 % of the labels, teachers on the same, rows without a label left out"
    told = lines(method="kd", teachers=one_teacher, data=LEFT_OUT)
    assert told["data.unlabelled ok"].startswith("63 rows without a label are left out: KD sees 27")


def test_a_stage_of_labels_alone_draws_labelled_rows(trained, seen, one_teacher):
    trained(run("annealing-kd", one_teacher, {"anneal_share": 0.5, "temperatures": 2}, data=FEW))
    assert seen.missing("anneal") > 0 == seen.missing("predict")


@pytest.mark.parametrize("key", sorted(METHODS))
@pytest.mark.parametrize("task", [SENTIMENT, SIMILARITY])
def test_no_method_meets_a_missing_label_that_it_did_not_ask_for(trained, seen, shelf, key, task):
    method, options = resolve(key, {})
    kind = "classification" if task == SENTIMENT else "regression"
    if kind not in method.kinds:
        pytest.skip(f"{method.title} has no meaning for {kind}")
    labels = 2 if task == SENTIMENT else 1
    count = max(1, method.takes(options)[0])
    teachers = [world.teacher(shelf, f"deep-{labels}-{i}", labels=labels, layers=4, seed=20 + i) for i in range(count)]
    form = {"form": "kronecker-8", "init": "teacher", "init_layers": "skip"} if key == "kronecker-bert" else {}
    student = world.STUDENT.model_copy(update=form)
    done = trained(run(key, teachers, task=task, data=FEW, student=student))
    steps = done.of(StepDone)
    assert steps and all(np.isfinite(list(event.raw.values())).all() for event in steps)
    assert (seen.missing() > 0) == method.uses_unlabelled(options)


@pytest.mark.parametrize("method", ["kd", "annealing-kd", "fine-tune"])
def test_a_resume_goes_on_with_the_same_rows(trained, one_teacher, tmp_path, method):
    settings = run(method, one_teacher, data=FEW)
    whole = trained(settings)
    stopped = trained(settings, tmp_path / "again", StopAt(7, "leave"))
    assert len(stopped.of(StepDone)) < 12
    assert same(trained(settings, tmp_path / "again").weights(), whole.weights())


def test_a_batch_in_parts_has_the_loss_of_the_whole(trained, one_teacher):
    whole, parts = (
        trained(run("kd", one_teacher, data=FEW, dropout=0.0, accumulate=accumulate)).of(StepDone)
        for accumulate in (1, 8)
    )
    assert whole[0].raw["hard"] == pytest.approx(parts[0].raw["hard"], rel=1e-5)
    assert whole[3].loss == pytest.approx(parts[3].loss, rel=1e-3)


BASE = FineTune(epochs=2, lr=1e-2, batch_size=16)


def test_a_kept_teacher_is_of_the_rows_it_learned_from(tmp_path, seen):
    spec, data, train = world.teacher(tmp_path, "base"), world.data_of(), run("kd").train
    spec = spec.model_copy(update={"fine_tune": BASE})
    damages = {
        "whole": DataConfig(), "few": FEW, "noise": DataConfig(label_noise=0.2), "rare": DataConfig(imbalance=0.2),
        "other rows": DataConfig(label_fraction=0.3, seed=1),
    }  # fmt: skip
    folders = {name: teacher_folder(spec, data, train, damage) for name, damage in damages.items()}
    assert len(set(folders.values())) == len(damages)
    assert folders["whole"] == teacher_folder(spec, data, train), "a teacher of whole data is found as before"
    clean = FEW.model_copy(update={"teacher_data": "clean"})
    assert teacher_folder(spec, data, train, clean) == folders["whole"]
    assert teacher_folder(spec, data, train, LEFT_OUT) == folders["few"], "a teacher never learns from such rows"


@pytest.mark.parametrize(("teacher_data", "rows"), [("same", LABELLED), ("clean", ROWS)])
def test_a_teacher_learns_from_the_same_rows_or_from_clean_ones(tmp_path, seen, monkeypatch, teacher_data, rows):
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / "cache"))
    spec = TeacherSpec(name="base", source="folder", where=world.teacher(tmp_path, "base").where, fine_tune=BASE)
    config = run("kd", [spec], data=DataConfig(label_fraction=0.3, teacher_data=teacher_data))
    plan = Plan(config)
    for _ in prepare_teacher(spec, plan.data, config.train, plan.compute, rows=config.data):
        pass
    assert len(seen.rows()) == rows and seen.missing() == 0 and len(seen.ids) == 12


def lines(**settings: Any) -> dict[str, str]:
    report = check(Plan(run(**settings)))
    return {f"{line.field} {line.level}": line.text for line in report.lines}


def test_preflight_says_what_is_wrong_and_who_can_use_rows_without_labels(one_teacher):
    told = lines(method="kd", teachers=one_teacher, data=FEW)
    assert told["data.label_fraction ok"] == "KD learns from 27 rows with a label and 63 without"
    assert "30 % of the labels, teachers on the same" in told["data warn"] or "3 labelled rows" in told["data warn"]
    assert "sees 27, in as many steps as others" in lines(method="fine-tune", data=FEW)["data.label_fraction warn"]
    assert "data ok" not in lines(method="fine-tune")
    noise = lines(method="fine-tune", data=DataConfig(label_noise=0.5))
    assert "tell nothing" in noise["data.label_noise warn"]
    assert "data.imbalance block" in lines(method="fine-tune", task=SIMILARITY, data=DataConfig(imbalance=0.5))


def test_a_run_says_its_damage_beside_every_number(trained, one_teacher):
    done = trained(run("kd", one_teacher, data=DataConfig(label_noise=0.2, teacher_data="clean")))
    facts = facts_of(done)
    assert facts["partial"] == "20 % of the labels wrong (uniform), teachers on clean rows"
    assert facts["wrong_labels"] == 18


@pytest.fixture
def own(tmp_path):
    """A table of 60 rows, 54 of them for training and `select`, and 40 texts without a label."""
    words = [("good", "bad")[i % 2] for i in range(100)]
    rows = "".join(f"the film was {word} {'so ' * (i % 5)},{word}\n" for i, word in enumerate(words[:60]))
    (tmp_path / "table.csv").write_text("text,label\n" + rows)
    (tmp_path / "more.csv").write_text("text\n" + "".join(f"one song is {word}\n" for word in words[60:]))
    return {"path": str(tmp_path / "table.csv"), "text": "text", "label": "label"}


def test_texts_without_a_label_are_learned_from_by_those_who_can(trained, seen, one_teacher, own, tmp_path):
    whole = {**own, "unlabelled_path": str(tmp_path / "more.csv")}
    taught = trained(run("kd", one_teacher, task="own", own=whole, max_steps=12))
    facts = facts_of(taught)
    assert (facts["rows"], facts["labelled_rows"], facts["wrong_labels"]) == (49 + 40, 49, 0)
    assert seen.missing() > 0 and all(np.isfinite(event.loss) for event in taught.of(StepDone))
    assert "40 texts without a label" in facts["source"] and facts["partial"] is None
    already = seen.missing()
    alone = trained(run("fine-tune", task="own", own=whole, base=one_teacher[0]))
    assert seen.missing() == already and facts_of(alone)["labelled_rows"] == 49
    assert facts_of(alone)["student_steps"] == 2 * -(-89 // 16), "as many steps as with the other rows"
    assert (
        facts_of(trained(run("kd", one_teacher, task="own", own=own)))["data_fingerprint"] != facts["data_fingerprint"]
    )


def test_a_teacher_does_not_learn_from_texts_without_a_label(tmp_path, own):
    spec = world.teacher(tmp_path, "base").model_copy(update={"fine_tune": BASE})
    plans = [Plan(run("kd", [spec], task="own", own={**own, **more}))
             for more in ({}, {"unlabelled_path": str(tmp_path / "more.csv")})]  # fmt: skip
    assert plans[0].teacher_folder(spec) == plans[1].teacher_folder(spec)
    assert [plan.rows.epoch for plan in plans] == [49, 89]


def test_a_file_of_texts_without_the_column_is_refused(one_teacher, own, tmp_path):
    (tmp_path / "other.csv").write_text("words\nthe film\n")
    told = lines(
        method="kd", teachers=one_teacher, task="own", own={**own, "unlabelled_path": str(tmp_path / "other.csv")}
    )
    assert told == {"own.unlabelled_path block": "other.csv has no column 'text'"}
