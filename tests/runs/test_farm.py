"""Several workers: as many as there are runs, each run once, whatever happens to a worker or to the farm."""

import os
import random
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from kdcore.errors import UserError
from kdcore.events import RunFinished, RunStarted
from kdcore.runs import farm
from kdcore.runs.farm import Here, keep, visible_gpus
from kdcore.runs.work import Closing
from tests.helpers.databases import on_sqlite

PROGRAM = """
import sys
from kdcore.cli import app
from tests.helpers import scripted_worker
scripted_worker.install()
app(sys.argv[1:], prog_name="kdcore")
"""
FARM = """
import sys
from kdcore.runs.farm import Here, keep
from kdcore.runs.work import Closing, signals
from kdcore.store import open_store
closing = Closing()
with signals(closing):
    keep(open_store(), Here(2, "cpu", [sys.executable, "-c", sys.argv[1]]), closing)
"""


class FakePlace:
    """Workers without processes: each look, one of them does what chance says."""

    def __init__(self, store, chance, slots=2):
        self.store, self.chance, self.slots = store, chance, slots
        self.started, self.most, self.held, self.over = 0, 0, {}, {}
        self.finished: list[str] = []

    def start(self):
        self.started += 1
        self.held[self.started] = None
        self.most = max(self.most, len(self.held))
        return self.started

    def ended(self, worker):
        if worker not in self.over:
            self._live(worker)
        return self.over.get(worker)

    def _live(self, worker):
        run = self.held[worker]
        if run is None:
            run = self.held[worker] = self.store.claim(f"w{worker}", "cpu", can={"auto": 1.0, "cpu": 1.0})
            if run is None:
                self._end(worker, 0)
            return
        match self.chance.choice(("work", "work", "finish", "lose", "die after the end")):
            case "finish" | "die after the end" as how:
                self.store.record(run, [RunStarted({}), RunFinished({})], worker=f"w{worker}")
                self.finished.append(run)
                self.held[worker] = None
                if how != "finish":
                    self._end(worker, -9)
            case "lose":
                with self.store.engine.begin() as connection:
                    connection.exec_driver_sql(
                        f"UPDATE runs SET host = 'another boot', lease_until = 0, attempts = 0 WHERE id = '{run}'"
                    )
                self._end(worker, -9)

    def _end(self, worker, code):
        self.over[worker] = code
        del self.held[worker]

    def leave(self, worker):
        if worker in self.held:
            if run := self.held[worker]:
                self.store.release(run, f"w{worker}", again=True)
            self._end(worker, 143)

    kill = leave


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(farm, "LOOK_SECONDS", 0.0)


@pytest.mark.parametrize("seed", range(6))
def test_each_run_is_done_once_whoever_dies_when(store, settings, quick, seed):
    runs = [store.add_run(settings(number)) for number in range(7)]
    place = FakePlace(store, random.Random(seed))
    assert keep(store, place, threading.Event()) == []
    assert sorted(place.finished) == sorted(runs) and place.most <= place.slots and not place.held
    assert set(store.runs().state) == {"done"}


def test_runs_for_other_workers_are_left_and_named(store, settings, quick):
    from kdcore.config import TrainConfig

    gpu = store.add_run(settings(0, train=TrainConfig(device="cuda")))
    runs = [store.add_run(settings(number)) for number in range(1, 4)]
    place = FakePlace(store, random.Random(1))
    assert keep(store, place, threading.Event()) == [gpu]
    assert sorted(place.finished) == sorted(runs) and store.get(gpu).state == "queued"


def test_no_more_workers_than_runs(store, settings, quick):
    store.add_run(settings())
    place = FakePlace(store, random.Random(3), slots=8)
    keep(store, place, threading.Event())
    assert place.most == 1


def test_farm_that_closes_gives_its_runs_back(store, settings, quick):
    runs = [store.add_run(settings(number)) for number in range(3)]
    place, closing = FakePlace(store, random.Random(0)), threading.Event()
    place._live = lambda worker: (
        place.held[worker] or place.held.update({worker: store.claim(f"w{worker}", "cpu")})
    )  # never ends
    lost: list[str] = []
    thread = threading.Timer(0.5, closing.set)
    thread.start()
    assert sorted(keep(store, place, closing, lost.extend)) == sorted(runs)
    assert place.held == {} and lost == [] and {store.get(run).worker for run in runs} == {None}


@on_sqlite
def test_workers_that_cannot_start_end_the_farm(store, settings, quick):
    store.add_run(settings())
    place = Here(1, "cpu", [sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(UserError, match="end as soon as they start"):
        keep(store, place, Closing())


def started(store, count):
    return len(store.runs(states=["running"])) == count


def trained(run):
    from kdcore.paths import run_dir

    return [line.split() for line in (run_dir(run) / "trained.txt").read_text().splitlines()]


def go_on(*runs):
    from kdcore.paths import run_dir

    for run in runs:
        (run_dir(run) / "go").touch()


def farm_process(**options):
    return subprocess.Popen(
        [sys.executable, "-c", FARM, PROGRAM], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, **options
    )


def children(process):
    return psutil.Process(process.pid).children(recursive=True)


@on_sqlite
def test_killed_worker_costs_no_run(store, settings, wait_for):
    runs = [store.add_run(settings(number, name="long")) for number in range(2)]
    later = [store.add_run(settings(number, name="short")) for number in (2, 3)]
    process = farm_process()
    try:
        wait_for(lambda: started(store, 2))
        os.kill(int(trained(runs[0])[0][0]), signal.SIGKILL)
        wait_for(lambda: len(trained(runs[0])) == 2)
        go_on(*runs)
        assert process.wait(120) == 0
    finally:
        process.kill()
    assert set(store.runs().state) == {"done"}
    assert [len(trained(run)) for run in (*runs, *later)] == [2, 1, 1, 1]
    assert {line[1] for run in runs for line in trained(run)} == {str(max(1, (psutil.cpu_count(False) or 1) // 2))}
    assert all(len(line) == 2 for run in runs for line in trained(run)), "no GPU is visible to a worker of the CPU"


@on_sqlite
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_farm_that_ends_leaves_no_process_and_its_runs_in_the_queue(store, settings, wait_for, how):
    from kdcore.paths import run_dir

    runs = [store.add_run(settings(number, name="long")) for number in range(3)]
    process = farm_process()
    try:
        wait_for(lambda: started(store, 2))
        workers = children(process)
        process.send_signal(how)
        process.wait(120)
    finally:
        process.kill()
    assert len(workers) == 2 and psutil.wait_procs(workers, timeout=120)[1] == []
    assert [store.get(run).state for run in runs] == ["queued"] * 3
    assert [(run_dir(run) / "checkpoint.txt").exists() for run in runs] == [True, True, False]
    run_dir(runs[2]).mkdir(parents=True, exist_ok=True)
    go_on(*runs)
    again = farm_process()
    assert again.wait(180) == 0 and set(store.runs().state) == {"done"}
    assert [len(trained(run)) for run in runs] == [2, 2, 1]


def test_each_worker_sees_one_gpu(monkeypatch):
    monkeypatch.setattr(farm, "visible_gpus", lambda: ["3", "5"])
    told = []
    monkeypatch.setattr(farm.subprocess, "Popen", lambda command, stdin, env: told.append((command, env)) or Process())
    place = Here()
    assert place.slots == 2
    first, second = place.start(), place.start()
    assert [env["CUDA_VISIBLE_DEVICES"] for _, env in told] == ["3", "5"]
    assert all(command[command.index("--device") + 1] == "cuda" for command, _ in told)
    first.process.code = 0
    assert place.start().slot == first.slot != second.slot
    assert told[-1][1]["CUDA_VISIBLE_DEVICES"] == "3"


class Process:
    code: int | None = None

    def poll(self):
        return self.code


def test_gpus_are_named_as_a_child_would_see_them(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    assert visible_gpus() == ["GPU-a", "GPU-b"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="no CUDA device"):
        Here(device="cuda")
