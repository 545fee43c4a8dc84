"""The model card: what the hub reads of it, that every number is the run's, and that no name breaks it."""

from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load

from kdcore.config import RunConfig, TeacherSpec
from kdcore.export.card import METRIC_IDS, model_card
from kdcore.export.folder import export_student
from kdcore.export.record import StudentRecord, last_part, public_settings, read_record
from kdcore.tasks import METRICS, TASKS
from tests.helpers import store_factory, tiny_task

HUB = TeacherSpec(name="big", source="hub", where="org/bert-big", fine_tune={})


@pytest.fixture
def record(tmp_path) -> StudentRecord:
    """A student of a run on GLUE, with two teachers."""
    config = store_factory.run_config("pkd", seed=3, task="mrpc", teachers=[HUB, store_factory.TEACHER])
    facts = {
        "hardware": "A processor", "device": "cpu", "precision": "bf16", "rows": 3301, "select_rows": 367,
        "exported_parameters": 12_345_678, "student": {"layers": 2, "width": 32}, "torch": "2.13.0",
        "blind_guess": {"validation": {"accuracy": 0.684, "f1": 0.812}},
        "teachers": {"big": {"parameters": 110_000_000}},
    }  # fmt: skip
    return StudentRecord(
        run="pkd-mrpc", name="pkd seed 3", state="done", which="best", folder=tmp_path, config=config,
        task=TASKS["mrpc"], facts=facts, seconds=4000.0, step=900,
        scores={"validation": {"accuracy": 0.77, "f1": 0.8425}}, rows={"validation": 408},
        teachers={"big": {"validation": {"accuracy": 0.86, "f1": 0.9}}}, seeds=(0.77, 0.75, 0.76),
    )  # fmt: skip


def test_the_hub_reads_task_scores_and_origin(record):
    card = ModelCard(model_card(record, 128))
    data = card.data.to_dict()
    assert data["pipeline_tag"] == "text-classification" and data["library_name"] == "transformers"
    assert data["base_model"] == ["org/bert-big"] and data["datasets"] == ["nyu-mll/glue"]
    assert data["metrics"] == ["accuracy", "f1"] and data["license"] == "unknown" and data["language"] == "en"
    assert {"knowledge-distillation", "pkd"} <= set(data["tags"])
    results = {(each.metric_type, each.metric_value) for each in card.data.eval_results}
    assert results == {("accuracy", 0.77), ("f1", 0.8425)}
    first = card.data.eval_results[0]
    assert (first.dataset_type, first.dataset_config, first.dataset_split) == ("nyu-mll/glue", "mrpc", "validation")
    assert "seed 3" in first.metric_name
    assert ModelCard(str(card)).data.to_dict() == data


def test_every_metric_has_a_name_on_the_hub():
    assert METRIC_IDS.keys() == METRICS.keys()


def test_a_reader_finds_scores_settings_and_limits(record):
    text = model_card(record, 128)
    assert "| validation | 408 | accuracy | 77.0 | 86.0 | 68.4 |" in text
    assert "Over 3 seeds of the same settings: accuracy 76.0 ± 1.0 (N=3)" in text
    assert "| teacher big | hub org/bert-big, 110.0 M parameters, fine-tuned here, 3 epochs |" in text
    assert "Sun et al. 2019" in text and "arXiv 1908.09355" in text and "A processor, cpu, bf16" in text
    assert "3,301 to train, 367 held out" in text and "128 tokens" in text and "seed 3" in text
    assert "bf16" in text.split("## Limits")[1] and "Licence of the data: unknown" in text
    assert "Synthetic data" not in text and "Partial data" not in text


def test_what_a_reader_must_know_first_stands_first(record):
    partial = replace(record, task=TASKS["pocket-paraphrase"], state="stopped",
                      facts={**record.facts, "partial": "trained on 100 of 3,668 rows"})  # fmt: skip
    text = model_card(partial, 128)
    head = text.split("## Use")[0]
    assert "Synthetic data" in head and "Trained on 100 of 3,668 rows" in head and "the run is stopped" in head
    data = ModelCard(text).data.to_dict()
    assert "datasets" not in data and "synthetic-data" in data["tags"]


def test_a_student_that_was_never_scored_claims_nothing(record):
    text = model_card(replace(record, scores={}, rows={}, step=None, seeds=()), 128)
    assert "Not measured" in text and "model-index" not in ModelCard(text).data.to_dict()


@pytest.mark.parametrize(
    "name", ["a: b # c", "---", "x\n---\ninjected: true", "<script>alert(1)</script>", "| a | *b*"]
)
def test_no_name_breaks_the_card(record, name):
    text = model_card(replace(record, name=name), 128)
    card = ModelCard(text)
    assert "injected" not in card.data.to_dict()
    assert card.data.model_name == " ".join(name.split()) and "<script>" not in card.text
    assert yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))["license"] == "unknown"


def test_a_method_that_is_not_here_is_named_by_its_key(record):
    config = record.config.model_copy(update={"method": "of-somebody-else"})
    assert "distilled by of-somebody-else" in model_card(replace(record, config=config), 128)


def test_settings_are_published_without_their_folders():
    config = RunConfig(
        task="mrpc", method="tinybert", options={"masked_lm": "/models/lm", "layers": "last", "parts": ["~/x/y", 2]},
        teachers=(TeacherSpec(name="t", source="folder", where="models/of/mine"), HUB),
        student={"init": "checkpoint", "checkpoint": "../weights/start"},
    )  # fmt: skip
    settings = public_settings(config)
    assert settings["options"] == {"masked_lm": "lm", "layers": "last", "parts": ["y", 2]}
    assert [spec["where"] for spec in settings["teachers"]] == ["mine", "org/bert-big"]
    assert settings["student"]["checkpoint"] == "start"
    assert last_part("C:\\data\\a.csv") == "a.csv"


def test_scores_of_a_real_run_are_those_of_the_store(store, trained, tmp_path):
    for seed in (0, 1):
        run = trained(tiny_task.run("kd", tiny_task.teachers(tmp_path, 1), max_steps=3, seed=seed))
    record = read_record(store, run)
    own = store.runs().set_index("id")
    assert record.scores["validation"]["accuracy"] == own.loc[run, "score"]
    assert sorted(record.seeds) == sorted(own["score"]) and set(record.teachers) == {"t0"}
    assert record.facts["blind_guess"]["validation"].keys() == record.scores["validation"].keys()
    export_student(store, run, tmp_path / "m")
    (result,) = metadata_load(tmp_path / "m" / "README.md")["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == round(own.loc[run, "score"], 6)


def test_other_tasks_that_it_learned_from_are_named(record):
    assert "other tasks" not in model_card(record, 128)
    several = record.config.model_copy(update={"also": ("rte", "stsb")})
    assert "It learned from the rows of other tasks too" in model_card(replace(record, config=several), 128)
    assert "RTE, STS-B" in model_card(replace(record, config=several), 128)
