"""The downloads of a student: the published folder, or the reason why there is none, and its ONNX files."""

import io
import json
import sys
import zipfile

import pytest

from kdcore.errors import UserError
from kdcore.export import kept_onnx
from kdcore.export.onnx_check import OnnxCheck
from kdcore.export.runtimes import INT8, ONNX
from kdcore.formatting import hundredfold
from kdcore.paths import run_dir
from tests.helpers import model_factory, store_factory
from tests.helpers.store_factory import words

CHECK = OnnxCheck(
    source="rows of the task", rows=30, largest=7.6e-7, tolerance=1e-3, same=1.0, opset=20, versions={"onnx": "1"},
    int8={"validation": {"accuracy": 0.5}}, int8_same=0.9,
)  # fmt: skip


@pytest.fixture
def run(store) -> str:
    run_id = store_factory.add(store, store_factory.run_config("fine-tune"), score=0.75)
    model_factory.leave(run_id, model_factory.model(2, seed=0), {}, moments=False)
    return run_id


def unpacked(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


def test_the_download_is_the_published_folder(store, run):
    from pages.parts.common.student_download import packed

    files = unpacked(packed(store, run))
    assert {"README.md", "kdboard.json", "model.safetensors", "config.json", "tokenizer.json"} <= files.keys()
    card = files["README.md"].decode()
    assert f"| accuracy | {hundredfold(store.runs()['score'].iloc[0])} |" in card and "Synthetic data" in card


def test_a_student_that_cannot_be_published_comes_as_the_reason(store, run):
    from pages.parts.common.student_download import packed

    (run_dir(run) / "student-best" / "tokenizer.json").write_text("{")
    files = unpacked(packed(store, run))
    assert (
        list(files) == ["not-exported.txt"]
        and b"tokenizer.json of the student cannot be read" in files["not-exported.txt"]
    )


# --- ONNX ----------------------------------------------------------------------------------------------------------


class Maker:
    """In place of the background: what was asked for, and what is said to be under way."""

    def __init__(self, at_work: bool = False, error: UserError | None = None) -> None:
        self.begun: list[str] = []
        self.at_work, self.error = at_work, error

    def begin(self, run: str) -> None:
        self.begun.append(run)

    def working(self, run: str) -> bool:
        return self.at_work

    def problem(self, run: str) -> UserError | None:
        return self.error


@pytest.fixture
def maker(monkeypatch) -> Maker:
    from pages.parts.common import onnx_download

    made = Maker()
    monkeypatch.setattr(onnx_download, "maker", lambda: made)
    return made


def keep_files(run: str) -> None:
    """As `make_onnx` leaves them."""
    folder, weights = run_dir(run) / kept_onnx.FOLDER, kept_onnx._weights(run)
    folder.mkdir()
    for name in (ONNX, INT8):
        (folder / name).write_text(name)
    (folder / kept_onnx.CHECK).write_text(json.dumps({"weights": weights, "check": CHECK.data()}))


def labels(app) -> list[str]:
    return [button.label for kind in ("button", "download_button") for button in app.get(kind)]


def look(visit, place: str, run: str):
    """A page that offers the run's student."""
    return visit(place, **{"job": run} if place == "live" else {"runs": run, "sleast": "0"})


@pytest.mark.parametrize("place", ["live", "speed"])
def test_the_files_are_made_on_a_click_and_then_offered(store, run, visit, maker, place):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    app = look(visit, place, run)
    next(button for button in app.button if button.label == "Make the ONNX files").click().run()
    assert maker.begun == [run] and not app.exception
    keep_files(run)
    app = look(visit, place, run)
    assert not app.exception and "Make the ONNX files" not in labels(app)
    assert {"float32 (0.0 MB)", "int8 (0.0 MB)"} <= set(labels(app))
    said = words(app).replace("\\", "")
    assert "no output differs by more than" in said and "90.0 % of the answers are the same" in said


def test_while_they_are_made_nothing_else_is_asked(store, run, visit, maker):
    maker.at_work = True
    app = look(visit, "live", run)
    assert "being made and checked" in words(app) and "Make the ONNX files" not in labels(app)


def test_without_the_package_the_remedy_is_shown(store, run, visit, maker, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    app = look(visit, "live", run)
    assert "kdboard[onnx]" in words(app) and "onnxscript" in words(app)
    assert "Make the ONNX files" not in labels(app) and not app.exception


def test_why_they_could_not_be_made_is_shown(store, run, visit, maker):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    maker.error = UserError("--onnx", "a *logit* differs by 2", "report it")
    app = look(visit, "live", run)
    assert any(r"A \*logit\* differs by 2" in error.value for error in app.error)
    assert "Make the ONNX files" in labels(app)


def test_a_read_only_page_offers_what_was_made_and_makes_nothing(store, run, visit, maker, monkeypatch):
    monkeypatch.setenv("KD_READ_ONLY", "1")
    assert "being made" not in words(look(visit, "live", run))
    assert "Make the ONNX files" not in labels(look(visit, "live", run))
    keep_files(run)
    assert "int8 (0.0 MB)" in labels(look(visit, "live", run))
