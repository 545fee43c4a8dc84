"""What `kdcore search` recommends, against what an exhaustive grid of the same sizes and methods would have.

    KD_GLUE_DIR=... python -m bench.search_evidence bench/studies/search-mrpc.yaml

takes the file that `kdcore search` takes. First the search, within its minutes; then the grid: each method with its
own options on each size that keeps to the bound, from each start, trained to its end. A run that is done, such as one
of the search's, is not trained again. Both recommend by one rule (`search.scores.best`), and the settings that they
recommend have the same seeds. Then the students are exported, timed in turn beside their teacher, and scored as they
would be deployed. Writes <name>.json and <name>.md into bench/results. Killed, it goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.search_page import page
from bench.timing_blocks import RESULTS, machine
from kdcore.config import RunConfig
from kdcore.engine.results import teacher_folders
from kdcore.errors import UserError
from kdcore.export.folder import export_student
from kdcore.export.onnx_file import write_int8, write_onnx
from kdcore.export.runtimes import INT8, ONNX, Runtime, runner, timed_pass
from kdcore.models.sources import read_config
from kdcore.paths import run_dir
from kdcore.probes.forward_pass import threads
from kdcore.search import record as records
from kdcore.search import scores
from kdcore.search.candidates import Candidate, Space, deployed_sizes
from kdcore.search.costs import times_in_turn
from kdcore.search.question import Bound, Question, read_question
from kdcore.search.record import SearchRecord
from kdcore.search.result import SearchResult
from kdcore.search.search import search
from kdcore.search.training import Training
from kdcore.store import Store, open_store

FOUND = "found.json"
"""In the search's folder: what it came to, from before the grid trained what the search had ended early."""
Facts = dict[str, Any]


def main(arguments: list[str] | None = None) -> Path:
    """Runs what is not done yet and writes both files; returns the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", type=Path, help="YAML, as `kdcore search` takes it")
    parser.add_argument("--minutes", type=float, help="of the search, in place of the file's")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the result; bench/results")
    options = parser.parse_args(arguments)
    question = read_question(options.question, {} if options.minutes is None else {"minutes": options.minutes})
    store, space = open_store(), Space(question)
    found = searched(store, question)
    record = records.read(question.name)
    if record.question != question.model_dump(mode="json"):
        raise UserError("question", f"is not what {question.name} was asked before", "give it another name")
    grid = whole_grid(store, space, record)
    content = {
        "command": f"python -m bench.search_evidence {options.question.as_posix()}",
        **machine(question.bound.threads or 0), "question": question.model_dump(mode="json"), "tokens": record.tokens,
        "teacher": SearchResult(store, grid).teacher, "sizes": record.costs, "busy": record.busy, "search": found,
        "grid": _found(store, grid) | _price(store, grid)
        | {"cells": json.loads(SearchResult(store, grid).trials.to_json(orient="records"))},
    }  # fmt: skip
    best = [part["recommended"] for part in (found, content["grid"]) if part["recommended"]]
    lengths = {one["run"]: one.get("tokens") or record.tokens for one in best}
    content["deployed"] = deployed(store, space, lengths)
    return _write(options.into, question.name, content)


def searched(store: Store, question: Question) -> Facts:
    """What the search came to; it is run, or gone on with, where it has not ended."""
    file = records.folder_of(question.name) / FOUND
    if not file.is_file():
        record = search(store, question, say=_say)
        _put(file, _found(store, record) | {"words": SearchResult(store, record).sentences()})
    content: Facts = json.loads(file.read_text(encoding="utf-8"))
    return content


def whole_grid(store: Store, space: Space, record: SearchRecord) -> SearchRecord:
    """Trains every cell to its end, and the recommended one with the other seeds. record: the search's, for costs."""
    asked = [
        Candidate(size, start, method)
        for size in space.sizes for start in space.starts_of(size) for method in space.methods
    ]  # fmt: skip
    possible, refused = deployed_sizes(space, asked)
    grid = replace(record, refused=refused, trials=[], chosen=None, seeds=[], ended="every cell was trained")
    cells = [one for one in possible if scores.cost_of(record, _named(one)).exceeds(space.question.bound) is None]
    ended_early = {trial["run"] for trial in record.trials if trial["state"] != "complete" and "run" in trial}
    for one, (run, state) in zip(cells, _train(store, space, map(space.run_of, cells)), strict=True):
        number, state = len(grid.trials), "complete" if state == "done" else "fail"
        before = store.get(run).sweep != _sweep(space) and run not in ended_early
        grid.trials.append(
            {"number": number, "state": state, "run": run, "options": {}, "reused": before, **_named(one)}
        )
    grid.chosen = scores.best(store, grid)
    if grid.chosen is not None:
        first, count = space.question.seed, space.question.seeds
        seeds = [space.run_of(cells[grid.chosen], first + i) for i in range(count)]
        grid.seeds = [run for run, _ in _train(store, space, seeds)]
    return grid


def _sweep(space: Space) -> str:
    """By which the store knows the runs that the grid brought."""
    return f"{space.question.name}-grid"


def _named(candidate: Candidate) -> Facts:
    return {"size": candidate.size, "start": candidate.start, "method": candidate.method}


@dataclass
class Cell:
    """A run of the grid, as `Training` takes it. outcome: its id and the state that it ended in."""

    run: RunConfig
    facts: Facts = field(default_factory=dict)
    outcome: tuple[str, str] = ("", "")

    def starts(self, run_id: str, state: str) -> None:
        return

    def falls_behind(self, evaluations: pd.DataFrame) -> bool:
        return False

    def ends(self, run_id: str, state: str) -> None:
        self.outcome = run_id, state


def _train(store: Store, space: Space, runs: Iterator[RunConfig] | Sequence[RunConfig]) -> list[tuple[str, str]]:
    """(id, state) of each run, once all have ended."""
    cells = [Cell(run) for run in runs]
    waiting = iter(cells)
    Training(
        store, _sweep(space), lambda: next(waiting, None), space.question.slots,
        on_start=lambda run, name: _say(f"grid, {run}: {name}"),
    ).go()  # fmt: skip
    return [cell.outcome for cell in cells]


def _found(store: Store, record: SearchRecord) -> Facts:
    """What a search or the grid came to, and what it cost in seconds of training."""
    result = SearchResult(store, record)
    new = [trial for trial in record.trials if trial.get("run") and not trial.get("reused")]
    return {
        "recommended": _recommended(result), "trials": len(result.trials),
        "ended_early": sum(trial["state"] == "pruned" for trial in record.trials),
        "reused": len(result.trials) - len(new),
        "predicted": round(sum(float(trial.get("predicted") or 0) for trial in new), 1),
        "paid": round(scores.seconds(store, new), 1),
        "other_seeds": round(scores.seconds(store, [{"run": run} for run in record.seeds[1:]]), 1),
        "tried": {trial["run"]: trial["state"] for trial in record.trials if trial.get("run")},
    }  # fmt: skip


def _price(store: Store, grid: SearchRecord) -> Facts:
    """Seconds of all cells, which are the grid's price whoever trained them, and of those that were done before."""
    before = [{"run": trial["run"]} for trial in grid.trials if trial["reused"]]
    whole = scores.seconds(store, [{"run": trial["run"]} for trial in grid.trials])
    return {"paid": round(whole, 1), "paid_before": round(scores.seconds(store, before), 1)}


def _recommended(result: SearchResult) -> Facts | None:
    if result.chosen is None:
        return None
    members = result.runs.loc[[run for run in result.record.seeds if run in result.runs.index]]
    on_select, on_dev = (members[name].dropna().astype(float).tolist() for name in ("select_score", "score"))
    cost = scores.cost_of(result.record, result.chosen)
    names = ("run", "size", "start", "method", "options")
    return {**{name: result.chosen[name] for name in names}, **asdict(cost), "select": on_select, "dev": on_dev}


def deployed(store: Store, space: Space, lengths: Mapping[str, int]) -> Facts:
    """Run -> what its exported student takes, in turn with the others and their teacher, each on its own tokens of one
    row; and its int8 file's scores.

    Args:
        lengths: run -> tokens of the row as its student reads it.
    """
    if not lengths:
        return {"models": {}, "busy": False}
    bound = space.question.bound
    with threads(bound.threads), tempfile.TemporaryDirectory() as home:
        homes, checks, tokens = {}, {}, dict(lengths)
        for run in lengths:
            homes[run] = Path(home) / run
            onnx, int8 = bound.runtime.startswith("onnx"), bound.runtime == "onnx-int8"
            checks[run] = export_student(store, run, homes[run], onnx=onnx, int8=int8)
        for name, folder in teacher_folders(run_dir(next(iter(lengths)))).items():
            homes[name] = _converted(folder, bound.runtime, Path(home) / name)
            tokens[name] = space.tokens_of_teacher(name)
        times, busy = times_in_turn({name: _pass(folder, bound, tokens[name]) for name, folder in homes.items()})
    models = {}
    for name, taken in times.items():
        p50, p95 = np.percentile(np.array(taken) * 1000, (50, 95)).round(3).tolist()
        onnx_check = check.data() if (check := checks.get(name)) else None
        models[name] = {
            "tokens": tokens[name], "p50_ms": p50, "p95_ms": p95, "rounds": len(taken), "onnx": onnx_check
        }  # fmt: skip
    return {"models": models, "busy": busy}


def _converted(folder: Path, runtime: Runtime, target: Path) -> Path:
    """A teacher's folder as a runtime reads it."""
    if not runtime.startswith("onnx"):
        return folder
    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    write_onnx(folder, target / ONNX)
    if runtime == "onnx-int8":
        write_int8(target / ONNX, target / INT8)
    return target


def _pass(folder: Path, bound: Bound, tokens: int) -> Callable[[], float]:
    return timed_pass(
        runner(bound.runtime, folder), bound.batch, tokens, int(read_config(folder, "question").vocab_size)
    )


def _write(folder: Path, name: str, content: Facts) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = json.loads(json.dumps(content, default=str))
    _put(folder / f"{name}.json", content)
    (folder / f"{name}.md").write_text(page(name, content), encoding="utf-8")
    _say(f"written: {folder / name}.json and .md")
    return folder / f"{name}.json"


def _put(file: Path, content: Facts) -> None:
    """Whole, or as it was before."""
    partial = file.with_name(f".{file.name}.part")
    partial.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    partial.replace(file)


def _say(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    main()
