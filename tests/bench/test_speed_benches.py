"""The benches of speed run from end to end on the smallest sizes. Only that they run is tested, never a time."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from bench import gpu, memory, numerics, overhead, scaling, startup, timing_blocks, toolkits
from bench.fixtures import Subject
from bench.reference_loop import PKD, pkd
from bench.timing_blocks import Bench
from kdcore.data import pocket
from kdcore.methods.pkd import PKD as Method
from tests.helpers import tiny_task

TINY = ["--quick", "--threads", "1"]
TRAINS = ["--task", "pocket-sentiment", "--rows", "40"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred short sentences, and blocks run in this process: starting one for each would take minutes."""
    monkeypatch.setattr(pocket, "load", tiny_task.data)

    def at_once(arm: timing_blocks.Arm) -> timing_blocks.Figures:
        return arm()

    for module in (timing_blocks, gpu, overhead, toolkits, scaling, numerics):
        monkeypatch.setattr(module, "apart", at_once)


def results(bench: ModuleType, folder: Path, *more: str) -> dict[str, Any]:
    """What the bench writes."""
    folder = folder / "results"
    trains = [] if bench in (gpu, startup) else TRAINS
    bench.main([*TINY, *trains, "--into", str(folder), *more])
    name = bench.__name__.removeprefix("bench.")
    assert [path.name for path in folder.iterdir()] == [f"{name}.json"]  # nothing unfinished is left
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    assert {"command", "hardware", "cores", "threads", "versions", "load_average", "blocks"} <= found.keys()
    return found


def test_overhead(here, tmp_path):
    """Warm arms find every answer, cold ones none."""
    written = results(overhead, tmp_path)
    found, by_arm = written["found"], {block["arm"]: block for block in written["blocks"]}
    assert found.keys() == {"fine-tune", "kd", "pkd", "skd"}
    for method, teachers in overhead.TEACHERS.items():
        ratio = found[method]["warm_to_fine_tuning"]
        assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
        assert by_arm[f"{method}, warm"]["misses"] == 0 < by_arm[f"{method}, warm"]["hits"]
        assert by_arm[f"{method}, cold"]["misses"] == 40 * len(teachers)


def test_gpu(here, tmp_path):
    """The operations of a step take no less time than at the machine's own rate; on a CPU only `--quick` is allowed."""
    found = results(gpu, tmp_path, "--rows", "40")["found"]
    for method in ("fine-tune", "pkd"):
        assert 0 < found["floor_ms"] <= found[method]["ms_per_step"]["min"]
        assert found[method]["share_of_rate"]["max"] <= 1
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
    found = results(toolkits, tmp_path)["found"]
    assert toolkits.AIMS.keys() < found.keys()
    assert found[toolkits.COLD]["ours_cold_to_it"]["median"] == 1


def test_scaling(here, monkeypatch, tmp_path):
    monkeypatch.setattr(scaling, "LAYERS", (1, 2))
    found = results(scaling, tmp_path)["found"]
    assert {"rows 20", "rows 80", "layers 2", "teachers 5, cold", "cache of logits"} < found.keys()
    assert found["cache of logits"]["bytes_per_row"]["median"] == 2 * 4 + 1  # two float32, and that they are there
    assert found["cache of [CLS] states, 2 layers"]["bytes_per_row"]["median"] == 2 * (32 * 2 + 1)


def test_memory(here, tmp_path):
    found = results(memory, tmp_path, "--cases", "pkd", "--runs", "4")
    row, many = found["found"]["pkd"], found["blocks"][-1]
    assert row["predicted_mb"] > 0 and row["libraries_mb"] <= row["ready_mb"] <= row["peak_mb"]["max"]
    assert len(many["after_each_mb"]) == 4


def test_numerics(here, tmp_path):
    found = results(numerics, tmp_path)["found"]
    assert len(found["loss_by_tenths"]) == 10 and len(found["score"]) == 1


def test_startup(here, monkeypatch, tmp_path):
    """Without the browser, which tests/e2e drive."""
    monkeypatch.setattr(startup, "COMMANDS", {"python": ("-c", "pass"), "import kdcore": ("-c", "import kdcore")})
    monkeypatch.setattr(startup, "dashboard", lambda: dict.fromkeys(startup.PAGES, 1.0))
    assert results(startup, tmp_path)["found"]["import kdcore"]["to_python_alone"]["median"] > 0


def test_a_task_without_its_files_is_said(monkeypatch, tmp_path, capsys):
    for name in ("KD_GLUE_DIR", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(SystemExit):
        overhead.main(["--quick", "--into", str(tmp_path)])
    assert "KD_GLUE_DIR" in capsys.readouterr().err


# --- how blocks are kept ---------------------------------------------------------------------------------------------


def test_a_block_has_a_process_of_its_own():
    assert timing_blocks.apart(os.getpid) != os.getpid()


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
    found = bench.in_turn(arms, 2)
    assert [(block["round"], block["arm"]) for block in found] == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert order[4:] == ["b"]
    assert timing_blocks.ratios(timing_blocks.figures(found, "a", "seconds"), [1.0, 2.0]) == {
        "min": 1,
        "median": 1.25,
        "max": 1.5,
    }
    assert bench.finish({}, found).exists() and not (tmp_path / "tried.unfinished.jsonl").exists()


def test_blocks_of_other_settings_do_not_count(here, tmp_path):
    for rows in (1, 2, 1):
        found = Bench("tried", tmp_path, {"rows": rows}).in_turn({"a": lambda rows=rows: {"rows": rows}}, 1)
        assert [block["rows"] for block in found] == [rows]


def test_the_plain_loss_is_the_methods(here, tmp_path):
    """What the toolkits and the plain loop minimise is PKD as the engine has it."""
    config = Method.Config(**PKD)
    subject = Subject(tmp_path, "pocket-sentiment", 40, 1)
    run = subject.run("pkd", options=PKD)
    _, rows, _ = subject.encoded(run)
    teacher, student = subject.models(run)
    torch.manual_seed(0)
    with torch.no_grad():
        for model in (teacher, student):  # new weights say nearly the same
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        said = _engine_loss(config, run, teacher, student, rows.train)
        assert said[0] == pytest.approx(said[1], rel=1e-5) and said[1] > 0.1


def _engine_loss(config: Any, run: Any, teacher: Any, student: Any, rows: Any) -> tuple[float, float]:
    from bench.reference_loop import said
    from kdcore.data.encode import collate
    from kdcore.models.observe import observe
    from kdcore.models.sizes import size_of
    from kdcore.records import Setup, Step

    shapes = size_of(student.config), {"layers-6": size_of(teacher.config)}
    method = Method(
        config, Setup(kind="classification", labels=2, student=shapes[0], teachers=shapes[1], scores={"layers-6": None})
    )
    needs, batch = method.stages()[0].needs, collate(rows, np.arange(16))
    seen = (observe(student, batch.encoding, needs.student), observe(teacher, batch.encoding, needs.teacher))
    step = Step(
        batch=batch, students={"student": seen[0]}, teachers={"layers-6": seen[1]}, rows={"layers-6": None},
        stage="distil", step=1, steps=1, epoch=0.0, rng=torch.Generator(), regression=False,
    )  # fmt: skip
    engine = sum(float(term.value) * term.weight for term in method.terms(step).values())
    outputs = [said(model, batch.encoding, states=True) for model in (student, teacher)]
    return float(pkd(*outputs, batch.labels)), engine
