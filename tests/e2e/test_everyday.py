"""What a person does all day: compares, takes things along, works by keyboard, leaves a page open. None is trained."""

from __future__ import annotations

import os
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from kdcore.models.students import save_student
from kdcore.store import Store, open_store
from tests.helpers import model_factory
from tests.helpers.store_factory import add, grow, run_config

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)

FIRST = "document.querySelector('.st-key-compare_curves .kd-plot-figure')"
SOAK_SECONDS = 20


@pytest.fixture(scope="module")
def store(server: Any) -> Store:
    return open_store(f"sqlite:///{server.cache / 'runs.db'}")


@pytest.fixture(scope="module")
def runs(store: Store) -> dict[str, str]:
    return {f"{method} {seed}": add(store, run_config(method, seed)) for method in ("kd", "pkd") for seed in (0, 1)}


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def test_smoothing_and_axes_change_the_plot_and_the_address(
    open_page: Callable[..., Any], runs: dict[str, str]
) -> None:
    page = open_page(f"compare?runs={','.join(runs.values())}&band=std&sm=0.9&logy=true")
    page.wait_for_function(f"() => {FIRST}?._fullLayout?.yaxis.type === 'log'")
    smooth = page.evaluate(f"() => {FIRST}._fullData.map(trace => trace.name)")
    assert len(set(smooth)) >= 2  # a line a method
    values = f"{FIRST}._fullData.filter(trace => trace.y?.length).at(-1).y"
    rough = page.evaluate(f"() => Array.from({values})")
    page.get_by_role("button", name="Axes").click()
    page.locator(".st-key-logy").get_by_text("Log scale").click()
    page.wait_for_function(f"() => {FIRST}._fullLayout.yaxis.type === 'linear'")
    _expect(page).to_have_url(re.compile(r"^(?!.*logy=true)"))
    again = open_page(page.url.split("/", 3)[3].replace("sm=0.9", "sm=0"))
    again.wait_for_function(f"() => {FIRST}?._fullLayout?.yaxis.type === 'linear'")
    assert again.evaluate(f"() => Array.from({values})") != rough


def test_the_student_is_taken_along(
    open_page: Callable[..., Any], server: Any, runs: dict[str, str], tmp_path: Path
) -> None:
    run = runs["kd 0"]
    folder = server.cache / "runs" / run / "student-best"
    save_student(model_factory.model(2, seed=0), model_factory.tokenizer(), folder)
    page = open_page(f"live?job={run}")
    with page.expect_download() as download:
        page.locator(".st-key-live_student").get_by_role("button").click()
    download.value.save_as(tmp_path / "student.zip")
    with zipfile.ZipFile(tmp_path / "student.zip") as file:
        assert {f"{run}/{name}" for name in ("README.md", "config.json", "model.safetensors")} <= set(file.namelist())
        assert file.testzip() is None


def test_a_run_is_stopped_by_keyboard_alone(open_page: Callable[..., Any], store: Store) -> None:
    run = add(store, run_config("kd", 3, "by keyboard"), end="running")
    page = open_page(f"live?job={run}")
    stop = page.locator(".st-key-live_stop").get_by_role("button")
    _expect(stop).to_be_visible()
    for _ in range(80):
        page.keyboard.press("Tab")
        if stop.evaluate("button => button === document.activeElement"):
            break
    else:
        pytest.fail("Tab does not reach the button")
    shown = stop.evaluate("button => { const s = getComputedStyle(button); return s.boxShadow + s.outlineStyle }")
    assert shown != "nonenone", "focus must be seen"
    page.keyboard.press("Enter")
    _expect(page.locator(".st-key-live_discard")).to_be_visible()
    assert store.stop_requested(run) == "keep"


def test_a_page_left_open_does_not_grow(open_page: Callable[..., Any], server: Any, store: Store) -> None:
    """A short soak; the long one is bench/leak_check.py."""
    run = add(store, run_config("pkd", 5, "left open"), end="running", steps=600)
    page = open_page(f"live?job={run}")
    page.wait_for_selector(".kd-plot-figure .main-svg")
    process = next(
        p
        for p in psutil.process_iter(["cmdline"])
        if f"--server.port={server.url.rsplit(':')[-1]}" in (p.info["cmdline"] or [])
    )
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")
    before, threads, step = _heap(session), process.num_threads(), 301
    until = time.monotonic() + SOAK_SECONDS
    while time.monotonic() < until:
        grow(store, run, step, {"hard": 1.0, "soft": 1.0, "patience": 1.0})
        step += 1
        page.wait_for_timeout(250)
    assert _heap(session) < 1.3 * before
    assert process.num_threads() <= threads + 4  # the server's own pool may still fill
    assert page.evaluate("() => document.querySelectorAll('.js-plotly-plot').length") < 10


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended, or is not ours
        return []


def _heap(session: Any) -> float:
    session.send("HeapProfiler.collectGarbage")
    return float(session.send("Runtime.getHeapUsage")["usedSize"])
