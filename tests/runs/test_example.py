"""The study that comes with the program: it opens, stands on every page, and needs no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kdcore.config import RunConfig
from kdcore.data import load
from kdcore.engine.results import teacher_folders
from kdcore.engine.teacher_source import teacher_folder
from kdcore.errors import CorruptError, UserError
from kdcore.identity import config_hash
from kdcore.paths import cache_subdir, run_dir
from kdcore.runs import example
from kdcore.runs.demo import STORY, demo_runs
from kdcore.runs.export import student_folder
from kdcore.store import Store
from pages.parts.common.read_only import ReadOnlyProxy
from pages.parts.learn.lesson_address import runs_of
from pages.parts.learn.lessons import Lesson, lessons


@pytest.fixture
def store(empty_store: Store) -> Store:
    return empty_store


def test_it_opens_once(store: Store) -> None:
    assert example.example_runs(store) == []
    ids = example.open_study(store)
    assert example.example_runs(store) == ids and len(ids) == 9
    runs = store.runs()
    assert example.open_study(store) == ids and len(store.runs()) == len(runs)
    assert set(runs["state"]) == {"done"} and all(example.TAG in tags for tags in runs["tags"])


def test_what_is_compared_differs_in_method_and_seed_only(store: Store) -> None:
    example.open_study(store)
    runs = store.runs()
    compared = runs[runs["id"].isin(example.example_runs(store))]
    assert compared["protocol"].nunique() == 1
    assert dict(compared.groupby("method")["seed"].nunique()) == {"fine-tune": 3, "kd": 3, STORY: 3}


def test_its_method_is_ahead_on_every_seed(store: Store) -> None:
    ids = example.open_study(store)
    runs = store.runs()
    scores = runs[runs["id"].isin(ids)].pivot(index="seed", columns="method", values="score")
    assert (scores[STORY] > scores["fine-tune"] + 0.05).all()


def _scores(store: Store, key: str) -> pd.DataFrame:
    """Scores of a lesson's runs: a row for each seed, a column for each name."""
    runs = store.runs().set_index("id")
    by_name = runs_of(lessons()[key], store.runs())
    return pd.DataFrame({name: runs.loc[ids].set_index("seed")["score"] for name, ids in by_name.items()})


def test_what_the_lessons_say_of_its_scores_is_true(store: Store) -> None:
    """On every seed, where a lesson says so."""
    example.open_study(store)
    soft = _scores(store, "soft-targets")
    gains = soft["kd"] - soft["fine-tune"]
    assert (gains > 0).all() and gains.max() > 0.03 and gains.min() < 0.01
    layers = _scores(store, "patient-layers")
    assert (layers["kd"] < layers["pkd"]).all() and (layers["pkd"] < layers["tinybert"]).all()
    team = _scores(store, "one-or-many")
    assert (team["skd"] > team["kd"]).all()
    start = _scores(store, "initialisation")
    assert (start[["first", "spread"]].min(axis=1) > start["tinybert"]).all()
    assert start[["first", "spread"]].std().max() < 0.01
    attention = _scores(store, "attention-transfer")
    assert (attention[["minilm", "tinybert"]].min(axis=1) > attention[["kd", "fine-tune"]].max(axis=1)).all()


def test_what_a_lesson_says_of_the_rivals_is_true(store: Store) -> None:
    example.open_study(store)
    (probe,) = [found for run in store.runs()["id"] if (found := store.probes(run).get("rivals"))]
    rivals = {model["kind"]: model["scores"]["validation"]["accuracy"] for model in probe["models"]}
    by_method = _scores(store, "quality-and-speed").mean()
    teacher = 0.959
    assert abs(rivals["int8"] - teacher) < 0.005
    assert by_method["fine-tune"] - 0.01 < rivals["cut"] < by_method["tinybert"] - 0.1
    assert 0.4 < (rivals["cut"] - 0.5) / (teacher - 0.5) < 0.7, "about half of what it has over a guess"


def test_every_run_says_who_recorded_it(store: Store) -> None:
    example.open_study(store)
    said = example.about()
    for run in store.runs()["id"]:
        row = store.get(run)
        assert said["kdcore"] in row.note and said["hardware"] in row.note
        assert row.facts["hardware"] == said["hardware"]


def test_students_and_teachers_are_there_so_nothing_is_trained(store: Store) -> None:
    example.open_study(store)
    shipped = {folder.name for folder in cache_subdir("teachers").iterdir()}
    with_student = {config_hash(run) for lesson in lessons().values() for run in _looked_into(lesson)}
    with_student |= {config_hash(run) for run in demo_runs()}
    for run in store.runs()["id"]:
        config = store.get(run).config
        if config_hash(config) in with_student:
            assert (student_folder(store, run) / "model.safetensors").is_file()
        else:
            assert "student is left out" in store.get(run).note
        for spec in config.teachers:
            assert teacher_folders(run_dir(run))[spec.name].name in shipped
            assert teacher_folder(spec, load(config.task), config.train).name in shipped, (
                "the recipe of a teacher has changed: record the study again"
            )


def _looked_into(lesson: Lesson) -> list[RunConfig]:
    """The runs whose insides a step shows."""
    return [lesson.configs()[step.run] for step in lesson.steps if step.run]


def test_every_lesson_looks_into_a_run_with_its_student(store: Store) -> None:
    example.open_study(store)
    for lesson in lessons().values():
        by_name = runs_of(lesson, store.runs(include_archived=True))
        for step in lesson.steps:
            if step.run:
                assert (student_folder(store, by_name[step.run][0]) / "model.safetensors").is_file()


def test_every_lesson_finds_its_runs(store: Store) -> None:
    example.open_study(store)
    for lesson in lessons().values():
        assert all(runs_of(lesson, store.runs(include_archived=True)).values()), lesson.title


def test_it_holds_snapshots_and_answers(store: Store) -> None:
    example.open_study(store)
    for run in store.runs()["id"]:
        probes = store.probes(run)
        assert {"distances", "fidelity", "latency"} <= set(probes) or store.get(run).method == "fine-tune"
        assert "gradient_share" in set(store.metrics(run)["kind"])


def test_a_read_only_dashboard_refuses_it(store: Store) -> None:
    with pytest.raises(UserError, match="ead-only"):
        example.open_study(ReadOnlyProxy(store))
    assert not list(cache_subdir("teachers").iterdir()) and store.runs().empty


def test_it_is_a_few_megabytes() -> None:
    size = sum(path.stat().st_size for path in example.FOLDER.rglob("*") if path.is_file())
    assert size < 8e6


def test_a_damaged_study_says_so(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "teachers").mkdir()
    (tmp_path / "about.json").write_text('{"compared": [], "teachers": {}}')
    (tmp_path / "runs.zip").write_bytes(b"no zip")
    monkeypatch.setattr(example, "FOLDER", tmp_path)
    with pytest.raises(CorruptError, match="cannot be read as a bundle"):
        example.open_study(store)
