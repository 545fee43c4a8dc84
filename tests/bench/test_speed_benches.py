"""The benches of speed run from end to end on the smallest sizes. Only that they run is tested, never a time."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from bench import (
    answering_memory,
    assistants,
    first_paint,
    gpu,
    memory,
    numerics,
    overhead,
    scaling,
    startup,
    throughput,
    timing_blocks,
    toolkits,
)
from bench.fixtures import Subject
from bench.reference_loop import PKD, pkd
from bench.timing_blocks import Bench
from kdcore.data import pocket
from kdcore.methods import pkd as pkd_method
from kdcore.runs.farm import CPU_WORKERS
from tests.helpers import tiny_task

TINY = ["--quick", "--threads", "1"]
TRAINS = ["--task", "pocket-sentiment", "--rows", "40"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred short sentences, and blocks run in this process: starting one for each would take minutes."""
    monkeypatch.setattr(pocket, "load", tiny_task.data)

    def call(arm: timing_blocks.Arm) -> timing_blocks.Figures:
        return arm()

    for module in (timing_blocks, gpu, overhead, toolkits, scaling, numerics):
        monkeypatch.setattr(module, "in_fresh_process", call)


def results(bench: ModuleType, folder: Path, *more: str) -> dict[str, Any]:
    """What the bench writes."""
    folder = folder / "results"
    trains = [] if bench in (answering_memory, first_paint, gpu, startup) else TRAINS
    bench.main([*TINY, *trains, "--into", str(folder), *more])
    name = bench.__name__.removeprefix("bench.")
    assert [path.name for path in folder.iterdir()] == [f"{name}.json"]  # nothing unfinished is left
    written: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    assert {"command", "hardware", "cores", "threads", "versions", "load_average", "blocks"} <= written.keys()
    return written


def test_overhead(here, tmp_path):
    """Warm arms find every answer, cold ones none."""
    written = results(overhead, tmp_path)
    summary, by_arm = written["summary"], {block["arm"]: block for block in written["blocks"]}
    assert summary.keys() == {"fine-tune", "kd", "pkd", "skd"}
    for method, teachers in overhead.TEACHERS.items():
        ratio = summary[method]["warm_to_fine_tuning"]
        assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
        assert by_arm[f"{method}, warm"]["misses"] == 0 < by_arm[f"{method}, warm"]["hits"]
        assert by_arm[f"{method}, cold"]["misses"] == 40 * len(teachers)


def test_gpu(here, tmp_path):
    """A step's share of the machine's rate is its operations' time at that rate over its own; on a CPU only `--quick`
    is allowed."""
    summary = results(gpu, tmp_path, "--rows", "40")["summary"]
    for method in ("fine-tune", "pkd"):
        share, each = summary[method]["share_of_rate"], summary[method]["ms_per_step"]
        assert 0 < share["max"] == pytest.approx(summary["floor_ms"] / each["min"], rel=0.01)
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            gpu.main([])


@pytest.mark.parametrize("package", toolkits.NEEDED)
def test_toolkits_say_what_they_lack(package, monkeypatch, tmp_path):
    monkeypatch.setattr(toolkits, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(SystemExit, match=package):
        toolkits.main([*TINY, *TRAINS, "--into", str(tmp_path)])


def test_toolkits(here, monkeypatch, tmp_path):
    missing = [package for package in toolkits.NEEDED if find_spec(package) is None]
    if missing:
        pytest.skip(f"only this bench needs {', '.join(missing)}")
    summary = results(toolkits, tmp_path)["summary"]
    assert toolkits.AIMS.keys() < summary.keys()
    assert summary[toolkits.COLD]["ours_cold_to_it"]["median"] == 1


def test_scaling(here, monkeypatch, tmp_path):
    monkeypatch.setattr(scaling, "LAYERS", (1, 2))
    summary = results(scaling, tmp_path)["summary"]
    assert {"rows 20", "rows 80", "layers 2", "teachers 5, cold", "cache of logits"} < summary.keys()
    assert summary["cache of logits"]["bytes_per_row"]["median"] == 2 * 4 + 4 + 1  # two float32, sum, presence
    assert summary["cache of [CLS] states, 2 layers"]["bytes_per_row"]["median"] == 2 * (32 * 2 + 4 + 1)


def test_memory(here, tmp_path):
    written = results(memory, tmp_path, "--cases", "pkd", "--runs", "4")
    once, many = written["blocks"][0], written["blocks"][-1]
    assert written["summary"]["pkd"]["predicted_mb"] > 0
    assert once["libraries_mb"] <= once["ready_mb"] <= once["peak_mb"]
    assert len(many["after_each_mb"]) == 4


def test_numerics(here, tmp_path):
    summary = results(numerics, tmp_path)["summary"]
    assert len(summary["loss_by_tenths"]) == 10 and len(summary["score"]) == 1


def test_startup(here, monkeypatch, tmp_path):
    """Without the browser, which tests/e2e drive."""
    monkeypatch.setattr(startup, "COMMANDS", {"python": ("-c", "pass"), "import kdcore": ("-c", "import kdcore")})
    monkeypatch.setattr(startup, "dashboard", lambda: dict.fromkeys(startup.PAGES, 1.0))
    assert results(startup, tmp_path)["summary"]["import kdcore"]["to_python_alone"]["median"] > 0


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs Linux with glibc")
def test_answering_memory(here, tmp_path):
    """The smallest model alone, in this process."""
    summary = results(answering_memory, tmp_path)["summary"]
    assert all(row["counted_mib"]["min"] > 0 for row in summary.values())
    assert any(arm.startswith("2 x 64, batch 32") for arm in summary)


def _seconds(root: Path, answers: dict[str, str | None]) -> timing_blocks.Figures:
    """As if pages took two seconds here and four there."""
    times = {"first_s": 2.0, "again_s": 1.0} if root == first_paint.ROOT else {"first_s": 4.0, "again_s": 4.0}
    found = {f"{page or 'start'} {name}": seconds for page in answers for name, seconds in times.items()}
    return found | {f"{page or 'start'} answer_s": 1.5 for page, answer in answers.items() if answer}


def test_first_paint(here, monkeypatch, tmp_path):
    """Without the browser and the other commit."""
    monkeypatch.setattr(first_paint, "open_pages", _seconds)
    monkeypatch.setattr(first_paint, "check_out", lambda commit, folder: None)
    monkeypatch.setattr(first_paint, "commit_name", lambda name: f"hash of {name}")
    written = results(first_paint, tmp_path, "before")
    assert written["commits"] == {"HEAD": "hash of HEAD", "before": "hash of before"}
    speed = written["summary"]["speed"]
    assert (speed["first_to_there"]["median"], speed["again_to_there"]["median"]) == (0.5, 0.25)
    assert speed["answer_s"]["median"] == 1.5 and written["summary"].keys() == {"start", "speed"}


def test_assistants(here, monkeypatch, tmp_path):
    """As if the other commit took twice as long for one assistant and four times for two."""

    def seconds(root: Path, about: dict[str, Any]) -> timing_blocks.Figures:
        return {"seconds": 3.0 if root == assistants.ROOT else 6.0 * about["assistants"]}

    monkeypatch.setattr(assistants, "train_in", seconds)
    monkeypatch.setattr(assistants, "check_out", lambda commit, folder: None)
    monkeypatch.setattr(assistants, "commit_name", lambda name: f"hash of {name}")
    summary = results(assistants, tmp_path, "before")["summary"]
    ratios = {name: found["here_to_there"]["median"] for name, found in summary.items()}
    assert ratios == {"assistants: 1": 0.5, "assistants: 2": 0.25}


def test_a_chain_of_assistants_is_trained_by_the_files_of_a_commit(tmp_path):
    about = {"task": "pocket-sentiment", "rows": 32, "threads": 1, "epochs": 1, "assistants": 1}
    found = assistants.train_in(assistants.ROOT, about)
    assert found["steps"] >= 1 and 0 < found["seconds"] <= found["whole_s"]


def test_another_commits_files_are_laid_out(tmp_path):
    try:
        first_paint.check_out("HEAD", tmp_path)
    except subprocess.CalledProcessError:
        pytest.skip("this is not a checkout of git")
    assert (tmp_path / "app.py").is_file() and not (tmp_path / ".git").exists()


def test_a_task_without_its_files_names_the_setting(monkeypatch, tmp_path, capsys):
    for name in ("KD_GLUE_DIR", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(SystemExit):
        overhead.main(["--quick", "--into", str(tmp_path)])
    assert "KD_GLUE_DIR" in capsys.readouterr().err


# --- how blocks are kept ---------------------------------------------------------------------------------------------


def test_a_block_has_a_process_of_its_own():
    assert timing_blocks.in_fresh_process(os.getpid) != os.getpid()


def test_arms_take_turns_and_a_killed_bench_goes_on(here, tmp_path):
    bench, order = Bench("tried", tmp_path, {"rows": 1}), []

    def arm(name: str) -> timing_blocks.Arm:
        def measure() -> timing_blocks.Figures:
            if len(order) == 3:
                raise KeyboardInterrupt
            order.append(name)
            return {"seconds": float(len(order))}

        return measure

    arms = {name: arm(name) for name in "ab"}
    with pytest.raises(KeyboardInterrupt):
        bench.in_turn(arms, 2)
    assert order == ["a", "b", "a"]
    with (tmp_path / "tried.unfinished.jsonl").open("a") as file:
        file.write('{"about": {"rows"')  # killed while it wrote
    order.append("the kill")
    blocks = bench.in_turn(arms, 2)
    assert [(block["round"], block["arm"]) for block in blocks] == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert order[4:] == ["b"]
    assert timing_blocks.ratios(timing_blocks.figures(blocks, "a", "seconds"), [1.0, 2.0]) == {
        "min": 1,
        "median": 1.25,
        "max": 1.5,
    }
    assert bench.finish({}, blocks).exists() and not (tmp_path / "tried.unfinished.jsonl").exists()


def test_blocks_of_other_settings_do_not_count(here, tmp_path):
    for rows in (1, 2, 1):
        blocks = Bench("tried", tmp_path, {"rows": rows}).in_turn({"a": lambda rows=rows: {"rows": rows}}, 1)
        assert [block["rows"] for block in blocks] == [rows]


def test_the_plain_loss_is_the_methods(here, tmp_path):
    """What the toolkits and the plain loop minimise is PKD as the engine has it."""
    config = pkd_method.PKD.Config(**PKD)
    subject = Subject(tmp_path, "pocket-sentiment", 40, 1)
    run = subject.run("pkd", options=PKD)
    _, rows, _ = subject.encoded(run)
    teacher, student = subject.models(run)
    torch.manual_seed(0)
    with torch.no_grad():
        for model in (teacher, student):  # new weights say nearly the same
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        plain, engine = _both_losses(config, run, teacher, student, rows.train)
        assert plain == pytest.approx(engine, rel=1e-5) and engine > 0.1


def _both_losses(config: Any, run: Any, teacher: Any, student: Any, rows: Any) -> tuple[float, float]:
    from bench.reference_loop import outputs_of
    from kdcore.data.encode import collate
    from kdcore.models.observe import observe
    from kdcore.models.sizes import size_of
    from kdcore.records import Setup, Step

    student_size, teacher_size = size_of(student.config), size_of(teacher.config)
    setup = Setup(
        kind="classification", labels=2, student=student_size, teachers={"layers-6": teacher_size},
        scores={"layers-6": None},
    )  # fmt: skip
    method = pkd_method.PKD(config, setup)
    needs, batch = method.stages()[0].needs, collate(rows, np.arange(16))
    outputs = (observe(student, batch.encoding, needs.student), observe(teacher, batch.encoding, needs.teacher))
    step = Step(
        batch=batch, students={"student": outputs[0]}, teachers={"layers-6": outputs[1]}, rows={"layers-6": None},
        stage="distil", step=1, steps=1, epoch=0.0, rng=torch.Generator(), regression=False,
    )  # fmt: skip
    engine = sum(float(term.value) * term.weight for term in method.terms(step).values())
    plain = [outputs_of(model, batch.encoding, states=True) for model in (student, teacher)]
    return float(pkd(*plain, batch.labels)), engine


def test_throughput(here, tmp_path, monkeypatch, capsys):
    """What a killed bench had measured is not measured again; the block that is missing is a real farm's."""
    monkeypatch.delenv("KD_DATABASE_URL", raising=False)
    folder, real, drained = tmp_path / "results", throughput._drain, []
    asked = ["--quick", "--workers", "1", "2", "--threads", "2", "--into", str(folder)]

    def drain(workers, threads, study):
        drained.append((workers, threads, len(study)))
        if workers == 2 and len(drained) == 3:
            raise KeyboardInterrupt
        if workers == 2:
            return real(workers, threads, study)
        return {"workers": workers, "threads": threads, "runs": len(study), "seconds": 1.0, "runs_per_hour": 7200.0}

    monkeypatch.setattr(throughput, "_drain", drain)
    with pytest.raises(KeyboardInterrupt):
        throughput.main(asked)
    throughput.main(asked)
    assert drained == [(1, 2, 1), (1, 2, 2), (2, 1, 2), (1, 2, 1), (2, 1, 2)]  # the first of each start is the warm-up
    written = json.loads((folder / "throughput.json").read_text())
    one, two = written["blocks"]
    assert (one["workers"], one["threads"], two["workers"], two["threads"]) == (1, 2, 2, 1)
    assert two["runs_per_hour"] == pytest.approx(2 * 3600 / two["seconds"])
    ratio = two["runs_per_hour"] / 7200
    assert written["ratio"]["median"] == pytest.approx(ratio, rel=1e-3)
    assert written["best"] == (2 if ratio > 1 else 1)
    assert f"2 workers / 1 worker: {written['ratio']}" in capsys.readouterr().out


def test_study_of_throughput_can_be_trained():
    from kdcore.engine.plan import Plan
    from kdcore.engine.preflight import check

    assert len(throughput.METHODS) == 12
    for method in throughput.METHODS:
        assert not check(Plan(throughput._run(method, 0, 200, 1))).blocks


def test_default_number_of_workers_is_the_measured_one():
    result = timing_blocks.RESULTS / "throughput.json"
    if not result.exists():
        pytest.skip("bench.throughput has not been run on a quiet machine")
    assert json.loads(result.read_text())["best"] == CPU_WORKERS
