"""The command line: exit codes, errors in one line, and that what it prints is what was done."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kdcore.cli import app, settings, training
from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.events import Evaluated, Event, Probed, RunFinished, RunStarted, RunStopped, StageStarted, StepDone
from kdcore.paths import run_dir
from kdcore.runs import worker
from kdcore.store import Store, open_store
from tests.helpers.store_factory import add, run_config

TEACHER = ("--teacher", "big=package:minilm:3")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("KD_DATABASE_URL", raising=False)


@pytest.fixture
def store() -> Store:
    return open_store()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """No engine: a run says its lines; "broken" in its name makes it fail. Returns what was trained."""
    trained: list[RunConfig] = []

    def train(run: RunConfig, folder: Path, control: object) -> Iterator[Event]:
        trained.append(run)
        yield RunStarted({"steps": 2, "parameters": 1000})
        yield StageStarted("distil", 0, 1, 2)
        if "broken" in run.name:
            raise UserError("student.width", "does not fit", "choose 384")
        if "ctrl-c" in run.name:
            raise KeyboardInterrupt
        yield StepDone("distil", 2, 2, 1.0, 0.5, {"hard": 0.5}, {"hard": 0.5}, 1e-3, 10.0, 1.0, 0.5)
        yield Evaluated("end", 2, "validation", "best", {"accuracy": 0.5 + 0.01 * run.train.seed}, 10)
        yield RunFinished({"seconds": 1.0})

    monkeypatch.setattr(worker, "_engine", train)
    monkeypatch.setattr(training, "_check", lambda run, refuse: None)
    return trained


def kd(*arguments: object) -> tuple[int, str, str]:
    """Exit code, what was printed, and what was said on stderr."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.exit_code, result.stdout, result.stderr


def refused(*arguments: object) -> str:
    """The one line of an error of the user's; nothing else is said there."""
    code, _, error = kd(*arguments)
    assert code == 2, error
    lines = error.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and "; " in lines[0] and "Traceback" not in error
    return lines[0]


def process(*arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kdcore", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | more,
    )  # fmt: skip


# --- in general ------------------------------------------------------------------------------------------------------


def test_help_is_light_and_says_each_command():
    code = (
        "import sys\nfrom kdcore.cli import app\n"
        "try:\n    app(['--help'], prog_name='kdcore')\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = [m for m in ('torch', 'transformers', 'pandas', 'sqlalchemy', 'streamlit') if m in sys.modules]\n"
        "print('HEAVY', heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr
    for command in (
        "methods", "tasks", "teachers", "distil", "runs", "show", "compare", "resume", "stop", "sweep", "export",
        "import", "report", "cache", "demo", "predict", "push", "robustness",
    ):  # fmt: skip
        assert f"  {command}" in done.stdout


def test_module_runs_as_a_program():
    out, error = (one := process("--help")).communicate(timeout=120)
    assert one.returncode == 0 and "Usage: kdcore" in out and error == ""
    out, error = (one := process("runs")).communicate(timeout=120)
    assert one.returncode == 0 and "no runs" in out
    out, error = (one := process("show", "nope")).communicate(timeout=120)
    assert one.returncode == 2 and error.startswith("error: run: no run 'nope'; ") and out == ""


@pytest.mark.parametrize("arguments", [
    ["nonsense"], ["distil", "--bogus"], ["distil", "--epochs", "many"], ["show"], ["sweep"], ["cache", "nope"],
    ["export"], ["show", "x", "--log", "-1"],
])  # fmt: skip
def test_wrong_usage_is_one_line(arguments):
    assert "command line" in refused(*arguments)


def test_unreadable_database_is_one_line(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "runs.db").write_bytes(b"no database at all, but long enough to be one" * 50)
    assert "runs.db" in refused("runs")


# --- looking ---------------------------------------------------------------------------------------------------------


def test_methods_lists_all_and_explains_one():
    from kdcore.methods import METHODS

    code, out, _ = kd("methods")
    assert code == 0 and all(key in out for key in METHODS)
    code, out, _ = kd("methods", "pkd")
    assert code == 0 and "temperature" in out and METHODS["pkd"].papers[0].title in out and "departs" in out
    assert "nope" in refused("methods", "nope")


def test_methods_of_one_family_and_as_json():
    from kdcore.methods.catalog import catalog

    code, out, _ = kd("methods", "--family", "relation", "--json")
    assert code == 0
    told = json.loads(out)
    assert [one["key"] for one in told] == [key for key, info in catalog().items() if info.family == "relation"]
    minilm = next(one for one in told if one["key"] == "minilm")
    assert minilm["papers"][0]["arxiv"] == "2002.10957" and minilm["teachers"] == [1, 1]
    assert minilm["idea"] == catalog()["minilm"].idea and minilm["defaults"]["value_weight"] == 1.0
    code, out, _ = kd("methods", "--family", "relation")
    assert code == 0 and "minilm-v2" in out and "tinybert" not in out
    assert "soft_targets" in refused("methods", "--family", "nope")
    code, out, _ = kd("methods", "pkd", "--json")
    assert code == 0 and json.loads(out)["family"] == "hidden"


def test_tasks_lists_all_with_their_state():
    from kdcore.tasks import TASKS

    code, out, _ = kd("tasks")
    assert code == 0 and all(key in out for key in TASKS) and "synthetic" in out


def test_teachers_lists_ladder_and_kept_ones(tmp_path):
    kept = tmp_path / "cache" / "teachers" / "mrpc-big-abc"
    kept.mkdir(parents=True)
    (kept / "teacher.json").write_text(json.dumps({"words": "minilm fine-tuned"}))
    (kept.parent / "rte-big-def").mkdir()
    (kept.parent / "rte-big-def" / "teacher.json").write_text("{")
    code, out, _ = kd("teachers")
    assert code == 0 and "pocket:large" in out and "minilm fine-tuned" in out and "damaged" in out


def test_robustness_prints_what_was_measured_and_names_what_cannot_be(store):
    run = add(store, run_config("kd"))
    assert "kept no student" in refused("robustness", run)
    records = [{"severity": severity, "score": 0.9 - severity} for severity in (0.0, 0.1, 0.2, 0.4)]
    moved = [{"severity": step, "score": 0.7 - step} for step in (0.0, 0.01, 0.02, 0.05, 0.1)]
    found = {"student": {"typos": records, "adversarial embeddings": moved}}
    store.record(run, [Probed("robustness", 60, {"models": found})])
    code, out, _ = kd("robustness", run)
    assert code == 0 and "65.0" in out and "5% of" in out, "embeddings have steps of their own"
    assert code == 0 and "typos" in out and "90.0" in out and "50.0" in out, "what is known is not measured again"
    assert "nope" in refused("robustness", "nope")


def test_runs_show_and_compare(store, scripted):
    assert kd("runs")[1].strip() == "no runs"
    assert "no finished run" in refused("compare")
    for seed in range(2):
        kd("distil", "--task", "mrpc", "--method", "kd", *TEACHER, "--seed", seed, "--name", "my [red]kd\x1b[31m")
    ids = list(store.runs().id)
    code, out, _ = kd("runs")
    assert code == 0 and all(run in out for run in ids) and "my [red]kd" in out and "\x1b[31m" not in out
    rows = json.loads(kd("runs", "--json")[1])
    assert [row["id"] for row in rows] == ids and rows[0]["score"] == 0.51
    assert ids[0] in kd("runs", "--state", "done")[1] and "no runs" in kd("runs", "--state", "failed")[1]
    assert "pondering" in refused("runs", "--state", "pondering")
    code, out, _ = kd("show", ids[0], "--log", 3)
    assert code == 0 and "done" in out and "51.0" in out and "finished" in out
    assert json.loads(kd("show", ids[0], "--json")[1])["evaluations"][0]["value"] == 0.51
    code, out, _ = kd("compare")
    assert code == 0 and "50.5" in out and " 2 " in out
    groups = json.loads(kd("compare", "--json")[1])["groups"]
    assert groups[0]["n"] == 2 and groups[0]["mean"] == pytest.approx(0.505)
    assert json.loads(kd("compare", ids[0], "--json")[1])["groups"][0]["n"] == 1
    assert "nope" in refused("compare", "nope")
    assert "no finished run" in refused("compare", "--task", "rte")


def test_show_of_a_damaged_run_still_speaks(store):
    from sqlalchemy import text

    run = store.add_run(RunConfig(task="mrpc", method="kd"))
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET config = '{'"))
    code, out, _ = kd("show", run)
    assert code == 0 and "cannot be read" in out
    assert kd("runs")[0] == 0


# --- settings --------------------------------------------------------------------------------------------------------


def test_flags_file_and_options_make_one_run(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "task: mrpc\nmethod: pkd\ntrain: {epochs: 2, lr: 0.001}\noptions: {beta: 7}\nstudent: {layers: 4}\n"
    )
    run = settings.build(
        file, {"layers": 2, "init_layers": [1, 3], "seed": 5, "name": None}, ["a=package:minilm", "b=pocket:large:2"],
        ["temperature=4", "layers=2,9"], ["train.warmup=0.25", "probes.latency=false"],
    )  # fmt: skip
    assert (run.task, run.method, run.student.layers, run.student.init_layers) == ("mrpc", "pkd", 2, (1, 3))
    assert (run.train.epochs, run.train.lr, run.train.seed, run.train.warmup) == (2, 0.001, 5, 0.25)
    assert run.probes.latency is False
    assert run.options == {
        "alpha": 0.5, "temperature": 4.0, "beta": 7.0, "layers": [2, 9], "normalise": True, "tokens": "cls",
    }  # fmt: skip
    assert [(t.name, t.source, t.where, t.layers) for t in run.teachers] == [
        ("a", "package", "minilm", None), ("b", "pocket", "large", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [
    ("a=folder:/x/y", ("folder", "/x/y", None)), ("a=folder:C:\\models", ("folder", "C:\\models", None)),
    ("a=hub:org/name:6", ("hub", "org/name", 6)), ("a=folder:/x:y:3", ("folder", "/x:y", 3)),
    ("a=run:kd-mrpc-123456", ("run", "kd-mrpc-123456", None)), ("a=folder:12", ("folder", "12", None)),
])  # fmt: skip
def test_teacher_words(text, expected):
    found = settings.teacher(text)
    assert (found["source"], found["where"], found.get("layers")) == expected


def test_printed_settings_are_a_file_that_gives_the_same_run(tmp_path):
    run = settings.with_options(RunConfig(task="mrpc", method="skd", name="ä: #x"), ["sampling=uniform"])
    file = tmp_path / "again.yaml"
    file.write_text(settings.to_yaml(run))
    assert settings.build(file, {}, [], [], []) == run
    file.write_text(json.dumps(run.model_dump(mode="json")))
    assert settings.build(file, {}, [], [], []) == run


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "--task: is missing"),
    (["--task", "mrpc"], "--method: is missing"),
    (["--task", "nope", "--method", "kd"], "task: no task 'nope'"),
    (["--task", "mrpc", "--method", "nope"], "method: no method 'nope'"),
    (["--task", "mrpc", "--method", "kd", "--option", "temprature=2"], "options.temprature"),
    (["--task", "mrpc", "--method", "kd", "--option", "temperature=hot"], "options.temperature"),
    (["--task", "mrpc", "--method", "kd", "--option", "temperature"], "--option"),
    (["--task", "mrpc", "--method", "pkd", "--option", "layers=2,x"], "options.layers"),
    (["--task", "mrpc", "--method", "kd", "--teacher", "minilm"], "--teacher"),
    (["--task", "mrpc", "--method", "kd", "--teacher", "a=ftp:x"], "--teacher"),
    (["--task", "mrpc", "--method", "kd", "--teacher", "A B=package:minilm"], "teachers[0].name"),
    (["--task", "mrpc", "--method", "kd", *TEACHER, *TEACHER], "different names"),
    (["--task", "mrpc", "--method", "kd", "--epochs", "-1"], "train.epochs"),
    (["--task", "mrpc", "--method", "kd", "--init", "magic"], "student.init"),
    (["--task", "mrpc", "--method", "kd", "--init-layers", "1,x"], "--init-layers"),
    (["--task", "mrpc", "--method", "kd", "--set", "train.colour=red"], "train.colour"),
    (["--task", "mrpc", "--method", "kd", "--set", "=3"], "--set"),
    (["--task", "mrpc", "--method", "kd", "--set", "train=3"], "train"),
    (["--file", "absent.yaml"], "absent.yaml"),
    (["--task", "own", "--method", "kd"], "own"),
])  # fmt: skip
def test_wrong_settings_name_the_field(arguments, words, scripted, store):
    assert words in refused("distil", *arguments)
    assert scripted == [] and store.runs().empty


# --- training --------------------------------------------------------------------------------------------------------


def test_distil_prints_settings_and_result(store, scripted):
    code, out, error = kd(
        "distil", "--task", "mrpc", "--method", "kd", *TEACHER, "--seed", 3, "--option", "temperature=8"
    )
    run = store.runs().iloc[0]
    assert code == 0 and error == "" and run.state == "done"
    assert "temperature: 8.0" in out and f"{run.id} done: accuracy 53.0" in out
    assert scripted[0].options["temperature"] == 8.0 and scripted[0].teachers[0].layers == 3


def test_dry_run_and_queue_train_nothing(store, scripted):
    code, out, _ = kd("distil", "--task", "mrpc", "--method", "kd", *TEACHER, "--dry-run")
    assert code == 0 and "method: kd" in out and store.runs().empty
    code, out, _ = kd("distil", "--task", "mrpc", "--method", "kd", *TEACHER, "--queue")
    assert code == 0 and "queued" in out and store.runs().iloc[0].state == "queued" and scripted == []


def test_failed_run_is_code_1_with_reason_and_remedy(store, scripted):
    code, _, error = kd("distil", "--task", "mrpc", "--method", "kd", *TEACHER, "--name", "broken")
    assert code == 1 and error.strip() == "error: student.width: does not fit; choose 384"
    assert store.runs().iloc[0].state == "failed"


def test_ctrl_c_is_130_and_the_run_can_be_resumed(store, scripted):
    code, _, error = kd("distil", "--task", "mrpc", "--method", "kd", *TEACHER, "--name", "ctrl-c")
    run = store.runs().iloc[0]
    assert code == 130 and run.state == "interrupted" and f"resume {run.id}" in error
    store.rename(run.id, "x")
    from sqlalchemy import text

    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET config = replace(config, 'ctrl-c', 'calm')"))
    code, out, _ = kd("resume", run.id)
    assert code == 0 and "done" in out and store.get(run.id).state == "done"
    assert "clone" in refused("resume", run.id)


def test_blocking_check_ends_before_the_run(store, monkeypatch):
    from kdcore.engine import preflight

    line = preflight.Line("block", "teachers.big", "has 3 labels", "choose another")
    monkeypatch.setattr(preflight, "check", lambda plan: preflight.Report((preflight.Line("ok", "task", "fine"), line)))
    arguments = ("distil", "--task", "mrpc", "--method", "kd", *TEACHER)
    assert "teachers.big: has 3 labels; choose another" in refused(*arguments)
    assert store.runs().empty
    code, out, _ = kd(*arguments, "--dry-run")
    assert code == 0 and "[block] teachers.big" in out and "[ok] task" in out


def test_a_dry_run_loads_resolves_and_predicts_once(monkeypatch):
    from kdcore.data import pocket
    from kdcore.engine import plan, preflight

    calls: list[str] = []
    for module, name in ((pocket, "load"), (plan, "resolve"), (preflight, "predict")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, real=real, name=name: (calls.append(name), real(*args))[1])
    student = ("--layers", 2, "--width", 32, "--heads", 2, "--init", "random")
    code, out, _ = kd("distil", "--task", "pocket-sentiment", "--method", "kd", "--teacher", "t=pocket:small",
                      *student, "--dry-run")  # fmt: skip
    assert code == 0 and " GiB memory, " in out and "[block]" not in out
    assert sorted(calls) == ["load", "predict", "resolve"]


def test_run_taken_by_another_process_is_waited_for(store, scripted, monkeypatch):
    def taken(self, run_id=None):
        store.claim("dashboard", "cpu", run_id)
        store.record(run_id, [RunStopped(1, kept=True)])

    monkeypatch.setattr(worker.Worker, "take", taken)
    code, out, _ = kd("distil", "--task", "mrpc", "--method", "kd", *TEACHER)
    assert code == 0 and "another process" in out and "stopped" in out and scripted == []


def test_stop_cancels_a_queued_run_and_asks_a_running_one(store):
    first, second = (store.add_run(RunConfig(task="mrpc", method="kd", name=str(i))) for i in range(2))
    assert "cancelled" in kd("stop", first)[1]
    store.claim("w", "cpu", second)
    assert "asked to stop" in kd("stop", second, "--discard")[1] and store.stop_requested(second) == "discard"
    assert "nothing to stop" in refused("stop", first)


def test_stop_from_another_process_reaches_a_training_command(store):
    """The real program, stopped by the real program."""
    code = (
        "import time\nfrom kdcore.runs import worker\nfrom kdcore.cli import app, training\n"
        "from kdcore.events import *\n"
        "def train(run, folder, control):\n"
        "    yield RunStarted({})\n"
        "    while (stop := control.stop_requested()) is None:\n        time.sleep(0.01)\n"
        "    yield RunStopped(5, kept=stop == 'keep')\n"
        "worker._engine = train\ntraining._check = lambda run, refuse: None\n"
        "app(['distil', '--task', 'mrpc', '--method', 'fine-tune'], prog_name='kdcore')\n"
    )
    one = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while (runs := store.runs(["running"])).empty and time.monotonic() < deadline:
            time.sleep(0.05)
        run = runs.iloc[0].id
        out, error = process("stop", run).communicate(timeout=60)
        assert "asked to stop" in out, error
        out, error = one.communicate(timeout=60)
    finally:
        one.kill()
    assert one.returncode == 0 and "stopped" in out and store.get(run).state == "stopped", error


def test_ctrl_c_of_the_real_program_is_130(store):
    code = (
        # a shell's background job hands down an ignored Ctrl-C
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from kdcore.runs import worker\n"
        "from kdcore.cli import app, training\nfrom kdcore.events import *\n"
        "def train(run, folder, control):\n"
        "    yield RunStarted({})\n"
        "    time.sleep(600)\n"
        "worker._engine = train\ntraining._check = lambda run, refuse: None\n"
        "app(['distil', '--task', 'mrpc', '--method', 'fine-tune'], prog_name='kdcore')\n"
    )
    one = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while store.runs(["running"]).empty and time.monotonic() < deadline:
            time.sleep(0.05)
        one.send_signal(signal.SIGINT)
        _, error = one.communicate(timeout=60)
    finally:
        one.kill()
    assert one.returncode == 130 and "resume" in error and "Traceback" not in error
    assert store.runs().iloc[0].state == "interrupted"


GRID = "{name: pairs, methods: [fine-tune, kd], tasks: [mrpc], seeds: [0, 1]}"


def test_sweep_trains_in_parts_and_ends_with_a_table(store, scripted, tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(GRID)
    code, out, _ = kd("sweep", file, "--dry-run")
    assert code == 0 and "4 runs, 0 done" in out and out.count("new") == 4 and scripted == []
    code, out, _ = kd("sweep", file, "--limit", 1)
    assert code == 0 and len(scripted) == 1
    code, out, _ = kd("sweep", file)
    assert code == 0 and "4 runs, 1 done" in out and len(scripted) == 4 and "Not enough seeds" in out and "50.5" in out
    code, out, _ = kd("sweep", file)
    assert code == 0 and "4 runs, 4 done" in out and len(scripted) == 4 and "50.5" in out


def test_a_dry_sweep_tells_damaged_data_apart(store, tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text("{name: noise, methods: [fine-tune], tasks: [mrpc], data: [{}, {label_fraction: 0.1}]}")
    code, out, _ = kd("sweep", file, "--dry-run")
    assert code == 0 and out.count("new") == 2 and out.count("10 %") == 1


def test_sweep_reports_failures_and_goes_on(store, scripted, tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(GRID.replace("[fine-tune, kd]", "[{method: fine-tune, label: broken}, kd]"))
    code, _, error = kd("sweep", file)
    assert code == 1 and len(scripted) == 4 and error.count("does not fit; choose 384") == 2
    assert sorted(store.runs().state) == ["done", "done", "failed", "failed"]


def test_sweep_leaves_runs_of_another_process_and_says_so(store, scripted, tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(GRID)
    kd("sweep", file, "--queue")
    taken = store.claim("elsewhere", "cpu")
    code, out, error = kd("sweep", file)
    assert code == 0 and error == "" and "1 runs are trained by another process" in out and len(scripted) == 3
    assert store.get(taken).worker == "elsewhere"


def test_sweep_can_queue(store, scripted, tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(GRID)
    assert "4 runs are queued" in kd("sweep", file, "--queue")[1]
    assert list(store.runs().state) == ["queued"] * 4 and scripted == []
    file.write_text("{name: x, methods: [kd]}")
    assert "tasks" in refused("sweep", file)


def test_demo_runs_what_the_engine_says_and_prints_a_table(store, scripted):
    code, out, _ = kd("demo")
    assert code == 0 and scripted[0].method == "fine-tune" and len(scripted) >= 3
    assert "synthetic" in out and "ot enough seeds" in out


# --- keeping ---------------------------------------------------------------------------------------------------------


def test_bundle_out_and_in_again(store, scripted, tmp_path, monkeypatch):
    kd("distil", "--task", "mrpc", "--method", "kd", *TEACHER)
    run = store.runs().iloc[0].id
    assert kd("export", run, "--bundle", "--to", tmp_path / "b.zip")[0] == 0
    assert "exists" in refused("export", run, "--bundle", "--to", tmp_path / "b.zip")
    assert "no student" in refused("export", run, "--to", tmp_path / "model")
    assert "bundle" in refused("export", run, run, "--to", tmp_path / "model")
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / "elsewhere"))
    code, out, _ = kd("import", tmp_path / "b.zip")
    assert code == 0 and out.strip() == run and open_store().get(run).state == "done"
    (tmp_path / "bad.zip").write_bytes(b"nothing")
    assert "bad.zip" in refused("import", tmp_path / "bad.zip")


def test_cache_is_listed_and_cleaned_of_what_no_run_needs(store, scripted, tmp_path):
    kd("distil", "--task", "mrpc", "--method", "kd", *TEACHER)
    kd("distil", "--task", "mrpc", "--method", "kd", *TEACHER, "--name", "broken")
    failed, done = store.runs().id
    for run in (failed, done):
        (run_dir(run) / "checkpoint").mkdir()
        (run_dir(run) / "checkpoint" / "x").write_bytes(b"x" * 2**20)
    orphan, young = run_dir("gone-1"), run_dir("new-1")
    orphan.mkdir()
    young.mkdir()
    os.utime(orphan, (0, 0))
    outside = tmp_path / "outside"
    outside.mkdir()
    run_dir("link-1").symlink_to(outside)
    assert "runs" in kd("cache", "list")[1]
    assert "would free 1.0 MiB" in kd("cache", "gc", "--dry-run")[1] and orphan.exists()
    code, out, _ = kd("cache", "gc")
    assert code == 0 and "freed 1.0 MiB" in out
    assert not orphan.exists() and young.exists() and outside.exists()
    assert not (run_dir(done) / "checkpoint").exists() and (run_dir(failed) / "checkpoint").exists()


def test_real_run_is_exported_as_a_model_that_predicts_the_same(store, tmp_path):
    """The whole way with the real engine: train, export, load with transformers alone."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from kdcore.data import load

    arguments = (
        "--task", "pocket-sentiment", "--method", "fine-tune", "--layers", 1, "--width", 16, "--heads", 2, "--init",
        "random", "--max-steps", 3, "--max-train-rows", 64, "--max-length", 32, "--threads", 1, "--precision", "fp32",
        "--set", "probes.latency=false",
    )  # fmt: skip
    code, out, error = kd("distil", *arguments)
    assert code == 0, out + error
    assert "[ok]" in out and "about " in out
    run = store.runs().iloc[0].id
    assert kd("export", run, "--to", tmp_path / "model")[0] == 0
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model", local_files_only=True)
    texts = list(load("pocket-sentiment").splits["validation"].texts[0])[:32]
    batch = tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits.numpy()
    kept = np.load(run_dir(run) / "predictions" / "validation.student.npz", allow_pickle=False)
    assert np.allclose(kept["logits"][:32], logits, atol=1e-4)


@pytest.mark.parametrize(
    ("chosen", "expected"), [({}, "3000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"), ({"GOMP_SPINCOUNT": "7"}, "7")]
)
def test_waiting_threads_soon_sleep_unless_a_person_chose_otherwise(chosen, expected):
    """Threads that spin for long take each other's cores as soon as a second program runs."""
    own = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    environment = {name: value for name, value in os.environ.items() if name not in own} | chosen
    code = "import os, sys, kdcore; assert 'torch' not in sys.modules; print(os.environ.get('GOMP_SPINCOUNT'))"
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == expected
