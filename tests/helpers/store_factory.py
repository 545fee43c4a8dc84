"""Runs written into a store as the engine would write them, without training anything."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from kdcore.config import RunConfig
from kdcore.events import (
    Evaluated,
    Event,
    Probed,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
    StageStarted,
    StepDone,
)
from kdcore.store import Store

PAGES = (
    "start", "launch", "live", "runs", "compare", "layers", "attention", "speed", "beyond", "examples", "lost", "learn",
    "system",
)  # fmt: skip
TEACHER = {"name": "large", "source": "pocket", "where": "large"}
TERMS = {
    "fine-tune": {"hard": 1.0},
    "kd": {"hard": 0.5, "soft": 0.5},
    "distilbert": {"hard": 0.3, "soft": 0.6, "cosine": 0.1},
    "pkd": {"hard": 0.5, "soft": 0.5, "patience": 10.0},
    "skd": {"hard": 0.5, "soft": 0.5},
}


def run_config(
    method: str = "kd", seed: int = 0, name: str = "", task: str = "pocket-sentiment", **more: Any
) -> RunConfig:
    settings = {
        "name": name or f"{method} seed {seed}",
        "task": task,
        "method": method,
        "teachers": [] if method == "fine-tune" else [TEACHER],
        "student": {"layers": 2, "width": 32, "heads": 2, "init": "random"},
        "train": {"epochs": 1, "seed": seed, "max_length": 32},
    }
    return RunConfig.model_validate(settings | more)


def add(
    store: Store, run: RunConfig, *, end: str = "done", steps: int = 60, score: float | None = None, hardware: str = ""
) -> str:
    """Adds a run and writes what it says up to its end: done, stopped, failed, or running (none)."""
    run_id = store.add_run(run)
    if end == "queued":
        return run_id
    store.claim("written", "cpu", run_id)
    store.record(run_id, list(said(run, end, steps, score, hardware)))
    return run_id


def grow(store: Store, run_id: str, step: int, terms: Mapping[str, float], steps: int = 600) -> None:
    """One more logged step of a run under way."""
    seconds = 0.01 * step
    said = StepDone("distil", step, steps, step / 600, sum(terms.values()), terms, terms, 1e-3, 900.0, seconds, 1.0)
    store.record(run_id, [said])


def said(run: RunConfig, end: str, steps: int, score: float | None = None, hardware: str = "") -> Iterator[Event]:
    chance = random.Random(f"{run.method}{run.train.seed}")
    goal = score if score is not None else 0.75 + 0.03 * list(TERMS).index(run.method) + chance.uniform(-0.01, 0.01)
    terms = TERMS[run.method]
    facts = {"device": "cpu", "threads": 1, "precision": "fp32", "steps": steps, "parameters": 35_000}
    yield RunStarted(facts | ({"hardware": hardware} if hardware else {}))
    yield StageStarted("distil", 0, 0, steps)
    last = steps if end == "done" else steps // 2
    for step in range(1, last + 1):
        fall = math.exp(-3 * step / steps)
        raw = {name: (0.2 + fall) * (1 + 0.1 * chance.gauss(0, 1)) for name in terms}
        weighted = {name: raw[name] * weight for name, weight in terms.items()}
        yield StepDone(
            "distil", step, steps, step / steps, sum(weighted.values()), raw, weighted, 1e-3, 900.0, 0.01 * step, 1.0
        )
        if step % (steps // 3) == 0:
            now = 0.5 + (goal - 0.5) * (1 - fall)
            yield Evaluated("distil", step, "select", "last", {"accuracy": now + 0.01}, 400)
            yield Evaluated("distil", step, "validation", "last", {"accuracy": now}, 1000)
    if end == "failed":
        yield RunFailed("the loss is not a number", "lower train.lr and resume", "Traceback\n  last line")
    elif end == "stopped":
        yield RunStopped(last, True)
    elif end == "done":
        yield from _end(run, goal, steps)


def _end(run: RunConfig, goal: float, steps: int) -> Iterator[Event]:
    yield Evaluated("distil", steps, "validation", "best", {"accuracy": goal}, 1000)
    names = [teacher.name for teacher in run.teachers]
    for name in names:
        yield Evaluated("distil", 0, "validation", f"teacher:{name}", {"accuracy": 0.93}, 1000)
    shared = {"hardware": "Test CPU (2 cores)", "precision": "fp32", "threads": 1, "tokens": 32, "repeats": 30}
    rows = [("student", 0.6 + 0.1 * list(TERMS).index(run.method))] + [(name, 2.4) for name in names]
    timed = [
        {"name": name, "batch": batch, "median_ms": ms * batch**0.7, "p10_ms": ms, "p90_ms": 1.2 * ms * batch,
         "per_second": 1000 / ms, "load_average": 0.5, "busy": False, **shared}
        for name, ms in rows
        for batch in (1, 32)
    ]  # fmt: skip
    yield Probed("latency", steps, {"records": timed})
    if names:
        matrix = [[max(0.0, 1 - 0.2 * abs(t / 4 - s / 2)) for s in range(3)] for t in range(5)]
        hollow: list[list[float | None]] = [[None] * 3 for _ in range(5)]
        yield Probed(
            "distances",
            steps,
            {
                "cka": matrix,
                "cosine": hollow,
                "mse": hollow,
                "tokens": 4096,
                "teacher": names[0],
                "split": "validation",
                "rows": 256,
            },
        )
    yield RunFinished({"seconds": 12.5})


def fill(store: Store, seeds: int = 3) -> list[str]:
    """Three methods over some seeds, one failed, one stopped and one queued run."""
    made = [add(store, run_config(method, seed)) for method in ("fine-tune", "kd", "pkd") for seed in range(seeds)]
    made.append(add(store, run_config("distilbert", name="went wrong"), end="failed"))
    made.append(add(store, run_config("skd", name="stopped early"), end="stopped"))
    made.append(add(store, run_config("kd", 9, name="waits"), end="queued"))
    return made


def words(app: Any) -> str:
    """Everything the page says, as Markdown sees it."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "success", "text", "code")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(app, kind))
