"""Two computers with one database and no common disk: what one began, the other ends, bit for bit."""

import errno

import pytest
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.config import FineTune, TeacherSpec
from kdcore.events import Checkpointed, RunFinished, RunStarted
from kdcore.paths import cache_subdir, run_dir
from kdcore.remote import files_of, open_remote
from kdcore.runs import work as work_module
from kdcore.runs.remote_runs import fetch_run, push_run
from kdcore.runs.work import work
from kdcore.runs.worker import StopNow, Worker
from kdcore.store import open_store
from tests.helpers import kill_process
from tests.helpers import tiny_task as world


@pytest.fixture
def on(tmp_path, monkeypatch):
    """`on("a")`: from here on this is computer a, with a disk of its own."""
    monkeypatch.setenv("KD_DATABASE_URL", f"sqlite:///{tmp_path / 'shared.db'}")
    monkeypatch.setenv("KD_REMOTE", f"file://{tmp_path / 'place'}")
    monkeypatch.setattr("kdcore.data.pocket.load", world.data)

    def go(name):
        monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / name))

    go("a")
    return go


@pytest.fixture
def store(on):
    return open_store()


@pytest.fixture
def tuned(tmp_path):
    """A teacher that is trained where it is first needed."""
    home = tmp_path / "base"
    world.model(layers=3, seed=3).bert.save_pretrained(home)
    world.tokenizer().save_pretrained(home)
    recipe = FineTune(epochs=2, lr=5e-3, batch_size=16)
    return TeacherSpec(name="tuned", source="folder", where=str(home), fine_tune=recipe)


def students(run):
    return {name: (run_dir(run) / name / "model.safetensors").read_bytes() for name in ("student-best", "student-last")}


def log_of(run):
    return (run_dir(run) / "log.txt").read_text()


@pytest.mark.parametrize("method", ["fine-tune", "kd"])
def test_run_that_was_killed_here_goes_on_there(on, store, tuned, monkeypatch, method):
    setting = world.run(method, [tuned] if method == "kd" else [], checkpoint_every=3, evaluate_every=2, epochs=3)
    straight, run = store.add_run(setting), store.add_run(setting)
    on("straight")
    with monkeypatch.context() as alone:
        alone.delenv("KD_REMOTE")
        assert kill_process.in_a_process(kill_process.work, straight) == 0
    wanted = students(straight)
    on("a")
    assert kill_process.in_a_process(kill_process.work_and_die_at_checkpoint, run, 3) == -9
    assert store.take_up() == [run]
    on("b")
    assert not run_dir(run).exists()
    assert kill_process.in_a_process(kill_process.work, run) == 0
    row = store.get(run)
    assert row.state == "done" and row.facts["resumed_at"] == 6 and row.facts["exact_resume"]
    assert students(run) == wanted
    assert list(store.metrics(run, kinds=["loss"]).step) == list(store.metrics(straight, kinds=["loss"]).step)
    if method == "kd":
        here, there = log_of(run).split("started ")[:2]
        assert "training teacher" in here and "training teacher" not in there
    on("c")  # where somebody only looks
    outcome = CliRunner().invoke(app, ["cache", "pull", run])
    assert outcome.exit_code == 0 and "fetched" in outcome.output and students(run) == wanted
    assert not (run_dir(run) / "checkpoint").exists()


def test_teachers_and_their_answers_are_made_once(on, store, tuned):
    first, second = (store.add_run(world.run("kd", [tuned], seed=seed)) for seed in (0, 1))
    ended = {}
    for computer, run in (("a", first), ("b", second)):
        on(computer)
        assert work(Worker(store, "auto"), runs=1, idle=0) == {run: "done"}
        ended[computer] = store.get(run)
        kept = {path.name for path in cache_subdir("teachers").iterdir() if path.is_dir()}
        assert len(kept) == 1
    assert ended["a"].facts["teachers"] == ended["b"].facts["teachers"]
    assert ended["a"].summary["cache"]["misses"] == 90
    assert ended["b"].summary["cache"]["misses"] == 0 and ended["b"].summary["cache"]["hits"] == 90
    assert "training teacher" in log_of_on(on, "a", first) and "training teacher" not in log_of_on(on, "b", second)


def log_of_on(on, computer, run):
    on(computer)
    return log_of(run)


def test_damaged_answers_there_are_made_again_here(on, store, tuned):
    first, second = (store.add_run(world.run("kd", [tuned], seed=seed)) for seed in (0, 1))
    assert work(Worker(store, "auto"), runs=1, idle=0) == {first: "done"}
    remote = open_remote()
    for path in remote.system.find(f"{remote.root}/outputs"):
        if not path.endswith(".json"):
            remote.system.pipe_file(path, b"hurt")
    on("b")
    assert work(Worker(store, "auto"), runs=1, idle=0) == {second: "done"}
    assert store.get(second).summary["cache"]["misses"] == 90
    assert "is not as it was written" in log_of(second)


def training(*said):
    """A training that writes its step into its folder and says these events."""

    def train(run, folder, control):
        yield RunStarted({"steps": 9})
        for event in said:
            if isinstance(event, Checkpointed):
                place = folder / "checkpoint" / f"00-{event.step:08d}"
                place.mkdir(parents=True)
                (place / "place.json").write_text(str(event.step))
            yield event

    return train


def reached(run):
    return sorted(path.name for path in (run_dir(run) / "checkpoint").iterdir())


def break_off(*_):
    raise StopNow


def test_place_that_is_full_costs_no_training(on, store, monkeypatch):
    run = store.add_run(world.run("fine-tune"))
    remote = open_remote()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(remote.system), "mv", full)
    ended = work(Worker(store, "cpu", training(Checkpointed("s", 3), RunFinished({})), again=True), runs=1)
    assert ended == {run: "done"} and log_of(run).count("no room") == 2
    monkeypatch.undo()
    on("a")


def test_run_waits_and_is_not_begun_anew_where_the_place_is_away(on, store, monkeypatch):
    """Its checkpoint may be there. Its worker waits too, and the outage is no fault of the run."""
    run = store.add_run(world.run("fine-tune"))
    system, tries, seen = type(open_remote().system), [], []
    opened = system.open

    def away_twice(*place, **how):
        if len(tries) < 2:
            tries.append(store.get(run).state)
            raise ConnectionError("away")
        return opened(*place, **how)

    monkeypatch.setattr(system, "open", away_twice)
    monkeypatch.setattr(work_module, "LOOK_SECONDS", 0.01)
    worker = Worker(store, "cpu", training(RunFinished({})), again=True)
    assert work(worker, runs=1, on_start=seen.append) == {run: "done"}
    assert seen == [run] * 3 and tries == ["starting"] * 2
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT lost FROM runs").scalar() == 0


def test_worker_that_lost_its_run_pushes_nothing(on, store):
    run = store.add_run(world.run("fine-tune"))

    def train(config, folder, control):
        yield from training(Checkpointed("s", 3))(config, folder, control)
        with store.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE runs SET worker = 'another'")
        (folder / "checkpoint" / "00-00000006").mkdir()
        (folder / "checkpoint" / "00-00000006" / "place.json").write_text("6")
        yield Checkpointed("s", 6)

    worker = Worker(store, "cpu", train)
    worker.take(run)
    worker.drive(run)
    assert store.get(run).worker == "another"
    assert "checkpoint/00-00000006/place.json" not in open_remote().files(f"runs/{run}")


@pytest.mark.parametrize(("here", "there", "after"), [(3, 6, 6), (6, 3, 6), (6, 6, 6)])
def test_folder_that_is_further_counts(on, store, here, there, after):
    run = store.add_run(world.run("fine-tune"))
    for computer, step in (("a", there), ("b", here)):
        on(computer)
        place = run_dir(run) / "checkpoint" / f"00-{step:08d}"
        place.mkdir(parents=True)
        (place / "place.json").write_text(computer)
        if computer == "a":
            push_run(run)
    assert fetch_run(run) is (there > here)
    assert reached(run) == [f"00-{after:08d}"]


def test_run_that_ended_elsewhere_takes_the_place_of_a_checkpoint_here(on, store):
    run = store.add_run(world.run("fine-tune"))
    (run_dir(run) / "checkpoint" / "00-00000003").mkdir(parents=True)
    (run_dir(run) / "checkpoint" / "00-00000003" / "place.json").write_text("3")
    on("b")
    (run_dir(run) / "student-last").mkdir(parents=True)
    (run_dir(run) / "student-last" / "config.json").write_text("{}")
    assert CliRunner().invoke(app, ["cache", "push", run]).output == f"{run}: pushed\n"
    on("a")
    assert CliRunner().invoke(app, ["cache", "pull", run]).output == f"{run}: fetched\n"
    assert sorted(files_of(run_dir(run))) == ["student-last/config.json"]
    assert CliRunner().invoke(app, ["cache", "pull", run]).output == f"{run}: nothing newer is there\n"


def test_commands_say_what_is_missing(on, store, monkeypatch):
    run = store.add_run(world.run("fine-tune"))
    assert "no folder of" in CliRunner().invoke(app, ["cache", "push", run]).output
    store.claim("w", "cpu")
    for command in ("pull", "push"):
        assert "is being trained" in CliRunner().invoke(app, ["cache", command, run]).output
    monkeypatch.delenv("KD_REMOTE")
    assert "KD_REMOTE: is not set" in CliRunner().invoke(app, ["cache", "pull", run]).output


def test_worker_does_not_begin_with_a_place_that_cannot_be_used(on, store, monkeypatch):
    store.add_run(world.run("fine-tune"))
    monkeypatch.setenv("KD_REMOTE", "nosuch://place")
    for arguments in (["work", "--idle", "0"], ["farm", "here", "--slots", "1"]):
        outcome = CliRunner().invoke(app, arguments)
        assert outcome.exit_code == 2 and "KD_REMOTE: nosuch://place is no address" in outcome.output
    assert store.waiting()
