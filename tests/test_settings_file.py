"""Paths of a run do not depend on the folder in which it was made."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdcore.cli import settings
from kdcore.config import OwnData, RunConfig, StudentSpec, TeacherSpec
from kdcore.errors import UserError
from kdcore.runs.sweep import Grid, expand
from kdcore.settings_file import read_settings, with_absolute_paths
from kdcore.store import open_store

OWN = OwnData(path="rows/train.csv", validation_path="../dev.csv", text="text", label="label")
TEACHER = TeacherSpec(name="t", source="folder", where="models/bert")
RUN = RunConfig(
    task="own",
    own=OWN,
    method="distilbert",
    options={"masked_lm": "folder:models/mlm", "alpha": 0.5},
    teachers=(TEACHER, TeacherSpec(name="p", source="package", where="minilm")),
    student=StudentSpec(init="checkpoint", checkpoint="old/student"),
    base=TEACHER,
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(run: RunConfig) -> list[object]:
    assert run.own
    assert run.base
    return [
        run.own.path, run.own.validation_path, run.teachers[0].where, run.teachers[1].where, run.base.where,
        run.student.checkpoint, run.options["masked_lm"],
    ]  # fmt: skip


def test_every_path_is_absolute(here: Path) -> None:
    expected = [
        f"{here}/rows/train.csv", f"{here.parent}/dev.csv", f"{here}/models/bert", "minilm", f"{here}/models/bert",
        f"{here}/old/student", f"folder:{here}/models/mlm",
    ]  # fmt: skip
    absolute = with_absolute_paths(RUN)
    assert paths(absolute) == expected
    assert with_absolute_paths(absolute) == absolute
    assert absolute.options["alpha"] == 0.5


def test_what_means_the_same_everywhere_stays() -> None:
    for path in ("~/rows.csv", "/data/../rows.csv"):  # as typed: a sweep knows its runs by their settings
        run = RUN.model_copy(update={"own": OWN.model_copy(update={"path": path, "validation_path": None})})
        own = with_absolute_paths(run).own
        assert own
        assert (own.path, own.validation_path) == (path, None)
    plain = RunConfig(task="mrpc", method="kd")
    assert with_absolute_paths(plain) == plain


def test_the_store_the_command_line_and_sweeps_keep_absolute_paths(here: Path) -> None:
    store = open_store(f"sqlite:///{here}/runs.db")
    assert paths(store.get(store.add_run(RUN)).config) == paths(with_absolute_paths(RUN))
    flags = {"task": "own", "method": "fine-tune"}
    own = [f"own.{name}={value}" for name, value in (("path", "a.csv"), ("text", "text"), ("label", "label"))]
    built = settings.build(None, flags, (), (), own)
    assert built.own
    assert built.own.path == f"{here}/a.csv"
    grid = Grid.model_validate(
        {"name": "g", "methods": ["fine-tune"], "tasks": [{"task": "own", "own": OWN.model_dump()}]}
    )
    (cell,) = expand(grid)
    assert cell.run.own
    assert cell.run.own.path == f"{here}/rows/train.csv"


def test_a_device_in_place_of_settings_is_refused_at_once() -> None:
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(UserError, match="not a regular file"):
            read_settings(Path(device))
