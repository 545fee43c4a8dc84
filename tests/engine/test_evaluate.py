"""Scores against sklearn and scipy, and against numbers worked out by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from kdcore import paths
from kdcore.engine.evaluate import scores
from kdcore.tasks import METRICS, TASKS

COLA, MRPC, STSB, MNLI = (TASKS[key] for key in ("cola", "mrpc", "stsb", "mnli"))
ALL = replace(MRPC, metrics=("accuracy", "f1", "matthews"))


def logits(classes: list[int], outputs: int = 2) -> np.ndarray:
    return np.eye(outputs)[classes] * 3 - 1


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60))
@settings(deadline=None, max_examples=60)
def test_classification_agrees_with_sklearn(pairs: list[tuple[int, int]]) -> None:
    predicted, truth = map(list, zip(*pairs, strict=True))
    got = scores(ALL, logits(predicted), np.array(truth))
    assert got["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert got["f1"] == pytest.approx(metrics.f1_score(truth, predicted, zero_division=0))
    assert got["matthews"] == pytest.approx(metrics.matthews_corrcoef(truth, predicted))


@given(
    st.lists(st.tuples(st.floats(-9, 9, width=32), st.floats(0, 5, width=32)), min_size=3, max_size=40).filter(
        lambda rows: all(np.std(column) > 1e-3 for column in zip(*rows, strict=True))
    )
)
@settings(deadline=None, max_examples=60)
def test_correlations_agree_with_scipy(rows: list[tuple[float, float]]) -> None:
    predicted, truth = np.array(rows).T
    got = scores(STSB, predicted[:, None], truth)
    assert got["pearson"] == pytest.approx(stats.pearsonr(predicted, truth)[0], abs=1e-9)
    assert got["spearman"] == pytest.approx(stats.spearmanr(predicted, truth)[0], abs=1e-9)


def test_by_hand() -> None:
    # 2 true positives, 1 false positive, 1 false negative, 1 true negative
    got = scores(ALL, logits([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0]))
    assert got["accuracy"] == pytest.approx(3 / 5)
    assert got["f1"] == pytest.approx(4 / 6)
    assert got["matthews"] == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))
    three = scores(MNLI, logits([0, 1, 2, 2], 3), np.array([0, 1, 2, 0]))
    assert three == {"accuracy": 0.75}


def test_f1_is_that_of_the_positive_class_and_the_mean_over_many() -> None:
    assert scores(MRPC, logits([0, 0, 0]), np.array([0, 0, 0]))["f1"] == 0.0
    many = replace(MNLI, metrics=("f1",))
    truth, predicted = [0, 1, 2, 0], [0, 0, 2, 0]
    expected = metrics.f1_score(truth, predicted, average="macro", zero_division=0)
    assert scores(many, logits(predicted, 3), np.array(truth))["f1"] == pytest.approx(expected)


@pytest.mark.parametrize("truth", [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
@pytest.mark.parametrize("predicted", [0, 1])
def test_one_class_predicted_gives_zero(truth: list[int], predicted: int) -> None:
    got = scores(COLA, logits([predicted] * 4), np.array(truth))
    assert got["matthews"] == 0.0
    assert got["accuracy"] == pytest.approx(np.mean([t == predicted for t in truth]))


@pytest.mark.parametrize("predicted", [[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])
def test_constant_scores_give_zero(predicted: list[float]) -> None:
    truth = np.array([2.0, 2.0, 2.0]) if predicted[0] == 0 else np.array([0.0, 1.0, 5.0])
    assert scores(STSB, np.array(predicted)[:, None], truth) == {"pearson": 0.0, "spearman": 0.0}


def test_single_row() -> None:
    assert scores(STSB, np.array([[1.0]]), np.array([3.0])) == {"pearson": 0.0, "spearman": 0.0}
    assert scores(COLA, logits([1]), np.array([1])) == {"matthews": 0.0, "accuracy": 1.0}


def test_nearly_constant_scores_are_finite() -> None:
    predicted = np.full((5, 1), 2.5, dtype=np.float32)
    predicted[0] = np.nextafter(np.float32(2.5), np.float32(3))
    assert all(np.isfinite(value) for value in scores(STSB, predicted, np.arange(5.0)).values())


def test_every_metric_of_every_task_is_known_and_in_range() -> None:
    rng = np.random.default_rng(0)
    for task in TASKS.values():
        labels = rng.random(30) * 5 if task.kind == "regression" else rng.integers(0, task.outputs, 30)
        got = scores(task, rng.normal(size=(30, task.outputs)), labels)
        assert tuple(got) == task.metrics
        assert set(got) <= set(METRICS)
        assert all(-1 <= value <= 1 and isinstance(value, float) for value in got.values())


@pytest.mark.parametrize(
    ("predictions", "labels", "words"),
    [
        (np.zeros((3, 3)), np.zeros(3, int), "expected"),
        (np.zeros((3, 2)), np.zeros(4, int), "expected"),
        (np.zeros(3), np.zeros(3, int), "expected"),
        (np.zeros((0, 2)), np.zeros(0, int), "no rows"),
        (np.full((3, 2), np.nan), np.zeros(3, int), "not finite"),
    ],
)
def test_what_does_not_fit_raises(predictions: np.ndarray, labels: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        scores(COLA, predictions, labels)


def test_threads_do_not_mix_their_rows() -> None:
    def one(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        predicted, truth = rng.integers(0, 2, 50).tolist(), rng.integers(0, 2, 50)
        return scores(MRPC, logits(predicted), truth)["accuracy"] == pytest.approx(np.mean(predicted == truth))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(40)))


def test_works_without_network_and_writes_into_our_cache_only() -> None:
    """In a process of its own, whose home folder must stay empty and whose sockets are cut."""
    home = paths.cache_dir() / "home"
    home.mkdir()
    code = (
        "import socket, numpy as np\n"
        "def cut(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = cut\n"
        "from kdcore.engine.evaluate import scores\n"
        "from kdcore.tasks import TASKS\n"
        "state = np.random.get_state()[1].tolist()\n"
        "print(scores(TASKS['cola'], np.eye(2), np.array([0, 1])))\n"
        "assert state == np.random.get_state()[1].tolist()\n"
    )
    env = {**os.environ, "HOME": str(home), "HF_HUB_OFFLINE": "0"}
    for name in ("HF_HOME", "XDG_CACHE_HOME", "HF_METRICS_CACHE"):
        env.pop(name, None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "'matthews': 1.0" in done.stdout
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_mean_f1_is_over_the_classes_that_have_rows_whatever_is_predicted() -> None:
    many = replace(MNLI, metrics=("f1",))
    truth = np.array([0, 0, 1, 1])
    assert scores(many, logits([0, 0, 1, 1], 3), truth)["f1"] == 1.0
    once = scores(many, logits([0, 0, 1, 2], 3), truth)["f1"]  # F1 of class 0 is 1, of class 1 two thirds
    assert once == pytest.approx((1 + 2 / 3) / 2)
