"""The pocket suite: the same everywhere, balanced, no row leaks, and no short cut does what the large teacher does."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from kdcore import data, paths
from kdcore.data.pocket import entailment, suite
from kdcore.data.pocket.ladder import LADDER, rung
from kdcore.data.pocket.topics import ACTORS, FILM
from kdcore.data.splits import TaskData
from kdcore.tasks import POCKET

SHORTCUT_AT_MOST = 0.70
"""Accuracy (correlation for similarity) that bags of words may reach; the large teachers stand near 0.9."""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TaskData]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_CACHE_DIR", str(tmp_path_factory.mktemp("pocket")))
        return {key: data.load(key) for key in POCKET}


def every(task: TaskData) -> list[tuple[str, ...]]:
    return [row for split in task.splits.values() for row in zip(*split.texts, strict=True)]


@pytest.mark.parametrize("key", POCKET)
def test_size_shape_and_balance(tasks: dict[str, TaskData], key: str) -> None:
    loaded = tasks[key]
    assert {name: len(split) for name, split in loaded.splits.items()} == {"train": 4000, "validation": 1000}
    assert loaded.partial is None
    assert "synthetic" in loaded.source
    for split in loaded.splits.values():
        assert len(split.texts) == len(loaded.task.columns)
        if loaded.task.kind == "classification":
            assert np.bincount(split.labels, minlength=loaded.task.outputs).std() <= 1
            first = np.bincount(split.labels[: len(split) // 4], minlength=loaded.task.outputs)
            assert np.abs(first / first.sum() - 1 / loaded.task.outputs).max() < 0.1
        else:
            assert split.labels.min() >= 0
            assert split.labels.max() <= 5
            assert split.labels.std() > 1


@pytest.mark.parametrize("key", POCKET)
def test_no_row_twice_and_no_dev_sentence_in_training(tasks: dict[str, TaskData], key: str) -> None:
    loaded = tasks[key]
    rows = every(loaded)
    assert len(set(rows)) == len(rows)
    seen = {text for column in loaded.train.texts for text in column}
    assert seen.isdisjoint(text for column in loaded.splits["validation"].texts for text in column)


def bags_of_words(loaded: TaskData, columns: list[int]) -> float:
    train, dev = loaded.splits["train"], loaded.splits["validation"]
    features = []
    for column in columns:
        words = CountVectorizer(token_pattern=r"\S+", ngram_range=(1, 1)).fit(train.texts[column])
        features.append((words.transform(train.texts[column]), words.transform(dev.texts[column])))
    known, new = (sparse.hstack(parts).tocsr() for parts in zip(*features, strict=True))
    if loaded.task.kind == "regression":
        return float(np.corrcoef(Ridge().fit(known, train.labels).predict(new), dev.labels)[0, 1])
    return float(LogisticRegression(max_iter=500).fit(known, train.labels).score(new, dev.labels))


@pytest.mark.parametrize("key", POCKET)
def test_bags_of_words_are_no_short_cut(tasks: dict[str, TaskData], key: str) -> None:
    columns = range(len(tasks[key].train.texts))
    for chosen in [[column] for column in columns] + [list(columns)]:
        assert bags_of_words(tasks[key], chosen) < SHORTCUT_AT_MOST


@pytest.mark.parametrize("key", POCKET)
def test_vocabulary_covers_the_suite_without_unknowns(tasks: dict[str, TaskData], key: str) -> None:
    from kdcore.models.tokenizers import tokenizer_from_vocabulary

    loaded = tasks[key]
    assert loaded.vocabulary is not None
    assert loaded.vocabulary == tasks["pocket-sentiment"].vocabulary
    assert len(set(loaded.vocabulary)) == len(loaded.vocabulary) <= suite.VOCABULARY
    assert loaded.vocabulary[:5] == suite.SPECIAL
    tokenizer = tokenizer_from_vocabulary(loaded.vocabulary)
    coded = tokenizer(*map(list, zip(*every(loaded), strict=True)))["input_ids"]
    assert tokenizer.unk_token_id not in {token for row in coded for token in row}
    assert max(map(len, coded)) <= 64


def test_same_rows_and_vocabulary_in_every_process(tasks: dict[str, TaskData], tmp_path: Path) -> None:
    code = (
        "from kdcore import data; from kdcore.tasks import POCKET; import hashlib\n"
        "loaded = [data.load(key) for key in POCKET]\n"
        "words = hashlib.sha256(repr(loaded[0].vocabulary).encode()).hexdigest()\n"
        "print(*(task.fingerprint for task in loaded), words)\n"
    )
    here = [task.fingerprint for task in tasks.values()]
    here.append(hashlib.sha256(repr(tasks["pocket-sentiment"].vocabulary).encode()).hexdigest())
    for seed in ("1", "2"):
        env = {**os.environ, "KD_CACHE_DIR": str(tmp_path / seed), "PYTHONHASHSEED": seed}
        env["TOKENIZERS_PARALLELISM"] = "true" if seed == "1" else "false"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=300)
        assert done.stdout.split() == here, done.stderr


def test_three_classes_leave_the_vocabulary_as_it_was(tasks: dict[str, TaskData]) -> None:
    """Teachers and runs of the time before this task are found by hashes that the vocabulary is part of."""
    new, known = (
        {word for row in every(tasks[key]) for text in row for word in text.split()}
        for key in ("pocket-inference", "pocket-entailment")
    )
    assert new <= known
    vocabulary = repr(tasks["pocket-sentiment"].vocabulary).encode()
    assert hashlib.sha256(vocabulary).hexdigest().startswith("2d0d54d74768")


def test_inference_labels_follow_from_what_the_hypothesis_says(tasks: dict[str, TaskData]) -> None:
    """By the rule, written again: another noun or place contradicts, else an added or changed adjective, or a narrower
    noun, is neutral, else it follows."""
    kinds = {noun: kind for kind, nouns in entailment.KINDS.items() for noun in nouns}

    def parts(text: str) -> tuple[list[str], list[str], str]:
        verb = next(word for word in text.split() if word in entailment.VERBS)
        subject, rest = text.split(f" {verb} the ")
        place = next((each for each in entailment.PLACES if rest.endswith(each)), "")
        return subject.split()[1:], rest.removesuffix(place).split(), place

    def step(one: list[str], two: list[str]) -> int:
        if one[-1] != two[-1] and kinds.get(one[-1]) != two[-1] and kinds.get(two[-1]) != one[-1]:
            return 2
        return int(not set(two[:-1]) <= set(one[:-1]) or kinds.get(two[-1]) == one[-1])

    for split in tasks["pocket-inference"].splits.values():
        for premise, hypothesis, label in zip(*split.texts, split.labels, strict=True):
            one, two = parts(premise), parts(hypothesis)
            place = 2 * int(bool(one[2] and two[2]) and one[2] != two[2])
            assert max(step(one[0], two[0]), step(one[1], two[1]), place) == label, (premise, hypothesis)


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "changed"])
def test_damaged_file_is_made_anew(damage: str, tasks: dict[str, TaskData]) -> None:
    key = "pocket-entailment"
    data.load(key)
    (path,) = paths.cache_subdir("data").glob(f"{key}-*.parquet")
    if damage == "changed":
        table = pq.read_table(path)
        about = table.schema.metadata
        turned = table.set_column(table.column_names.index("label"), "label", pa.array([0] * len(table)))
        pq.write_table(turned.replace_schema_metadata(about), path)
    else:
        path.write_bytes({"cut": path.read_bytes()[:5000], "empty": b"", "other": b"no parquet"}[damage])
    assert data.load(key).fingerprint == tasks[key].fingerprint
    assert data.load(key).train.texts == tasks[key].train.texts
    assert not list(paths.cache_subdir("data").glob("*.tmp"))


def test_second_load_reads_the_file(monkeypatch: pytest.MonkeyPatch, tasks: dict[str, TaskData]) -> None:
    data.load("pocket-sentiment")
    monkeypatch.setattr(suite, "generate_all", lambda: pytest.fail("made again"))
    for key in POCKET:
        again = data.load(key)
        assert again.fingerprint == tasks[key].fingerprint
        assert again.vocabulary == tasks[key].vocabulary
        assert again.train.labels.dtype == tasks[key].train.labels.dtype


def test_ladder_rises_and_fits_the_tasks() -> None:
    for key in POCKET:
        rungs = [rung(key, name) for name in LADDER]
        assert list(LADDER) == ["small", "medium", "large"]
        layers = [each.layers for each in rungs]
        assert layers == sorted(set(layers))
        assert all(each.width % each.heads == 0 for each in rungs)
        assert len({each.width for each in rungs}) == 1


@pytest.mark.parametrize("key", POCKET)
def test_every_training_row_has_a_topic(tasks: dict[str, TaskData], key: str) -> None:
    loaded = tasks[key]
    counts = np.bincount(loaded.train.sources, minlength=len(loaded.domains))
    assert len(counts) == len(loaded.domains) >= 2 and counts.min() > 400
    told = zip(zip(*loaded.train.texts, strict=True), loaded.train.sources, strict=True)
    words = (FILM if key == "pocket-sentiment" else ACTORS).values()
    for texts, number in list(told)[:200]:
        first = next(word for word in " ".join(texts).split() if any({word, word[:-1]} & set(topic) for topic in words))
        assert {first, first[:-1]} & set(list(words)[number])
    assert loaded.splits["validation"].sources is None
