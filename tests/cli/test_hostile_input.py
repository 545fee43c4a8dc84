"""Hostile flags, files and folders on the command line: one line that names the field, and no traceback."""

import json
import os
import zipfile

import pytest
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.cli.settings import build
from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.runs import sweep
from kdcore.settings_file import read_settings, validate

NUMBER = "9" * 5000


def refused(*arguments):
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert outcome.exit_code == 2 and outcome.output.count("error:") == 1, (outcome.output, outcome.exception)
    return outcome.output


@pytest.mark.parametrize("value", ["2020-99-99", NUMBER, "2020-01-01 99:99:99", "0x" + "f" * 5000])
def test_yaml_values_that_are_no_dates_and_numbers(tmp_path, value):
    flags = {"task": "mrpc", "method": "kd"}
    for option, other in (([f"temperature={value}"], []), ([], [f"train.lr={value}"])):
        with pytest.raises(UserError):
            build(None, {**flags}, ["a=pocket:small"], option, other)
    (tmp_path / "a.yaml").write_text(f"task: mrpc\nmethod: kd\nname: {value}\n")
    for arguments in (("distil", "--file", tmp_path / "a.yaml"), ("sweep", tmp_path / "a.yaml")):
        assert "Traceback" not in refused(*arguments)


def test_devices_and_folders_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", "/dev/null", tmp_path, tmp_path / "pipe"):
        with pytest.raises(UserError, match="file"):
            read_settings(type(tmp_path)(path))
        assert "regular file" in refused("import", path)


def test_names_and_folders_that_cannot_be(tmp_path):
    assert "no run" in refused("show", "a\udcff")
    start = ("distil", "--task", "pocket-sentiment", "--method", "kd", "--teacher")
    assert "~nosuch" in refused(*start, "x=folder:~nosuch/x")


def test_sweep_of_a_million_runs_is_refused_at_once():
    grid = sweep.Grid(name="g", methods=["fine-tune"], tasks=["mrpc"], seeds=tuple(range(1_000_000)))
    with pytest.raises(UserError, match=r"1,000,000 runs"):
        sweep.expand(grid)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"student": {"width": 33, "heads": 2}}, "multiple of heads"),
        ({"train": {"accumulate": 3}}, "multiple of accumulate"),
        ({"name": "x" * 300}, "200 characters"),
        ({"teachers": [{"name": "a", "source": "pocket", "where": "small"}] * 2}, "name of its own"),
        ({"student": {"init": "checkpoint"}}, "student.checkpoint"),
        ({"student": {"init_layers": [1]}}, "as many layers"),
        ({"task": "own"}, "field own"),
        ({"nonsense": 1}, "fields are name"),
    ],
)
def test_checks_over_several_fields_have_a_remedy_of_their_own(changes, remedy):
    with pytest.raises(UserError) as caught:
        validate(RunConfig, {"task": "mrpc", "method": "kd", **changes})
    assert remedy in caught.value.remedy and caught.value.field


@pytest.mark.parametrize(
    ("name", "value"), [("created", float("nan")), ("parameters", 2**70), ("created", 1e300), ("score", 1e15)]
)
def test_numbers_of_a_bundle_that_fit_no_column(tmp_path, name, value):
    from kdcore.runs import bundle
    from kdcore.store import open_store

    store = open_store()
    run = store.add_run(RunConfig(task="mrpc", method="fine-tune"))
    store.cancel(run)
    bundle.export_runs(store, [run], tmp_path / "good.zip")
    with zipfile.ZipFile(tmp_path / "good.zip") as good, zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        for member in good.namelist():
            content = good.read(member)
            if member.endswith("run.json"):
                content = json.dumps({**json.loads(content), name: value}).encode()
            bad.writestr(member, content)
    store.delete(run)
    assert name in refused("import", tmp_path / "bad.zip")
    assert store.runs(include_archived=True).empty


@pytest.mark.parametrize("more", [[], ["--bundle"]])
def test_target_of_an_export_that_no_system_takes(tmp_path, more):
    from kdcore.paths import run_dir
    from kdcore.store import open_store

    store = open_store()
    run = store.add_run(RunConfig(task="mrpc", method="fine-tune"))
    store.cancel(run)
    (run_dir(run) / "student-best").mkdir(parents=True)
    (run_dir(run) / "student-best" / "config.json").write_text("{}")
    assert "--to" in refused("export", run, "--to", "/tmp/" + "x" * 300 + "/y", *more)
