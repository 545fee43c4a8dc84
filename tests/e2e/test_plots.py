"""Plots as a person uses them: zoom, hidden lines, clicks, pictures to keep. The runs are written, none is trained."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdcore.events import Probed, StepDone
from kdcore.store import Store, open_store
from tests.helpers.store_factory import add, run_config

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)

FIRST = "document.querySelector('.kd-plot-figure')"


@pytest.fixture(scope="module")
def runs(server: Any) -> dict[str, str]:
    """Written before the first visit, so that the worker finds nothing to train."""
    store = _store(server)
    made = {
        f"{method} {seed}": add(store, run_config(method, seed)) for method in ("fine-tune", "kd") for seed in (0, 1)
    }
    made["skd"] = add(store, run_config("skd"))
    made["live"] = add(store, run_config("kd", 7, "under way"), end="running")
    square = [[0.9 - 0.1 * abs(t - s) for s in range(3)] for t in range(5)]
    everything = {"cka": square, "cosine": square, "mse": square, "tokens": 4096, "teacher": "large"}
    store.record(made["kd 0"], [Probed("distances", 61, everything)])
    return made


def _store(server: Any) -> Store:
    return open_store(f"sqlite:///{server.cache / 'runs.db'}")


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def _grow(server: Any, run: str, first: int, count: int) -> None:
    steps = [
        StepDone("distil", step, 600, step / 600, 1.0, {"hard": 1.0, "soft": 1.0}, {"hard": 0.5, "soft": 0.5}, 1e-3,
                 900.0, 0.01 * step, 1.0)
        for step in range(first, first + count)
    ]  # fmt: skip
    _store(server).record(run, steps)


def test_zoom_and_hidden_lines_outlive_new_points(
    open_page: Callable[..., Any], server: Any, runs: dict[str, str]
) -> None:
    page = open_page(f"live?job={runs['live']}")
    page.wait_for_selector(".kd-plot-figure .main-svg")
    plot = page.locator(".kd-plot-figure").first
    plot.scroll_into_view_if_needed()
    box = plot.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 120, steps=5)
    page.mouse.up()
    reset = page.locator(".kd-plot").first.get_by_role("button", name="Reset zoom")
    _expect(reset).to_be_visible()
    zoom = page.evaluate(f"() => {FIRST}._fullLayout.xaxis.range")
    assert zoom[1] < 30
    plot.locator(".legendtoggle").first.click()
    page.wait_for_function(f"() => {FIRST}._fullData[0].visible === 'legendonly'")
    hidden = page.evaluate(f"() => {FIRST}._fullData.map(trace => trace.visible)")
    points = f"{FIRST}._fullData.at(-1).y.length"
    for first in (31, 61, 91):
        before = page.evaluate(f"() => {points}")
        _grow(server, runs["live"], first, 30)
        page.wait_for_function(f"() => {points} > {before}")
    assert page.evaluate(f"() => {FIRST}._fullLayout.xaxis.range") == zoom
    assert page.evaluate(f"() => {FIRST}._fullData.map(trace => trace.visible)") == hidden
    reset.click()
    page.wait_for_function(f"() => {FIRST}._fullLayout.xaxis.range[1] > 100")
    _expect(reset).to_be_hidden()


def test_a_click_into_the_heat_map_opens_that_pair(
    open_page: Callable[..., Any], runs: dict[str, str], insist: Any
) -> None:
    page = open_page(f"layers?job={runs['kd 0']}")
    page.wait_for_selector(".kd-plot-figure .main-svg")
    pair = page.get_by_role("heading", name="Student layer 1 ↔ teacher layer 3")
    insist(lambda: _click(page, 0, 3, 1), pair)
    _expect(pair).to_be_visible()
    _expect(page.get_by_test_id("stMetric").filter(has_text="CKA")).to_contain_text("0.700")
    _expect(page).to_have_url(re.compile("slayer=1"))
    again = open_page(page.url.split("/", 3)[3])
    _expect(again.get_by_role("heading", name="Student layer 1 ↔ teacher layer 3")).to_be_visible()
    page.get_by_role("tab", name="Distance").click()
    _expect(page.locator(".st-key-layers_mse .main-svg").first).to_be_visible()
    _expect(page.locator(".st-key-layers_cka")).to_have_count(0)
    page.wait_for_function(f"() => {FIRST}._fullLayout.width > 600")
    pair = page.get_by_role("heading", name="Student layer 2 ↔ teacher layer 0")
    insist(lambda: _click(page, 0, 0, 2), pair)
    _expect(pair).to_be_visible()


def test_a_click_on_a_point_goes_to_its_run(open_page: Callable[..., Any], runs: dict[str, str], insist: Any) -> None:
    page = open_page(f"speed?runs={','.join(runs[name] for name in runs if name != 'live')}")
    page.wait_for_selector(".kd-plot-figure .main-svg")
    offered = page.locator(".st-key-speed_seeds")
    insist(lambda: _click_trace(page, "Fine-tuning alone"), offered)
    _expect(offered).to_contain_text("mean of 2 runs")
    insist(lambda: _click_trace(page, "Stochastic KD"), page.locator(".st-key-live_head"))
    page.wait_for_url(f"**/live?job={runs['skd']}")
    _expect(page.locator(".st-key-live_head")).to_contain_text("skd seed 0")
    page.go_back()
    _expect(page.get_by_role("heading", name="Speed", level=1)).to_be_visible()


def test_a_click_on_a_dot_opens_the_run(open_page: Callable[..., Any], runs: dict[str, str], insist: Any) -> None:
    page = open_page(f"compare?runs={runs['kd 0']},{runs['fine-tune 0']}")
    page.wait_for_selector(".kd-plot-figure .main-svg")
    insist(lambda: _click_trace(page, "KD"), page.locator(".st-key-live_head"))
    page.wait_for_url(f"**/live?job={runs['kd 0']}")


def test_pictures_come_with_their_legend(open_page: Callable[..., Any], runs: dict[str, str], tmp_path: Path) -> None:
    page = open_page(f"live?job={runs['kd 0']}", dark=True)
    page.wait_for_selector(".kd-plot-figure .main-svg")
    plot = page.locator(".kd-plot").first
    plot.hover()
    with page.expect_download() as png:
        plot.get_by_role("button", name="PNG").click()
    png.value.save_as(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as svg:
        plot.get_by_role("button", name="SVG").click()
    svg.value.save_as(tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text()
    assert "hard" in drawn and "soft" in drawn and "Training step" in drawn
    assert "rgb(14, 17, 23)" in drawn, "a dark picture brings its own ground"


def test_every_plot_says_what_it_shows(open_page: Callable[..., Any], runs: dict[str, str]) -> None:
    for path in (f"live?job={runs['kd 0']}", f"layers?job={runs['kd 0']}", "speed", "compare"):
        page = open_page(path)
        page.wait_for_selector(".kd-plot-figure .main-svg")
        words = page.evaluate("() => [...document.querySelectorAll('.kd-plot-figure')].map(p => p.ariaLabel)")
        assert words and all(len(one or "") > 10 for one in words), (path, words)
        assert page.locator(".kd-plot-figure[role=img]").count() == len(words)
        page.close()


def test_a_phone_keeps_room_for_the_plot(open_page: Callable[..., Any], runs: dict[str, str]) -> None:
    page = open_page(f"compare?runs={','.join(list(runs.values())[:5])}", width=390)
    page.wait_for_selector(".kd-plot-figure .main-svg")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.kd-plot-figure')].every(p => !p._fullLayout || "
        "(p._fullLayout._size.h > 60 && p._fullLayout.width <= 390))"
    )


def _click(page: Any, plot: int, x: float, y: float) -> None:
    """Clicks where the plot has these values."""
    page.locator(".kd-plot-figure").nth(plot).scroll_into_view_if_needed()
    place = page.evaluate(
        """([plot, x, y]) => {
            const element = document.querySelectorAll('.kd-plot-figure')[plot], layout = element._fullLayout
            const box = element.getBoundingClientRect(), at = (axis, value) => axis._offset + axis.d2p(value)
            return [box.left + at(layout.xaxis, x), box.top + at(layout.yaxis, y)]
        }""",
        [plot, x, y],
    )
    page.mouse.move(place[0] + 2, place[1] + 2)
    page.mouse.click(*place)


def _click_trace(page: Any, name: str) -> None:
    """Clicks the first point of the first plot's trace of this name."""
    page.wait_for_function(f"name => {FIRST}?._fullData?.some(trace => trace.name === name)", arg=name)
    find = f"{FIRST}._fullData.find(trace => trace.name === name)"
    x, y = page.evaluate(f"name => [{find}.x[0], {find}.y[0]]", name)
    _click(page, 0, x, y)
