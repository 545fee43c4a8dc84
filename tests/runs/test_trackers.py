"""A run's history in a tracker: the same names and numbers live and afterwards; a tracker never ends a run."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from kdcore import events
from kdcore.errors import UserError
from kdcore.events import Evaluated, RunFinished, RunStarted, StageStarted, StepDone
from kdcore.paths import run_dir
from kdcore.runs import trackers
from kdcore.runs.trackers import export_history, flat, values_of
from kdcore.runs.worker import Worker
from kdcore.store import open_store
from tests.helpers.store_factory import run_config

STEP = StepDone("distil", 3, 9, 0.5, 1.5, {"soft": 2.0}, {"soft": 1.0}, 1e-3, 90.0, 4.0, 0.7, notes={"drawn": 0.25})
SCORES = Evaluated("distil", 3, "select", "last", {"accuracy": 0.5}, 10)
EXPECTED = {
    "loss": 1.5, "lr": 1e-3, "gradient_norm": 0.7, "speed/examples_per_second": 90.0, "raw/soft": 2.0,
    "weighted/soft": 1.0, "note/drawn": 0.25, "select/last/accuracy": 0.5,
}  # fmt: skip


@pytest.fixture
def store(own_cache):
    return open_store()


@pytest.fixture
def run(store):
    made = store.add_run(run_config("kd"))
    store.record(made, [RunStarted({"steps": 9}), STEP, SCORES, RunFinished({"seconds": 5.0})])
    return made


class Kept:
    """In place of a package's run: keeps what it is told."""

    def __init__(self):
        self.logged, self.closed = {}, None

    def log(self, values, step, at):
        self.logged.update({(name, step): value for name, value in values.items()})

    def close(self, state):
        self.closed = state


def test_events_and_the_store_have_the_same_names(store, run, monkeypatch):
    assert {**values_of(STEP), **values_of(SCORES)} == EXPECTED and values_of(RunStarted({})) == {}
    kept = Kept()
    monkeypatch.setattr(trackers, "open_tracker", lambda *about: kept)
    assert export_history(store, run, "tensorboard") == len(EXPECTED)
    assert kept.logged == {(name, 3): value for name, value in EXPECTED.items()} and kept.closed == "done"


def test_tensorboard_reads_what_was_written(store, run, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    export_history(store, run, "tensorboard", tmp_path)
    seen = EventAccumulator(str(tmp_path / run)).Reload()
    found = {tag: seen.Scalars(tag) for tag in seen.Tags()["scalars"]}
    assert {tag: one.value for tag, (one,) in found.items()} == pytest.approx(EXPECTED)
    row = store.get(run)
    assert {one.step for (one,) in found.values()} == {3}
    assert found["loss"][0].wall_time == pytest.approx((row.started or row.created) + 4.0)


def mlflow_double(monkeypatch):
    """mlflow, as far as it is used."""
    seen = SimpleNamespace(metrics=[], params={}, made=[], ended=[], uris=[])

    class Client:
        def __init__(self, tracking_uri):
            seen.uris.append(tracking_uri)

        def get_experiment_by_name(self, name):
            return SimpleNamespace(experiment_id="1") if seen.made else None

        def create_experiment(self, name):
            return "1"

        def search_runs(self, experiments, filter_string, max_results):
            known = [tags for tags in seen.made if f"tags.kdboard = '{tags['kdboard']}'" == filter_string]
            return [SimpleNamespace(info=SimpleNamespace(run_id="r")) for _ in known]

        def create_run(self, experiment, tags, run_name):
            seen.made.append(tags)
            return SimpleNamespace(info=SimpleNamespace(run_id="r"))

        def update_run(self, run_id, status):
            assert status == "RUNNING"

        def log_batch(self, run_id, metrics=(), params=()):
            assert run_id == "r" and len(params) <= 100
            seen.metrics += metrics
            seen.params.update(params)

        def set_terminated(self, run_id, status):
            seen.ended.append(status)

    package = ModuleType("mlflow")
    package.MlflowClient = Client
    package.entities = SimpleNamespace(Metric=lambda *about: about, Param=lambda *about: about)
    monkeypatch.setitem(sys.modules, "mlflow", package)
    return seen


def test_mlflow_has_settings_values_and_the_end_and_goes_on_in_the_same_run(store, run, monkeypatch, tmp_path):
    seen = mlflow_double(monkeypatch)
    export_history(store, run, "mlflow", tmp_path / "here")
    assert {(name, value, step) for name, value, _, step in seen.metrics} == {(n, v, 3) for n, v in EXPECTED.items()}
    assert seen.params["method"] == "kd" and seen.ended == ["FINISHED"] and seen.made == [{"kdboard": run}]
    assert seen.uris == [f"sqlite:///{tmp_path / 'here' / 'mlflow.db'}"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    export_history(store, run, "mlflow")
    assert len(seen.made) == 1 and seen.uris[-1] == "http://127.0.0.1:5000"


def test_weights_and_biases_is_offline(store, run, monkeypatch, tmp_path):
    asked, logged, ended = {}, [], []
    package = ModuleType("wandb")
    package.init = lambda **settings: (
        asked.update(settings)
        or SimpleNamespace(
            log=logged.append,
            finish=lambda exit_code: ended.append(exit_code),
            define_metric=lambda *name, **more: None,
        )
    )
    monkeypatch.setitem(sys.modules, "wandb", package)
    export_history(store, run, "wandb", tmp_path)
    assert asked["mode"] == "offline" and asked["id"] == run and asked["dir"] == str(tmp_path)
    assert {name: value for values in logged for name, value in values.items() if name not in ("step", "time")} == (
        EXPECTED
    )
    assert {values["step"] for values in logged} == {3} and ended == [0]


def test_an_unknown_tracker_and_an_absent_package_are_named(store, run, monkeypatch):
    with pytest.raises(UserError, match="no tracker 'aim'; choose of tensorboard, mlflow, wandb"):
        export_history(store, run, "aim")
    for kind in trackers.KINDS:
        monkeypatch.setitem(sys.modules, kind, None)
        with pytest.raises(UserError, match=rf"{kind} is not installed; install it with .*kdboard\[{kind}\]"):
            export_history(store, run, kind)


def test_settings_are_flat_and_name_no_folder_of_this_machine(tmp_path):
    found = flat(run_config("kd", student={"init": "checkpoint", "checkpoint": str(tmp_path / "weights")}))
    assert found["student.checkpoint"] == "weights" and found["teachers.0.name"] == "large" and found["train.seed"] == 0


def script(*said):
    def train(run, folder, control):
        yield from said
        if not isinstance(said[-1], RunFinished):
            raise RuntimeError("it broke")

    return train


@pytest.fixture
def drive(store):
    """Trains a run that says this; its state, and its log."""

    def go(*said):
        run_id = store.add_run(run_config("kd"))
        worker = Worker(store, "auto", script(*said), can={"auto": 1e12})
        assert worker.take(run_id) == run_id
        return worker.drive(run_id), (run_dir(run_id) / "log.txt").read_text()

    return go


BEGIN = (RunStarted({"steps": 9}), StageStarted("distil", 0, 1, 9))


def test_a_run_is_followed_while_it_goes_on(drive, monkeypatch):
    kept = Kept()
    monkeypatch.setenv("KD_TRACKER", "tensorboard")
    monkeypatch.setattr(trackers, "open_tracker", lambda *about: kept)
    state, _ = drive(*BEGIN, STEP, SCORES, RunFinished({"seconds": 5.0}))
    assert (state, kept.closed) == ("done", "done")
    assert kept.logged == {(name, 3): value for name, value in EXPECTED.items()}
    state, _ = drive(*BEGIN, STEP)
    assert (state, kept.closed) == ("failed", "failed")


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(drive, monkeypatch):
    monkeypatch.setenv("KD_TRACKER", "aim")
    state, said = drive(*BEGIN, STEP, RunFinished({"seconds": 5.0}))
    assert state == "done" and "not tracked: KD_TRACKER: tracker: no tracker 'aim'" in said

    class Full(Kept):
        def log(self, values, step, at):
            self.logged[step] = 1
            raise OSError("no space left")

    full = Full()
    monkeypatch.setenv("KD_TRACKER", "wandb")
    monkeypatch.setattr(trackers, "open_tracker", lambda *about: full)
    second = events.StepDone("distil", 4, 9, 0.5, 1.5, {}, {}, 1e-3, 90.0, 4.0, 0.7)
    state, said = drive(*BEGIN, STEP, second, RunFinished({"seconds": 5.0}))
    assert state == "done" and set(full.logged) == {3} and said.count("no space left") == 1


def test_the_command_writes_the_history_and_takes_no_student(store, run, monkeypatch, tmp_path):
    from typer.testing import CliRunner

    from kdcore.cli import app

    kept = Kept()
    monkeypatch.setattr(trackers, "open_tracker", lambda kind, run_id, settings, folder: kept)
    done = CliRunner().invoke(app, ["export", run, "--to-tracker", "tensorboard", "--to", str(tmp_path)])
    assert done.exit_code == 0 and f"{run}: {len(EXPECTED)} values to tensorboard" in done.output
    done = CliRunner().invoke(app, ["export", run, "--to-tracker", "tensorboard", "--onnx"])
    assert done.exit_code == 2 and "a tracker takes a run's history, no student" in done.output
    done = CliRunner().invoke(app, ["export", run])
    assert done.exit_code == 2 and "error: --to: it is not said where to" in done.output
