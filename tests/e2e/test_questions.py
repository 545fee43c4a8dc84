"""Two people with a question, and how many clicks they are from its answer.

A newcomer over the example that comes with the program: does distillation help, by how much, and why? An engineer over
a stored study: which student has 97 % of the teacher's score and takes less than 10 ms? What is expected is computed
from the store, so that a new example needs no new numbers here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

from kdcore.events import Evaluated, Probed, RunFinished, RunStarted
from kdcore.formatting import metric_title
from kdcore.methods.catalog import title_of
from kdcore.runs import example
from kdcore.store import Store, open_store
from pages.parts.common.menu import PAGES
from tests.helpers.store_factory import run_config

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)

ALONE = "fine-tune"


class Clicks:
    """Counts what a person does: each click, and each number typed."""

    def __init__(self, page: Any) -> None:
        self.page, self.count = page, 0

    def on(self, locator: Any) -> None:
        _expect(locator).to_be_visible()
        locator.click()
        self.count += 1

    def type(self, locator: Any, text: str) -> None:
        locator.fill(text)
        locator.press("Enter")
        self.count += 1


@pytest.fixture
def store(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The server's own; empty again afterwards."""
    monkeypatch.setenv("KD_CACHE_DIR", str(server.cache))
    mine = open_store(f"sqlite:///{server.cache / 'runs.db'}")
    yield mine
    for run in mine.runs(include_archived=True)["id"]:
        mine.delete(run)


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def _menu(page: Any, key: str) -> Any:
    return page.get_by_test_id("stSidebarNav").get_by_role("link", name=PAGES[key][0], exact=True)


# --- the newcomer --------------------------------------------------------------------------------------------------


def _study(store: Store) -> pd.DataFrame:
    """The example's compared runs with a score."""
    runs = store.runs()
    return runs[runs["id"].isin(example.about()["compared"])]


def _ahead(runs: pd.DataFrame) -> tuple[str, float]:
    """The method of the best mean, and how many points it is ahead of training alone, over the seeds of both."""
    scores = runs.assign(seed=[int(seed) for seed in runs["seed"]]).pivot_table("score", "seed", "method")
    gaps = (100 * (scores.drop(columns=ALONE).sub(scores[ALONE], axis=0))).mean()
    best = scores.drop(columns=ALONE).mean().idxmax()
    return str(best), float(gaps[best])


def test_a_newcomer_learns_in_four_clicks_that_it_helps_and_why(open_page: Callable[..., Any], store: Store) -> None:
    page = open_page("")
    clicks = Clicks(page)
    clicks.on(page.locator(".st-key-tour_overview").get_by_role("link").first)
    clicks.on(page.locator(".st-key-tour_example").get_by_role("button"))
    answer = page.locator(".st-key-compare_answer")
    _expect(answer).to_contain_text("ahead of")
    best, gap = _ahead(_study(store))
    assert gap > 0, "the example shows that distillation helps"
    _expect(answer).to_contain_text(title_of(best))
    _expect(answer).to_contain_text(f"by {gap:.1f} point")

    clicks.on(page.locator(".st-key-tour_bar").get_by_role("link", name="Next"))
    page.wait_for_url(re.compile(r"/layers\?"))
    run = re.search(r"job=([^&]+)", page.url)
    assert run is not None and store.get(run.group(1)).method == best, "why is asked of the best method"
    _expect(page.get_by_text("Student layer ← teacher layer").first).to_be_visible()
    _expect(page.locator(".st-key-layers_cka .main-svg").first).to_be_visible()
    _expect(page.locator(".st-key-run_head")).to_contain_text("over training alone")

    clicks.on(page.locator(".st-key-tour_bar").get_by_role("link", name="Next"))
    page.wait_for_url(re.compile(r"/attention\?"))
    _expect(page.locator(".kd-plot-figure .main-svg").first).to_be_visible()
    assert clicks.count <= 4


def test_without_the_tour_it_is_no_farther(open_page: Callable[..., Any], store: Store) -> None:
    page = open_page("")
    clicks = Clicks(page)
    clicks.on(page.locator(".st-key-start_example").get_by_role("button"))
    _expect(page.locator(".st-key-compare_answer")).to_contain_text("ahead of")
    _, gap = _ahead(_study(store))
    _expect(page.locator(".st-key-compare_answer")).to_contain_text(f"by {gap:.1f} point")
    clicks.on(_menu(page, "layers"))
    _expect(page.locator(".st-key-layers_cka .main-svg").first).to_be_visible()
    assert clicks.count <= 4


def test_the_tour_is_left_and_found_again(open_page: Callable[..., Any], store: Store) -> None:
    example.open_study(store)
    page = open_page("")
    page.get_by_role("link", name="Take the tour").click()
    bar = page.locator(".st-key-tour_bar")
    _expect(bar).to_contain_text("step 1 of 5")
    for number in range(2, 6):
        bar.get_by_role("link", name="Next").click()
        _expect(bar).to_contain_text(f"step {number} of 5")
        _expect(page).to_have_url(re.compile(rf"tour={number}\b"))
    page.reload()
    _expect(bar).to_contain_text("step 5 of 5")
    _expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_attached()
    page.go_back()
    _expect(bar).to_contain_text("step 4 of 5")
    page.reload()
    _expect(bar).to_contain_text("step 4 of 5")
    page.locator(".st-key-tour_leave").get_by_role("button").click()
    _expect(bar).to_have_count(0)
    _expect(page).to_have_url(re.compile(r"/attention(?!.*tour=)"))


# --- the engineer --------------------------------------------------------------------------------------------------

STUDENTS = {"kd": (0.905, 6.0), "pkd": (0.925, 8.5), "distilbert": (0.93, 12.0), ALONE: (0.86, 5.5)}
"""Method -> its mean score and its latency in ms, of students that differ in depth."""
TEACHER = (0.945, 40.0)
SHARE, MOST_MS = 97, 10


def _add(store: Store, method: str, seed: int, score: float, ms: float) -> str:
    """A finished run of a pocket task, timed in turn with its teacher on a quiet machine."""
    run = store.add_run(
        run_config(method, seed, student={"layers": int(ms), "width": 64, "heads": 4, "init": "random"})
    )
    store.claim("test", "cpu", run)
    record = {"batch": 1, "hardware": "Test CPU (2 cores)", "precision": "fp32", "threads": 1, "tokens": 32,
              "repeats": 30, "load_average": 0.1, "busy": False}  # fmt: skip
    timed = [
        {"name": name, "median_ms": time, "p10_ms": time, "p90_ms": time, "per_second": 1000 / time, **record}
        for name, time in (("student", ms), ("large", TEACHER[1]))
    ]
    store.record(run, [
        RunStarted({"device": "cpu", "hardware": "Test CPU (2 cores)", "kdcore": "0.2.0"}),
        Evaluated("distil", 1, "select", "best", {"accuracy": score}, 400),
        Evaluated("distil", 1, "validation", "best", {"accuracy": score}, 1000),
        Evaluated("distil", 0, "validation", "teacher:large", {"accuracy": TEACHER[0]}, 1000),
        Probed("latency", 1, {"records": timed}),
        RunFinished({"seconds": 10.0}),
    ])  # fmt: skip
    return run


def _wanted(store: Store) -> str:
    """The fastest method that has the share of the teacher and keeps to the bound, read from the store."""
    runs = store.runs()
    means = runs.groupby("method")["score"].mean()
    times = {
        method: min(r["median_ms"] for run in of["id"] for r in store.probes(run)["latency"]["records"]
                    if r["name"] == "student")
        for method, of in runs.groupby("method")
    }  # fmt: skip
    good = [method for method in times if means[method] >= SHARE / 100 * TEACHER[0] and times[method] <= MOST_MS]
    return str(min(good, key=lambda method: times[method]))


def test_an_engineer_finds_the_student_within_five_clicks(open_page: Callable[..., Any], store: Store) -> None:
    for method, (score, ms) in STUDENTS.items():
        for seed in range(3):
            _add(store, method, seed, score + 0.001 * (seed - 1), ms)
    page = open_page("")
    clicks = Clicks(page)
    clicks.on(_menu(page, "speed"))
    answer = page.locator(".st-key-speed_answer")
    _expect(answer).to_contain_text("fastest student")
    clicks.type(page.locator(".st-key-sleast input"), str(SHARE))
    _expect(answer).to_contain_text(f"at least {SHARE}%")
    clicks.type(page.locator(".st-key-smost-latency-1 input"), str(MOST_MS))
    _expect(answer).to_contain_text(f"within {MOST_MS} ms")
    wanted = _wanted(store)
    _expect(answer).to_contain_text(title_of(wanted))
    _expect(answer).to_contain_text(f"{100 * STUDENTS[wanted][0]:.1f}")
    clicks.on(answer.get_by_role("link", name="Open the run"))
    _expect(page.locator(".st-key-run_tiles")).to_contain_text(metric_title("accuracy"))
    run = re.search(r"job=([^&]+)", page.url)
    assert run is not None and store.get(run.group(1)).method == wanted
    assert clicks.count <= 5
