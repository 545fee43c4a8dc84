"""`kdcore predict` without ONNX: the run's own answers, and bad files refused by line and column."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.engine.run_files import student_predictions
from kdcore.errors import UserError
from kdcore.export.answers import answer_file, answers, open_reader
from kdcore.export.folder import export_student
from kdcore.paths import run_dir
from tests.helpers import tiny_task


@pytest.fixture
def folder(store, student, tmp_path):
    export_student(store, student, tmp_path / "m")
    return tmp_path / "m"


def table(tmp_path, text: str, name: str = "rows.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def read(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def test_a_file_gets_the_runs_answers(store, student, folder, tmp_path):
    dev = tiny_task.data_of().splits["validation"]
    rows = "".join(f"{number},{text}\n" for number, text in enumerate(dev.texts[0]))
    out = tmp_path / "out.csv"
    assert answer_file(open_reader(folder), table(tmp_path, f"id,sentence\n{rows}"), out) == len(dev)
    kept = student_predictions(run_dir(student), "validation")["logits"]
    written = read(out)
    assert [row["id"] for row in written] == [str(number) for number in range(len(dev))]
    names = np.array(["negative", "positive"])
    assert [row["prediction"] for row in written] == names[kept.argmax(1)].tolist()
    expected = torch.tensor(kept).softmax(-1).max(-1).values
    assert np.allclose([float(row["probability"]) for row in written], expected, atol=1e-5)


def test_pairs_and_scores(store, trained, tmp_path):
    run = trained(tiny_task.run("fine-tune", task=tiny_task.SIMILARITY, max_steps=3))
    export_student(store, run, tmp_path / "m")
    dev = tiny_task.data_of(tiny_task.SIMILARITY).splits["validation"]
    lines = [json.dumps({"sentence1": one, "sentence2": two}) for one, two in zip(*dev.texts, strict=True)]
    source = table(tmp_path, "\n".join(lines), "rows.jsonl")
    answer_file(open_reader(tmp_path / "m"), source, tmp_path / "out.jsonl")
    said = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    kept = student_predictions(run_dir(run), "validation")["logits"][:, 0]
    assert np.allclose([row["prediction"] for row in said], kept, atol=1e-5) and "probability" not in said[0]


def test_other_columns_and_formats(folder, tmp_path):
    frame = pd.DataFrame({"review": ["good film", "bad\tplot"], "stars": [5, 1]})
    frame.to_parquet(tmp_path / "rows.parquet")
    reader = open_reader(folder, ["review"])
    answer_file(reader, tmp_path / "rows.parquet", tmp_path / "out.tsv")
    assert [(row["review"], row["stars"]) for row in read(tmp_path / "out.tsv")] == [
        ("good film", "5"),
        ("bad\tplot", "1"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "sentence\ngood\n\n\" \"\n", "line 4 of a.csv, column 'sentence', is empty"),
        ("a.csv", 'id,sentence\n1,"two\nlines"\n2,\n', "line 4 of a.csv, column 'sentence', is empty"),
        ("a.csv", "sep=;\nid;sentence\n1;good\n2;\n", "line 4 of a.csv, column 'sentence', is empty"),
        ("a.csv", "id,sentence\n1,good,more\n", "line 2 of a.csv has 3 cells"),
        ("a.csv", "id,text\n1,good\n", "no column 'sentence'"),
        ("a.jsonl", '{"sentence": "a"}\n\n{"sentence": 3}\n', "line 3 of a.jsonl, column 'sentence', is not text"),
        ("a.jsonl", '{"sentence": "a"}\n{"sentence": "b"\n', "line 2 of a.jsonl is not JSON"),
        ("a.json", '[{"sentence": "a"}, {"sentence": null}]', "row 2 of a.json, column 'sentence', is empty"),
        ("a.csv", "sentence\n" + "x" * 100_001 + "\n", "line 2 of a.csv, column 'sentence', has 100,001 characters"),
        ("a.csv", "sentence,prediction\ngood,1\n", "a column 'prediction' already"),
        ("a.xlsx", "sentence\n", "no known format"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_where_they_are_bad(folder, tmp_path, name, text, problem):
    with pytest.raises(UserError) as caught:
        answer_file(open_reader(folder), table(tmp_path, text, name), tmp_path / "out.csv")
    assert problem in str(caught.value) and not (tmp_path / "out.csv").exists()


def test_half_a_character_is_replaced(folder, tmp_path):
    source = table(tmp_path, '{"sentence": "good \\ud83d film"}\n', "rows.jsonl")
    assert answer_file(open_reader(folder), source, tmp_path / "out.csv") == 1


def test_targets_that_cannot_be_are_refused_before_the_work(folder, tmp_path):
    source = table(tmp_path, "sentence\ngood\n")
    reader = open_reader(folder)
    for target in (source, tmp_path / "out.xlsx"):
        with pytest.raises(UserError, match="--to"):
            answer_file(reader, source, target)
    with pytest.raises(UserError, match="cannot be written"):
        answer_file(reader, source, tmp_path / "nowhere" / "out.csv")
    assert source.read_text() == "sentence\ngood\n"


def test_folders_that_cannot_answer_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="no folder"):
        open_reader(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"reads 1 columns.*leave --text-pair out"):
        open_reader(folder, ["a", "b"])
    with pytest.raises(UserError, match=r"has no model\.onnx.*--runtime torch"):
        open_reader(folder, runtime="onnx")
    (folder / "kdboard.json").unlink()
    with pytest.raises(UserError, match="--text"):
        open_reader(folder)
    assert open_reader(folder, ["sentence"]).classes == ("negative", "positive")


def test_probabilities_of_large_logits_are_finite():
    said = answers(["a", "b"], np.array([[1000.0, -1000.0], [0.0, 0.0]], np.float32))
    assert said == {"prediction": ["a", "a"], "probability": [1.0, 0.5]}


def test_the_command(folder, tmp_path):
    source = table(tmp_path, "review\ngood film\n")
    arguments = ["predict", folder, source, "--to", tmp_path / "o.csv", "--text", "review"]
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0 and "1 rows, by torch" in done.stdout and len(read(tmp_path / "o.csv")) == 1
    again = CliRunner().invoke(app, [str(each) for each in arguments])
    assert again.exit_code == 2 and again.stderr.startswith("error: --to: ") and "exists" in again.stderr
    lone = CliRunner().invoke(app, [*map(str, arguments[:5]), "--text-pair", "b"])
    assert lone.exit_code == 2 and "--text-pair" in lone.stderr
