"""The published folder: whole or not at all, nothing of this machine in it, and the zip file is the same folder."""

import errno
import io
import json
import shutil
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kdcore.config import OwnData
from kdcore.engine.run_files import student_predictions
from kdcore.errors import CorruptError, UserError
from kdcore.export import folder as folders
from kdcore.export.folder import export_student, read_facts, student_zip
from kdcore.models.label_names import contradiction
from kdcore.paths import run_dir
from tests.helpers import tiny_task

NAMES = {"README.md", "config.json", "kdboard.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def answers(folder: Path, texts: list, **how) -> list:
    from transformers import pipeline

    return pipeline("text-classification", model=str(folder), **how)(texts, top_k=None)


def probabilities(said: list, names: list[str]) -> np.ndarray:
    return np.array([[{each["label"]: each["score"] for each in row}[name] for name in names] for row in said])


def test_the_folder_has_what_transformers_and_a_reader_need(store, student, tmp_path):
    export_student(store, student, tmp_path / "new" / "model")
    folder = tmp_path / "new" / "model"
    assert {path.name for path in folder.iterdir()} == NAMES
    assert list(folder.parent.iterdir()) == [folder]
    kept = run_dir(student) / "student-best" / "model.safetensors"
    assert (folder / "model.safetensors").read_bytes() == kept.read_bytes()


def test_a_target_that_is_in_use_stays_as_it_is(store, student, tmp_path):
    (tmp_path / "empty").mkdir()
    export_student(store, student, tmp_path / "empty")
    before = (tmp_path / "empty" / "README.md").stat()
    with pytest.raises(UserError, match="not empty"):
        export_student(store, student, tmp_path / "empty")
    assert (tmp_path / "empty" / "README.md").stat() == before
    with pytest.raises(UserError, match="no student 'other'"):
        export_student(store, student, tmp_path / "b", "other")


def test_files_have_the_rights_of_new_files(store, student, tmp_path):
    kept = run_dir(student) / "student-best" / "model.safetensors"
    kept.chmod(0o600)
    export_student(store, student, tmp_path / "m")
    made = tmp_path / "new-file"
    made.touch()
    assert stat.S_IMODE((tmp_path / "m" / kept.name).stat().st_mode) == stat.S_IMODE(made.stat().st_mode)


def test_the_zip_file_is_the_same_folder(store, student, tmp_path):
    export_student(store, student, tmp_path / "m")
    with zipfile.ZipFile(io.BytesIO(student_zip(store, student))) as file:
        packed = {name: file.read(name) for name in file.namelist()}
    assert packed == {f"{student}/{path.name}": path.read_bytes() for path in (tmp_path / "m").iterdir()}


def test_a_full_disk_leaves_nothing(store, student, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UserError, match="No space left"):
        export_student(store, student, tmp_path / "out" / "m")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("task", [tiny_task.SENTIMENT, tiny_task.PARAPHRASE])
def test_a_pipeline_gives_the_runs_probabilities_without_an_argument(store, trained, tmp_path, task):
    run = trained(tiny_task.run("fine-tune", task=task, max_steps=3))
    export_student(store, run, tmp_path / "m")
    dev = tiny_task.data_of(task).splits["validation"]
    texts = [dict(zip(("text", "text_pair"), row, strict=False)) for row in zip(*dev.texts, strict=True)]
    kept = student_predictions(run_dir(run), "validation")
    expected = torch.tensor(kept["logits"]).softmax(-1).numpy()
    names = json.loads((tmp_path / "m" / "config.json").read_text())["label2id"]
    assert np.allclose(probabilities(answers(tmp_path / "m", texts), list(names)), expected, atol=1e-5)


def test_a_pipeline_gives_the_score_of_a_regression_itself(store, trained, tmp_path):
    run = trained(tiny_task.run("fine-tune", task=tiny_task.SIMILARITY, max_steps=3))
    export_student(store, run, tmp_path / "m")
    dev = tiny_task.data_of(tiny_task.SIMILARITY).splits["validation"]
    texts = [{"text": one, "text_pair": two} for one, two in zip(*dev.texts, strict=True)]
    said = answers(tmp_path / "m", texts)
    kept = student_predictions(run_dir(run), "validation")
    assert np.allclose([row[0]["score"] for row in said], kept["logits"][:, 0], atol=1e-5)
    assert said[0][0]["label"] == "score"


def test_truncation_cuts_where_the_run_did(store, trained, tmp_path):
    """Rows longer than max_length: by the pipeline's own switch, and by the library tokenizers without one."""
    from tokenizers import Tokenizer

    run = trained(tiny_task.run("fine-tune", task=tiny_task.PARAPHRASE, max_steps=3, max_length=8))
    export_student(store, run, tmp_path / "m")
    dev = tiny_task.data_of(tiny_task.PARAPHRASE).splits["validation"]
    texts = [{"text": one, "text_pair": two} for one, two in zip(*dev.texts, strict=True)]
    kept = student_predictions(run_dir(run), "validation")
    expected = torch.tensor(kept["logits"]).softmax(-1).numpy()
    names = json.loads((tmp_path / "m" / "config.json").read_text())["label2id"]
    said = probabilities(answers(tmp_path / "m", texts, truncation=True), list(names))
    assert np.allclose(said, expected, atol=1e-5)
    assert len(Tokenizer.from_file(str(tmp_path / "m" / "tokenizer.json")).encode("the film " * 20).ids) == 8


def test_more_tokens_than_positions_are_cut_to_the_positions(store, trained, tmp_path):
    run = trained(tiny_task.run("kd", tiny_task.teachers(tmp_path, 1), max_steps=2))
    record = folders.read_record(store, run)
    train = record.config.train.model_copy(update={"max_length": 512})
    long = replace(record, config=record.config.model_copy(update={"train": train}))
    files = folders.student_files(long)
    assert json.loads(files["tokenizer_config.json"])["model_max_length"] == tiny_task.SIZE.positions


def test_token_types_reach_the_student_whatever_its_tokenizer_says(store, trained, tmp_path):
    """A teacher's tokenizer may leave them out, and the second sentence would be read as the first."""
    run = trained(tiny_task.run("fine-tune", task=tiny_task.PARAPHRASE, max_steps=2))
    file = run_dir(run) / "student-best" / "tokenizer_config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "model_input_names": ["input_ids", "attention_mask"]}))
    export_student(store, run, tmp_path / "m")
    from transformers import AutoTokenizer

    coded = AutoTokenizer.from_pretrained(tmp_path / "m")("good film", "bad film")
    assert coded["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]


def test_classes_of_an_older_student_come_from_its_task(store, student, tmp_path):
    file = run_dir(student) / "student-best" / "config.json"
    content = {key: value for key, value in json.loads(file.read_text()).items() if key not in ("id2label", "label2id")}
    file.write_text(json.dumps(content))
    export_student(store, student, tmp_path / "m")
    written = json.loads((tmp_path / "m" / "config.json").read_text())
    assert written["id2label"] == {"0": "negative", "1": "positive"} and contradiction(written) is None
    assert written["problem_type"] == "single_label_classification"


def test_nothing_names_a_folder_of_this_machine(store, trained, tmp_path):
    shelf = tmp_path / "secret-place"
    run = trained(tiny_task.run("kd", tiny_task.teachers(shelf, 2)[:1], max_steps=2))
    file = run_dir(run) / "student-best" / "tokenizer_config.json"
    here = {"name_or_path": str(shelf), "local_files_only": True, "is_local": True}
    file.write_text(json.dumps({**json.loads(file.read_text()), **here}))
    export_student(store, run, tmp_path / "m")
    for path in (tmp_path / "m").iterdir():
        assert b"secret-place" not in path.read_bytes(), path.name
    assert read_facts(tmp_path / "m")["settings"]["teachers"][0]["where"] == "t0"
    assert not here.keys() & json.loads((tmp_path / "m" / "tokenizer_config.json").read_text()).keys()


def test_a_table_of_ones_own_is_named_without_its_folder(store, trained, tmp_path):
    table = tmp_path / "secret-place" / "films.csv"
    table.parent.mkdir()
    dev = tiny_task.data_of().train
    rows = [f"{text},{('bad', 'good')[label]}" for text, label in zip(dev.texts[0], dev.labels, strict=True)]
    table.write_text("\n".join(["review,verdict", *rows]))
    own = OwnData(path=str(table), text="review", label="verdict")
    run = trained(tiny_task.run("kd", tiny_task.teachers(tmp_path / "t", 1), task="own", own=own, max_steps=2))
    table.unlink()
    export_student(store, run, tmp_path / "m")
    facts = read_facts(tmp_path / "m")
    assert facts["task"]["columns"] == ["review"] and facts["task"]["labels"] == ["bad", "good"]
    assert json.loads((tmp_path / "m" / "config.json").read_text())["id2label"] == {"0": "bad", "1": "good"}
    assert all(b"secret-place" not in path.read_bytes() for path in (tmp_path / "m").iterdir())


def test_weights_of_another_form_are_refused_with_the_reason(store, student, tmp_path):
    """transformers would load such a folder with new weights for the layer that is not there, without an error."""
    file = run_dir(student) / "student-best" / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(file).items() if ".layer.1." not in name}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"no plain classifier.*16 weights differ.*bert\.encoder\.layer\.1\."):
        export_student(store, student, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_damaged_student_is_named(store, student, tmp_path):
    (run_dir(student) / "student-best" / "tokenizer.json").write_text("{")
    with pytest.raises(CorruptError, match=r"tokenizer\.json"):
        export_student(store, student, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_facts_say_settings_scores_and_versions(store, student, tmp_path):
    import kdcore

    export_student(store, student, tmp_path / "m")
    facts = read_facts(tmp_path / "m")
    ended = store.evaluations(student).query("stage == 'end' and which == 'best' and split == 'validation'")
    assert facts["scores"]["validation"]["accuracy"] == pytest.approx(float(ended["value"].iloc[0]))
    assert facts["rows"] == {"validation": 30, "train": 90, "select": 10}
    assert facts["settings"]["train"]["max_steps"] == 3 and facts["max_length"] == 32
    assert facts["versions"] == {"written by": kdcore.__version__, "trained by": kdcore.__version__}
    (tmp_path / "m" / "kdboard.json").write_text('{"kdboard": 99}')
    with pytest.raises(UserError, match="format"):
        read_facts(tmp_path / "m")
