"""Pins of the teacher cache: an entry in use stays, whoever uses it; what is left over does not keep it."""

import os
import subprocess
import sys
import time

import pytest

from kdcore import paths, process
from kdcore.engine import pins
from kdcore.engine.pins import is_pinned, pinned
from tests.helpers.containers import CONTAINER, needs_namespaces

HOLD = """
import sys
from pathlib import Path
from kdcore.engine.pins import pinned
with pinned(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
    import os
    os._exit(9)
"""


@pytest.fixture
def entry(own_cache):
    folder = paths.cache_subdir("outputs") / "entry"
    folder.mkdir()
    return folder


def hold(folder, inside=()):
    command = [*inside, sys.executable, "-c", HOLD, str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    return holder


def die(holder):
    holder.communicate("die\n", timeout=60)
    assert holder.returncode == 9


def age(folder, seconds):
    for pin in folder.glob("pin-*"):
        os.utime(pin, (time.time() - seconds,) * 2)


def test_pin_lasts_as_long_as_the_use(entry):
    with pinned(entry), pinned(entry):
        assert is_pinned(entry) and len(list(entry.iterdir())) == 2
    assert not is_pinned(entry) and list(entry.iterdir()) == []


def test_pin_of_a_process_that_died_here_keeps_nothing(entry):
    die(hold(entry))
    assert len(list(entry.glob("pin-*"))) == 1
    assert not is_pinned(entry) and list(entry.iterdir()) == []


def test_living_process_of_this_computer_need_not_touch_its_pin(entry):
    holder = hold(entry)
    age(entry, 10 * pins.LEFT_OVER_SECONDS)
    assert is_pinned(entry)
    die(holder)


@needs_namespaces
def test_entry_that_another_container_uses_stays(entry):
    """Its process is number 1 there, so here it cannot be seen to live, nor to be gone."""
    holder = hold(entry, CONTAINER)
    assert next(entry.glob("pin-*")).name.split("-")[2] == "1"
    assert is_pinned(entry)
    die(holder)
    assert is_pinned(entry)  # for a while
    age(entry, pins.LEFT_OVER_SECONDS + 1)
    assert not is_pinned(entry) and list(entry.iterdir()) == []


def test_pin_of_another_computer_counts_by_the_clock_of_the_disk(entry, monkeypatch):
    with pinned(entry):
        (pin,) = entry.iterdir()
        monkeypatch.setattr(pins, "this_process", lambda: process.Process("another boot", 1, "1"))
        for skew in (-3600, 3600):
            monkeypatch.setattr(time, "time", lambda skew=skew: 1e9 + skew)
            assert is_pinned(entry)
        monkeypatch.setattr(pins.tempfile, "NamedTemporaryFile", full_disk)
        assert is_pinned(entry) and pin.exists()


def full_disk(**_):
    raise OSError(28, "No space left on device")


def test_pin_is_touched_while_it_is_needed(entry, monkeypatch):
    monkeypatch.setattr(pins, "TOUCH_SECONDS", 0.01)
    with pinned(entry):
        (pin,) = entry.iterdir()
        os.utime(pin, (0, 0))
        until = time.monotonic() + 60
        while pin.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert pin.stat().st_mtime > 0


@pytest.mark.parametrize("name", ["pin-", "pin-12", "pin-12-0a1b2c3d", "pin-a-b-c-d", "pin-a-b-c-d-e"])
def test_pin_with_another_name_is_left_over_once_it_is_old(entry, name):
    (entry / name).touch()
    assert is_pinned(entry)
    age(entry, pins.LEFT_OVER_SECONDS + 1)
    assert not is_pinned(entry)
