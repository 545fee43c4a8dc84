"""Records the example study that comes with the program, on this machine and with this version.

    python -m bench.record_example

The one-minute demo's three methods with three seeds, and the runs of the lesson on patient layers: real runs on
generated sentences, some minutes of training. The folder `kdcore/runs/example_study/` is replaced.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml

from bench.dashboard import cache, machine
from kdcore import __version__
from kdcore.config import RunConfig
from kdcore.paths import run_dir
from kdcore.runs import example
from kdcore.runs.demo import demo_runs
from kdcore.runs.sweep import Grid, expand
from kdcore.runs.worker import Worker
from kdcore.store import open_store

LESSON = Path(__file__).resolve().parents[1] / "pages" / "lessons" / "patient-layers.yaml"
SEEDS = (0, 1, 2)


def main() -> None:
    with cache():
        store = open_store()
        worker, made = Worker(store, "auto"), []
        for run, lesson in _runs():
            made.append(run_id := store.add_run(run, sweep=lesson))
            worker.take(run_id)
            state = worker.drive(run_id)
            print(run_id, state, flush=True)
            if state != "done":
                raise SystemExit(store.get(run_id).detail)
        facts = {"kdcore": __version__, "recorded": datetime.date.today().isoformat(), **machine()}
        for run_id in made:
            note = f"Recorded with KDBoard {__version__} on {facts['hardware']}, {facts['recorded']}."
            store.annotate(run_id, note, [example.TAG])
            shutil.rmtree(run_dir(run_id) / "student-last")  # the best by select is what pages load
        compared = [run_id for run_id in made if store.get(run_id).sweep is None]
        example.record(store, made, compared, facts)


def _runs() -> Iterator[tuple[RunConfig, str | None]]:
    """Each run, and the sweep that it is part of."""
    for seed in SEEDS:
        for run in demo_runs(seed=seed):
            yield run.model_copy(update={"name": f"example {run.method} seed {seed}"}), None
    grid = Grid.model_validate(yaml.safe_load(LESSON.read_text())["runs"])
    for cell in expand(grid):
        yield cell.run.model_copy(update={"name": f"example {cell.label}"}), grid.name


if __name__ == "__main__":
    main()
