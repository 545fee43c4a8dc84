"""The ensemble on Examples: what stored predictions and logged weights come to, worked out again here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from kdcore.events import RunFinished, RunStarted, StepDone
from kdcore.paths import run_dir
from tests.helpers.store_factory import run_config, words
from tests.pages.test_examples import ROWS, answers, small_rows

__all__ = ["small_rows"]

NAMES = ("large", "medium", "small")
TEACHERS = [{"name": name, "source": "pocket", "where": name} for name in NAMES]
CHANCES = {"large": 0.5, "medium": 0.3, "small": 0.2}
PART = {"epart": "Ensemble"}


@pytest.fixture
def run(store: Any) -> Callable[..., str]:
    def _run(method: str, teachers: Any = TEACHERS, notes: Mapping[str, float] | None = None, **more: Any) -> str:
        made: str = store.add_run(run_config(method, teachers=teachers, **more))
        store.claim("test", "cpu", made)
        step = StepDone("distil", 1, 1, 1.0, 1.0, {"soft": 1.0}, {"soft": 1.0}, 1e-3, 1.0, 1.0, 1.0, notes=notes or {})
        store.record(made, [RunStarted({}), step, RunFinished({})])
        return made

    return _run


def softmax(logits: Any, t: float = 1.0) -> Any:
    e = np.exp(np.asarray(logits, np.float64) / t)
    return e / e.sum(-1, keepdims=True)


def by_hand(said: Mapping[str, Any], gold: Any, weights: Mapping[str, float], t: float) -> tuple[Any, float, float]:
    """The mixture's probabilities, its accuracy and NLL."""
    p = sum(weights[name] * softmax(said[name], t) for name in NAMES)
    return p, float((p.argmax(-1) == gold).mean()), float(-np.log(p[np.arange(ROWS), gold]).mean())


def test_a_draw_is_weighed_by_its_chances(store: Any, run: Callable[..., str], visit: Callable[..., Any]) -> None:
    drawn = {"large": 0.25, "medium": 0.25, "small": 0.5}
    notes = {f"chance/{name}": chance for name, chance in CHANCES.items()}
    made = run("skd", notes=notes | {f"draws/{name}": share for name, share in drawn.items()})
    said, gold = answers(made, names=NAMES)
    p, accuracy, nll = by_hand(said, gold, CHANCES, 1.0)
    app = visit("examples", runs=made, **PART)
    assert not app.exception and not app.error
    models = app.dataframe[0].value.set_index("model")
    assert models.loc["mixture", "accuracy"] == pytest.approx(100 * accuracy)
    assert models.loc["mixture", "nll"] == pytest.approx(nll)
    assert models["chance"].dropna().tolist() == pytest.approx([50, 30, 20])
    assert models["drawn"].dropna().tolist() == [25, 25, 50]
    labels = np.stack([said[name].argmax(-1) for name in NAMES])
    agree = 100 * (labels == labels[0]).all(0).mean()
    assert f"agree on **{agree:.1f}%** of {ROWS} rows" in words(app) and "draws one teacher a step" in words(app)
    listed = app.dataframe[1].value
    apart = np.flatnonzero(~(labels == labels[0]).all(0))
    assert set(listed["row"]) == set(apart), "first the rows on which the teachers disagree"
    assert listed["apart"].is_monotonic_decreasing
    first = int(listed["row"].iloc[0])
    row = app.dataframe[2].value.set_index("teacher")
    label = p[first].argmax()
    for name in NAMES:
        assert row.loc[name, "p(gold)"] == pytest.approx(softmax(said[name])[first, gold[first]], abs=1e-6)
        share = CHANCES[name] * softmax(said[name])[first, label] / p[first, label]
        assert row.loc[name, "expected share"] == pytest.approx(100 * share, abs=1e-4)
    against = [name for name in NAMES if said[name][first].argmax() != label]
    line = next(text.value for text in app.markdown if text.value.startswith("Against the mixture"))
    assert all((f"**{name}**" in line) == (name in against) for name in NAMES)


def test_an_average_is_shown_at_its_temperature(store: Any, run: Callable[..., str], visit: Callable[..., Any]) -> None:
    made = run("kd", options={"temperature": 4.0, "alpha": 0.5})
    said, gold = answers(made, names=NAMES)
    weights = dict.fromkeys(NAMES, 1 / 3)
    app = visit("examples", runs=made, **PART)
    assert not app.exception
    models = app.dataframe[0].value.set_index("model")
    assert models.loc["mixture", "nll"] == pytest.approx(by_hand(said, gold, weights, 4.0)[2])
    student = softmax(said["student"], 4.0)[np.arange(ROWS), gold]
    assert models.loc["student", "nll"] == pytest.approx(-np.log(student).mean())
    assert "weighted mean" in words(app) and "share of target" in app.dataframe[2].value
    app.segmented_control(key="etemp").set_value("plain").run()
    models = app.dataframe[0].value.set_index("model")
    assert models.loc["mixture", "nll"] == pytest.approx(by_hand(said, gold, weights, 1.0)[2])


def test_every_list_holds_its_rows(store: Any, run: Callable[..., str], visit: Callable[..., Any]) -> None:
    made = run("wkd", notes={f"weight/{name}": chance for name, chance in CHANCES.items()})
    said, gold = answers(made, names=NAMES)
    p, *_ = by_hand(said, gold, CHANCES, 1.0)
    app = visit("examples", runs=made, **PART)
    for kind, wanted in (
        ("wrong", p.argmax(-1) != gold),
        ("lost", said["student"].argmax(-1) != p.argmax(-1)),
        ("all", np.ones(ROWS, bool)),
    ):
        app.segmented_control(key="erows").set_value(kind).run()
        assert set(app.dataframe[1].value["row"]) == set(np.flatnonzero(wanted)), kind
    again = visit("examples", runs=made, row="7", erows="All rows", **PART)
    assert "**Row 7**" in words(again), "the address names the row"


def test_a_method_without_weights_says_so(store: Any, run: Callable[..., str], visit: Callable[..., Any]) -> None:
    asked = {f"rows asked/{name}": share for name, share in {"large": 0.5, "medium": 0.3, "small": 0.2}.items()}
    rows, silent, alone = run("dynamic-kd", notes=asked), run("skd"), run("fine-tune")
    for made in (rows, silent, alone):
        answers(made, names=NAMES)
    for made, sentence in (
        (rows, "one teacher answers each row"),
        (silent, "this run logged no weights"),
        (alone, "makes no soft target"),
    ):
        app = visit("examples", runs=made, job=made, **PART)
        assert not app.exception and sentence in words(app) and "plain mean" in words(app)
        assert not {"weight", "chance"} & set(app.dataframe[0].value)


def test_one_teacher_is_told_what_would_be_here(store: Any, run: Callable[..., str], visit: Callable[..., Any]) -> None:
    one, chain, none = run("kd", TEACHERS[:1]), run("takd", TEACHERS[:1]), run("fine-tune", [])
    for made in (one, chain, none):
        answers(made, names=() if made == none else ("large",))
    app = visit("examples", runs=one, **PART)
    assert not app.exception and "one teacher" in words(app) and "Stochastic KD" in words(app)
    assert not app.dataframe
    assert "teacher large → assistant\\-1" in words(visit("examples", runs=chain, job=chain, **PART))
    assert "no teacher" in words(visit("examples", runs=none, job=none, **PART))


def test_scores_are_mixed_too(store: Any, run: Callable[..., str], visit: Callable[..., Any]) -> None:
    made = run("kd", task="pocket-similarity")
    said, gold = answers(made, "pocket-similarity", names=NAMES)
    app = visit("examples", runs=made, **PART)
    assert not app.exception and not app.error
    models = app.dataframe[0].value.set_index("model")
    mean = np.mean([said[name][:, 0] for name in NAMES], axis=0)
    assert models.loc["mixture", "error"] == pytest.approx(np.abs(mean - gold).mean(), rel=1e-5)
    assert "mean error" in words(app) and len(app.dataframe[1].value) == ROWS


def test_a_teacher_whose_predictions_are_gone_is_named(
    store: Any, run: Callable[..., str], visit: Callable[..., Any]
) -> None:
    made = run("kd")
    answers(made, names=NAMES)
    (run_dir(made) / "predictions" / "validation.medium.npz").unlink()
    app = visit("examples", runs=made, **PART)
    assert not app.exception and "No predictions of medium" in words(app)
