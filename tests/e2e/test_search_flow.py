"""An engineer's way from a teacher on the disk to a student for ONNX Runtime: search, recommendation, download."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdcore.data import load
from kdcore.data.splits import TaskData
from kdcore.export.answers import open_reader
from kdcore.export.folder import read_facts
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
TRAIN = {"max_steps": 8, "max_train_rows": 200, "max_length": 32, "lr": 1e-3, "precision": "fp32", "threads": 1}
PROBES = {"latency": False, "distances": False}


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    pytest.importorskip("optuna", reason="the extra search is not installed")
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx is not installed")


@pytest.fixture(scope="module")
def data(server: Any) -> TaskData:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_CACHE_DIR", str(server.cache))
        return load(TASK)


@pytest.fixture(scope="module")
def teacher(server: Any, data: TaskData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of three layers on the disk, and a finished run that learned from it."""
    assert data.vocabulary is not None
    home, tokenizer = tmp_path_factory.mktemp("teacher") / "large", tokenizer_from_vocabulary(data.vocabulary)
    shape = ModelSize(3, 16, 2, 32, len(tokenizer), 64, 2)
    save_student(build_classifier(bert_config(shape, 2, None), {}, 0)[0], tokenizer, home)
    shared = {"teachers": [{"name": "large", "source": "folder", "where": str(home)}], "train": TRAIN, "probes": PROBES}
    add(open_store(f"sqlite:///{server.cache / 'runs.db'}"), run_config("kd", task=TASK, **shared))
    return home


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def test_from_a_teacher_to_the_onnx_student_that_a_search_recommends(
    open_page: Callable[..., Any], server: Any, data: TaskData, teacher: Path, insist: Any, tmp_path: Path
) -> None:
    page = open_page("speed?ssection=Searches")
    body = page.get_by_test_id("stPopoverBody")
    insist(page.get_by_role("button", name="New search").click, body)
    for field, value in {"name": "ship", "minutes": "1", "share": "90", "seeds": "1"}.items():
        body.locator(f".st-key-speed_ns_{field} input").fill(value)
    methods = body.locator(".st-key-speed_ns_methods")
    methods.get_by_role("button", name="Clear all").click()
    for title in ("Annealing KD", "Fine-tuning alone"):  # without options to try, so that the search has an end
        methods.locator("input").fill(title)
        page.get_by_role("option", name=title).first.click()
    body.get_by_role("button", name="Start the search").click()
    answer = page.locator(".st-key-speed_search_answer")
    _expect(answer.get_by_role("link", name="Open its run")).to_be_visible(timeout=6000 * PATIENCE)
    _expect(answer).to_contain_text("Recommended: ")
    _expect(answer).to_contain_text("on onnx-int8")

    page.keyboard.press("Escape")
    make = body.get_by_role("button", name="Make the ONNX files")
    insist(answer.get_by_role("button", name="ONNX").click, make)
    make.click()
    _expect(body).to_contain_text("being made and checked")
    page.goto(f"{server.url}/system")  # nothing is lost by looking at something else
    _expect(page.get_by_role("heading", name="System", level=1)).to_be_visible()
    page.goto(f"{server.url}/speed?ssection=Searches&search=ship")
    whole = body.get_by_role("button", name="float32 (")
    insist(answer.get_by_role("button", name="ONNX").click, body)
    _expect(whole).to_be_visible(timeout=3000 * PATIENCE)
    _expect(body).to_contain_text("no output differs by more than")

    folders = [_unpacked(page, body.get_by_role("button", name=f"{name} ("), tmp_path) for name in ("float32", "int8")]
    texts = [column[:64] for column in data.splits["validation"].texts]
    run = server.cache / "runs" / folders[0].name
    expected = open_reader(run / "student-best", data.task.columns, "torch").logits(texts)
    assert np.allclose(open_reader(folders[0]).logits(texts), expected, atol=1e-3)
    reader = open_reader(folders[1])
    assert reader.runtime == "onnx-int8" and 0 < np.abs(reader.logits(texts) - expected).max() < 1
    for folder in folders:
        facts = read_facts(folder)
        assert facts["run"] == folder.name and facts["onnx"]["largest"] <= facts["onnx"]["tolerance"]
        assert {"README.md", "tokenizer.json"} <= {path.name for path in folder.iterdir()}


def _unpacked(page: Any, button: Any, target: Path) -> Path:
    """The folder in the zip file that a button gives."""
    with page.expect_download() as download:
        button.click()
    place = target / download.value.suggested_filename
    with zipfile.ZipFile(download.value.path()) as file:
        file.extractall(place)
    (inner,) = place.iterdir()
    return inner
