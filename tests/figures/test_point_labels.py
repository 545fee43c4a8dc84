"""Labels cover no mark, no other words and not one another, on a phone and on a desk."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from kdcore.figures import point_labels
from kdcore.figures.point_labels import PLOTS, Box, Plane

NAMES = ("KD", "Patient KD", "TinyBERT", "Stochastic KD", "MiniLM", "Fine-tuning alone", "MiniLMv2", "Pea-KD")


def _known(cost: list[float], quality: list[float], **changes: object) -> pd.DataFrame:
    labels = [f"{NAMES[number % len(NAMES)]}, {2 + number // len(NAMES)} x 64" for number in range(len(cost))]
    table = pd.DataFrame({"cost": cost, "quality": quality, "quality_spread": 0.0, "label": labels})
    return table.assign(kind="student", look="lit").assign(**changes)


def _boxes(placed: pd.DataFrame, plane: Plane) -> dict[str, Box]:
    """Where each label is drawn, by plotly's own rules: beside its point, or around the end of its line."""
    boxes = {}
    for (_, row), x, y in zip(placed.iterrows(), *plane.points(placed), strict=True):
        lines = row["full"].split("\n")
        scale = 13 / 11 if row["look"] == "chosen" else 1.0
        wide, high = scale * 6 * max(map(len, lines)), scale * 13 * len(lines)
        if row["away"] is not None:
            left, low = x + row["away"][0] - wide / 2, y - row["away"][1] - high / 2
        elif row["text"]:
            vertical, horizontal = row["side"].split()
            left = {"right": x, "left": x - wide, "center": x - wide / 2}[horizontal]
            low = {"top": y + 8, "middle": y - high / 2, "bottom": y - 8 - high}[vertical]
        else:
            continue
        boxes[row["label"]] = (left, low, left + wide, low + high)
    return boxes


def _meet(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _planes(known: pd.DataFrame, levels: list[float]) -> list[Plane]:
    return [Plane.around(known, levels, False, size) for size in PLOTS]


def _placed(known: pd.DataFrame, levels: list[float]) -> list[dict[str, Box]]:
    """The labels on each of the plots."""
    planes = _planes(known, levels)
    placed = point_labels.place_labels(known, planes, [[] for _ in planes])
    return [_boxes(placed, plane) for plane in planes]


@pytest.mark.parametrize("seed", range(20))
def test_labels_of_any_points_are_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 14))
    cost = rng.choice([1.0, 1.02, 3.0, 9.0], count) if seed % 2 else rng.uniform(1, 9, count)
    known = _known(list(cost), list(rng.uniform(60, 100, count)), look=rng.choice(["lit", "faint", "chosen"], count))
    planes = _planes(known, [50.0])
    words = [
        [plane.words_at(50.0, "blind guess", "top left"), plane.words_at(80.0, "90% of the best", "bottom right")]
        for plane in planes
    ]
    placed = point_labels.place_labels(known, planes, words)
    for plane, of_plane in zip(planes, words, strict=True):
        boxes = _boxes(placed, plane)
        for one, other in itertools.combinations(boxes.values(), 2):
            assert not _meet(one, other)
        for one, other in itertools.product(boxes.values(), of_plane):
            assert not _meet(one, other)
        for label, box in boxes.items():
            assert box[0] >= -20 and box[2] <= plane.width + 20, label
            assert box[1] >= -10 and box[3] <= plane.height + 10, label


def test_students_of_one_size_stand_above_one_another_with_a_label_each() -> None:
    known = _known([3.3] * 6 + [5.7], [95.8, 90.0, 82.4, 80.3, 75.7, 72.0, 95.9], quality_spread=4.0)
    plane = _planes(known, [50.0, 86.3])[0]
    assert plane.low == 50.0 and plane.high > 99.9, "lines and whiskers widen the axis"
    assert [len(boxes) for boxes in _placed(known, [50.0, 86.3])] == [7, 7]


def test_the_answer_has_a_label_beside_another_mark_in_the_same_place() -> None:
    names = ["Fine-tuning alone, 2 x 64, init teacher, init_layers skip", "Fine-tuning alone, 2 x 64, init teacher, "
             "init_layers first", "TinyBERT, 2 x 64", "teacher small", "teacher medium", "teacher large"]  # fmt: skip
    known = _known([3.28] * 3 + [3.18, 4.46, 5.67], [95.8, 95.9, 90.2, 92.6, 94.4, 95.9], label=names)
    known = known.assign(kind=["student"] * 3 + ["teacher"] * 3, look=["chosen"] + ["lit"] * 5)
    assert set(names[:3]) <= set(_placed(known, [50.0, 86.3])[0])


def test_a_label_that_has_no_room_is_left_out() -> None:
    boxes, _ = _placed(_known([1.0] * 60, list(np.linspace(70, 72, 60))), [0.0, 100.0])
    assert 5 < len(boxes) < 60
    assert not any(_meet(one, other) for one, other in itertools.combinations(boxes.values(), 2))


def test_a_long_label_goes_on_in_a_second_line() -> None:
    assert point_labels.lines_of("KD, 2 x 64") == "KD, 2 x 64"
    whole = "Fine-tuning alone, 2 x 64, init teacher, init_layers skip"
    assert point_labels.lines_of(whole).replace("\n", " ") == whole
    assert point_labels.lines_of("x" * 50) == "x" * 50, "one word cannot be broken"
