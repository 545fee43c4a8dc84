"""The campaigns of faults: damage really changes a file, and a run of theirs is a valid one."""

import json
import random
from pathlib import Path

import pytest

from bench import kill_farm
from bench.faults import damage, farm, workers


def test_damage_changes_the_file() -> None:
    chance = random.Random(0)
    whole = bytes(range(1, 256)) * 4
    hurt = [damage._hurt(whole, chance) for _ in range(30)]
    assert all(one != whole and len(one) <= len(whole) for one in hurt)
    assert len({len(one) for one in hurt}) > 2


@pytest.mark.parametrize("method", ["fine-tune", "kd"])
def test_runs_of_the_campaigns_are_valid(method: str) -> None:
    from kdcore.engine.plan import Plan
    from kdcore.engine.preflight import check

    assert not check(Plan(workers.settings(method))).blocks


def test_each_run_of_a_farm_is_done_once_whoever_is_killed() -> None:
    """A worker, then the farm are killed; the real trainer, small."""
    counts = farm.farm(2, methods=("fine-tune",))
    assert counts["workers_killed"] == 1 and counts["resumed"] >= 1
    assert counts["done"] == counts["endings"] == counts["runs"] == 2 and counts["farm_ended_with"] == 0
    assert counts["students_equal"] == counts["students"] == 4 and counts["points_that_differ"] == 0
    assert counts["processes_left"] == counts["leases_left"] == counts["folders_left"] == 0


def test_killed_job_ends_with_the_students_of_a_straight_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit's jobs; child processes are tried above, and Ray, which takes long to start, by the bench alone."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    monkeypatch.setattr(kill_farm, "METHODS", ("fine-tune",))  # without a teacher, whose training takes longest
    kill_farm.main(["slurm", "--runs", "2", "--slots", "1", "--into", str(tmp_path)])
    counts = json.loads((tmp_path / "kill-farm.json").read_text())["slurm"]
    assert counts["killed"] == ["worker"] and max(counts["resumed_at"]) > 0 and counts["most_at_once"] == 1
    assert counts["done"] == counts["endings"] == 2 and counts["farm_ended_with"] == counts["leases_left"] == 0
    assert counts["processes_left"] == 0
    assert counts["students_equal"] == counts["students"] == 4
