"""The papers' own recipes: every file makes a run that its method takes, and says the numbers of its source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from kdcore.cli import app, settings
from kdcore.config import RunConfig, StudentSpec, TeacherSpec
from kdcore.errors import UserError
from kdcore.methods import METHODS, resolve
from kdcore.models.sizes import student_size
from kdcore.records import ModelSize, Setup
from kdcore.runs import recipes
from kdcore.runs.recipes import Preset, find_preset, presets, presets_of, settings_text
from kdcore.tasks import GLUE, TASKS

KEYS = list(presets())
BERT_BASE = ModelSize(12, 768, 12, 3072)
TEACHER = TeacherSpec(name="big", source="folder", where="bert-base")


def run_of(key: str, task: str) -> RunConfig:
    least = METHODS[find_preset(key).method].teachers[0]
    teachers = [TEACHER.model_copy(update={"name": f"big-{at}"}) for at in range(max(1, least))]
    return RunConfig.model_validate({"task": task, "teachers": teachers, **find_preset(key).settings(task)})


def stages_of(run: RunConfig, teacher: ModelSize = BERT_BASE):
    """The method of a run under this teacher, built from sizes."""
    method, options = resolve(run.method, run.options)
    task = GLUE[run.task]
    student = student_size(run.student, teacher, task.outputs)
    names = [spec.name for spec in run.teachers]
    labels = replace(teacher, labels=task.outputs)
    setup = Setup(
        kind=task.kind, labels=task.outputs, student=student, teachers=dict.fromkeys(names, labels),
        scores=dict.fromkeys(names, 0.5), train_rows=1000, task=run.task,
    )  # fmt: skip
    return method(options, setup)


# --- the files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", GLUE)
@pytest.mark.parametrize("key", KEYS)
def test_with_task_and_teacher_every_recipe_is_a_run_that_its_method_takes(key, task):
    run = run_of(key, task)
    assert RunConfig.model_validate_json(run.model_dump_json()) == run
    assert stages_of(run).stages()


@pytest.mark.parametrize("key", KEYS)
def test_every_recipe_says_where_it_comes_from(key):
    one = presets()[key]
    assert one.title and one.source and one.teacher and one.method in METHODS
    assert one.unverified or key.startswith("tinybert"), "of TinyBERT alone paper and code were read whole"
    assert all(line.endswith(".") for line in (*one.departs, *one.unverified))


@pytest.mark.parametrize("key", KEYS)
def test_what_a_task_changes_is_set_on_every_task(key):
    """Else the form would keep one task's value on the next."""
    one = presets()[key]
    for part in one.tasks.values():
        assert part.options.keys() <= one.options.keys()
        assert part.train.keys() <= one.train.keys() and part.student.keys() <= one.student.keys()


def test_every_paper_whose_settings_were_read_has_one():
    without = {
        "fine-tune", "takd", "wkd", "alp-kd", "annealing-kd", "bert-emd", "dynamic-kd", "mix", "gkd", "peers", "rl-kd",
        "mt-bert", "knowledge-selection", "backward-kd", "simkd", "text-smoothing", "mkd",
        "mixed-vocab", "l2a",
    }  # fmt: skip
    assert {one.method for one in presets().values()} == METHODS.keys() - without
    assert list(presets_of("mlkd")) == ["mlkd-4", "mlkd-6"] and not presets_of("fine-tune")
    order = list(METHODS)
    assert [order.index(one.method) for one in presets().values()] == sorted(
        order.index(one.method) for one in presets().values()
    )


# --- their numbers ----------------------------------------------------------------------------------------------------


def converted(alpha: float, classes: int) -> float:
    """An alpha whose soft term is divided by the number of classes, as one whose is not."""
    return alpha / (alpha + classes * (1 - alpha))


@pytest.mark.parametrize(
    ("task", "alpha", "temperature"),
    [("mrpc", 0.5, 20), ("sst2", 0.2, 20), ("rte", 0.7, 20), ("mnli", 0.5, 20), ("qnli", 0.7, 20), ("qqp", 0.7, 20),
     ("cola", 0.7, 5)],
)  # fmt: skip
def test_kd_has_the_published_pairs(task, alpha, temperature):
    run = run_of("kd", task)
    assert run.options["alpha"] == pytest.approx(converted(alpha, len(GLUE[task].labels)), abs=5e-5)
    assert run.options["temperature"] == temperature
    assert (run.student.layers, run.train.epochs, run.train.batch_size) == (6, 4, 32)


@pytest.mark.parametrize(("task", "classes"), [("rte", 2), ("mnli", 3)])
def test_pkd_is_the_authors_preset(task, classes):
    run = run_of("pkd", task)
    alpha = converted(0.7, classes)
    assert run.options["alpha"] == pytest.approx(alpha, abs=5e-5)
    assert run.options["beta"] == pytest.approx(500 * (1 - alpha) / 0.3, rel=1e-4)
    assert (run.options["temperature"], run.train.lr, run.train.epochs) == (10, 1e-5, 4)
    assert stages_of(run).map == {1: 2, 2: 4, 3: 6, 4: 8, 5: 10}
    assert stages_of(run_of("pkd-3", task)).map == {1: 4, 2: 8}


def test_pea_kd_is_four_and_six_epochs_of_a_student_of_depth_six():
    run = run_of("pea-kd", "rte")
    assert run.options["ptp_share"] * run.train.epochs == pytest.approx(4)
    assert (run.train.batch_size, run.train.lr) == (64, 2e-5)
    alpha = converted(0.7, 2)
    assert run.options["alpha"] == pytest.approx(alpha, abs=5e-5)
    assert run.options["beta"] == pytest.approx(100 * (1 - alpha) / 0.3, rel=1e-3)
    built = stages_of(run)
    assert built.map == {1: 2, 2: 4, 3: 6, 4: 8, 5: 10} and [stage.name for stage in built.stages()] == [
        "ptp",
        "distil",
    ]


@pytest.mark.parametrize("key", ["mlkd-4", "mlkd-6"])
@pytest.mark.parametrize(
    ("task", "first", "second"),
    [("cola", 50, 30), ("mnli", 6, 6), ("mrpc", 20, 15), ("sst2", 15, 10), ("stsb", 20, 15), ("qqp", 6, 6),
     ("qnli", 10, 10), ("rte", 20, 15)],
)  # fmt: skip
def test_mlkd_has_the_epochs_of_both_stages(key, task, first, second):
    run = run_of(key, task)
    assert run.train.epochs == first + second
    assert run.options["representation_share"] * run.train.epochs == pytest.approx(first, abs=0.01)
    assert run.options["soft_weight"] == pytest.approx(1 / GLUE[task].outputs, abs=1e-4)
    assert run.train.max_length == (64 if task in ("cola", "sst2") else 128)


def test_the_two_students_of_mlkd():
    small, half = (student_size(run_of(key, "rte").student, BERT_BASE, 2) for key in ("mlkd-4", "mlkd-6"))
    assert (small.layers, small.width, small.heads, small.intermediate) == (4, 312, 12, 1200)
    assert (half.layers, half.width, half.heads, half.intermediate) == (6, 768, 12, 3072)
    assert stages_of(run_of("mlkd-4", "rte")).map == {0: 0, 1: 3, 2: 6, 3: 9, 4: 12}
    assert stages_of(run_of("mlkd-6", "rte")).map == {0: 0, **{m: 2 * m for m in range(1, 7)}}


@pytest.mark.parametrize("key", ["tinybert-4", "tinybert-6"])
@pytest.mark.parametrize(
    ("task", "first"), [("mrpc", 20), ("rte", 20), ("sst2", 20), ("mnli", 10), ("qqp", 10), ("qnli", 10), ("cola", 50)]
)
def test_tinybert_runs_its_epochs_over_rows_and_copies(key, task, first):
    run = run_of(key, task)
    second, copies = 3, 1 + run.options["augment_copies"]
    assert run.train.epochs == copies * (first + second) and copies == 21
    assert run.options["intermediate_share"] * (first + second) == pytest.approx(first, abs=0.01)
    assert (run.options["augment_chance"], run.options["augment_words"], run.options["temperature"]) == (0.4, 15, 1)


def test_tinybert_on_scores_leaves_the_first_stage_its_epochs():
    run = run_of("tinybert-4", "stsb")
    assert run.options["intermediate_share"] * run.train.epochs == pytest.approx(20 * 21, abs=0.5)


def test_distilberts_weights_and_layers():
    run = run_of("distilbert", "rte")
    assert run.options["alpha"] == pytest.approx(5 / 7, abs=0.005)
    assert run.options["cosine_weight"] == pytest.approx(1 / 7, abs=0.005)
    assert run.student.init_layers == tuple(layer + 1 for layer in (0, 2, 4, 7, 9, 11))
    assert find_preset("distilbert").train == {}


@pytest.mark.parametrize(
    ("task", "alpha", "temperature", "beta", "top", "anneal", "rate", "rows", "epochs"),
    [("cola", 0.9, 1, 1, 0, False, 4e-5, 32, 10), ("mnli", 0.8, 3, 10, 0, True, 4e-5, 64, 6),
     ("mrpc", 0.9, 4, 10, 0, True, 3e-5, 16, 10), ("qnli", 0.9, 3, 100, 0, False, 4e-5, 32, 6),
     ("qqp", 1.0, 4, 50, 734, True, 4e-5, 32, 8), ("rte", 0.9, 2, 10, 700, False, 2e-5, 16, 12),
     ("sst2", 0.8, 2, 1, 0, False, 5e-5, 32, 6), ("stsb", 0.8, 3, 1, 640, False, 5e-5, 16, 8)],
)  # fmt: skip
def test_ad_kd_is_the_script_of_each_task(task, alpha, temperature, beta, top, anneal, rate, rows, epochs):
    run = run_of("ad-kd", task)
    options, whole = run.options, alpha / temperature**2 + 1 - alpha
    assert options["alpha"] == pytest.approx(alpha / temperature**2 / whole, abs=5e-5)
    assert options["beta"] == pytest.approx(beta / whole, rel=2e-4)
    assert (options["temperature"], options["top"], options["anneal"]) == (temperature, top, anneal)
    assert (run.train.lr, run.train.batch_size, run.train.epochs) == (rate, rows, epochs)


def test_what_nobody_wrote_down_is_called_unverified():
    said = {key: " ".join(one.unverified) for key, one in presets().items()}
    assert "T = 1" in said["skd"] and "Epochs" in said["skd"]
    assert "Skip" in said["pkd-3"] and "T^2" in said["pkd"] and "grids" in said["pea-kd"]
    assert "inferred" in said["mlkd-4"] and "weights of the three relations" in said["minilm-v2"]
    assert "starts from" in said["minilm"]


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of recipes of the test's own."""
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    presets.cache_clear()
    yield tmp_path
    presets.cache_clear()


GOOD = {"title": "A", "source": "b", "method": "kd", "teacher": "c", "options": {"alpha": 0.25}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"options": {"alpha": 7}}, "options.alpha"),
        ({"options": {"beta": 7}}, "options.beta"),
        ({"method": "nope"}, "method"),
        ({"train": {"epochs": -1}}, "train"),
        ({"train": {"epoch": 1}}, "train"),
        ({"student": {"layers": 0}}, "student"),
        ({"tasks": {"nope": {}}}, "tasks"),
        ({"tasks": {"rte": {"options": {"alpha": 7}}}}, "options.alpha"),
        ({"source": None}, "source"),
    ],
    ids=str,
)
def test_a_wrong_file_is_named_with_its_field(folder: Path, change, field):
    (folder / "mine.yaml").write_text(yaml.safe_dump(GOOD | change))
    with pytest.raises(UserError) as said:
        presets()
    assert "mine.yaml" in said.value.field and field in said.value.field


def test_a_task_changes_what_it_names_and_nothing_else(folder: Path):
    part = {"options": {"alpha": 0.5}, "train": {"epochs": 9}}
    whole = GOOD | {"options": {"alpha": 0.25, "temperature": 2}, "train": {"epochs": 1, "lr": 1e-3}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(whole | {"tasks": {"rte": part}}))
    one = find_preset("mine")
    assert one.settings("mrpc") == {
        "method": "kd", "options": {"alpha": 0.25, "temperature": 2}, "student": {}, "train": {"epochs": 1, "lr": 1e-3},
    }  # fmt: skip
    assert one.settings("rte")["options"] == {"alpha": 0.5, "temperature": 2}
    assert one.settings("rte")["train"] == {"epochs": 9, "lr": 1e-3}
    one.settings("rte")["options"]["alpha"] = 0.9
    assert one.settings("rte")["options"]["alpha"] == 0.5, "what is given out is a copy"


def test_an_unknown_recipe_lists_those_there_are():
    with pytest.raises(UserError, match=r"no recipe '\.\./pkd'.*pkd"):
        find_preset("../pkd")


def test_a_recipe_in_one_line():
    said = {"options": {"alpha": 0.5385, "normalise": True}, "student": {"layers": 6, "init_layers": [1, 3]},
            "train": {"epochs": 4, "lr": 1e-5}}  # fmt: skip
    assert settings_text(said) == (
        "alpha 0.5385, normalise on; student: layers 6, init layers 1-3; training: epochs 4, lr 1e-5"
    )
    assert settings_text({"options": {}, "student": {"layers": 6}, "train": {}}) == "student: layers 6"


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValidationError):
        find_preset("pkd").title = "mine"
    assert isinstance(find_preset("pkd"), Preset)


# --- the command line -------------------------------------------------------------------------------------------------


def build(preset, flags=None, options=(), other=(), file=None):
    return settings.build(file, {"task": "rte", **(flags or {})}, ["big=package:minilm"], options, other, preset)


def test_flags_file_and_options_go_over_a_recipe(tmp_path):
    plain = build("pkd")
    assert plain.method == "pkd" and plain.options["beta"] == 769.2 and plain.options["tokens"] == "cls"
    assert plain.student == StudentSpec(layers=6) and plain.train.lr == 1e-5 and plain.teachers[0].where == "minilm"
    file = tmp_path / "run.yaml"
    file.write_text("train: {lr: 0.001, warmup: 0.2}\noptions: {beta: 7}\n")
    run = build("pkd", {"layers": 3, "epochs": 1.0}, ["temperature=4"], ["train.clip=2"], file)
    assert (run.student.layers, run.train.epochs, run.train.lr, run.train.warmup, run.train.clip) == (
        3,
        1,
        1e-3,
        0.2,
        2,
    )
    assert (run.options["beta"], run.options["temperature"]) == (7, 4) and run.options["alpha"] == 0.5385


def test_a_recipe_follows_the_task():
    assert build("mlkd-4").train.epochs == 35
    assert build("mlkd-4", {"task": "cola"}).train.epochs == 80
    assert build("mlkd-4", {"task": None}, other=["task=cola"]).train.epochs == 80
    assert build("mlkd-4", {"task": "pocket-entailment"}).train.epochs == 35
    assert "pocket-entailment" in TASKS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "nope", "--task", "rte"], "no recipe 'nope'"),
        (["--preset", "pkd", "--task", "rte", "--method", "kd"], "--preset: the recipe pkd is for pkd, not for kd"),
        (["--preset", "pkd"], "--task: is missing"),
        (["--preset", "pkd", "--task", "rte", "--option", "beta=-1"], "options.beta"),
    ],
)
def test_wrong_recipes_are_one_line(arguments, words):
    said = CliRunner().invoke(app, ["distil", *arguments])
    assert said.exit_code == 2 and words in said.stderr and len(said.stderr.splitlines()) == 1


def test_recipes_are_listed_and_explained():
    listed = CliRunner().invoke(app, ["presets"])
    assert listed.exit_code == 0 and all(key in listed.stdout for key in KEYS)
    one = CliRunner().invoke(app, ["presets", "mlkd-4"]).stdout
    assert "width: 312" in one and "cola" in one and "epochs 80" in one
    assert all(words in one for words in ("unverified: ", "note: ", find_preset("mlkd-4").source))
    assert "pkd-3" in CliRunner().invoke(app, ["methods", "pkd"]).stdout
    assert CliRunner().invoke(app, ["presets", "nope"]).exit_code == 2


def test_a_dry_run_says_the_recipe_and_its_price(monkeypatch):
    from types import SimpleNamespace

    from kdcore.engine import preflight

    price = SimpleNamespace(seconds=12345.0, memory_bytes=2**30, disk_bytes=2**20, steps=9, basis="a test")
    monkeypatch.setattr(preflight, "check", lambda plan: preflight.Report((), price))
    said = CliRunner().invoke(
        app, ["distil", "--preset", "pkd", "--task", "rte", "--teacher", "a=package:minilm", "--dry-run"]
    )
    assert said.exit_code == 0, said.output
    assert "recipe pkd: " in said.stdout and "unverified: " in said.stdout and "about 12345 s" in said.stdout


def test_recipes_are_found_from_any_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    presets.cache_clear()
    assert recipes.FOLDER.is_absolute() and list(presets()) == KEYS
