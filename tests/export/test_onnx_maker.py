"""Exports in the background: in turn, each in a process of its own, whose end is told."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kdcore.export.onnx_maker import OnnxMaker
from tests.helpers import tiny_task

PATIENCE = 120.0
WORKS = """
import pathlib, sys, time
place = pathlib.Path({folder!r})
assert not list(place.glob("*.now")), "two at once"
now = place / (sys.argv[1] + ".now")
now.touch()
while sys.argv[1] == "first" and not (place / "go").exists():
    time.sleep(0.02)
now.rename(place / (sys.argv[1] + ".done"))
"""
REFUSED = """
print("a library says hello")
print('["--onnx", "a logit differs", "report it"]')
raise SystemExit(1)
"""
DIES = "raise MemoryError('no room for the weights')"


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_runs_take_turns_and_each_is_known_to_be_at_work(tmp_path: Path) -> None:
    maker = OnnxMaker(program(WORKS.format(folder=str(tmp_path))))
    maker.begin("first")
    maker.begin("second")
    maker.begin("first")  # it is at it already
    wait(lambda: (tmp_path / "first.now").exists())
    assert maker.working("first") and maker.working("second") and not maker.working("third")
    assert not (tmp_path / "second.now").exists() and maker.problem("second") is None
    (tmp_path / "go").touch()
    wait(lambda: not maker.working("second"))
    assert sorted(path.name for path in tmp_path.glob("*.done")) == ["first.done", "second.done"]
    assert maker.problem("first") is None and maker.problem("second") is None
    maker.stop()


@pytest.mark.parametrize(
    ("text", "problem"), [(REFUSED, "a logit differs"), (DIES, "MemoryError: no room for the weights")]
)
def test_why_it_failed_is_told_until_it_is_tried_again(text: str, problem: str) -> None:
    maker = OnnxMaker(program(text))
    maker.begin("run")
    wait(lambda: not maker.working("run"))
    error = maker.problem("run")
    assert error is not None and problem in error.problem and error.remedy
    assert maker.problem("other") is None
    maker.stop()


def test_a_stop_ends_what_is_under_way_and_makes_no_more(tmp_path: Path) -> None:
    maker = OnnxMaker(program(WORKS.format(folder=str(tmp_path))))
    maker.begin("first")
    maker.begin("second")
    wait(lambda: (tmp_path / "first.now").exists())
    maker.stop()
    wait(lambda: not maker.working("first"))
    maker.begin("third")
    assert not maker.working("second") and not maker.working("third")
    assert not list(tmp_path.glob("*.done")) and not (tmp_path / "second.now").exists()


def test_the_child_says_what_a_person_can_do(own_cache: Path) -> None:
    """The real process, over a run that has no student."""
    from kdcore.store import open_store

    run = open_store().add_run(tiny_task.run("fine-tune"))
    maker = OnnxMaker()
    maker.begin(run)
    wait(lambda: not maker.working(run))
    error = maker.problem(run)
    assert error is not None and "no student" in error.problem and error.remedy
    maker.stop()
