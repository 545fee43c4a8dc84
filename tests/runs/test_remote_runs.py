"""Two computers with one database and no common disk: what one began, the other ends, bit for bit."""

import errno
import shutil

import pytest
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.config import FineTune, TeacherSpec
from kdcore.disk import FullDiskError, full_disk
from kdcore.errors import UserError
from kdcore.events import Checkpointed, RunFinished, RunStarted
from kdcore.paths import cache_subdir, run_dir
from kdcore.remote import MANIFEST, Remote, files_of, open_remote
from kdcore.runs import work as work_module
from kdcore.runs.export import student_folder
from kdcore.runs.remote_runs import _claims, _newest, fetch_run, push_run
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


def test_teachers_and_their_answers_are_made_once(on, store, place, tuned):
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


def steps_there(run):
    """Checkpoints that a computer without a disk would go on from."""
    newest = _newest(open_remote(), run)
    return [name.split("/")[1] for name in newest[1] if name.startswith("checkpoint/")]


def write_checkpoint(folder, step):
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    place = folder / "checkpoint" / f"00-{step:08d}"
    place.mkdir(parents=True)
    (place / "place.json").write_text(str(step))
    return Checkpointed("s", step)


class CutOff:
    """A store whose database does not answer while `away` is set."""

    def __init__(self, store):
        self.store, self.away = store, False

    def __getattr__(self, name):
        if self.away:
            raise UserError("database", "does not answer", "wait")
        return getattr(self.store, name)


def lose_lease(store, run):
    """As if more time than a lease's had passed since the worker was last heard of."""
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE runs SET lease_until = 0, host = 'another boot'")
    assert store.take_up() == [run]


def go_on_elsewhere(on, store, run, step):
    """Computer b takes the run, pushes this checkpoint and is lost."""

    def train(config, folder, control):
        yield RunStarted({"steps": 99})
        assert (folder / "checkpoint" / "00-00000003").is_dir()
        yield write_checkpoint(folder, step)
        raise StopNow

    on("b")
    worker = Worker(store, "cpu", train, again=True)
    assert worker.take() == run
    worker.drive(run)
    on("a")


@pytest.fixture(params=["file", "memory", "s3"])
def place(request, store, tmp_path, monkeypatch):
    if request.param == "memory":
        monkeypatch.setenv("KD_REMOTE", f"memory://{tmp_path.name}")
    elif request.param == "s3":
        monkeypatch.setenv("KD_REMOTE", request.getfixturevalue("bucket"))


def test_worker_that_is_cut_from_the_database_replaces_nothing(on, store, place):
    """It reaches the place, not the database, and its lease runs out. Its own checkpoint is further."""
    run, cut = store.add_run(world.run("fine-tune")), CutOff(store)

    def train(config, folder, control):
        yield RunStarted({"steps": 99})
        yield write_checkpoint(folder, 3)
        cut.away = True
        lose_lease(store, run)
        go_on_elsewhere(on, store, run, 6)
        yield write_checkpoint(folder, 9)
        assert steps_there(run) == ["00-00000006"]
        cut.away = False
        yield write_checkpoint(folder, 12)
        pytest.fail("it had lost its run")

    worker = Worker(cut, "cpu", train, again=True)
    assert worker.take() == run
    assert worker.drive(run) == "queued"
    assert "not pushed: database" in log_of(run)
    on("c")
    assert fetch_run(run) and reached(run) == ["00-00000006"]


def test_worker_that_stands_still_within_a_push_replaces_nothing(on, store, place, monkeypatch):
    """Its lease held when it asked for the last time; another has taken the run before it names what it sent."""
    run, real, asleep = store.add_run(world.run("fine-tune")), Remote._put, []

    def put(self, name, file, write):
        if file == MANIFEST and steps_there(run) == ["00-00000003"] and not asleep:
            asleep.append(name)
            lose_lease(store, run)
            go_on_elsewhere(on, store, run, 6)
        return real(self, name, file, write)

    def train(config, folder, control):
        yield RunStarted({"steps": 99})
        yield write_checkpoint(folder, 3)
        monkeypatch.setattr(Remote, "_put", put)
        yield write_checkpoint(folder, 9)
        control.before_saving()
        pytest.fail("it had lost its run")

    worker = Worker(store, "cpu", train, again=True)
    assert worker.take() == run
    assert worker.drive(run) == "queued" and len(asleep) == 1
    assert steps_there(run) == ["00-00000006"]
    on("c")
    assert fetch_run(run) and reached(run) == ["00-00000006"]


def test_later_claim_removes_what_earlier_ones_pushed(on, store, place):
    run = store.add_run(world.run("fine-tune"))
    write_checkpoint(run_dir(run), 3)
    push_run(run, 7)
    write_checkpoint(run_dir(run), 6)
    push_run(run, 10**9)
    push_run(run, 8)  # a worker that stood still
    assert steps_there(run) == ["00-00000006"]
    assert _claims(open_remote(), run) == [f"{8:016d}", f"{10**9:016d}"]
    push_run(run, 10**9)
    assert _claims(open_remote(), run) == [f"{10**9:016d}"]


def test_folder_that_is_removed_while_it_is_read_is_read_from_the_next_claim(on, store, place, monkeypatch):
    run = store.add_run(world.run("fine-tune"))
    write_checkpoint(run_dir(run), 3)
    push_run(run, 1)
    real, done = Remote._download, []

    def download(self, *what):
        if not done:
            done.append(1)
            on("a")
            write_checkpoint(run_dir(run), 6)
            push_run(run, 2)
            on("b")
        real(self, *what)

    monkeypatch.setattr(Remote, "_download", download)
    on("b")
    assert fetch_run(run) and reached(run) == ["00-00000006"]


def test_full_disk_here_gives_the_run_to_another_computer(on, store, monkeypatch):
    run = store.add_run(world.run("fine-tune"))
    write_checkpoint(run_dir(run), 3)
    push_run(run, 1)
    on("b")

    def full(*_):
        raise full_disk()

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "_download", full)
        with pytest.raises(FullDiskError, match="KD_CACHE_DIR"):
            work(Worker(store, "cpu", training(RunFinished({})), again=True), runs=1)
    assert not run_dir(run).exists() and "is full" in store.get(run).reason
    on("c")
    assert work(Worker(store, "cpu", training(RunFinished({})), again=True), runs=1) == {run: "done"}


def test_person_does_not_push_over_what_is_further(on, store):
    run = store.add_run(world.run("fine-tune"))
    write_checkpoint(run_dir(run), 6)
    push_run(run, 5)
    on("b")
    write_checkpoint(run_dir(run), 3)
    outcome = CliRunner().invoke(app, ["cache", "push", run])
    assert outcome.exit_code == 2 and "further there than here" in outcome.output and "cache pull" in outcome.output
    assert steps_there(run) == ["00-00000006"]


def test_place_that_is_full_costs_no_training(on, store, monkeypatch):
    run = store.add_run(world.run("fine-tune"))
    remote = open_remote()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(remote.system), "mv", full)
    ended = work(Worker(store, "cpu", training(Checkpointed("s", 3), RunFinished({})), again=True), runs=1)
    assert ended == {run: "done"}
    assert log_of(run).count("no room") == 3  # at its checkpoint, before its end is told, and after
    monkeypatch.undo()
    on("a")


def test_run_waits_and_is_not_begun_anew_where_the_place_is_away(on, store, monkeypatch):
    """Its checkpoint may be there. Its worker waits too, and the outage is no fault of the run."""
    run = store.add_run(world.run("fine-tune"))
    system, tries, seen = type(open_remote().system), [], []
    listed = system.ls

    def away_twice(*place, **how):
        if len(tries) < 2:
            tries.append(store.get(run).state)
            raise ConnectionError("away")
        return listed(*place, **how)

    monkeypatch.setattr(system, "ls", away_twice)
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
    assert steps_there(run) == ["00-00000003"]


@pytest.mark.parametrize(("here", "there", "after"), [(3, 6, 6), (6, 3, 6), (6, 6, 6)])
def test_folder_that_is_further_counts(on, store, here, there, after):
    run = store.add_run(world.run("fine-tune"))
    for computer, step in (("a", there), ("b", here)):
        on(computer)
        place = run_dir(run) / "checkpoint" / f"00-{step:08d}"
        place.mkdir(parents=True)
        (place / "place.json").write_text(computer)
        if computer == "a":
            push_run(run, 1)
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


def test_worker_that_is_asked_to_end_while_it_fetches_gives_the_run_back(on, store, monkeypatch):
    """A long download is no reason to be killed, which would count as a lost worker."""
    run = store.add_run(world.run("fine-tune"))
    write_checkpoint(run_dir(run), 3)
    push_run(run, 1)
    on("b")
    worker = Worker(store, "cpu", training(RunFinished({})), again=True)
    real = Remote._download

    def download(self, *what):
        worker.closing.set()
        real(self, *what)

    monkeypatch.setattr(Remote, "_download", download)
    assert work(worker, runs=1) == {run: "queued"}
    assert not run_dir(run).exists() and [path.suffix for path in cache_subdir("pulled").iterdir()] in ([], [".lock"])
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT attempts FROM runs").scalar() == 0


def test_push_that_is_broken_off_changes_nothing_there(on, store, monkeypatch):
    run = store.add_run(world.run("fine-tune"))
    write_checkpoint(run_dir(run), 3)
    push_run(run, 1)
    write_checkpoint(run_dir(run), 6)

    def leave():
        raise StopNow

    with pytest.raises(StopNow):
        push_run(run, 1, check=leave)
    assert steps_there(run) == ["00-00000003"]
    assert not [path for path in open_remote().system.find(open_remote().root) if path.endswith(".partial")]


def test_student_is_there_before_the_run_is_called_done(on, store, monkeypatch):
    """A computer that vanishes right after its last words has taken no student with it."""
    run, seen, record = store.add_run(world.run("fine-tune")), [], store.record

    def train(config, folder, control):
        yield write_checkpoint(folder, 3)
        (folder / "student-last").mkdir()
        (folder / "student-last" / "config.json").write_text("{}")
        yield RunFinished({})
        shutil.rmtree(folder / "checkpoint")

    def look(run_id, said, worker=None):
        if any(isinstance(event, RunFinished) for event in said):
            seen.append(sorted(_newest(open_remote(), run)[1]))
        record(run_id, said, worker=worker)

    monkeypatch.setattr(store, "record", look)
    assert work(Worker(store, "cpu", train, again=True), runs=1) == {run: "done"}
    assert [name for name in seen[0] if "log" not in name] == [
        "checkpoint/00-00000003/place.json", "student-last/config.json",
    ]  # fmt: skip
    assert "student-last/config.json" in _newest(open_remote(), run)[1] and steps_there(run) == []


def test_student_counts_as_further_than_the_checkpoint_beside_it(on, store):
    run = store.add_run(world.run("fine-tune"))
    write_checkpoint(run_dir(run), 3)
    push_run(run, 1)
    on("b")
    assert fetch_run(run)
    on("a")
    (run_dir(run) / "student-last").mkdir()
    (run_dir(run) / "student-last" / "config.json").write_text("{}")
    push_run(run, 1)
    on("b")
    assert fetch_run(run) and (run_dir(run) / "student-last" / "config.json").is_file()


def test_push_by_hand_counts_where_the_database_has_forgotten_the_claims(on, store):
    run = store.add_run(world.run("fine-tune"))
    write_checkpoint(run_dir(run), 3)
    push_run(run, 10**9)
    write_checkpoint(run_dir(run), 6)
    assert store.get(run).claim_number == 0
    assert CliRunner().invoke(app, ["cache", "push", run]).output == f"{run}: pushed\n"
    assert steps_there(run) == ["00-00000006"]


def test_student_that_is_elsewhere_is_fetched_where_one_is_asked_for(on, store, monkeypatch):
    run = store.add_run(world.run("fine-tune"))
    with pytest.raises(UserError, match=f"on another computer, fetch it with `kdcore cache pull {run}`"):
        student_folder(store, run)
    monkeypatch.delenv("KD_REMOTE")
    with pytest.raises(UserError, match="choose a run that is done"):
        student_folder(store, run)
