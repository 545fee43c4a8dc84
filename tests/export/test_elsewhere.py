"""A published folder in a Python that has transformers and not this program: the run's own answers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdcore.config import TeacherSpec
from kdcore.engine.run_files import student_predictions
from kdcore.export.folder import export_student
from kdcore.methods import METHODS
from kdcore.paths import run_dir
from tests.helpers import tiny_task

STRANGER = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "kdcore":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
try:
    import kdcore
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("kdcore is there")

from transformers import pipeline

texts = json.load(sys.stdin)
said = {}
for folder in sys.argv[1:]:
    classify = pipeline("text-classification", model=folder)
    rows = classify(texts, top_k=None)
    said[folder] = [{each["label"]: each["score"] for each in row} for row in rows]
print(json.dumps(said))
"""


def of_a_form_of_their_own() -> list[str]:
    """Methods that build or deploy another student than the one of the run's settings, of a type that is known there.

    SimKD's is of a type of ours, which transformers refuses without this program (`tests/engine/test_simkd.py`).
    """
    ours = {"build_students", "deployed"}
    return [key for key, method in METHODS.items() if ours & vars(method).keys() and key != "simkd"]


def answers_elsewhere(folders: list[Path], texts: list[dict[str, str]], home: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, *map(str, folders)], input=json.dumps(texts), cwd=home, capture_output=True,
        text=True, check=False, timeout=500,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def teachers_of(key: str, shelf: Path) -> tuple[TeacherSpec, ...]:
    return tiny_task.teachers(shelf, max(1, METHODS[key].teachers[0]), layers=4)


def test_students_of_every_form_answer_as_their_runs_did(store, trained, tmp_path):
    methods = ["kd", *of_a_form_of_their_own()]
    assert {"pea-kd", "takd"} <= set(methods)
    runs = {
        key: trained(tiny_task.run(key, teachers_of(key, tmp_path / "t"), task=tiny_task.PARAPHRASE, max_steps=4))
        for key in methods
    }
    folders = {key: tmp_path / f"student-{key}" for key in methods}
    for key, run in runs.items():
        export_student(store, run, folders[key])
    dev = tiny_task.data_of(tiny_task.PARAPHRASE).splits["validation"]
    texts = [{"text": one, "text_pair": two} for one, two in zip(*dev.texts, strict=True)]
    said = answers_elsewhere(list(folders.values()), texts, tmp_path)
    for key, run in runs.items():
        kept = torch.tensor(student_predictions(run_dir(run), "validation")["logits"]).softmax(-1).numpy()
        found = [[row["not_equivalent"], row["equivalent"]] for row in said[str(folders[key])]]
        assert np.allclose(found, kept, atol=1e-5), key
    shapes = {key: json.loads((folder / "config.json").read_text()) for key, folder in folders.items()}
    assert shapes["pea-kd"]["num_hidden_layers"] > shapes["kd"]["num_hidden_layers"]
