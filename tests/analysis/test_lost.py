"""What a student lost, over its sizes: which runs belong together, and what is set against what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kdcore.analysis.lost import read_loss, slopes_by_task
from kdcore.analysis.relatives import relatives
from tests.helpers.kept_answers import GOLD, ROWS, answers, keep, logits
from tests.helpers.store_factory import add, run_config

TEACHER = answers(0.95, 100)
ALONE = {"teachers": [{"name": "large", "source": "pocket", "where": "large"}]}


def student(layers: int = 2, heads: int = 2) -> dict[str, Any]:
    return {"student": {"layers": layers, "width": 32, "heads": heads, "init": "random"}}


def made(store: Any, method: str, seed: int, skill: float, **more: Any) -> str:
    """A finished run with answers of about this skill."""
    ours = answers(skill, seed)
    run = add(store, run_config(method, seed, **more), score=float((ours.argmax(1) == GOLD).mean()))
    keep(run, {"student": ours, "large": TEACHER})
    return run


@pytest.fixture
def grid(store: Any) -> dict[tuple[str, int, int, int], str]:
    """Method, layers, heads and seed -> run; skill grows with layers."""
    return {
        (method, layers, heads, seed): made(
            store, method, seed, skill + 0.05 * layers, **student(layers, heads), **more
        )
        for method, skill, more in (("kd", 0.7, {}), ("fine-tune", 0.6, ALONE))
        for layers in (1, 2, 4)
        for heads in (1, 2)
        for seed in (0, 1)
    }


def test_the_grid_holds_the_other_sizes_and_their_controls(store: Any, grid: Any) -> None:
    made(store, "kd", 0, 0.5, **student(8, 2), options={"temperature": 3})  # another setting of KD is another grid
    add(store, run_config("kd", 5, **student(1, 1)))  # kept no answers
    loss = read_loss(store, store.runs(), grid["kd", 2, 1, 0])
    assert loss is not None and loss.size == (2, 1) and loss.teacher == "large"
    assert list(zip(loss.sizes["layers"], loss.sizes["heads"], strict=True)) == [
        (layers, heads) for layers in (1, 2, 4) for heads in (1, 2)
    ]
    assert set(loss.sizes["n"]) == set(loss.sizes["alone_n"]) == {2} and set(loss.answers) == {0, 1}
    own, teacher = loss.own, (TEACHER.argmax(1) == GOLD).mean()
    ours, alone = (
        np.mean([store.runs().set_index("id")["score"][grid[method, 2, 1, seed]] for seed in (0, 1)])
        for method in ("kd", "fine-tune")
    )
    assert own["teacher"] == pytest.approx(teacher) and own["gap"] == pytest.approx(teacher - ours)
    assert own["low"] < own["gap"] < own["high"] and own["retention"] == pytest.approx(ours / teacher)
    assert own["alone_gap"] == pytest.approx(teacher - alone) and own["gain"] == pytest.approx(ours - alone)
    assert own["run"] == grid["kd", 2, 1, 0]
    assert loss.slopes()["layers"].value < 0


def test_cells_of_every_seed_hold_all_rows(store: Any, grid: Any) -> None:
    loss = read_loss(store, store.runs(), grid["kd", 1, 1, 1])
    assert loss is not None and loss.classes
    seeds = loss.seeds()
    assert list(seeds["seed"]) == [0, 1]
    assert (seeds[["both right", "lost", "gained", "neither"]].sum(axis=1) == ROWS).all()
    assert ((seeds["lost"] - seeds["gained"]).mean() / ROWS) == pytest.approx(loss.own["gap"], abs=1e-12)


def test_a_teacher_that_is_its_own_student_lost_nothing(store: Any) -> None:
    run = add(store, run_config("kd"), score=0.95)
    keep(run, {"student": TEACHER, "large": TEACHER})
    loss = read_loss(store, store.runs(), run)
    assert loss is not None
    own, seed = loss.own, loss.seeds().iloc[0]
    assert own["gap"] == own["low"] == own["high"] == 0 and own["retention"] == 1
    assert seed["lost"] == seed["gained"] == 0 and seed["p"] == 1
    assert seed["label loyalty"] == seed["probability loyalty"] == 1
    assert loss.slopes() == {} and own["alone_n"] == 0


def test_six_seeds_have_the_interval_of_the_verdicts(store: Any) -> None:
    runs = [made(store, "kd", seed, 0.8) for seed in range(6)]
    loss = read_loss(store, store.runs(), runs[3])
    assert loss is not None
    from kdcore.analysis import significance

    theirs = {seed: (TEACHER.argmax(1) == GOLD).astype(float) for seed in range(6)}
    ours = {seed: (answers(0.8, seed).argmax(1) == GOLD).astype(float) for seed in range(6)}
    verdict = significance.compare(theirs, ours)
    assert (loss.own["low"], loss.own["high"]) == (verdict.low, verdict.high)


def test_the_mark_of_a_lost_row_is_found(store: Any) -> None:
    long = np.arange(ROWS) % 2 == 1
    chance = np.random.default_rng(3)
    lost = chance.random(ROWS) < np.where(long, 0.5, 0.1)
    run = add(store, run_config("kd"), score=0.7)
    keep(run, {"student": logits(~lost), "large": logits(np.ones(ROWS))})
    loss = read_loss(store, store.runs(), run)
    assert loss is not None
    texts = [["one two three four" if each else "one" for each in long]]
    table = loss.odds_ratios(texts, ("bad", "good")).set_index("feature")
    assert table.loc["length (words)", "low"] > 1
    assert table.loc["label good", "low"] < 1 < table.loc["label good", "high"]
    assert "teacher's confidence" not in table.index, "it is equally sure of all"


def test_nothing_can_be_said_without_a_teachers_answers(store: Any) -> None:
    alone = add(store, run_config("fine-tune"))
    keep(alone, {"student": TEACHER})
    taught = add(store, run_config("kd"))
    assert read_loss(store, store.runs(), alone) is None and read_loss(store, store.runs(), taught) is None


def test_relatives_differ_in_what_is_free_and_in_nothing_else(store: Any) -> None:
    plain = add(store, run_config("kd"))
    seed, noisy = add(store, run_config("kd", 1)), add(store, run_config("kd", data={"label_noise": 0.2}))
    other = add(store, run_config("kd", options={"temperature": 3}))
    both = add(store, run_config("kd", options={"temperature": 3}, data={"imbalance": 0.2}))
    add(store, run_config("kd", 2), end="running")
    runs = store.runs()
    assert relatives(store, runs, [plain], ("student.layers",)) == {plain: plain, seed: plain}
    free = ("data.",)
    assert relatives(store, runs, [plain], free) == {plain: plain, seed: plain, noisy: plain}
    assert relatives(store, runs, [noisy, other], free) == {
        plain: noisy, seed: noisy, noisy: noisy, other: other, both: other,
    }  # fmt: skip


def test_slopes_of_every_task_with_these_settings(store: Any) -> None:
    for task, slope in (("pocket-sentiment", 0.1), ("pocket-entailment", 0.05)):
        for layers in (1, 2, 4):
            for seed in (0, 1):
                run = add(
                    store, run_config("kd", seed, task=task, **student(layers)), score=0.5 + slope * np.log2(layers)
                )
    add(store, run_config("kd", task="pocket-paraphrase", **student(2)), score=0.5)
    add(store, run_config("kd", task="pocket-paraphrase", options={"temperature": 3}, **student(4)), score=0.9)
    table = slopes_by_task(store, store.runs(), run).set_index("task")
    assert table["layers"].to_dict() == pytest.approx({"pocket-sentiment": 0.1, "pocket-entailment": 0.05})
    assert table["heads"].isna().all() and set(table["sizes"]) == {3}
