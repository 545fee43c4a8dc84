"""The same run without one part: what each method offers, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdcore.config import RunConfig
from kdcore.data import pocket
from kdcore.engine.trainer import train
from kdcore.errors import UserError
from kdcore.events import StepDone
from kdcore.identity import config_hash, flatten
from kdcore.methods import METHODS, resolve
from kdcore.methods.mix import READS
from kdcore.runs import sweep
from kdcore.runs.ablations import START, ablations
from tests.helpers import tiny_task

EVERYTHING_ON: dict[str, list[dict[str, Any]]] = {
    "bert-emd": [{"alpha": 0.5}],
    "distilbert": [{"masked_lm": "folder:/models/words"}],
    "dynamic-kd": [{"part": "supervision"}],
    "gkd": [{"variant": "gkd-cls"}],
    "meta-kd": [{"domain_weight": 0.5}],
    "mix": [{f"{name}_weight": 2.0 for name in READS}],
    "peers": [{"teacher": "mutual"}],
    "skd": [{"hard_label_weight": 0.3}],
    "tinybert": [{"augment": "word-neighbours"}],
    "wkd": [{"hard_label_weight": 0.3}],
}
"""Settings beside the defaults under which a method has parts that the defaults lack."""
SETTINGS = [(key, options) for key in METHODS for options in ({}, *EVERYTHING_ON.get(key, []))]


def _run(method: str, options: dict[str, Any], **more: Any) -> RunConfig:
    teachers = [{"name": name, "source": "pocket", "where": name} for name in ("large", "small")]
    settings = {"task": "pocket-sentiment", "method": method, "options": options, "teachers": teachers}
    return RunConfig.model_validate(settings | {"student": {"layers": 2, "init": "teacher"}} | more)


def _complete(run: RunConfig) -> RunConfig:
    return run.model_copy(update={"options": resolve(run.method, run.options)[1].model_dump(mode="json")})


def _parts(method: str, **options: Any) -> list[str]:
    return [ablation.part for ablation in ablations(_run(method, options, student={"layers": 2, "init": "random"}))]


@pytest.mark.parametrize(("method", "options"), SETTINGS)
def test_an_ablation_is_the_run_with_exactly_what_it_names_changed(method: str, options: dict[str, Any]) -> None:
    whole = _complete(_run(method, options))
    before = flatten(whole.model_dump(mode="json"))
    for ablation in ablations(_run(method, options)):
        run = RunConfig.model_validate(ablation.run.model_dump(mode="json"))
        resolve(run.method, run.options)
        after = flatten(run.model_dump(mode="json"))
        changes = {key: (before[key], after[key]) for key in before if key != "name" and before[key] != after[key]}
        assert before.keys() == after.keys() and changes == dict(ablation.changes) != {}
        assert config_hash(run) != config_hash(whole)


@pytest.mark.parametrize("method", METHODS)
def test_every_weight_that_may_be_zero_can_be_left_out(method: str) -> None:
    weights = {
        name
        for name, field in METHODS[method].Config.model_fields.items()
        if "weight of" in (field.description or "") and any(getattr(rule, "ge", None) == 0 for rule in field.metadata)
    }
    changed = {
        name.removeprefix("options.")
        for key, options in SETTINGS
        if key == method
        for ablation in ablations(_run(method, options))
        for name in ablation.changes
    }
    assert weights <= changed


def test_the_last_term_of_a_stage_and_what_is_off_are_not_offered() -> None:
    assert _parts("pkd") == ["hard", "soft", "patience"]
    assert _parts("pkd", beta=0.0) == ["hard", "soft"]
    assert _parts("pkd", alpha=1.0) == ["patience"], "without soft, hard would come in"
    assert _parts("kd", alpha=0.0) == []
    assert _parts("tinybert") == ["embedding", "hidden", "attention", "stage intermediate"]
    assert _parts("tinybert", embedding_weight=0, attention_weight=0) == ["stage intermediate"]
    assert _parts("tinybert", intermediate_share=0.0) == []
    assert _parts("minilm-v2", query_weight=0, key_weight=0) == ["hard", "soft"]
    assert _parts("distilbert") == ["hard", "soft", "cosine"]
    assert _parts("mlkd")[-2:] == ["sample", "contrast"]
    assert _parts("annealing-kd") == _parts("fine-tune") == []


def test_a_stage_that_the_task_does_not_have_is_not_offered() -> None:
    assert "stage ptp" in _parts("pea-kd")
    scores = _run("pea-kd", {}, task="pocket-similarity")
    assert "stage ptp" not in [ablation.part for ablation in ablations(scores)]


def test_a_student_that_starts_from_layers_can_start_from_random_weights() -> None:
    (*_, start) = ablations(_run("kd", {}, student={"layers": 2, "init": "teacher", "init_layers": "skip"}))
    assert (start.part, start.run.student.init, start.run.student.init_layers) == (START, "random", "skip")
    assert start.title == "from random weights" and start.detail == "init teacher → random"
    assert START not in _parts("kd")


def test_an_ablation_says_what_it_lacks() -> None:
    patience = next(one for one in ablations(_run("pkd", {}, name="mine seed 0")) if one.part == "patience")
    assert patience.run.name == "mine without patience, seed 0" and patience.detail == "beta 500 → 0"
    assert patience.tags == ("ablation", "without patience")
    stage = next(one for one in ablations(_run("tinybert", {})) if one.part == "stage intermediate")
    assert stage.title == "without the intermediate stage" and stage.detail == "intermediate share 0.5 → 0"
    assert ablations(_run("pkd", {}, train={"seed": 3}))[0].run.name == "Patient KD without hard, seed 3"


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(UserError) as error:
        ablations(_run("kd", {"gamma": 1}))
    assert error.value.field == "options.gamma"


def test_a_run_without_a_term_logs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocket, "load", tiny_task.data)
    whole = tiny_task.run("pkd", tiny_task.teachers(tmp_path, 1), max_steps=2)
    patience = next(one for one in ablations(whole) if one.part == "patience")
    logged = [
        next(iter(tiny_task.of(StepDone, train(run, tmp_path / name, None)))).raw.keys()
        for name, run in (("whole", whole), ("without", patience.run))
    ]
    assert logged[0] - logged[1] == {"patience"} and logged[1] == {"hard", "soft"}


# --- in a sweep ----------------------------------------------------------------------------------------------------


def _cells(text: str, tmp_path: Path) -> list[sweep.Cell]:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return sweep.expand(sweep.read_grid(path))


def test_a_sweep_runs_a_method_without_its_parts(tmp_path: Path) -> None:
    grid = "{name: a, methods: [fine-tune, {method: tinybert, without: %s}], tasks: [mrpc], seeds: [0, 1]}"
    some = _cells(grid % "[hidden, initial weights]", tmp_path)
    assert [cell.label for cell in some[:4]] == [
        "fine-tune", "tinybert", "tinybert without hidden", "tinybert from random weights"
    ]  # fmt: skip
    assert some[2].run.options["hidden_weight"] == 0.0 and some[3].run.student.init == "random" and len(some) == 8
    assert len(_cells(grid % "all", tmp_path)) == 2 * (2 + 5)


def test_a_sweep_names_a_part_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        _cells("{name: a, methods: [{method: kd, without: [patience]}], tasks: [mrpc]}", tmp_path)
    assert error.value.field == "methods[0].without" and "hard, soft, initial weights" in error.value.remedy
