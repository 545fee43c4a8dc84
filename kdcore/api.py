"""KDBoard from Python: `from kdcore import run, sweep, compare`.

Runs go into the store that the dashboard and the commands use (`KD_CACHE_DIR`, `KD_DATABASE_URL`), so each of the
three sees what the others train. `kdcore.train` is the engine alone: events, and a folder of your own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdcore.analysis.comparison import Comparison
from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.events import Event
from kdcore.paths import run_dir
from kdcore.runs.complete import complete
from kdcore.settings_file import read_settings, validate
from kdcore.store import UNFINISHED, RunRow, Store, open_store

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from kdcore.figures.template import Figure

OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Run:
    """A run of the store. What it reads is what the store holds at that moment."""

    id: str
    store: Store

    @property
    def row(self) -> RunRow:
        """All that the store holds of it but its points: settings, facts, state and the reason for it."""
        return self.store.get(self.id)

    @property
    def state(self) -> str:
        """`done`, `stopped`, `failed`, `interrupted`, `cancelled`, or that of a run that waits or trains."""
        return self.row.state

    @property
    def folder(self) -> Path:
        """Where its students, predictions and probes are."""
        return run_dir(self.id)

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Split -> metric -> fraction, of the student that `select` chose."""
        best = self.evaluations().query("which == 'best'")
        table: dict[str, dict[str, float]] = {}
        for row in best.itertuples():
            table.setdefault(str(row.split), {})[str(row.metric)] = float(row.value)  # type: ignore[arg-type]
        return table

    def metrics(self) -> pd.DataFrame:
        """What it logged: columns run, stage, step, epoch, seconds, kind (such as `loss`, `raw`), name, value."""
        return self.store.metrics(self.id)

    def evaluations(self) -> pd.DataFrame:
        """Its scores: columns run, stage, step, split, which (`best`, `last`, `teacher:NAME`), metric, value, rows."""
        return self.store.evaluations(self.id)

    def student(self, which: Literal["best", "last"] = "best") -> tuple[nn.Module, Any]:
        """Its student in eval mode, and the tokenizer.

        Raises:
            UserError: it kept none.
        """
        from kdcore.engine.results import student

        return student(self.folder, which)


def run(settings: RunConfig | Mapping[str, Any], on_event: OnEvent | None = None, store: Store | None = None) -> Run:
    """Trains one student here and returns its run; Ctrl-C leaves a checkpoint that `kdcore resume` goes on from.

    >>> from kdcore import run
    >>> one = run({
    ...     "task": "pocket-sentiment", "method": "fine-tune",
    ...     "student": {"layers": 1, "width": 16, "heads": 2, "init": "random"},
    ...     "train": {"max_steps": 3, "max_train_rows": 64, "max_length": 16},
    ...     "probes": {"fidelity": False, "latency": False, "distances": False},
    ... })
    >>> one.state, sorted(one.scores)
    ('done', ['select', 'validation'])
    >>> 0 <= one.scores["validation"]["accuracy"] <= 1
    True

    Args:
        settings: fields of `RunConfig`, as a YAML file has them.
        on_event: is told every event of `kdcore.events`.
        store: where it is listed; None: the store of the dashboard.

    Raises:
        UserError: the settings cannot be met, or the run failed; field and remedy are named.
    """
    from kdcore.runs.worker import Worker

    config = settings if isinstance(settings, RunConfig) else validate(RunConfig, dict(settings))
    store = store or open_store()
    run_id = store.add_run(complete(config))
    worker = Worker(store, "auto")
    if worker.take(run_id) is not None:
        worker.drive(run_id, on_event)
    while store.get(run_id).state in UNFINISHED:  # a dashboard on the same store was faster
        store.mark_interrupted()
        time.sleep(1.0)
    row = store.get(run_id)
    if row.state == "failed":
        raise UserError("run", f"{run_id} failed: {row.reason}", row.remedy)
    return Run(run_id, store)


def sweep(
    grid: Mapping[str, Any] | str | Path, on_event: OnEvent | None = None, store: Store | None = None
) -> list[Comparison]:
    """Trains a grid of runs here, skipping what is done, and compares them: one comparison a task.

    >>> from kdcore import sweep
    >>> (comparison,) = sweep({
    ...     "name": "two-seeds", "tasks": ["pocket-sentiment"], "methods": ["fine-tune"], "seeds": [0, 1],
    ...     "students": [{"layers": 1, "width": 16, "heads": 2, "init": "random"}],
    ...     "common": {
    ...         "train": {"max_steps": 3, "max_train_rows": 64, "max_length": 16},
    ...         "probes": {"fidelity": False, "latency": False, "distances": False},
    ...     },
    ... })
    >>> int(comparison.summary()["n"][0])
    2

    Args:
        grid: fields of `kdcore.runs.sweep.Grid`, or a YAML file with them.

    Raises:
        UserError: the grid is not valid, or no run of it ended.
    """
    from kdcore.runs import sweep as grids

    store = store or open_store()
    content = read_settings(Path(grid)) if isinstance(grid, str | Path) else dict(grid)
    plan = validate(grids.Grid, content)
    cells = grids.expand(plan)
    known = grids.states(store, cells)
    grids.run_here(store, [cell for cell in cells if known[cell.hash] != "done"], plan.name, on_event=on_event)
    return _comparisons(store, grids.run_ids(store, cells), None, grids.names(cells))


def compare(
    runs: Iterable[Run | str] | None = None, baseline: Run | str | None = None, store: Store | None = None
) -> list[Comparison]:
    """Sets finished runs against one another: one comparison a task, with means over seeds and paired differences.

    `table()` of a comparison is for people, `summary()` for programs; `answer(group, other)` says whether a difference
    is shown.

    >>> from kdcore import compare, run
    >>> tiny = {
    ...     "task": "pocket-sentiment", "method": "fine-tune",
    ...     "student": {"layers": 1, "width": 16, "heads": 2, "init": "random"},
    ...     "probes": {"fidelity": False, "latency": False, "distances": False},
    ... }
    >>> short = {"max_train_rows": 64, "max_length": 16}
    >>> two = [run(tiny | {"train": short | {"max_steps": steps}}) for steps in (2, 3)]
    >>> (comparison,) = compare(two)
    >>> len(comparison.table())
    2

    Args:
        runs: those of `run`, or ids; None: all finished ones.
        baseline: the run whose group the others are set against; None: training alone, else the first.

    Raises:
        UserError: a run is not finished, or there is none.
    """
    store = store or open_store()
    ids = None if runs is None else [_id(item) for item in runs]
    return _comparisons(store, ids, None if baseline is None else _id(baseline), {})


def plot_scores(comparison: Comparison, dark: bool = False) -> Figure:
    """Final dev scores of a comparison: a dot per seed, the mean as a bar, ± standard deviation as a whisker.

    >>> from kdcore import compare, plot_scores, run
    >>> one = run({
    ...     "task": "pocket-sentiment", "method": "fine-tune",
    ...     "student": {"layers": 1, "width": 16, "heads": 2, "init": "random"},
    ...     "train": {"max_steps": 3, "max_train_rows": 64, "max_length": 16},
    ...     "probes": {"fidelity": False, "latency": False, "distances": False},
    ... })
    >>> plot_scores(compare([one])[0]).layout.xaxis.title.text
    'Accuracy (%), dev split'
    """
    from kdcore.figures import scores
    from kdcore.formatting import metric_title

    title = f"{metric_title(comparison.metric)}, dev split"
    return scores.dots(comparison.finished, title, guess=comparison.blind_guess, dark=dark)


def plot_terms(one: Run, kind: Literal["raw", "weighted"] = "weighted", dark: bool = False) -> Figure:
    """The terms of a run's loss over its steps; `raw`, or as they enter the sum.

    >>> from kdcore import plot_terms, run
    >>> one = run({
    ...     "task": "pocket-sentiment", "method": "fine-tune",
    ...     "student": {"layers": 1, "width": 16, "heads": 2, "init": "random"},
    ...     "train": {"max_steps": 3, "max_train_rows": 64, "max_length": 16},
    ...     "probes": {"fidelity": False, "latency": False, "distances": False},
    ... })
    >>> [line.name for line in plot_terms(one).data]
    ['hard', 'sum']
    """
    from kdcore.figures import curves

    return curves.terms(one.metrics(), kind, dark=dark)


def _comparisons(
    store: Store, ids: list[str] | None, baseline: str | None, names: Mapping[str, str]
) -> list[Comparison]:
    from kdcore.analysis.comparison import compare as compare_rows

    frame = store.runs(["done"], include_archived=ids is not None)
    there = set(frame["id"])
    for run_id in [*(ids or ()), *([baseline] if baseline else ())]:
        if run_id not in there:
            raise UserError("run", f"{run_id} is not a finished run", "`kdcore runs --state done` lists them")
    frame = frame if ids is None else frame[frame["id"].isin(ids)]
    if frame.empty:
        raise UserError("runs", "there is no finished run to compare", "train one with `kdcore.run`")
    return compare_rows(store, frame, baseline, names)


def _id(item: Run | str) -> str:
    return item.id if isinstance(item, Run) else item
