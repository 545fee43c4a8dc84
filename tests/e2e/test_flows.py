"""The main flows, as a person goes through them. The worker really trains: tiny students on a generated task."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.store import UNFINISHED, Store, open_store

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)

PAGES = ("", "launch", "live", "runs", "compare", "layers", "attention", "speed", "examples", "learn", "system")
POINTS = "document.querySelector('.kd-plot-figure')._fullData.at(-1).y.length"
LAST_STEP = "document.querySelector('.kd-plot-figure')._fullData.at(-1).x.at(-1)"
STUDENT = {"layers": 1, "width": 16, "heads": 2, "init": "random"}


@pytest.fixture
def store(server: Any) -> Store:
    """The server's own store."""
    return open_store(f"sqlite:///{server.cache / 'runs.db'}")


@pytest.fixture(autouse=True)
def idle_afterwards(store: Store) -> Iterator[None]:
    """A test that fails leaves no run behind that the next one would wait for."""
    yield
    for run in store.runs(states=UNFINISHED)["id"]:
        with contextlib.suppress(UserError):
            store.request_stop(run, keep=False)
    _until(lambda: store.runs(states=UNFINISHED).empty, "an idle queue")


def _run(name: str, epochs: float = 1.0, **more: Any) -> RunConfig:
    train = {"epochs": epochs, "lr": 1e-3, "max_length": 32, "log_every": 5, "evaluate_every": 100_000, "threads": 1}
    settings = {"name": name, "task": "pocket-sentiment", "method": "fine-tune", "student": STUDENT, "train": train}
    return RunConfig.model_validate(settings | more)


def _until(happened: Callable[[], Any], what: str, factor: float = 3) -> Any:
    """Waits for the store; the time is an upper bound, not a measure."""
    until = time.monotonic() + factor * PATIENCE
    while time.monotonic() < until:
        if value := happened():
            return value
        time.sleep(0.2)
    pytest.fail(f"waited in vain for: {what}")


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def test_the_first_request_may_be_a_deep_link(open_page: Callable[..., Any]) -> None:
    page = open_page("compare")
    _expect(page.get_by_role("heading", name="Compare", level=1)).to_be_visible()
    menu = page.get_by_test_id("stSidebarNav")
    _expect(menu).to_contain_text("Attention")
    _expect(menu.get_by_role("link", name="Start")).to_be_visible()
    _expect(page.get_by_text("Nothing to compare yet")).to_be_visible()
    assert page.title() == "Compare" or "KDBoard" in page.title()


def test_a_launched_run_trains_to_its_end_and_stands_in_the_list(open_page: Callable[..., Any], store: Store) -> None:
    page = open_page("launch")
    _choose(page, "launch-method", "Fine-tuning alone")
    page.locator(".st-key-launch-teachers").get_by_role("button", name="Clear all").click()
    _expect(page.get_by_text("does not listen to teachers")).to_be_visible()
    _fill(page, "launch-train-epochs", "1")
    _fill(page, "launch-name", "from the form")
    start = page.locator(".st-key-launch_go").get_by_role("button")
    _expect(page.get_by_test_id("stMetric").filter(has_text="Steps")).to_be_visible()
    _expect(start).to_be_enabled()
    start.click()
    page.wait_for_url("**/live?job=*")
    _expect(page.locator(".st-key-live_head")).to_contain_text("from the form")
    _expect(page.locator(".st-key-live_head")).to_contain_text("done", timeout=3000 * PATIENCE)
    _expect(page.locator(".st-key-live_equation")).to_contain_text("hard")
    _expect(page.locator(".js-plotly-plot").first).to_be_visible()
    _expect(page.get_by_text("Student chosen by")).to_have_count(1)
    _expect(page.get_by_text("Student chosen by")).to_be_visible()
    assert _points(page) > 5
    run = store.runs(states=["done"]).iloc[0]
    assert run["name"] == "from the form" and 0.4 < run["score"] <= 1.0
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Runs").click()
    _expect(_cell(page, "from the form")).to_be_attached()


def test_a_run_goes_on_without_the_page_and_is_found_again(open_page: Callable[..., Any], store: Store) -> None:
    """Reload, a second tab, a closed tab; a second run waits; stop keeps the student and lets the next one start."""
    long = store.add_run(_run("the long one", epochs=400))
    page = open_page(f"live?job={long}")
    shown = page.locator(".st-key-live_progress")
    _expect(shown).to_contain_text(re.compile(r"Step [1-9]\d* of"))
    before = _step(shown)
    page.wait_for_selector(".kd-plot[data-ready] .main-svg")
    assert _zoomed(page) == [2, 9] or _zoomed(page) == [2, 9], "new points must not undo a zoom"
    second = open_page(f"live?job={long}", context=page.context)
    _expect(second.locator(".st-key-live_progress")).to_contain_text(re.compile(r"Step [1-9]\d* of"))
    page.reload()
    _expect(shown).to_contain_text(re.compile(r"Step [1-9]\d* of"))
    assert _step(shown) >= before
    assert page.url.endswith(long)
    page.close()

    waits = store.add_run(_run("the waiting one"))
    unwanted = store.add_run(_run("the unwanted one"))
    hurried = store.add_run(_run("the hurried one"))
    _expect(second.locator(f".st-key-queue_{waits}")).to_be_visible()
    second.locator(f".st-key-cancel_{unwanted}").get_by_role("button").click()
    _until(lambda: store.get(unwanted).state == "cancelled", "the cancelled run")
    _expect(second.locator(f".st-key-queue_{unwanted}")).to_have_count(0)
    second.locator(f".st-key-up_{hurried}").get_by_role("button").click()
    _expect(second.locator("[class*='st-key-queue_']").first).to_contain_text("the hurried one")

    second.locator(".st-key-live_stop").get_by_role("button").click()
    _until(lambda: store.get(long).state == "stopped", "the stop")
    _expect(second.locator(".st-key-live_head")).to_contain_text("stopped")
    _expect(second.get_by_text("the student was saved")).to_be_visible()
    _until(lambda: store.get(waits).state == "done", "the next runs' turns")
    assert (store.get(hurried).started or 0) < (store.get(waits).started or 0)


def test_the_stopped_student_is_on_disk(store: Store, server: Any) -> None:
    stopped = store.runs(states=["stopped"])
    assert len(stopped) == 1
    folder = server.cache / "runs" / stopped["id"].iloc[0]
    assert list(folder.glob("student-*/model.safetensors"))


def test_teacher_and_student_are_seen_side_by_side(open_page: Callable[..., Any], store: Store) -> None:
    """An earlier student is the teacher here, so that nothing large is trained."""
    first = store.runs(states=["done"])["id"].iloc[-1]
    teacher = {"name": "earlier", "source": "run", "where": first}
    run = store.add_run(_run("distilled", method="kd", teachers=[teacher]))
    _until(lambda: store.get(run).state in ("done", "failed"), "the distilled run")
    assert store.get(run).state == "done", store.get(run).detail
    page = open_page(f"attention?job={run}")
    maps = [page.locator(f".st-key-attention_head_{side} .js-plotly-plot") for side in ("t", "s")]
    for one in maps:
        _expect(one).to_be_visible()
    scales = [one.evaluate("plot => [plot.data[0].zmin, plot.data[0].zmax]") for one in maps]
    assert scales[0] == scales[1] and scales[0][0] == 0 < scales[0][1] <= 1, "one scale for both"
    page.goto(page.url.replace("attention", "layers"))
    _expect(page.locator(".js-plotly-plot").first).to_be_visible()
    _expect(page.get_by_text("tokens of Pocket sentiment").first).to_be_visible()
    page.goto(page.url.replace("layers", "speed").split("?")[0])
    _expect(page.locator(".js-plotly-plot").first).to_be_visible()


def test_a_failure_is_told_with_its_reason_and_stays_listed(open_page: Callable[..., Any], store: Store) -> None:
    own = {"path": "/no/such/rows.csv", "text": "sentence", "label": "label"}
    run = store.add_run(_run("will fail", task="own", own=own))
    page = open_page(f"live?job={run}")
    _expect(page.locator(".st-key-live_head")).to_contain_text("failed")
    _expect(page.get_by_text("rows.csv").first).to_be_visible()
    page.reload()
    _expect(page.locator(".st-key-live_head")).to_contain_text("failed")
    assert store.get(run).reason and store.get(run).remedy


def test_the_delete_dialog_names_the_run_and_a_new_run_does_not_shift_the_choice(
    open_page: Callable[..., Any], store: Store
) -> None:
    store.add_run(_run("lowest"))
    newest = store.runs()
    _until(lambda: not len(store.runs(states=UNFINISHED)), "an idle queue")
    page = open_page("runs")
    table = page.get_by_test_id("stDataFrame").first
    _expect(_cell(page, "lowest")).to_be_attached()
    table.click(position={"x": 18, "y": 35 + 17})
    _expect(page.locator(".st-key-runs_chosen")).to_contain_text("lowest")
    other = store.add_run(_run("on top", epochs=0.1))
    _until(lambda: store.get(other).state == "done", "the run on top")
    page.locator(".st-key-runs_search input").fill("o")
    page.locator(".st-key-runs_search input").press("Enter")
    _expect(_cell(page, "on top")).to_be_attached()
    _expect(page.locator(".st-key-runs_chosen")).to_contain_text("lowest")
    page.locator(".st-key-runs_delete").get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    _expect(dialog).to_contain_text("lowest")
    assert "on top" not in dialog.inner_text()
    page.locator(".st-key-delete_yes").get_by_role("button").click()
    _until(lambda: len(store.runs()) == len(newest), "the deletion")
    assert "lowest" not in set(store.runs()["name"])


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_no_page_scrolls_sideways_or_breaks(open_page: Callable[..., Any], dark: bool, width: int) -> None:
    page = open_page("", dark=dark, width=width)
    for path in PAGES:
        page.goto(page.url.split("/", 3)[0] + "//" + page.url.split("/", 3)[2] + f"/{path}")
        _expect(page.get_by_role("heading", level=1)).to_be_visible()
        _expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_attached()
        sizes = page.evaluate(
            "() => { const main = document.querySelector('[data-testid=stMain]');"
            " return [main.scrollWidth, main.clientWidth, document.documentElement.scrollWidth, window.innerWidth] }"
        )
        assert sizes[0] <= sizes[1] and sizes[2] <= sizes[3], (path, sizes)
        assert page.get_by_test_id("stException").count() == 0, path
        background = page.evaluate(
            "() => getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
        )
        assert background == ("rgb(14, 17, 23)" if dark else "rgb(255, 255, 255)")


def test_a_bad_address_is_answered_kindly(open_page: Callable[..., Any]) -> None:
    page = open_page("live?job=../../etc/passwd")
    _expect(page.get_by_text("not in this store")).to_be_visible()
    assert "passwd" not in page.url


def _cell(page: Any, words: str) -> Any:
    """A cell of a table. The table is painted; its words stand in the canvas for screen readers."""
    return page.locator("[role=gridcell]").filter(has_text=words).first


def _choose(page: Any, key: str, words: str) -> None:
    box = page.locator(f".st-key-{key} input")
    box.click()
    box.fill(words)
    page.get_by_role("option", name=re.compile(words)).first.click()


def _fill(page: Any, key: str, value: str) -> None:
    box = page.locator(f".st-key-{key} input")
    box.fill(value)
    box.press("Enter")


def _points(page: Any) -> int:
    """Points of the last line of the first plot."""
    found: int = page.evaluate(f"() => {POINTS}")
    return found


def _zoomed(page: Any) -> list[float]:
    """Zooms the first plot to steps 2 to 9; what it shows when points have been added."""
    page.evaluate("() => Plotly.relayout(document.querySelector('.kd-plot-figure'), {'xaxis.range': [2, 9]})")
    last = page.evaluate(f"() => {LAST_STEP}")
    page.wait_for_function(f"() => {LAST_STEP} > {last}")
    shown: list[float] = page.evaluate("() => document.querySelector('.kd-plot-figure')._fullLayout.xaxis.range")
    return shown


def _step(locator: Any) -> int:
    found = re.search(r"Step (\d+) of", locator.inner_text())
    return int(found.group(1)) if found else -1
