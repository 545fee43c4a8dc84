"""GLUE from every place and format it comes in, and what is said where it is absent or broken."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdcore import data
from kdcore.data import glue
from kdcore.errors import UserError
from kdcore.tasks import GLUE, TASKS

REAL = os.environ.get("KD_GLUE_DIR")
HEADERS = {
    "cola": None,
    "sst2": "sentence\tlabel",
    "mrpc": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "stsb": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
    "qqp": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
    "mnli": "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label",
    "qnli": "index\tquestion\tsentence\tlabel",
    "rte": "index\tsentence1\tsentence2\tlabel",
    "wnli": "index\tsentence1\tsentence2\tlabel",
}
LINES = {
    "cola": ["gj04\t1\t\tOur \"friends won't buy this.", "gj04\t0\t*\tNone"],
    "sst2": ['a "smart film \t1', "NA\t0"],
    "mrpc": ["1\t7\t8\tHe said, \"so\t'So,' he said", "0\t9\t10\tNone\tnull"],
    "stsb": ["0\tg\tf\t2012\t1\ta\tb\tA plane.\tAn air plane.\t5.000", "1\tg\tf\t2012\t2\ta\tb\tNone\tNA\t0.250"],
    "qqp": ['133\t213\t214\tHow "so?\tWhy?\t1', "134\t1\t2\tNA\tnull\t0", "135\tbroken line"],
    "mnli": ["0\t1\t1n\tfiction\tA.\tB.\tentailment\tentailment", "1\t2\t2n\tfiction\tNone\tNA\tneutral\tneutral"],
    "qnli": ["0\tWhen?\tThen.\tentailment", "1\tNA\tNone\tnot_entailment"],
    "rte": ["0\tA.\tB.\tentailment", "1\tNone\tNA\tnot_entailment"],
    "wnli": ["0\tA.\tB.\t1", "1\tNone\tNA\t0"],
}
LABELS = {"stsb": [5.0, 0.25], "mnli": [0, 1], "qnli": [0, 1], "rte": [0, 1]}
OFFICIAL = {"sst2": "SST-2", "stsb": "STS-B"}


@pytest.fixture(autouse=True)
def no_other_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Only what a test puts there is found."""
    for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("KD_GLUE_DIR", str(tmp_path / "glue"))
    return tmp_path


def write_tsv(folder: Path, key: str) -> None:
    names = ["dev.tsv"] if key != "mnli" else ["dev_matched.tsv", "dev_mismatched.tsv"]
    folder.mkdir(parents=True)
    for name in ["train.tsv", *names]:
        lines = LINES[key] if HEADERS[key] is None else [str(HEADERS[key]), *LINES[key]]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def table(key: str, rows: int = 6) -> pa.Table:
    task = TASKS[key]
    labels = [i / 2 for i in range(rows)] if task.kind == "regression" else [i % task.outputs for i in range(rows)]
    texts: dict[str, list[Any]] = {column: [f"{column} {i}" for i in range(rows)] for column in task.columns}
    return pa.table({**texts, "label": labels, "idx": list(range(rows))})


def write_parquet(folder: Path, key: str, pattern: str = "{}.parquet") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", *TASKS[key].splits):
        pq.write_table(table(key), folder / pattern.format(name))


@pytest.mark.parametrize("key", GLUE)
def test_official_tsv(tmp_path: Path, key: str) -> None:
    write_tsv(tmp_path / "glue" / OFFICIAL.get(key, TASKS[key].title), key)
    loaded = data.load(key)
    assert list(loaded.splits) == ["train", *TASKS[key].splits]
    for split in loaded.splits.values():
        assert split.labels.tolist() == LABELS.get(key, [1, 0])
        assert len(split.texts) == len(TASKS[key].columns)
        assert '"' in split.texts[0][0] or key not in ("cola", "sst2", "mrpc", "qqp")
        assert all(column[1] in ("None", "NA", "null") for column in split.texts)


@pytest.mark.parametrize("key", GLUE)
def test_parquet_folder(tmp_path: Path, key: str) -> None:
    write_parquet(tmp_path / "glue" / key, key)
    loaded = data.load(key)
    assert loaded.source == "KD_GLUE_DIR"
    assert loaded.train.texts[0] == [f"{TASKS[key].columns[0]} {i}" for i in range(6)]
    assert loaded.partial is not None
    assert "train 6 of" in loaded.partial
    assert f"{TASKS[key].train_rows:,}" in loaded.partial


def test_both_dev_splits_of_mnli_stay_apart(tmp_path: Path) -> None:
    folder = tmp_path / "glue" / "mnli"
    write_parquet(folder, "mnli")
    pq.write_table(table("mnli", 3), folder / "validation_mismatched.parquet")
    splits = data.load("mnli").splits
    assert [len(split) for split in splits.values()] == [6, 6, 3]
    assert not set(splits["validation_matched"].ids) & set(splits["validation_mismatched"].ids)


def test_hub_cache(tmp_path: Path) -> None:
    folder = tmp_path / "hf" / "hub" / "datasets--nyu-mll--glue" / "snapshots" / "abc" / "mnli"
    write_parquet(folder, "mnli", "{}-00000-of-00001.parquet")
    assert data.load("mnli").source == "the local Hugging Face cache"


def test_datasets_cache(tmp_path: Path) -> None:
    folder = tmp_path / "hf" / "datasets" / "nyu-mll___glue" / "rte" / "0.0.0" / "abc"
    folder.mkdir(parents=True)
    for name in ("train", "validation"):
        with pa.ipc.new_stream(str(folder / f"glue-{name}.arrow"), table("rte").schema) as out:
            out.write_table(table("rte"))
    loaded = data.load("rte")
    assert loaded.source == "the local Hugging Face cache"
    assert loaded.train.labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_folder_comes_before_the_cache(tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "hf" / "hub" / "datasets--nyu-mll--glue" / "snapshots" / "a" / "rte", "rte", "{}-0.parquet"
    )
    write_parquet(tmp_path / "glue" / "rte", "rte")
    assert data.load("rte").source == "KD_GLUE_DIR"


def test_incomplete_folder_falls_through(tmp_path: Path) -> None:
    write_parquet(tmp_path / "glue" / "rte", "rte")
    (tmp_path / "glue" / "rte" / "validation.parquet").unlink()
    assert glue.find(TASKS["rte"]) is None


def test_absent_task_says_what_to_do() -> None:
    with pytest.raises(UserError) as caught:
        data.load("qnli")
    assert "KD_GLUE_DIR" in caught.value.remedy
    listed = data.availability()
    assert set(listed) == set(TASKS)
    assert not listed["qnli"].ok
    assert "QNLI/train.tsv" in listed["qnli"].remedy
    assert listed["pocket-sentiment"].ok


def test_unknown_task_lists_the_known() -> None:
    with pytest.raises(UserError, match="sst2"):
        data.load("sst-22")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drop": "sentence2"}, "sentence2"),
        ({"label": [-1] * 6}, "outside 0..1"),
        ({"label": [0, 1, 2, 0, 1, 0]}, "outside 0..1"),
        ({"rows": 0}, "no rows"),
    ],
)
def test_broken_parquet_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    write_parquet(tmp_path / "glue" / "rte", "rte")
    broken = table("rte", change.get("rows", 6))
    if "drop" in change:
        broken = broken.drop_columns([change["drop"]])
    if "label" in change:
        broken = broken.set_column(broken.column_names.index("label"), "label", pa.array(change["label"]))
    pq.write_table(broken, tmp_path / "glue" / "rte" / "train.parquet")
    with pytest.raises(UserError, match=r"train\.parquet") as caught:
        data.load("rte")
    assert words in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PAR1 not a table", b"\xff\xfe"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    write_parquet(tmp_path / "glue" / "rte", "rte")
    (tmp_path / "glue" / "rte" / "train.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"train\.parquet"):
        data.load("rte")
    write_tsv(tmp_path / "glue" / "WNLI", "wnli")
    (tmp_path / "glue" / "WNLI" / "train.tsv").write_bytes(content + b"\xff")
    with pytest.raises(UserError, match=r"train\.tsv"):
        data.load("wnli")


def test_scores_that_are_no_numbers(tmp_path: Path) -> None:
    write_parquet(tmp_path / "glue" / "stsb", "stsb")
    broken = table("stsb").set_column(2, "label", pa.array([float("nan")] * 6))
    pq.write_table(broken, tmp_path / "glue" / "stsb" / "validation.parquet")
    with pytest.raises(UserError, match="not numbers"):
        data.load("stsb")


def test_download_of_an_unknown_task() -> None:
    with pytest.raises(UserError, match="no GLUE task"):
        glue.download("../../etc")


def test_download_without_a_hub_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as caught:
        glue.download("rte", timeout=30)
    assert "KD_GLUE_DIR/rte" in caught.value.remedy
    with pytest.raises(UserError, match=r"within 0\.01 seconds"):
        glue.download("rte", timeout=0.01)


@pytest.mark.skipif(not REAL, reason="KD_GLUE_DIR names no folder with the real data")
@pytest.mark.parametrize(
    ("key", "ones"), [("mrpc", (2474, 279)), ("rte", (1241, 131)), ("cola", (6023, 721)), ("sst2", (37569, 444))]
)
def test_real_rows(monkeypatch: pytest.MonkeyPatch, key: str, ones: tuple[int, int]) -> None:
    monkeypatch.setenv("KD_GLUE_DIR", str(REAL))
    if glue.find(TASKS[key]) is None:
        pytest.skip(f"{key} is not in KD_GLUE_DIR")
    loaded = data.load(key)
    if loaded.partial:
        pytest.skip(f"{key} in KD_GLUE_DIR is {loaded.partial}")
    assert tuple(int(loaded.splits[name].labels.sum()) for name in ("train", "validation")) == ones
    assert all(text and isinstance(text, str) for split in loaded.splits.values() for text in split.texts[0])


@pytest.mark.skipif(not REAL, reason="KD_GLUE_DIR names no folder with the real data")
def test_real_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_GLUE_DIR", str(REAL))
    if glue.find(TASKS["stsb"]) is None:
        pytest.skip("stsb is not in KD_GLUE_DIR")
    loaded = data.load("stsb")
    labels = loaded.train.labels
    assert labels.dtype == np.float32
    assert (labels.min(), labels.max()) == (0, 5)
    assert abs(float(labels.mean()) - 2.701) < 0.01


def test_the_genre_of_mnli_is_a_domain_where_a_file_says_it(tmp_path: Path) -> None:
    folder = tmp_path / "glue" / "MNLI"
    write_tsv(folder, "mnli")
    lines = [f"{i}\t{i}\t{i}n\t{('slate', 'fiction')[i % 2]}\tA {i}.\tB.\tneutral\tneutral" for i in range(4)]
    (folder / "train.tsv").write_text("\n".join([str(HEADERS["mnli"]), *lines]) + "\n", encoding="utf-8")
    loaded = data.load("mnli")
    assert loaded.domains == ("fiction", "slate") and loaded.train.sources.tolist() == [1, 0, 1, 0]
    assert loaded.train.labels.tolist() == [1] * 4
    before = loaded.fingerprint
    (folder / "train.tsv").write_text("\n".join([str(HEADERS["mnli"]), *lines]).replace("slate", "travel") + "\n")
    assert data.load("mnli").fingerprint == before, "a run of before is of the same rows"


def test_the_hubs_files_name_no_domain(tmp_path: Path) -> None:
    write_parquet(tmp_path / "glue" / "mnli", "mnli")
    assert data.load("mnli").domains == () and data.load("mnli").train.sources is None
    for path in (tmp_path / "glue" / "mnli").glob("*.parquet"):
        pq.write_table(table("mnli").append_column("genre", [["a", "b", "c"] * 2]), path)
    assert data.load("mnli").train.sources.tolist() == [0, 1, 2] * 2
