"""Methods from outside on the command line: listed, checked, trained by workers, refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from kdcore.methods import catalog
from kdcore.store import Store, open_store
from tests.cli.test_cli import kd, process, refused
from tests.helpers import own_method

pytestmark = pytest.mark.usefixtures("methods_as_before")
RUN = (
    "--method", own_method.KEY, "--task", "pocket-sentiment", "--teacher", "small=pocket:small", "--layers", "1",
    "--width", "64", "--heads", "4", "--init", "random", "--max-steps", "4", "--max-train-rows", "64",
    "--set", "probes={fidelity: false, latency: false, distances: false}",
)  # fmt: skip


@pytest.fixture
def store() -> Store:
    return open_store()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return own_method.write(tmp_path / "methods")


def test_it_is_listed_and_explained(file: Path) -> None:
    code, out, error = kd("methods", "--method-file", file, "--family", "hidden")
    assert code == 0 and "from angle_kd.py" in out and "Sun et al. 2019" in out and not error
    code, out, _ = kd("methods", own_method.KEY, "--json")
    told = json.loads(out)
    assert told["source"]["origin"] == "angle_kd.py" and len(told["source"]["sha256"]) == 64
    assert told["defaults"] == {"alpha": 0.5, "temperature": 10.0, "beta": 1.0}
    code, out, _ = kd("methods", own_method.KEY)
    assert "from outside: angle_kd.py" in out and "weight of the angle" in out


def test_what_a_folder_brings_in_vain_is_said_and_nothing_else_is_lost(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file.parent / "broken.py").write_text("def f(:\n")
    monkeypatch.setenv("KD_METHODS_DIR", str(file.parent))
    code, out, error = kd("methods")
    assert code == 0 and own_method.KEY in out and "pkd" in out
    assert error.startswith("left out: broken.py, line 1: it is not Python")


def test_a_file_that_cannot_be_taken_ends_the_command(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("x = 1\n")
    assert "broken.py: it has no Method class; write `class MyMethod(Method)`" in refused(
        "distil", "--method-file", tmp_path / "broken.py", *RUN
    )
    assert "absent.py" in refused("work", "--method-file", tmp_path / "absent.py")
    assert "no Method class" in refused("check-method", tmp_path / "broken.py")


def test_settings_that_are_printed_name_the_source_and_hold_to_it(file: Path, tmp_path: Path) -> None:
    code, out, error = kd("distil", "--method-file", file, *RUN, "--dry-run")
    assert code == 0, error
    printed = out.split("\n[", 1)[0]
    settings = yaml.safe_load(printed)
    source = catalog.source_of(own_method.KEY)
    assert source is not None and settings["method_source"] == source.model_dump()
    settings["method_source"]["version"] = "0" * 12
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    assert "version 000000000000, when this run was made" in refused("distil", "--file", tmp_path / "run.yaml")


def test_the_example_holds_the_contract(file: Path) -> None:
    code, out, error = kd("check-method", file)
    assert code == 0, out + error
    lines = out.splitlines()
    assert lines[0] == "Angle KD (angle-kd), angle_kd.py" and lines[-1] == "25 checks hold"
    assert all(line.startswith("ok ") for line in lines[1:-1])
    code, out, _ = kd("check-method", file, "--option", "beta=0.5")
    assert code == 0
    assert "options.beta" in refused("check-method", file, "--option", "beta=-1")


@pytest.mark.parametrize(
    ("old", "new", "check", "words"),
    [
        ("(1 - cosine).mean()", "(1 - cosine).mean().bfloat16()", "bfloat16", "call .float()"),
        ("(1 - cosine).mean()", "(1 - cosine).sum()", "mean over its rows", "means over rows"),
        ('"logits", cls=(self.student_layer,)', '"logits", cls=(1, self.student_layer)', "reads every", "layer 1"),
        ("ge=0, le=100, ", "", "bounds", "beta"),
        ('angle="beta"', 'angel="beta"', "no weight left", "no term angel"),
        ("    shapes ", "    forms ", "docstring", "lacks shapes"),
        ("step.student.cls", "step.student.hidden", "finite float32", "was not declared"),
    ],
)
def test_what_a_method_does_not_hold_is_said_in_its_line(
    file: Path, old: str, new: str, check: str, words: str
) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    code, out, _ = kd("check-method", file)
    assert code == 1 and "checks failed" in out.splitlines()[-1]
    failed = [line for line in out.splitlines() if line.startswith("failed")]
    assert any(check in line and words in line for line in failed), out


@pytest.mark.timeout(900)
def test_workers_that_a_command_starts_see_the_file(file: Path, store: Store) -> None:
    code, _, error = kd("distil", "--method-file", file, *RUN, "--queue")
    assert code == 0, error
    assert store.get(store.waiting()[0]).method_origin == "angle_kd.py"
    _, error = (
        one := process("farm", "here", "--slots", "1", "--device", "cpu", KD_METHOD_FILES=str(file))
    ).communicate(timeout=600)
    assert one.returncode == 0, error
    assert list(store.runs()["state"]) == ["done"] and list(store.runs()["method_origin"]) == ["angle_kd.py"]


@pytest.mark.timeout(900)
def test_a_worker_without_the_file_says_what_is_missing_and_a_resume_with_it_goes_on(file: Path, store: Store) -> None:
    kd("distil", "--method-file", file, *RUN, "--queue")
    (run,) = store.waiting()
    _, error = (one := process("work", "--idle", "0", "--device", "cpu", KD_METHOD_FILES="")).communicate(timeout=600)
    row = store.get(run)
    assert one.returncode == 1 and row.state == "failed", error
    assert "comes from angle_kd.py, which is not here" in row.reason and "--method-file" in row.remedy
    out, error = (one := process("resume", run, KD_METHOD_FILES="")).communicate(timeout=600)
    assert one.returncode == 2 and "which is not here" in error and store.get(run).state == "failed"
    out, error = (one := process("resume", run, "--method-file", str(file), KD_METHOD_FILES="")).communicate(
        timeout=600
    )
    assert one.returncode == 0, error
    assert store.get(run).state == "done"
    out, error = (one := process("show", run, KD_METHOD_FILES="")).communicate(timeout=600)
    assert one.returncode == 0 and own_method.KEY in out


@pytest.mark.timeout(900)
def test_it_is_trained_and_compared_with_pkd(file: Path, store: Store) -> None:
    pkd = tuple("pkd" if word == own_method.KEY else word for word in RUN)
    for arguments in (("--method-file", file, *RUN), pkd):
        code, _, error = kd("distil", *arguments, "--width", "64", "--layers", "2")
        assert code == 0, error
    code, out, error = kd("compare", "--json")
    groups = json.loads(out)["groups"]
    assert code == 0 and {group["label"].partition(",")[0] for group in groups} == {"Angle KD", "Patient KD"}
    assert not any(group["differs"] for group in groups), "both ran under one protocol"
    frame = store.runs()
    assert frame["protocol"].nunique() == 1 and frame["group"].nunique() == 2


def test_a_sweep_takes_a_changed_source_for_another_method(
    file: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = {"layers": 2, "width": 64, "heads": 4, "init": "random"}
    teacher = {"name": "small", "source": "pocket", "where": "small"}
    grid = {"name": "own", "methods": [own_method.KEY], "tasks": ["pocket-sentiment"], "teachers": [teacher],
            "students": [student]}  # fmt: skip
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    for _ in range(2):
        code, _, error = kd("sweep", tmp_path / "grid.yaml", "--method-file", file, "--queue")
        assert code == 0 and len(store.runs()) == 1, error
    changed = own_method.write(tmp_path / "changed", more="\n# another source\n")
    monkeypatch.setenv("KD_METHOD_FILES", "")
    code, _, error = kd("sweep", tmp_path / "grid.yaml", "--method-file", changed, "--queue")
    assert code == 0 and len(store.runs()) == 2, error
    assert store.runs()["group"].nunique() == 2 and store.runs()["protocol"].nunique() == 1
