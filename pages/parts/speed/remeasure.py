"""Measuring on a person's click: one run after another in the background, so that a closed tab loses nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.errors import UserError
from kdcore.events import Probed, Progress
from kdcore.paths import run_dir
from kdcore.store import ACTIVE, Store
from pages.parts.common import cards
from pages.parts.common.read_only import action
from pages.parts.common.text import listed, plain

TICK_SECONDS = 1.5
WHAT = (
    "What distilling must beat: the same teacher made cheaper without any training. Stored and run in bf16; with its "
    "linear layers in int8 (torch's dynamic quantisation, on the CPU); cut to the layers that the student starts from. "
    "Each keeps the precision it is named for; students could be quantised as well, which is not measured here."
)


@dataclass(frozen=True)
class Order:
    """A run to be timed again; rivals_of: a teacher whose undistilled rivals are measured with it."""

    run: str
    name: str
    rivals_of: str | None = None


class Desk:
    """Works orders off, one list at a time, in a thread of its own that knows the store and no page.

    now: what it does, done, total. at, count: which order of how many. problems: name of a run -> what went wrong.

    Args:
        opened: opens what measures: `OwnProcess`, or a script in tests.
    """

    def __init__(self, opened: Callable[[], Any] | None = None) -> None:
        self._opened = opened or _own_process
        self._measurer: Any = None
        self.now = Progress("", 0, 1)
        self.at = self.count = 0
        self.problems: dict[str, Exception] = {}
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @property
    def working(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def begin(self, store: Store, orders: Sequence[Order]) -> None:
        """Starts on these orders; does nothing where it is at work already."""
        with self._lock:
            if self.working or not orders:
                return
            self.now, self.at, self.count = Progress("getting the models ready", 0, 1), 1, len(orders)
            self.problems = {}
            self._stop.clear()
            self._thread = threading.Thread(target=self._work, args=(store, tuple(orders)), daemon=True, name="speed")
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

    def _work(self, store: Store, orders: Sequence[Order]) -> None:
        with self._opened() as self._measurer:
            for at, order in enumerate(orders, start=1):
                if self.stopping:
                    return
                self.at = at
                try:
                    self._fill(store, order)
                except Exception as error:  # one run that cannot be measured does not keep the others from it
                    if not self.stopping:
                        self.problems[order.name] = error

    def _fill(self, store: Store, order: Order) -> None:
        row = store.get(order.run)
        found = self._measurer.measure(
            row.config, run_dir(order.run), row.facts, store.probes(order.run), order.rivals_of,
            lambda: not store.runs(states=ACTIVE, include_archived=True).empty,
        )  # fmt: skip
        for event in found:
            if isinstance(event, Probed):
                store.record(order.run, [event])
            elif isinstance(event, Progress):
                self.now = event


def _own_process() -> Any:
    from kdcore.engine.measure_process import OwnProcess

    return OwnProcess()


@st.cache_resource(show_spinner=False, on_release=lambda held: held.stop())
def desk() -> Desk:
    """One for all sessions: two measurements at once would disturb each other."""
    return Desk()


def rival_orders(store: Store, runs: pd.DataFrame) -> tuple[list[Order], list[str]]:
    """One run for each task, teacher and cut, of those whose models are on this disk.

    Returns:
        the orders, and the names of what is left out because no such run has its models.
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
        words = row.facts.get("teachers", {}).get(teacher, {}).get("words")
        kind = (run["task"], teacher, words, depth, row.config.student.init_layers)
        if kind in orders:
            continue
        if _on_disk(run["id"], teacher):
            orders[kind] = Order(run["id"], str(run["name"]), teacher)
            lost.pop(kind, None)
        else:
            lost[kind] = teacher
    return list(orders.values()), list(dict.fromkeys(lost.values()))


def best_teacher(facts: Mapping[str, Any], names: Sequence[str], metric: str) -> str | None:
    """The run's teacher of highest dev score; the first where scores are not known, None where there is no teacher."""

    def score(name: str) -> float:
        said = facts.get("teachers", {}).get(name, {}).get("scores", {})
        return max((one.get(metric, -1.0) for split, one in said.items() if split != "select"), default=-1.0)

    return max(names, key=score, default=None)


def _on_disk(run: str, teacher: str) -> bool:
    from kdcore.engine.results import teacher_folders

    try:
        return (run_dir(run) / "student-best").is_dir() and teacher in teacher_folders(run_dir(run))
    except UserError:
        return False


def show(store: Store, runs: pd.DataFrame, found: pd.DataFrame) -> None:
    """What is known of the rivals, and what can be measured; or, while something is, how far it is.

    Args:
        runs: those that are looked at. found: their `costs.readings.readings`.
    """
    st.caption(WHAT)
    at_work = desk()
    if at_work.working:
        st.fragment(_watch, run_every=TICK_SECONDS)(at_work)
        return
    orders, lost = rival_orders(store, runs)
    training = not store.runs(states=ACTIVE, include_archived=True).empty
    if training:
        st.caption(":material/warning: A training is running: what is timed now is marked as taken on a busy machine.")
    with st.container(horizontal=True):
        if orders and action(
            "Measure the rivals", key="speed_rivals", icon=":material/compare_arrows:",
            help="Scores them on the dev split and times them in turn with student and teachers, on this machine: "
            "seconds for a small model, minutes for a large dev split",
        ):  # fmt: skip
            _begin(at_work, store, orders)
        again, why = to_time(store, runs, found)
        if again and action("Time the students", key="speed_again", icon=":material/timer:", help=why):
            _begin(at_work, store, again)
    for words in absent(store, runs):
        st.caption(words)
    if lost:
        st.caption(f"No longer on this disk, so without rivals: {listed(map(plain, lost))}.")
    if not orders and not lost:
        st.caption("The chosen runs have no teacher, so there are no rivals.")
    for name, error in list(at_work.problems.items())[:3]:
        cards.problem(error, f"{plain(name, 60)} could not be measured")


def to_time(store: Store, runs: pd.DataFrame, found: pd.DataFrame) -> tuple[list[Order], str]:
    """One run for each task and size of student, that with most teachers; and in words what the button does.

    First the sizes that were never timed on a quiet machine; where there are none, all of them once more.
    """
    students = found[found["kind"] == "student"]
    quiet = students[(students["axis"] == "latency-1") & ~students["busy"].astype(bool)]
    timed = set(zip(quiet["task"], quiet["size"], strict=True))
    best: dict[tuple[str, str], pd.Series] = {}
    for _, run in runs.merge(students.drop_duplicates("run")[["run", "size"]], left_on="id", right_on="run").iterrows():
        kind = (str(run["task"]), str(run["size"]))
        here = (run_dir(run["id"]) / "student-best").is_dir()
        if here and (kind not in best or run["teachers"].count(",") > best[kind]["teachers"].count(",")):
            best[kind] = run
    wanting = [run for kind, run in best.items() if kind not in timed]
    chosen = wanting or list(best.values())
    what = "Sizes that were not timed yet, or on a busy machine" if wanting else "Every size once more"
    count = f"{len(chosen)} run{'' if len(chosen) == 1 else 's'}"
    how = "student and teachers in turn, batch 1 and 32, at the run's mean length, on this machine"
    return [Order(run["id"], str(run["name"])) for run in chosen], f"{what} ({count}): {how}"


def absent(store: Store, runs: pd.DataFrame) -> list[str]:
    """One line for each rival that no run could measure, with the reason."""
    measured: set[tuple[str, str]] = set()
    lines: dict[tuple[str, str], str] = {}
    probes = store.probes_of(list(runs["id"]))
    for run in runs["id"]:
        found = probes.get(run, {}).get("rivals", {})
        teacher = str(found.get("teacher"))
        measured |= {(teacher, str(model.get("kind"))) for model in found.get("models", [])}
        for kind, why in found.get("absent", {}).items():
            lines[teacher, kind] = f"Teacher {plain(teacher)}, {plain(kind)}: not measured, {plain(why, 300)}."
    return [words for key, words in lines.items() if key not in measured]


def _begin(at_work: Desk, store: Store, orders: Sequence[Order]) -> None:
    at_work.begin(store, orders)
    st.rerun()


def _watch(at_work: Desk) -> None:
    if not at_work.working:
        st.rerun()
    now = at_work.now
    which = f"Run {at_work.at} of {at_work.count}: " if at_work.count > 1 else ""
    words = "stopping" if at_work.stopping else now.what
    st.progress(min(1.0, now.done / now.total) if now.total else 0.0, text=f"{which}{plain(words, 80)}")
    action("Stop measuring", key="speed_stop", icon=":material/stop:", on_click=at_work.stop, disabled=at_work.stopping)
