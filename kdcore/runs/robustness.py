"""Measuring how robust the students of finished runs are, one run after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdcore.errors import UserError
from kdcore.events import Probed, Progress
from kdcore.paths import run_dir
from kdcore.probes.robustness import EMBEDDINGS, KINDS
from kdcore.store import Store

PROBE = "robustness"
"""The probe that holds the result."""

Watch = Callable[[int, Progress], None]
"""Told the number of the run in the list and its progress."""


def measure_runs(
    store: Store, runs: Sequence[str], watch: Watch = lambda number, progress: None
) -> dict[str, UserError]:
    """Measures these runs and keeps the results; run -> why it could not be measured.

    Raises:
        UserError: a run is not in the store.
    """
    from kdcore.engine.robustness import measure

    problems: dict[str, UserError] = {}
    for number, run in enumerate(runs):
        row = store.get(run)
        if row.state != "done":
            problems[run] = UserError("run", "it is not finished", "measure it when it is done")
            continue
        try:
            for event in measure(row.config, run_dir(run), row.facts):
                if isinstance(event, Probed):
                    store.record(run, [event])
                elif isinstance(event, Progress):
                    watch(number, event)
        except UserError as error:  # one run that cannot be measured does not keep the others from it
            problems[run] = error
    return problems


def unmeasured(store: Store, runs: Sequence[str]) -> list[str]:
    """Those of these runs that are done, whose robustness to some damage is not known, and whose students are on this
    disk."""
    known, rows = store.probes_of(list(runs), (PROBE,)), store.rows(list(runs))
    done = [run for run in runs if run in rows and rows[run].state == "done"]
    new = (run for run in done if not _kinds(known.get(run, {})) >= {*KINDS, EMBEDDINGS})
    return [run for run in new if (run_dir(run) / "student-best").is_dir()]


def _kinds(probes: Mapping[str, Any]) -> set[str]:
    """Kinds of damage that the run's student was measured under."""
    return set(probes.get(PROBE, {}).get("models", {}).get("student", {}))
