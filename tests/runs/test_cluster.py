"""Workers as jobs of Slurm (submitit on this computer) and of Ray: each run once, whoever dies."""

import importlib.util
import os
import signal
import subprocess
import sys

import psutil
import pytest

from kdcore.errors import UserError
from kdcore.paths import cache_dir, run_dir
from kdcore.runs import cluster
from tests.helpers.databases import on_sqlite

FARM = """
import sys
from pathlib import Path
from kdcore.runs import cluster
from kdcore.runs.farm import keep
from kdcore.runs.work import Closing, signals
from kdcore.store import open_store
from tests.helpers import scripted_worker
kind, folder = sys.argv[1:]
cluster.train_queue = scripted_worker.train_queue
place = cluster.Slurm(2, Path(folder), cluster="local") if kind == "slurm" else cluster.Ray(2)
closing = Closing()
with signals(closing):
    keep(open_store(), place, closing)
"""
KINDS = ["slurm", "ray"]
PATIENCE = 240
"""Seconds: jobs import torch, each for itself, before they take a run."""
pytestmark = [pytest.mark.slow, on_sqlite]


@pytest.fixture
def farm(store, request):
    """Starts the farm of a kind; it and its processes are gone afterwards."""
    begun = []

    def start(kind):
        pytest.importorskip({"slurm": "submitit", "ray": "ray"}[kind], reason=f"the extra `{kind}` is not installed")
        command = [sys.executable, "-c", FARM, kind, str(cache_dir() / kind)]
        begun.append(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}))
        return begun[-1]

    yield start
    for process in begun:
        all_of_them = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        for each in all_of_them:
            each.kill()


def trained(run):
    return [int(line.split()[0]) for line in (run_dir(run) / "trained.txt").read_text().splitlines()]


def heard_at(process):
    """Addresses at which it and its children listen."""
    return {
        connection.laddr.ip.removeprefix("::ffff:")
        for each in [process, *process.children(recursive=True)]
        for connection in each.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def running(store):
    return len(store.runs(states=["running"]))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_job_costs_no_run(kind, farm, store, settings, wait_for):
    runs = [store.add_run(settings(number, name="long")) for number in range(2)]
    later = store.add_run(settings(2, name="short"))
    process = farm(kind)
    wait_for(lambda: running(store) == 2, PATIENCE)
    assert heard_at(psutil.Process(process.pid)) == ({"127.0.0.1"} if kind == "ray" else set())
    os.kill(trained(runs[0])[0], signal.SIGKILL)
    wait_for(lambda: len(trained(runs[0])) == 2, PATIENCE)
    for run in runs:
        (run_dir(run) / "go").touch()
    assert process.wait(240) == 0
    assert set(store.runs().state) == {"done"}
    assert [len(trained(run)) for run in (*runs, later)] == [2, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_farm_that_ends_gives_its_runs_back(kind, farm, store, settings, wait_for):
    runs = [store.add_run(settings(number, name="long")) for number in range(3)]
    process = farm(kind)
    wait_for(lambda: running(store) == 2, PATIENCE)
    jobs = [psutil.Process(trained(run)[0]) for run in runs[:2]]
    process.send_signal(signal.SIGTERM)
    assert process.wait(240) == 0
    assert psutil.wait_procs(jobs, timeout=120)[1] == []
    assert [store.get(run).state for run in runs] == ["queued"] * 3
    assert [(run_dir(run) / "checkpoint.txt").exists() for run in runs] == [True, True, False]


def test_other_computers_need_a_database_that_they_share(store):
    with pytest.raises(UserError, match=r"KD_DATABASE_URL.*--cluster slurm.*PostgreSQL"):
        cluster.check_store(store, {"--cluster": "slurm"})
    cluster.check_store(store, {"--cluster": "local"})


def test_what_is_missing_is_named(store, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    if importlib.util.find_spec("submitit"):
        with pytest.raises(UserError, match="srun is missing"):
            cluster.Slurm(2, tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"submitit is not installed.*kdboard\[slurm\]"):
        cluster.Slurm(2, tmp_path)
    with pytest.raises(UserError, match=r"ray is not installed.*kdboard\[ray\]"):
        cluster.Ray(2)
