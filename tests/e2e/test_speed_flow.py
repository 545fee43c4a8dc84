"""What one does with the answer, and measuring for real: the models are tiny and untrained, the process is not."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kdcore.data import load
from kdcore.events import RunStarted
from kdcore.models.sizes import bert_config
from kdcore.models.students import save_student
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from kdcore.models.weights import build_classifier
from kdcore.records import ModelSize
from kdcore.store import open_store
from tests.helpers.store_factory import add, run_config

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)
TASK = "pocket-sentiment"


@pytest.fixture(scope="module")
def run(server: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished run with a student of one layer and a teacher of two on the server's disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_CACHE_DIR", str(server.cache))
        data = load(TASK)
    assert data.vocabulary is not None
    store, tokenizer = open_store(f"sqlite:///{server.cache / 'runs.db'}"), tokenizer_from_vocabulary(data.vocabulary)
    made = add(store, run_config("kd", task=TASK))
    shapes = {
        name: ModelSize(layers, 16, 2, 32, len(tokenizer), 64, 2) for name, layers in (("student", 1), ("large", 2))
    }
    folder = server.cache / "runs" / made
    homes = {"student": folder / "student-best", "large": tmp_path_factory.mktemp("teacher") / "large"}
    for name, shape in shapes.items():
        save_student(build_classifier(bert_config(shape, 2, None), {}, 0)[0], tokenizer, homes[name])
    (folder / "teachers.json").write_text(json.dumps({"large": str(homes["large"])}))
    facts = {"student": asdict(shapes["student"]), "teachers": {"large": {"shape": asdict(shapes["large"])}},
             "mean_tokens": 12.0, "threads": 1, "steps": 60}  # fmt: skip
    store.record(made, [RunStarted(facts)])
    store.set_state(made, "done")
    return made


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def test_the_answer_goes_along_as_a_file_and_as_a_link(open_page: Callable[..., Any], run: str) -> None:
    page = open_page(f"speed?runs={run}&sleast=50&saxis=Parameters")
    answer = page.locator(".st-key-speed_answer")
    _expect(answer).to_contain_text("The smallest student with at least 50% of teacher large")
    with page.expect_download() as download:
        answer.get_by_role("button", name="Download the student").click()
    assert download.value.suggested_filename == f"{run}.zip"
    names = {Path(name).name for name in zipfile.ZipFile(download.value.path()).namelist()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    answer.get_by_role("button", name="Link").click()
    link = page.locator("[data-testid=stPopoverBody] code")
    _expect(link).to_contain_text("saxis=Parameters")
    again = open_page(link.inner_text().split("/", 3)[3])
    _expect(again.locator(".st-key-speed_answer")).to_have_text(re.compile("The smallest student with at least 50%"))


def test_memory_is_measured_again_on_a_click(open_page: Callable[..., Any], run: str) -> None:
    page = open_page(f"speed?runs={run}&saxis=Memory,+batch+1&sleast=50")
    _expect(page.get_by_text("Memory, batch 1: not measured, time again.")).to_be_visible()
    page.get_by_role("button", name="Time again").click()
    answer = page.locator(".st-key-speed_answer")
    _expect(answer).to_contain_text(re.compile(r"The leanest student .*KiB"), timeout=4000 * PATIENCE)
    page.goto(page.url.replace("Memory", "Energy"))
    _expect(page.get_by_text(re.compile("no energy counter here|The thriftiest student"))).to_be_visible()


def test_rivals_are_measured_on_a_click_and_stand_in_the_plot(
    open_page: Callable[..., Any], run: str, insist: Any
) -> None:
    page = open_page(f"speed?runs={run}")
    page.wait_for_selector(".kd-plot-figure .main-svg")
    button, stop = (page.get_by_role("button", name=name) for name in ("Measure the baselines", "Stop measuring"))
    insist(button.click, stop)
    _expect(stop).to_have_count(0, timeout=4000 * PATIENCE)  # a process of its own starts, and five models take turns
    page.goto(f"{page.url.split('?')[0]}?runs={run}&saxis=Parameters")
    legend = page.locator(".kd-plot-figure .legendtext")
    _expect(legend.filter(has_text="Teacher, bf16 weights")).to_be_visible()
    _expect(legend.filter(has_text="Teacher, cut")).to_be_visible()
    page.close()
    again = open_page(f"speed?runs={run}", width=390, dark=True)
    _expect(again.get_by_text("Compression baselines")).to_be_visible()
    again.wait_for_selector(".kd-plot-figure .main-svg")
    assert again.evaluate("document.documentElement.scrollWidth") <= 390
