"""Before a run starts: every line that can be said is said where it should be, and nothing raises."""

from __future__ import annotations

import dataclasses
import json
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kdcore.config import FineTune, OwnData, RunConfig, StudentSpec, TeacherSpec, TrainConfig
from kdcore.data.splits import make_split
from kdcore.engine import plan
from kdcore.engine.plan import Plan
from kdcore.engine.preflight import Line, check
from kdcore.engine.teacher_source import teacher_folder
from kdcore.methods import METHODS
from kdcore.models.students import save_student
from kdcore.models.weights import build_classifier
from kdcore.runs.demo import demo_runs
from kdcore.tasks import TASKS
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run

Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "available")


def lines(setting: RunConfig, level: str) -> dict[str, Line]:
    """The lines of one level by field."""
    return {line.field: line for line in check(Plan(setting)).lines if line.level == level}


def blocked(setting: RunConfig) -> Line:
    """The first line that blocks; it has a reason and a remedy."""
    found = lines(setting, "block")
    assert found, [line.text for line in check(Plan(setting)).lines]
    assert all(line.text and line.remedy for line in found.values())
    return next(iter(found.values()))


def test_a_good_run_has_no_blocks(one_teacher):
    said = check(Plan(run("kd", one_teacher))).lines
    assert {line.level for line in said} == {"ok", "warn"}
    assert [line.field for line in said if line.level == "warn"] == ["task"]  # the sentences are generated
    fields = {line.field for line in said}
    assert {"task", "method", "teachers.t0", "teachers.t0.size", "device"} <= fields
    assert "90 rows to learn from, 10 kept aside" in said[0].text


def test_nothing_is_trained_or_kept_by_looking(one_teacher, own_cache):
    base = TeacherSpec(name="pocket", source="pocket", where="small")
    check(Plan(run("kd", [base], max_length=32)))
    assert not [path for room in ("teachers", "outputs") for path in (own_cache / room).glob("*")]


@pytest.mark.parametrize("demo", demo_runs(), ids=lambda demo: demo.method)
def test_the_demo_can_start(demo):
    assert not lines(demo, "block")


# --- what blocks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"task": "no-such-task"}, "task"),
        ({"task": "own", "own": OwnData(path="/nowhere.csv", text="a", label="b")}, "own"),
        ({"method": "no-such-method"}, "method"),
        ({"options": {"heat": 3}}, "options.heat"),
        ({"options": {"temperature": -1}}, "options.temperature"),
        ({"teachers": ()}, "teachers"),
        ({"teachers": (TeacherSpec(name="lost", source="folder", where="/nowhere"),)}, "teachers.lost.where"),
        ({"teachers": (TeacherSpec(name="lost", source="pocket", where="huge"),)}, "teachers.lost.where"),
        ({"student": StudentSpec(layers=2, init="base")}, "student.init"),
        ({"student": StudentSpec(layers=2, width=24, heads=2, init="teacher")}, "student.width"),
        ({"student": StudentSpec(layers=2, intermediate=48, init="teacher")}, "student.intermediate"),
        ({"student": StudentSpec(layers=3, init="teacher")}, "student.layers"),
        ({"student": StudentSpec(layers=1, init="teacher", init_layers=(5,))}, "student.init_layers"),
        ({"student": StudentSpec(layers=1, width=17, init="random")}, "student.heads"),
        ({"student": StudentSpec(layers=1, init="checkpoint", checkpoint="/nowhere")}, "student.checkpoint"),
        ({"method": "pkd", "student": world.STUDENT.model_copy(update={"width": 32})}, "student.width"),
        ({"method": "pkd", "student": world.STUDENT.model_copy(update={"layers": 1})}, "student.layers"),
        ({"method": "pkd", "options": {"layers": (1, 2, 3)}}, "options.layers"),
        ({"method": "pkd", "options": {"layers": (7,)}}, "options.layers"),
        ({"method": "pkd", "teachers": ()}, "teachers"),
        ({"train": TrainConfig(max_length=256)}, "train.max_length"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_blocked_at_its_field(one_teacher, changes, field):
    line = blocked(run("kd", one_teacher).model_copy(update=changes))
    assert line.field.split(".")[0] == field.split(".")[0] and (line.field == field or field == "own")


def test_a_gpu_where_there_is_none(one_teacher, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert blocked(run("kd", one_teacher, device="cuda")).field == "train.device"


def test_another_vocabulary_is_told_and_blocked_by_a_method_of_tokens(one_teacher, tmp_path):
    tokens = [*world.VOCABULARY[:5], *reversed(world.VOCABULARY[5:])]
    save_student(world.model(), world.tokenizer_from_vocabulary(tokens), tmp_path / "other")
    other = TeacherSpec(name="other", source="folder", where=str(tmp_path / "other"))
    said = check(Plan(run("kd", [*one_teacher, other]))).lines
    assert any(line.field == "teachers.other" and "by its own tokenizer" in line.text for line in said)
    assert not [line for line in said if line.level == "block"]
    assert blocked(run("minilm", [other], base=one_teacher[0])).field == "teachers.other"


def test_regression_with_a_method_that_lacks_it(one_teacher, monkeypatch, shelf):
    monkeypatch.setattr(METHODS["kd"], "kinds", frozenset({"classification"}))
    scores = world.teacher(shelf, "scorer", labels=1)
    line = blocked(run("kd", [scores], task=world.SIMILARITY))
    assert line.field == "method" and "regression" in line.text
    assert not lines(run("kd", one_teacher), "block")


def test_layers_of_a_finished_teacher_are_blocked(one_teacher):
    assert blocked(run("kd", [one_teacher[0].model_copy(update={"layers": 1})])).field == "teachers.t0.layers"


def test_labels_in_another_order_are_blocked(shelf):
    """A teacher that calls class 0 positive would teach the opposite."""
    for name, order, level in (("turned", ("positive", "negative"), "block"), ("fine", ("Negative", "Positive"), "ok"),
                               ("unnamed", ("LABEL_0", "LABEL_1"), "ok")):  # fmt: skip
        model = world.model(seed=2)
        model.config.id2label = dict(enumerate(order))
        model.config.label2id = {label: i for i, label in enumerate(order)}
        save_student(model, world.tokenizer(), shelf / name)
        spec = TeacherSpec(name=name, source="folder", where=str(shelf / name))
        said = lines(run("kd", [spec]), level)
        assert f"teachers.{name}" in said
        assert ("ordered" in said[f"teachers.{name}"].text) == (level == "block")


def test_a_label_without_rows_is_blocked(one_teacher, monkeypatch):
    data = world.data_of()
    only = dataclasses.replace(data.train, labels=np.zeros(len(data.train), dtype=np.int64))
    monkeypatch.setattr(plan, "load", lambda *a: dataclasses.replace(data, splits={**data.splits, "train": only}))
    line = blocked(run("kd", one_teacher))
    assert line.field == "task" and "positive" in line.text


def test_too_few_rows_are_blocked(one_teacher, monkeypatch):
    data, task = world.data_of(), TASKS[world.SENTIMENT]
    single = make_split(task, "train", (["good"],), np.array([1]))
    monkeypatch.setattr(plan, "load", lambda *a: dataclasses.replace(data, splits={**data.splits, "train": single}))
    assert blocked(run("kd", one_teacher)).field == "task"


def test_too_little_disk_is_blocked(one_teacher, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10**9, 10**9 - 1000, 1000))
    line = blocked(run("kd", one_teacher))
    assert line.field == "disk" and "KD_CACHE_DIR" in line.remedy


def test_too_little_memory_is_blocked(one_teacher, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(10**6))
    line = blocked(run("kd", one_teacher))
    assert line.field == "train.batch_size" and "accumulate" in line.remedy


# --- what warns -----------------------------------------------------------------------------------------------------


def test_settings_that_leave_little_of_a_method_are_told(one_teacher):
    plain = run("kronecker-bert", one_teacher)
    assert "student.form" in lines(plain, "warn")
    form = plain.student.model_copy(update={"form": "kronecker-8"})
    assert "student.form" not in lines(plain.model_copy(update={"student": form}), "warn")
    still = run("peers", one_teacher, dropout=0.0)
    assert "train.dropout" not in lines(still, "warn"), "each student draws its own weights"
    teacher = still.student.model_copy(update={"init": "teacher"})
    same = still.model_copy(update={"student": teacher})
    assert "train.dropout" in lines(same, "warn")
    noisy = same.train.model_copy(update={"dropout": 0.1})
    assert "train.dropout" not in lines(same.model_copy(update={"train": noisy}), "warn")


def test_random_embeddings_that_are_frozen_are_told(one_teacher):
    copy = world.STUDENT.model_copy(update={"init": "teacher"})
    said = lines(run("gkd", one_teacher), "warn")["student.init"]
    assert "GKD keeps the student's embeddings" in said.text and "from the teacher" in said.remedy
    for setting in (
        run("gkd", one_teacher, {"freeze_embeddings": False}), run("gkd", one_teacher, student=copy),
        run("kd", one_teacher),
    ):  # fmt: skip
        assert "student.init" not in lines(setting, "warn")


@pytest.fixture
def kept(shelf):
    """A teacher that is said to have been trained here, with this score."""

    def keep(score: object, key: str = world.SENTIMENT) -> RunConfig:
        spec = TeacherSpec(name="small", source="pocket", where="small")
        setting = run("kd", [spec], task=key)
        folder = teacher_folder(spec, world.data_of(key), setting.train)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "teacher.json").write_text(json.dumps({"select": score}))
        return setting

    return keep


def test_a_weak_teacher_is_told_in_words(kept):
    guess = Plan(kept(0.5)).blind_guess("select")["accuracy"]
    weak = lines(kept(guess + 0.02), "warn")["teachers.small"]
    assert "weak" in weak.text and weak.remedy
    good = lines(kept(guess + 0.2), "ok")["teachers.small"]
    assert f"{100 * (guess + 0.2):.1f}" in good.text


def test_a_mediocre_correlation_is_told_in_words(kept):
    assert "mediocre" in lines(kept(0.3, world.SIMILARITY), "warn")["teachers.small"].text
    assert "teachers.small" in lines(kept(0.9, world.SIMILARITY), "ok")


@pytest.mark.parametrize("score", [None, "high", [1]])
def test_a_kept_score_that_does_not_read_is_no_obstacle(kept, score):
    assert "trained" in lines(kept(score), "ok")["teachers.small"].text


def test_a_part_of_the_data_is_said(one_teacher, monkeypatch):
    data = dataclasses.replace(world.data_of(), partial="3 of 9 files")
    monkeypatch.setattr(plan, "load", lambda *a: data)
    assert any(
        line.level == "warn" and line.text == "3 of 9 files" for line in check(Plan(run("kd", one_teacher))).lines
    )


def test_a_blind_guess_is_the_most_frequent_label():
    data, guess = world.data_of(), Plan(run("fine-tune")).blind_guess("validation")
    most = np.bincount(Plan(run("fine-tune")).training_rows.labels).argmax()
    assert guess["accuracy"] == pytest.approx((data.splits["validation"].labels == most).mean())
    scores = Plan(run("fine-tune", task=world.SIMILARITY)).blind_guess("validation")
    assert scores == {"pearson": 0.0, "spearman": 0.0}


# --- models and tokenizers that do not belong to each other ---------------------------------------------------------


def folder_of(shelf, name, tokens=world.VOCABULARY, **sizes):
    """A finished teacher with a tokenizer over these tokens."""
    save_student(world.model(**sizes), world.tokenizer_from_vocabulary(tokens), shelf / name)
    return TeacherSpec(name=name, source="folder", where=str(shelf / name))


def edit(spec, file, **changes):
    path = Path(spec.where) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return spec


def test_a_word_beyond_the_embeddings_is_blocked(shelf):
    line = blocked(run("kd", [folder_of(shelf, "long", (*world.VOCABULARY, "beyond"))]))
    assert line.field == "teachers.long" and "'beyond'" in line.text and "resize_token_embeddings" in line.remedy


def test_a_tokenizer_without_special_tokens_is_blocked(shelf):
    spec = folder_of(shelf, "plain")
    edit(spec, "tokenizer_config.json", cls_token=None, sep_token=None)
    content = json.loads((Path(spec.where) / "tokenizer.json").read_text())
    content["post_processor"] = None
    (Path(spec.where) / "tokenizer.json").write_text(json.dumps(content))
    line = blocked(run("kd", [spec]))
    assert line.field == "teachers.plain" and "[CLS]" in line.text


def test_a_tokenizer_that_names_special_tokens_and_adds_none_is_blocked(shelf):
    spec = folder_of(shelf, "unframed")
    file = Path(spec.where) / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": None}))
    edit(spec, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    line = blocked(run("kd", [spec]))
    assert line.field == "teachers.unframed" and "does not put [CLS] before" in line.text


def test_teachers_that_differ_in_case_are_told(shelf, one_teacher):
    tokens = [*world.VOCABULARY[:-1], "Old"]
    lower, cased = folder_of(shelf, "lower", tokens), folder_of(shelf, "cased", tokens)
    file = Path(cased.where) / "tokenizer.json"
    content = json.loads(file.read_text())
    content["normalizer"]["lowercase"] = False
    file.write_text(json.dumps(content))
    edit(cased, "tokenizer_config.json", do_lower_case=False)
    for pair in ([lower, cased], [cased, lower]):
        line = lines(run("wkd", pair), "warn")[f"teachers.{pair[1].name}"]
        assert "tokenizer" in line.text and "'Good" in line.text and line.remedy


def test_a_vocabulary_with_case_that_nothing_says_is_read_in_lower_case(shelf):
    spec = folder_of(shelf, "bare", [*world.VOCABULARY[:-1], "Old"])
    assert "teachers.bare" not in lines(run("kd", [spec]), "warn")  # its tokenizer.json says so
    for file in Path(spec.where).glob("*token*"):
        file.unlink()
    (Path(spec.where) / "vocab.txt").write_text("\n".join([*world.VOCABULARY[:-1], "Old"]) + "\n")
    line = lines(run("kd", [spec]), "warn")["teachers.bare"]
    assert "holds 1 in upper case" in line.text and "do_lower_case" in line.remedy


def test_tables_of_classes_that_contradict_each_other_are_blocked(shelf):
    spec = folder_of(shelf, "torn")
    edit(spec, "config.json", id2label={"0": "negative", "1": "positive"}, label2id={"negative": 1, "positive": 0})
    line = blocked(run("kd", [spec]))
    assert line.field == "teachers.torn" and "label2id" in line.text


def test_a_teacher_of_more_classes_is_blocked_before_the_start(shelf):
    line = blocked(run("kd", [folder_of(shelf, "three", labels=3)]))
    assert line.field == "teachers.three" and "3 outputs" in line.text and "fine_tune" in line.remedy


def test_narrow_embeddings_are_blocked_as_initial_weights(shelf):
    from transformers import ElectraConfig

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64}
    config = ElectraConfig(vocab_size=len(world.VOCABULARY), embedding_size=8, intermediate_size=32, **sizes)
    save_student(build_classifier(config, {}, 0)[0], world.tokenizer(), shelf / "narrow")
    base = TeacherSpec(name="narrow", source="folder", where=str(shelf / "narrow"), fine_tune=FineTune())
    student = StudentSpec(layers=1, init="base")
    line = next(line for line in check(Plan(run("kd", [base], student=student))).blocks)
    assert line.field == "student.init" and "wide" in line.text


# --- and never raises -----------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["", ".", "..", "/", "minilm", "small", "org/name", "0", "é" * 40, "a\0b", "x" * 400, "run-1"])


def teacher_specs() -> st.SearchStrategy[TeacherSpec]:
    return st.builds(
        TeacherSpec,
        name=st.sampled_from(["a", "b", "c"]),
        source=st.sampled_from(["pocket", "package", "folder", "hub", "run"]),
        where=WORDS.filter(bool),
        layers=st.none() | st.integers(1, 64),
        fine_tune=st.none() | st.just(FineTune()),
    )


def maybe(build, **fields):
    """A settings object, or the default where the fields contradict one another (pydantic says so itself)."""
    try:
        return build(**fields)
    except ValidationError:
        return None


RUNS = st.fixed_dictionaries(
    {
        "task": st.sampled_from([world.SENTIMENT, world.SIMILARITY, "mnli", "", "own", "../x"]),
        "method": st.sampled_from([*METHODS, "", "nope"]),
        "options": st.dictionaries(
            st.sampled_from(["temperature", "alpha", "layers", "sampling", "beta", "x"]),
            st.sampled_from([0, 1, -1, 1e30, float("nan"), "skip", "1,2", [1], [0], [9, 9], None, "student-rank"]),
            max_size=3,
        ),
        "teachers": st.lists(teacher_specs(), max_size=3, unique_by=lambda spec: spec.name),
        "student": st.fixed_dictionaries(
            {
                "layers": st.integers(1, 48),
                "width": st.none() | st.integers(8, 64),
                "heads": st.none() | st.integers(1, 8),
                "init": st.sampled_from(["base", "teacher", "checkpoint", "random"]),
                "init_layers": st.sampled_from(["first", "last", "skip", (1,), (0,), (99,)]),
                "checkpoint": st.none() | WORDS,
            }
        ),
        "train": st.fixed_dictionaries(
            {
                "max_length": st.integers(8, 512),
                "max_train_rows": st.none() | st.integers(16, 10**6),
                "select_fraction": st.floats(1e-9, 0.4999),
                "max_steps": st.none() | st.integers(1, 10**9),
                "batch_size": st.integers(1, 4096),
                "precision": st.sampled_from(["auto", "fp32", "bf16"]),
                "device": st.sampled_from(["auto", "cpu", "cuda"]),
            }
        ),
        "base": st.none() | teacher_specs(),
    }
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(RUNS)
def test_whatever_is_asked_for_gets_lines(one_teacher, drawn):
    drawn["student"] = maybe(StudentSpec, **drawn["student"]) or StudentSpec()
    drawn["train"] = maybe(TrainConfig, **drawn["train"]) or TrainConfig()
    drawn["teachers"] = (*drawn["teachers"], *one_teacher)
    setting = maybe(RunConfig, **drawn)
    if setting is None:
        return
    said = check(Plan(setting)).lines
    assert said and all(line.text for line in said)
    assert all(line.remedy for line in said if line.level != "ok")


def test_a_student_names_its_classes_and_is_refused_where_they_are_in_another_order(trained, one_teacher, tmp_path):
    """What one task calls good, another may call 0: a teacher of the opposite order would teach the opposite."""
    import json

    from transformers import AutoConfig

    setting = run("kd").model_copy(update={"teachers": one_teacher})
    folder = trained(setting).folder / "student-best"
    labels = list(world.TASKS[setting.task].labels)
    assert list(AutoConfig.from_pretrained(folder).id2label.values()) == labels
    config = json.loads((folder / "config.json").read_text())
    names = {str(index): label for index, label in enumerate(reversed(labels))}
    (folder / "config.json").write_text(json.dumps(config | {"id2label": names}))
    teacher = one_teacher[0].model_copy(update={"where": str(folder)})
    report = check(Plan(setting.model_copy(update={"teachers": (teacher,)})))
    assert [line.field for line in report.blocks if "ordered" in line.text] == [f"teachers.{teacher.name}"]
