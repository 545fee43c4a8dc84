"""Speed shows runs as deployed: the plot, whether the student survives int8, and the button that measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kdcore.engine import measure_process
from kdcore.events import Event, Probed, Progress
from kdcore.paths import run_dir
from pages.parts.speed import runtimes
from pages.parts.speed.remeasure import remeasurer
from tests.helpers.runtime_probe import probe
from tests.helpers.store_factory import add, run_config, words


def test_what_was_measured_is_drawn_and_int8_is_judged_in_a_sentence(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"))
    store.record(run, [Probed("runtimes", 60, probe(9, 1, busy=True))])
    app = visit("speed", ssection="Runtimes", runs=run)
    text = words(app).replace("\\", "")
    assert not app.exception and "Hollow: other work used the machine" in text
    assert "KD, 2 x 32 (one seed): 80.0 in float32, 79.2 in int8" in text and "it loses." in text
    assert "student, OpenVINO, float32: not measured, not installed" in text
    app.selectbox(key="speed_rt_batch").set_value(8).run()
    app.session_state["speed_runtimes_plot-numbers"] = True
    app.run()
    table = next(frame.value for frame in app.dataframe if "p95_ms" in frame.value)
    assert len(table) == 8 and {"score", "disk_mib", "memory_mib", "per_second"} <= set(table.columns)


def test_a_teacher_of_several_methods_is_one_point(
    store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("kd", "pkd"):
        store.record(add(store, run_config(method)), [Probed("runtimes", 60, probe(0, 0))])
    drawn: list[pd.DataFrame] = []
    scatter = runtimes.figures.scatter
    monkeypatch.setattr(
        runtimes.figures, "scatter", lambda table, *more, **how: drawn.append(table) or scatter(table, *more, **how)
    )
    visit("speed", ssection="Runtimes")
    assert sorted(drawn[0]["model"]) == sorted(2 * ["KD, 2 x 32", "Patient KD, 2 x 32", "teacher large"])


def test_without_a_measurement_the_page_says_so(store: Any, visit: Callable[..., Any]) -> None:
    add(store, run_config("kd"))
    text = words(visit("speed", ssection="Runtimes"))
    assert (
        "no longer on this disk, so they cannot be measured here" in text and "was measured in these runtimes" in text
    )


class Scripted:
    """In place of the child that measures."""

    def __init__(self) -> None:
        self.teacher: str | None = ""

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *about: object) -> None: ...

    def end(self) -> None: ...

    def measure(self, run: Any, folder: Path, facts: Any, known: Any, teacher: Any, beside: Any) -> Iterator[Event]:
        self.teacher = teacher
        yield Progress("timing", 0, 1)
        yield Probed("runtimes", 60, probe(0, 0))


def test_a_click_measures_one_run_of_each_group(store: Any, visit: Callable[..., Any], monkeypatch: Any) -> None:
    run = add(store, run_config("kd"))
    (run_dir(run) / "student-best").mkdir(parents=True)
    scripted = Scripted()
    monkeypatch.setattr(runtimes, "open_process", lambda: scripted)
    monkeypatch.setattr(measure_process, "OwnProcess", None)
    app = visit("speed", ssection="Runtimes", runs=run)
    button = app.button(key="speed_runtimes")
    assert button.label == "Measure the runtimes (1 run)"
    button.click().run()
    remeasurer().wait(60)
    app.run()
    assert scripted.teacher is None, "its teacher is not on this disk"
    assert app.button(key="speed_runtimes").label == "Measure again (1 run)" and not app.exception
    assert "no loss is shown" in words(app)
