"""Where the output is no terminal, long phases print a line every half minute."""

from kdcore.cli import log_lines
from kdcore.cli.console import Bars
from kdcore.events import Progress, StageStarted, StepDone


def step(number):
    return StepDone("distil", number, 90, 1.0, 0.5, {}, {}, 1e-3, 64.0, 1.0, 0.5)


def test_long_phases_are_told_in_lines(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(log_lines.time, "monotonic", lambda: clock[0])
    lines = log_lines.LogLines(print)
    for second in range(0, 100, 10):
        clock[0] = float(second)
        lines(Progress("training teacher big", second, 200))
    lines(StageStarted("distil", 0, 1, 90))
    clock[0] = 100.0
    lines(step(1))
    clock[0] = 131.0
    lines(step(7))
    assert capsys.readouterr().out.splitlines() == [
        "  training teacher big: 30 of 200 done, 30 s so far",
        "  training teacher big: 60 of 200 done, 1 min 0 s so far",
        "  training teacher big: 90 of 200 done, 1 min 30 s so far",
        "  stage distil: 7 of 90 steps, 31 s so far, loss 0.5, 64 rows/s",
    ]


def test_a_run_into_a_file_has_these_lines(monkeypatch, capsys):
    monkeypatch.setattr(log_lines, "EVERY", 30.0)
    clock = [0.0]
    with Bars() as bars:
        monkeypatch.setattr(log_lines.time, "monotonic", lambda: clock[0])
        bars.restart("run 1")
        clock[0] = 40.0
        bars(Progress("filling the cache", 3, 9))
    assert "filling the cache: 3 of 9 done" in capsys.readouterr().out
