"""`kdcore search`, `kdcore searches` and `kdcore tune`: what they print, and what a person can get wrong."""

import json
import os
import signal
import time

import pytest
import yaml
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.runs import worker
from kdcore.search import record


@pytest.fixture
def kd(store, script, monkeypatch):
    """Runs a command with scripted trainings: exit code, and what it printed."""
    monkeypatch.setattr(worker, "_engine", script)

    def go(*arguments):
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return done.exit_code, " ".join(done.output.split())

    return go


@pytest.fixture
def file(asked, tmp_path):
    path = tmp_path / "question.yaml"
    path.write_text(yaml.safe_dump(asked({"parameters": 1e9}).model_dump(mode="json")))
    return path


def test_a_file_and_flags_make_one_question_and_the_answer_is_printed(kd, file, script):
    script.score = lambda run: 0.5 + 0.1 * run.student.layers
    code, text = kd("search", file, "--minutes", "30", "--trials", "2", "--size", "layers=2", "--method", "kd")
    assert code == 0, text
    asked = record.read("tiny").asked
    assert (asked.minutes, asked.trials, asked.sizes, asked.methods) == (30, 2, ({"layers": 2},), ("kd",))
    assert "Recommended: kd on 2 layers" in text and "1 G are allowed" not in text and "are allowed" in text
    code, text = kd("searches", "tiny", "--json")
    shown = json.loads(text)
    assert code == 0 and [trial["size"] for trial in shown["trials"]] == ["2 layers"] * 2
    assert kd("searches") == (0, "tiny")


def test_ctrl_c_says_how_to_go_on(kd, file, script):
    script.dies = lambda run: True
    code, text = kd("search", file)
    assert code == 130 and "interrupted; the same command goes on" in text
    script.dies = lambda run: False
    assert kd("search", file)[0] == 0


def test_a_search_that_is_asked_to_end_releases_its_run(kd, file, script, store):
    before = signal.getsignal(signal.SIGTERM)
    script.dies = lambda run: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5)
    code, text = kd("search", file)
    assert code == 130 and "interrupted; the same command goes on" in text
    assert list(store.runs()["state"]) == ["interrupted"] and signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--runtime", "tflite"), "error: bound.runtime:"),
        (("--parameters", "10"), "error: bound.parameters: no size keeps to 10"),
        (("--size", "huge"), "error: sizes[0]: no size 'huge'; choose of"),
        (("--teacher", "nonsense"), "error: --teacher:"),
    ],
)
def test_mistakes_are_one_line(kd, file, flags, words):
    code, text = kd("search", file, *flags)
    assert code == 2 and words in text


def test_a_search_that_is_not_there_is_named(kd):
    code, text = kd("searches", "nope")
    assert code == 2 and "no search 'nope'; there are: none" in text


def test_tuning_prints_how_the_options_were_chosen(kd, asked, tmp_path, script):
    script.score = lambda run: 0.9 - abs(run.options["alpha"] - 0.8)
    settings = {"name": "options", "run": asked({"parameters": 1e9}).run | {"student": {"layers": 2}}, "trials": 3,
                "methods": ["kd"], "seeds": [0, 1]}  # fmt: skip
    settings["run"]["student"]["init"] = "teacher"
    path = tmp_path / "tuning.yaml"
    path.write_text(yaml.safe_dump(settings))
    code, text = kd("tune", path)
    assert code == 0 and "kd: 3 trials, best by select: alpha" in text and "tuned with 3 trials" in text
