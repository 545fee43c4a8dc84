"""A database that is away for a while costs no run and no worker; on a common disk a cut worker replaces nothing."""

import threading

import pytest
from sqlalchemy import text

from kdcore.engine import checkpoint
from kdcore.engine.trainer import train
from kdcore.errors import DatabaseAwayError
from kdcore.events import Progress, RunFinished, RunStarted
from kdcore.models.students import save_student
from kdcore.paths import run_dir
from kdcore.runs import farm, leased_run
from kdcore.runs.claim_file import read_claim
from kdcore.runs.farm import keep
from kdcore.runs.leased_run import LEAVE_SECONDS, LeasedRun, StopNow
from kdcore.runs.work import work
from kdcore.runs.worker import Worker
from tests.helpers import tiny_task as world


def away(*_, **__):
    raise DatabaseAwayError("database", "connection refused", "wait")


class Gaps:
    """A store whose calls of these names do not get through while `away` is set."""

    def __init__(self, store, *names):
        self.store, self.names, self.away, self.gap = store, names, False, away

    def __getattr__(self, name):
        return self.gap if self.away and (not self.names or name in self.names) else getattr(self.store, name)


class Clock:
    """Time that passes only where somebody sleeps. at: what happens when so many seconds have passed."""

    def __init__(self):
        self.now, self.at = 0.0, {}

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for moment in [moment for moment in self.at if moment <= self.now]:
            self.at.pop(moment)()


@pytest.fixture
def time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(leased_run, "time", clock)
    return clock


def comes_back(store):
    store.away = False


@pytest.mark.parametrize("name", ["get", "record"])
def test_run_that_begins_while_it_is_away_waits(store, settings, script, time, name):
    run, gaps = store.add_run(settings()), Gaps(store, name)
    worker = Worker(gaps, "cpu", script(), again=True)
    assert worker.take() == run
    gaps.away = True
    time.at[100] = lambda: comes_back(gaps)
    assert worker.drive(run) == "done"
    assert store.get(run).state == "done" and not store.get(run).reason


def test_last_words_wait_for_minutes(store, settings, script, time):
    """Else the run would look interrupted, and be trained once more."""
    run, gaps = store.add_run(settings()), Gaps(store)
    worker = Worker(gaps, "cpu", script(steps=2), again=True)
    assert worker.take() == run

    def look(event):
        if event.__class__.__name__ == "Evaluated":
            gaps.away = True
            time.at.setdefault(300, lambda: comes_back(gaps))

    assert worker.drive(run, look) == "done" and store.get(run).state == "done"


def test_server_that_vanished_costs_the_training_little_time(store, settings, time):
    """Each call waits for ten seconds in vain."""
    run, gaps = store.add_run(settings()), Gaps(store)
    gaps.gap = lambda *_, **__: (time.sleep(10), away())
    worker = Worker(gaps, "cpu", again=True)
    worker.take(run)
    held = LeasedRun(gaps, run, worker.name, worker.closing)
    held.row()
    gaps.away = True
    for number in range(600):
        assert held.stop_requested() is None
        held.say(Progress("filling", number, 600))
        time.sleep(1)
    assert time.now <= 1.4 * 600
    gaps.away = False
    assert held.finish() and store.get(run).progress["done"] == 599


def test_words_to_a_person_end_no_worker(store, settings, script):
    runs = [store.add_run(settings(seed)) for seed in range(2)]
    assert work(Worker(store, "cpu", script()), idle=0, on_start=away, on_end=away) == dict.fromkeys(runs, "done")


def test_worker_that_is_asked_to_end_meanwhile_saves_its_checkpoint_in_time(store, settings, time, tmp_path):
    """A cluster kills it half a minute later."""
    run, gaps = store.add_run(settings()), Gaps(store)
    worker = Worker(gaps, "cpu", again=True)
    worker.take(run)
    held = LeasedRun(gaps, run, worker.name, threading.Event())
    held.row()
    gaps.away = True
    held.say(RunStarted({}))
    held.closing.set()
    checkpoint.save(
        tmp_path / "c", checkpoint.TrainingState(step=4), {"student": world.model()}, {}, held.before_saving
    )
    assert checkpoint.newest(tmp_path / "c") and time.now < LEAVE_SECONDS


def test_run_is_given_back_when_it_answers_again(store, settings, script, time):
    run, gaps = store.add_run(settings()), Gaps(store)
    worker = Worker(gaps, "cpu", script(steps=10_000), again=True)
    worker.take(run)

    def close(event):
        if not worker.closing.is_set():
            worker.closing.set()
            gaps.away = True
            time.at[5] = lambda: comes_back(gaps)

    assert worker.drive(run, close) == "queued"
    with store.engine.begin() as connection:
        assert connection.execute(text("SELECT attempts FROM runs")).scalar() == 0


@pytest.fixture
def cut(store, settings, time):
    """A worker's hold on a run whose database does not answer it any more."""
    run, gaps = store.add_run(settings()), Gaps(store)
    worker = Worker(gaps, "cpu", again=True)
    worker.take(run)
    held = LeasedRun(gaps, run, worker.name, worker.closing)
    held.row()
    held.mark_folder()
    gaps.away = True
    return held


def save_all(held, folder, seed, step):
    model = world.model(seed=seed)
    save_student(model, None, folder / "student-best", held.before_saving if held else lambda: None)
    place = checkpoint.TrainingState(step=step)
    checkpoint.save(folder / "checkpoint", place, {"student": model}, {}, held.before_saving if held else lambda: None)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".partial"}


def test_cut_worker_goes_on_while_the_run_is_its_own(cut):
    save_all(cut, run_dir(cut.run_id), seed=1, step=4)
    assert checkpoint.newest(run_dir(cut.run_id) / "checkpoint").name == "00-00000004"


def test_cut_worker_replaces_nothing_of_its_successor_on_a_common_disk(store, cut, script):
    """Neither while the other trains nor after its end; before this, it did."""
    run, folder = cut.run_id, run_dir(cut.run_id)
    save_all(cut, folder, seed=1, step=4)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE runs SET lease_until = 0, host = 'another boot'")
    assert store.take_up() == [run]
    second = Worker(store, "cpu", script(), again=True)
    assert second.take() == run and second.drive(run) == "done"
    assert read_claim(folder) == store.get(run).claim_number > cut.claim_number
    before = files(folder)
    model = world.model(seed=9)
    with pytest.raises(StopNow):
        save_student(model, None, folder / "student-best", cut.before_saving)
    with pytest.raises(StopNow):
        place = checkpoint.TrainingState(step=8)
        checkpoint.save(folder / "checkpoint", place, {"student": model}, {}, cut.before_saving)
    assert files(folder) == before


def test_late_worker_does_not_begin_in_a_folder_of_a_later_claim(cut):
    (run_dir(cut.run_id) / "claim").write_text(str(cut.claim_number + 1))
    with pytest.raises(StopNow):
        cut.mark_folder()
    assert read_claim(run_dir(cut.run_id)) == cut.claim_number + 1


def test_checkpoint_stays_until_the_end_is_known(tmp_path, monkeypatch):
    """Whoever takes the run up when its last words were lost goes on from there, and does not begin anew."""
    monkeypatch.setattr("kdcore.data.pocket.load", world.data)
    for end in ("told", "lost"):
        folder = tmp_path / end
        for event in train(world.run("fine-tune", checkpoint_every=3), folder):
            if isinstance(event, RunFinished) and end == "lost":
                break
        assert (folder / "checkpoint").exists() is (end == "lost") and (folder / "student-last").is_dir()


def test_worker_drops_the_checkpoint_of_a_run_that_the_store_knows_is_done(store, settings, time):
    def training(run, folder, control):
        (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
        yield RunFinished({})
        (folder / "checkpoint").rmdir()

    for answers in (True, False):
        run, gaps = store.add_run(settings(int(answers))), Gaps(store, "record")
        worker = Worker(gaps, "cpu", training, again=True)
        worker.take(run)
        gaps.away = not answers
        assert worker.drive(run) == ("done" if answers else "starting")
        assert (run_dir(run) / "checkpoint").exists() is not answers


class Leaving:
    """A place whose workers take a run each and end with an error while the database is away."""

    def __init__(self, store, slots):
        self.store, self.slots, self.started = store, slots, 0

    def start(self):
        self.started += 1
        return self.started

    def ended(self, worker):
        if self.store.away:
            return 2
        if run := self.store.claim(f"w{worker}", "cpu"):
            self.store.record(run, [RunFinished({})], worker=f"w{worker}")
            return None
        return 0

    def leave(self, worker):
        pass

    kill = leave


@pytest.fixture
def looks(monkeypatch):
    """What happens at the farm's looks: number -> function."""
    happens, count = {}, [0]

    class Closing(threading.Event):
        def wait(self, timeout=None):
            count[0] += 1
            happens.get(count[0], lambda: None)()
            return False

    happens["closing"] = Closing()
    return happens


def test_farm_waits_for_it_and_takes_the_end_of_workers_for_no_crash(store, settings, looks):
    runs, gaps = [store.add_run(settings(seed)) for seed in range(5)], Gaps(store)
    looks |= {1: lambda: setattr(gaps, "away", True), 9: lambda: comes_back(gaps)}
    place = Leaving(gaps, 4)
    assert keep(gaps, place, looks["closing"]) == []
    assert {store.get(run).state for run in runs} == {"done"} and place.started > 4


def test_farm_gives_up_after_its_patience(store, settings, looks, monkeypatch):
    store.add_run(settings())
    gaps = Gaps(store)
    looks[1] = lambda: setattr(gaps, "away", True)
    monkeypatch.setattr(farm, "PATIENCE", 0.0)
    with pytest.raises(DatabaseAwayError, match="connection refused"):
        keep(gaps, Leaving(gaps, 1), looks["closing"])
