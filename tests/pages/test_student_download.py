"""The download of a student: the published folder, or the reason why there is none."""

import io
import zipfile

import pytest

from kdcore.formatting import hundredfold
from kdcore.paths import run_dir
from tests.helpers import model_factory, store_factory


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
