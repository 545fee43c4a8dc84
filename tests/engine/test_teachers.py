"""Teachers made ready: found, or trained here once, in whichever process gets to it first."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path

import pytest
import torch

from kdcore import paths
from kdcore.config import FineTune, StudentSpec, TeacherSpec
from kdcore.data.pocket import ladder
from kdcore.data.pocket.ladder import Rung
from kdcore.engine import loop, teachers
from kdcore.engine.device import Compute
from kdcore.engine.teacher_source import load_base, needs_training, teacher_folder
from kdcore.engine.teachers import prepare_teacher
from kdcore.errors import CorruptError, UserError
from kdcore.events import Evaluated, Progress, RunFinished, RunStarted, RunStopped, StepDone
from kdcore.models.students import load_classifier, save_student
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from tests.helpers import kill_process
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run, same, weights

CPU = Compute(torch.device("cpu"), "fp32")
QUICK = FineTune(epochs=2, lr=5e-3, batch_size=16)
TINY = Rung(1, 16, 2, 32, epochs=2, lr=5e-3, batch_size=16)


@pytest.fixture(autouse=True)
def short_ladder(monkeypatch):
    monkeypatch.setitem(ladder.LADDER, "small", TINY)


@pytest.fixture(scope="session")
def base_folder(shelf: Path) -> Path:
    """A pretrained base: three layers and no classifier, as `BertModel.save_pretrained` writes them."""
    home = shelf / "base"
    if not home.exists():
        world.model(layers=3, seed=3).bert.save_pretrained(home)
        world.tokenizer().save_pretrained(home)
    return home


@pytest.fixture
def base(base_folder: Path) -> TeacherSpec:
    return TeacherSpec(name="tuned", source="folder", where=str(base_folder), fine_tune=QUICK)


POCKET = TeacherSpec(name="small", source="pocket", where="small")


def prepare(spec: TeacherSpec, key: str = world.SENTIMENT, control=None, **train):
    """What `prepare_teacher` says, and the teacher."""
    said, generator = [], prepare_teacher(spec, world.data_of(key), run("kd", [spec], **train).train, CPU, control)
    while True:
        try:
            said.append(next(generator))
        except StopIteration as ended:
            return ended.value, said


def test_a_finished_teacher_is_taken_as_it_is(one_teacher):
    (spec,) = one_teacher
    teacher, said = prepare(spec)
    assert not said and teacher.folder == Path(spec.where) and not needs_training(spec)
    assert same(teacher.load().state_dict(), load_classifier(Path(spec.where)).state_dict())
    assert not teacher.load().training and not any(p.requires_grad for p in teacher.load().parameters())


@pytest.mark.parametrize("kind", ["base", "pocket"])
def test_trained_here_once_and_found_the_second_time(base, kind):
    spec = base if kind == "base" else POCKET
    first, said = prepare(spec)
    steps = [event for event in said if isinstance(event, Progress)]
    assert steps and steps[-1].done == steps[-1].total == 12 and spec.name in steps[-1].what
    again, silence = prepare(spec)
    assert not silence and again == first
    facts = json.loads((first.folder / "teacher.json").read_text())
    assert facts["rows"] == 90 and 0 <= facts["select"] <= 1 and facts["task"] == world.SENTIMENT
    assert first.folder.parent == paths.cache_subdir("teachers")
    assert not list(paths.cache_subdir("teachers").glob("*.work")), "the workshop is swept"


def test_the_teacher_that_is_kept_is_the_best_by_select(base, monkeypatch):
    told = iter([0.9, 0.2])
    saved = []
    real, save = loop.scores, loop.save_student
    monkeypatch.setattr(loop, "scores", lambda *a: {"accuracy": next(told)} if len(a[2]) == 10 else real(*a))
    monkeypatch.setattr(
        loop, "save_student", lambda *a: saved.append(a[0].state_dict()["classifier.bias"].clone()) or save(*a)
    )
    teacher, _ = prepare(base)
    assert json.loads((teacher.folder / "teacher.json").read_text())["select"] == 0.9
    assert len(saved) == 1 and torch.equal(weights(teacher.folder)["classifier.bias"], saved[0])


def test_whatever_decides_its_weights_decides_its_folder(base):
    data, train = world.data_of(), run("kd", [base]).train
    folder = teacher_folder(base, data, train)
    others = [
        teacher_folder(base.model_copy(update={"fine_tune": QUICK.model_copy(update={"seed": 1})}), data, train),
        teacher_folder(base.model_copy(update={"layers": 2}), data, train),
        teacher_folder(base, world.data_of(world.PARAPHRASE), train),
        teacher_folder(base, data, train.model_copy(update={"max_train_rows": 40})),
        teacher_folder(base, data, train.model_copy(update={"max_length": 16})),
        teacher_folder(POCKET, data, train),
    ]
    assert len({folder, *others}) == len(others) + 1
    same_teacher = train.model_copy(update={"seed": 9, "lr": 0.5, "epochs": 7, "batch_size": 4, "dropout": 0.5})
    assert teacher_folder(base, data, same_teacher) == folder, "the student's settings are not the teacher's"


def test_the_first_layers_of_a_base(base):
    teacher, _ = prepare(base.model_copy(update={"layers": 2}))
    assert teacher.size.layers == 2 and teacher.load().config.num_hidden_layers == 2


def test_an_ensemble_of_three_depths_of_one_base_is_distilled(trained, base):
    depths = [base.model_copy(update={"name": f"first-{n}", "layers": n}) for n in (1, 2, 3)]
    done = trained(run("skd", depths, student=StudentSpec(layers=1, init="base")))
    facts = done.of(RunStarted)[0].facts["teachers"]
    assert [facts[f"first-{n}"]["shape"]["layers"] for n in (1, 2, 3)] == [1, 2, 3]
    assert len(set(done.of(StepDone)[-1].notes) & {"draws/first-1", "draws/first-2", "draws/first-3"}) == 3
    assert {e.which for e in done.of(Evaluated) if e.stage == "teachers"} == {f"teacher:first-{n}" for n in (1, 2, 3)}


def test_init_base_reads_the_base_and_not_the_teacher(trained, base, monkeypatch):
    seen = []
    prepare(base)
    monkeypatch.setattr(loop, "train_step", watch_first(seen, loop.train_step))
    trained(run("kd", [base], student=StudentSpec(layers=2, init="base", init_layers="last"), max_steps=1))
    name = "encoder.layer.{}.output.dense.weight"
    assert torch.equal(seen[0]["bert." + name.format(0)], weights(Path(base.where))[name.format(1)])
    assert torch.equal(seen[0]["bert." + name.format(1)], weights(Path(base.where))[name.format(2)])


def watch_first(seen: list, step):
    def watched(job, *rest):
        if not seen:
            seen.append({name: tensor.clone() for name, tensor in job.main.state_dict().items()})
        return step(job, *rest)

    return watched


def test_a_run_s_student_teaches_the_next_run(trained, one_teacher):
    first = trained(run("kd", one_teacher, epochs=1), paths.run_dir("kd-small-0a1b2c"))
    spec = TeacherSpec(name="assistant", source="run", where="kd-small-0a1b2c")
    done = trained(run("kd", [spec], student=StudentSpec(layers=1, init="teacher"), epochs=1))
    said = done.of(RunStarted)[0].facts["teachers"]["assistant"]["scores"]
    assert said == first.of(RunFinished)[0].summary["scores"]["best"]


def test_a_killed_teacher_training_goes_on_where_it_was(base):
    settings = run("kd", [base], max_steps=1).model_dump_json()
    assert kill_process.in_a_process(train_teacher_and_die, settings, 2) == -9
    work = next(paths.cache_subdir("teachers").glob("*.work"))
    assert (work / "checkpoint").is_dir() and not (work.with_suffix("") / "teacher.json").exists()
    teacher, said = prepare(base)
    done = [event.done for event in said if isinstance(event, Progress)]
    assert done[0] > 6, "it went on after the first epoch's checkpoint"
    shutil.move(teacher.folder, teacher.folder.with_name("killed"))
    whole, _ = prepare(base)
    assert whole.identity == teacher.identity


def train_teacher_and_die(settings: str, saves: int) -> None:
    """Dies while the so-many-th checkpoint of the teacher is written (a checkpoint a step)."""
    run_ = world.RunConfig.model_validate_json(settings)
    config = teachers.TrainConfig
    teachers.TrainConfig = lambda **fields: config(**fields, checkpoint_every=7)
    kill_process.checkpoint_die(saves)
    for _ in prepare_teacher(run_.teachers[0], world.data_of(), run_.train, CPU):
        pass


def test_two_processes_train_one_teacher_once(base, tmp_path):
    settings = run("kd", [base], max_steps=1).model_dump_json()
    children = [kill_process.start(prepare_and_count, settings, tmp_path / f"steps-{i}") for i in range(2)]
    for child in children:
        child.join(300)
    assert [child.exitcode for child in children] == [0, 0]
    steps = sorted(int((tmp_path / f"steps-{i}").read_text()) for i in range(2))
    assert steps == [0, 12], "one trained, the other waited for it"


def prepare_and_count(settings: str, report: Path) -> None:
    run_ = world.RunConfig.model_validate_json(settings)
    real, steps = loop.train_step, [0]

    def slow(*args):
        steps[0] += 1
        time.sleep(0.1)
        return real(*args)

    loop.train_step = slow
    for _ in prepare_teacher(run_.teachers[0], world.data_of(), run_.train, CPU):
        pass
    report.write_text(str(steps[0]))


class Stop:
    def __init__(self, after: int, how: str = "keep") -> None:
        self.left, self.how = after, how

    def stop_requested(self):
        self.left -= 1
        return self.how if self.left < 0 else None


def test_a_stop_while_a_teacher_trains_is_heard_and_nothing_is_lost(trained, base, tmp_path):
    setting = run("kd", [base], max_steps=2)
    done = trained(setting, tmp_path / "stopped", Stop(4))
    assert isinstance(done.events[-1], RunStopped) and not done.events[-1].kept and not done.of(RunStarted)
    _, said = prepare(base)
    assert said[0].done > 4


def test_a_run_that_is_left_while_its_teacher_trains_has_no_ending(trained, base, tmp_path):
    setting = run("kd", [base], max_steps=2)
    left = trained(setting, tmp_path / "left", Stop(4, "leave"))
    assert isinstance(left.events[-1], Progress) and "training teacher" in left.events[-1].what
    _, said = prepare(base)
    assert said[0].done > 4


def test_a_stop_while_another_process_trains_the_teacher_is_heard(base):
    folder = teacher_folder(base, world.data_of(), run("kd", [base]).train)
    with teachers.FileLock(folder.with_name(folder.name + ".lock")):
        teacher, said = prepare(base, control=Stop(1))
    assert teacher is None and "another process" in said[0].what


def test_a_folder_without_its_facts_is_made_anew(base):
    first, _ = prepare(base)
    (first.folder / "teacher.json").unlink()
    again, said = prepare(base)
    assert said and again == first


FACTS = {"a list": "[]", "an object without facts": "{}", "nothing": "null", "a number": "7", "deep": "[" * 20_000}
"""What teacher.json can be after an accident."""


@pytest.mark.parametrize("damage", ["config", "weights", "bit", *FACTS])
def test_a_kept_teacher_that_does_not_read_is_named(base, damage):
    teacher, _ = prepare(base)
    names = {"config": "config.json", "weights": "model.safetensors", "bit": "model.safetensors"}
    file = teacher.folder / names.get(damage, "teacher.json")
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage == "bit" else FACTS.get(damage, "{").encode())
    with pytest.raises(CorruptError, match=teacher.folder.name) as said:
        prepare(base)
    assert said.value.field == f"teachers.{base.name}" and str(teacher.folder) in said.value.remedy


# --- refused with the field's name ----------------------------------------------------------------------------------


def refused(trained, setting) -> UserError:
    with pytest.raises(UserError) as said:
        trained(setting)
    assert said.value.problem and said.value.remedy
    return said.value


def test_another_label_count(trained, shelf):
    three = world.teacher(shelf, "three-labels", labels=3)
    assert refused(trained, run("kd", [three])).field.startswith("teachers")
    score = world.teacher(shelf, "one-score", labels=1)
    assert "1 outputs" in refused(trained, run("kd", [score])).problem


def test_a_finished_teacher_of_other_labels_can_be_fine_tuned_here(trained, shelf):
    """Its classifier is replaced, and its encoder can fill the student."""
    three = world.teacher(shelf, "three-labels", labels=3).model_copy(update={"fine_tune": QUICK})
    done = trained(run("kd", [three], student=StudentSpec(layers=1, init="base"), max_steps=1))
    assert done.of(RunStarted)[0].facts["teachers"]["three-labels"]["shape"]["labels"] == 2


def test_another_vocabulary(trained, one_teacher, tmp_path):
    other = tokenizer_from_vocabulary([*world.VOCABULARY[:5], *reversed(world.VOCABULARY[5:])])
    save_student(world.model(), other, tmp_path / "other")
    spec = TeacherSpec(name="other", source="folder", where=str(tmp_path / "other"))
    said = refused(trained, run("mt-bert", [*one_teacher, spec]))
    assert said.field == "teachers.other" and "other tokens than the student" in said.problem


@pytest.mark.parametrize(
    ("source", "where"),
    [("folder", "/nowhere/at/all"), ("run", "no-such-run"), ("run", "../../etc"), ("package", "pip"),
     ("hub", "nobody/no-such-model"), ("pocket", "gigantic")],
)  # fmt: skip
def test_a_teacher_that_is_not_there(trained, source, where):
    said = refused(trained, run("kd", [TeacherSpec(name="lost", source=source, where=where)]))
    assert said.field in ("teachers.lost.where", "run")


def test_a_pocket_teacher_of_a_real_task(trained, monkeypatch):
    data = dataclasses.replace(world.data_of(), vocabulary=None)
    monkeypatch.setattr("kdcore.engine.plan.load", lambda *a: data)
    assert refused(trained, run("kd", [POCKET])).field == "teachers.small.source"


def test_layers_of_a_finished_teacher(trained, one_teacher):
    cut = one_teacher[0].model_copy(update={"layers": 1})
    assert refused(trained, run("kd", [cut])).field == "teachers.t0.layers"


def test_more_layers_than_the_base_has(trained, base):
    deep = base.model_copy(update={"layers": 9})
    assert refused(trained, run("kd", [deep])).field == "teachers.tuned.layers"


def test_rows_longer_than_a_teacher_reads(trained, one_teacher):
    assert refused(trained, run("kd", one_teacher, max_length=128)).field == "train.max_length"


def test_a_base_where_there_is_none(trained, one_teacher):
    for specs in (one_teacher, (POCKET,), ()):
        method = "kd" if specs else "fine-tune"
        said = refused(trained, run(method, specs, student=StudentSpec(layers=1, init="base")))
        assert said.field in ("student.init", "student")
    with pytest.raises(UserError, match="no pretrained base"):
        load_base(POCKET, world.data_of())
