"""Beyond compression: the answer, the lines' runs, and what is queued or measured on a click."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kdcore.events import Event, Probed, Progress
from kdcore.paths import run_dir
from kdcore.probes import robustness as robustness_probe
from kdcore.runs import robustness
from kdcore.runs.remeasure import Order
from pages.parts.beyond import missing
from pages.parts.common.measurement import remeasurer
from tests.helpers.kept_answers import GOLD, answers, keep
from tests.helpers.store_factory import add, run_config, words


def made(store: Any, method: str, seed: int, skill: float, level: float = 0.0, hardware: str = "") -> str:
    ours = answers(skill, seed)
    data = {"data": {"label_noise": level}} if level else {}
    score = float((ours.argmax(1) == GOLD).mean())
    run = add(store, run_config(method, seed, **data), score=score, hardware=hardware)
    keep(run, {"student": ours, "large": answers(0.95, 100)})
    return run


@pytest.fixture
def noisy(store: Any) -> list[str]:
    """The undamaged runs of two methods; each has a second level."""
    runs = [
        made(store, method, seed, skill - level, level)
        for level in (0.0, 0.2)
        for method, skill in (("kd", 0.9), ("fine-tune", 0.8))
        for seed in (0, 1)
    ]
    return runs[:4]


def test_the_answer_names_the_best_and_its_doubt(noisy: list[str], visit: Callable[..., Any]) -> None:
    app = visit("beyond", runs=",".join(noisy))
    said = words(app).replace("\\", "")
    assert not app.exception and not app.error
    assert "Under wrong labels, **KD, 2 x 32** has the best mean score" in said
    assert "above Fine-tuning alone, 2 x 32 (2 paired seeds)" in said and "takes 6" in said
    table = app.dataframe[0].value.set_index("method and student")
    assert list(table.index) == ["teacher large", "KD, 2 x 32", "Fine-tuning alone, 2 x 32"]
    assert list(table["seeds with all levels"])[1:] == [2, 2]


@pytest.mark.parametrize("quality", ["ECE", "Brier", "NLL"])
def test_calibration_is_a_quality(quality: str, noisy: list[str], visit: Callable[..., Any]) -> None:
    app = visit("beyond", runs=",".join(noisy), quality=quality)
    said = words(app).replace("\\", "")
    assert not app.exception and not app.error and app.query_params["quality"] == quality
    assert "**KD, 2 x 32** has the best mean" in said and "below Fine-tuning alone" in said and "less is better" in said


def test_missing_levels_are_one_click_with_their_price(store: Any, noisy: list[str], visit: Callable[..., Any]) -> None:
    app = visit("beyond", runs=",".join(noisy))
    assert "**8 runs** would fill the missing levels under wrong labels" in words(app)
    app.button(key="beyond_queue").click().run()
    assert not app.exception and not app.error
    waiting = store.runs(states=["queued"])
    settings = store.settings(list(waiting["id"])).values()
    assert sorted({run.data.label_noise for run in settings}) == [0.1, 0.4] and len(waiting) == 8
    assert app.query_params["runs"] == ",".join(noisy), "the lines find their runs themselves"


def test_undamaged_runs_alone_say_what_they_lack(store: Any, visit: Callable[..., Any]) -> None:
    run = made(store, "kd", 0, 0.9)
    app = visit("beyond", runs=run, damage="Rare class")
    said = words(app).replace("\\", "")
    assert not app.exception and not app.error
    assert "There are only undamaged runs" in said and "under rare class" in said


class Scripted:
    """In place of the child that measures."""

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *about: object) -> None: ...

    def end(self) -> None: ...

    def measure(self, *about: Any) -> Iterator[Event]:
        records = [{"severity": s, "score": 0.9 - s, "ece": s, "brier": s, "nll": s} for s in (0.0, 0.4)]
        yield Progress("large, typos 40%", 1, 2)
        yield Probed("robustness", 60, {"models": {"student": {"typos": records}}})


def test_embeddings_say_that_no_sentence_does_this(store: Any, noisy: list[str], visit: Callable[..., Any]) -> None:
    records = [{"severity": s, "score": 0.9 - s, "ece": s, "brier": s, "nll": s} for s in robustness_probe.STEPS]
    for run in noisy[:2]:
        (run_dir(run) / "student-best").mkdir(parents=True, exist_ok=True)
        store.record(run, [Probed("robustness", 60, {"models": {"student": {"adversarial embeddings": records}}})])
    app = visit("beyond", runs=",".join(noisy[:2]), damage="Adversarial embeddings")
    said = words(app).replace("\\", "")
    assert not app.exception and not app.error and "Under adversarial embeddings" in said
    assert "no sentence does this, and each model meets another move" in said
    assert "The robustness of **2 students** is not measured under every damage" in said
    whole = dict.fromkeys((*robustness_probe.KINDS, "adversarial embeddings"), records)
    for run in noisy[:2]:
        store.record(run, [Probed("robustness", 60, {"models": {"student": whole}})])
    assert "not measured under every damage" not in words(visit("beyond", runs=",".join(noisy[:2]), damage="Typos"))


class Broken(Scripted):
    """Measures nothing, and says why."""

    def __init__(self, why: str) -> None:
        self.why = why

    def measure(self, *about: Any) -> Iterator[Event]:
        raise ValueError(self.why)
        yield


def test_sentences_are_measured_in_the_background(
    store: Any, noisy: list[str], visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in noisy:
        (run_dir(run) / "student-best").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(missing, "open_process", Scripted)
    app = visit("beyond", runs=",".join(noisy), damage="Typos")
    assert "Nothing is measured yet under typos" in words(app)
    app.button(key="beyond_measure").click().run()
    remeasurer().wait(60)
    app.run()
    assert not app.exception and not app.error
    assert "Under typos" in words(app) and len(app.dataframe[0].value) == 2
    assert all(robustness.PROBE in store.probes(run) for run in noisy)


def test_runs_of_another_machine_are_no_pairs(store: Any, visit: Callable[..., Any]) -> None:
    runs = [
        made(store, method, 0, skill - level, level, hardware)
        for level in (0.0, 0.2)
        for method, skill, hardware in (("kd", 0.9, "A"), ("fine-tune", 0.8, "B"))
    ]
    app = visit("beyond", runs=",".join(runs[:2]))
    said = words(app).replace("\\", "")
    assert "**KD, 2 x 32** has the best mean score" in said and "has all levels on one machine and version" in said
    assert "No test over all methods counts seed 0, which ran on more than one machine or version" in said


@pytest.fixture
def whole(store: Any) -> list[str]:
    """Every level of two methods; seed 1 ran on another machine at one of them."""
    return [
        made(store, method, seed, skill - level, level, "B" if (seed, level, method) == (1, 0.4, "kd") else "A")
        for level in (0.0, 0.1, 0.2, 0.4)
        for method, skill in (("kd", 0.9), ("fine-tune", 0.8))
        for seed in (0, 1)
    ]


def test_where_no_run_is_missing_it_is_told_which_seeds_do_not_match(
    whole: list[str], visit: Callable[..., Any]
) -> None:
    said = words(visit("beyond", runs=",".join(whole[:4]))).replace("\\", "")
    assert "No run is missing: every method has all levels for each of its seeds" in said
    assert "counts seed 1, which ran on more than one machine or version" in said and "(1 paired seed)" in said


def test_one_level_has_neither_area_nor_rank(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("beyond", runs=",".join(made(store, method, 0, 0.9) for method in ("kd", "fine-tune")))
    assert "Areas and ranks need two levels" in words(app) and not app.dataframe and not app.exception


def test_problems_of_another_measurement_are_not_shown(
    store: Any, noisy: list[str], visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in noisy:
        (run_dir(run) / "student-best").mkdir(parents=True, exist_ok=True)
    orders = [Order(run, f"run {number}") for number, run in enumerate(noisy)]
    for probe, why in (("latency", "the clock is broken"), ("robustness", "the words are gone")):
        remeasurer().begin(store, orders[:1], lambda why=why: Broken(why), probe)
        remeasurer().wait(60)
    beyond = words(visit("beyond", runs=",".join(noisy), damage="Typos"))
    assert "run 0 could not be measured" in beyond and "the words are gone" in beyond
    assert "the clock is broken" not in beyond
    speed = words(visit("speed", runs=",".join(noisy)))
    assert "the clock is broken" in speed and "the words are gone" not in speed
    others = words(visit("beyond", runs=",".join(noisy[1:]), damage="Typos"))
    assert "could not be measured" not in others, "that run is not on the page"


def test_read_only_starts_nothing(noisy: list[str], visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_READ_ONLY", "1")
    app = visit("beyond", runs=",".join(noisy))
    assert not app.exception and not [button for button in app.button if button.label.startswith("Queue")]
