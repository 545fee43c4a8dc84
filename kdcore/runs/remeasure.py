"""Measuring finished runs, one after another in the background, and choosing which runs to time again.

A run may be timed with its compression baselines: the same teacher, compressed without any training.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcore.engine.run_files import teacher_folders
from kdcore.errors import UserError
from kdcore.events import Probed, Progress
from kdcore.paths import run_dir
from kdcore.store import ACTIVE, Store

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Order:
    """A run to be measured. teacher: whose compression baselines are measured with it, or that is measured beside it;
    which of the two, the measurement knows.
    """

    run: str
    name: str
    teacher: str | None = None


class Remeasurer:
    """Measures one list of orders at a time, in a thread of its own, and records the results in the store.

    progress: of the present order. position, count: which order of how many.

    Args:
        open_measurer: opens what measures: `OwnProcess`, or a script in tests.
    """

    def __init__(self, open_measurer: Callable[[], Any] | None = None) -> None:
        self._open_measurer = open_measurer or open_process
        self._measurer: Any = None
        self.progress = Progress("", 0, 1)
        self.position = self.count = 0
        self._problems: dict[str, dict[Order, Exception]] = {}
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @property
    def working(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def problems(self, probe: str) -> dict[Order, Exception]:
        """What could not be measured when this probe was last taken, and why."""
        return dict(self._problems.get(probe, {}))

    def begin(
        self,
        store: Store,
        orders: Sequence[Order],
        open_measurer: Callable[[], Any] | None = None,
        probe: str = "latency",
    ) -> None:
        """Starts on these orders; does nothing where it is at work already.

        Args:
            open_measurer: for these in its place. probe: what it takes, under which `problems` keeps what goes wrong.
        """
        with self._lock:
            if self.working or not orders:
                return
            self.progress, self.position, self.count = Progress("getting the models ready", 0, 1), 1, len(orders)
            self._problems[probe] = {}
            self._stop.clear()
            self._thread = threading.Thread(
                target=self._work,
                args=(store, tuple(orders), open_measurer or self._open_measurer, self._problems[probe]),
                daemon=True,
                name="measuring",
            )
            self._thread.start()

    def stop(self) -> None:
        """Ends at once; what was measured before is kept."""
        self._stop.set()
        if self._measurer is not None:
            self._measurer.end()

    def wait(self, seconds: float) -> None:
        """Until it is done, or the time is over."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _work(
        self,
        store: Store,
        orders: Sequence[Order],
        open_measurer: Callable[[], Any],
        problems: dict[Order, Exception],
    ) -> None:
        with open_measurer() as self._measurer:
            for position, order in enumerate(orders, start=1):
                if self.stopping:
                    return
                self.position = position
                try:
                    for event in measured(store, order, self._measurer):
                        self.progress = event
                except Exception as error:  # one run that cannot be measured does not keep the others from it
                    if not self.stopping:
                        problems[order] = error


def measured(store: Store, order: Order, measurer: Any) -> Iterator[Progress]:
    """Measures one run, keeps what is found in the store, and yields how far it is.

    Args:
        measurer: an open `OwnProcess`.

    Raises:
        UserError: a model or the run's rows are not here. RuntimeError: the process ended before it was done.
    """
    row = store.get(order.run)
    events = measurer.measure(
        row.config, run_dir(order.run), row.facts, store.probes(order.run), order.teacher,
        lambda: not store.runs(states=ACTIVE, include_archived=True).empty,
    )  # fmt: skip
    for event in events:
        if isinstance(event, Probed):
            store.record(order.run, [event])
        elif isinstance(event, Progress):
            yield event


def open_process() -> Any:
    """A process that measures, so that it shares neither memory nor threads with this one."""
    from kdcore.engine.measure_process import OwnProcess

    return OwnProcess()


def baseline_orders(store: Store, runs: pd.DataFrame) -> tuple[list[Order], list[str]]:
    """One run for each task, teacher and cut, of those whose models are on this disk.

    Args:
        runs: rows of `Store.runs`.

    Returns:
        the orders, and the teachers left out because no such run has its models.
    """
    orders: dict[tuple[object, ...], Order] = {}
    lost: dict[tuple[object, ...], str] = {}
    rows = store.rows(list(runs["id"]))
    for _, run in runs.iterrows():
        row = rows[run["id"]]
        teacher = best_teacher(row.facts, [spec.name for spec in row.config.teachers], str(run["metric"]))
        if teacher is None:
            continue
        student = row.facts.get("student")
        depth = student.get("layers") if isinstance(student, Mapping) else row.config.student.layers
        source = row.facts.get("teachers", {}).get(teacher, {}).get("words")
        kind = (run["task"], teacher, source, depth, row.config.student.init_layers)
        if kind in orders:
            continue
        if models_on_disk(run["id"], teacher):
            orders[kind] = Order(run["id"], str(run["name"]), teacher)
            lost.pop(kind, None)
        else:
            lost[kind] = teacher
    return list(orders.values()), list(dict.fromkeys(lost.values()))


def order_of(store: Store, run: pd.Series) -> Order:
    """One run with its best teacher, where that is on this disk. run: a row of `Store.runs`."""
    row = store.get(run["id"])
    teacher = best_teacher(row.facts, [spec.name for spec in row.config.teachers], str(run["metric"]))
    here = teacher is not None and models_on_disk(run["id"], teacher)
    return Order(run["id"], str(run["name"]), teacher if here else None)


def best_teacher(facts: Mapping[str, Any], names: Sequence[str], metric: str) -> str | None:
    """The run's teacher of highest dev score; the first where scores are not known, None where there is no teacher."""

    def score(name: str) -> float:
        scores = facts.get("teachers", {}).get(name, {}).get("scores", {})
        return max(
            (of_split.get(metric, -1.0) for split, of_split in scores.items() if split != "select"), default=-1.0
        )

    return max(names, key=score, default=None)


def timing_orders(runs: pd.DataFrame, costs: pd.DataFrame) -> tuple[list[Order], bool]:
    """One run for each task and size of student, that with most teachers.

    Args:
        runs: rows of `Store.runs`. costs: their `cost_table.readings`.

    Returns:
        orders for the sizes never timed on a quiet machine, or whose memory was never counted (runs of older versions);
        where there are none, for all sizes once more. Then whether they are such sizes.
    """
    students = costs[costs["kind"] == "student"]
    quiet = students[(students["axis"] == "latency-1") & ~students["busy"].astype(bool)]
    counted = students[students["axis"] == "memory-1"]
    timed = _kinds(quiet) & _kinds(counted)
    sizes = students.drop_duplicates("run")[["run", "size"]]
    best: dict[tuple[str, str], pd.Series] = {}
    for _, run in runs.merge(sizes, left_on="id", right_on="run").iterrows():
        kind = (str(run["task"]), str(run["size"]))
        here = (run_dir(run["id"]) / "student-best").is_dir()
        if here and (kind not in best or run["teachers"].count(",") > best[kind]["teachers"].count(",")):
            best[kind] = run
    untimed = [run for kind, run in best.items() if kind not in timed]
    return [Order(run["id"], str(run["name"])) for run in untimed or best.values()], bool(untimed)


def _kinds(students: pd.DataFrame) -> set[tuple[str, str]]:
    """(task, size) of students."""
    return set(zip(students["task"], students["size"], strict=True))


def missing_baselines(store: Store, runs: Sequence[str]) -> dict[tuple[str, str], str]:
    """(teacher, kind of baseline) -> why no run could measure it."""
    measured: set[tuple[str, str]] = set()
    reasons: dict[tuple[str, str], str] = {}
    probes = store.probes_of(runs)
    for run in runs:
        probe = probes.get(run, {}).get("rivals", {})
        teacher = str(probe.get("teacher"))
        measured |= {(teacher, str(model.get("kind"))) for model in probe.get("models", [])}
        reasons |= {(teacher, kind): str(reason) for kind, reason in probe.get("absent", {}).items()}
    return {key: reason for key, reason in reasons.items() if key not in measured}


def models_on_disk(run: str, teacher: str) -> bool:
    """Whether the run's kept student and this teacher are on this disk."""
    try:
        return (run_dir(run) / "student-best").is_dir() and teacher in teacher_folders(run_dir(run))
    except UserError:
        return False
