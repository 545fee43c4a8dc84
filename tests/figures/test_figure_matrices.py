"""Layers, attention, and groups of runs."""

from __future__ import annotations

import numpy as np
import pytest

from kdcore.figures import attention, groups, layers, palette


def test_layers_stand_student_by_teacher_with_the_map_outlined() -> None:
    values = np.arange(15.0).reshape(5, 3) / 15  # [teacher 4 + 1, student 2 + 1]
    figure = layers.matrix(values, "cka", {1: 2, 2: 4})
    heat = figure.data[0]
    assert np.array_equal(np.asarray(heat.z), values.T)
    assert (heat.zmin, heat.zmax) == (0.0, 1.0)
    boxes = [(shape.x0, shape.x1, shape.y0, shape.y1) for shape in figure.layout.shapes]
    assert boxes == [(1.5, 2.5, 0.5, 1.5), (3.5, 4.5, 1.5, 2.5)]
    assert figure.layout.xaxis.title.text == "Teacher layer (0 = embeddings)"


def test_distances_begin_at_zero_and_undefined_cells_are_empty() -> None:
    figure = layers.matrix([[0.5, None], [2.0, 4.0]], "mse")
    heat = figure.data[0]
    assert (heat.zmin, heat.zmax) == (0.0, 4.0)
    assert heat.text[1][0] == "" and heat.text[0][0] == "0.50"


def test_the_nearest_layer_is_high_for_cka_and_low_for_distances() -> None:
    values = [[0.1, 0.9], [0.8, 0.2]]
    assert layers.nearest(values, "cka") == [(0, 1, 0.8), (1, 0, 0.9)]
    assert layers.nearest(values, "mse") == [(0, 0, 0.1), (1, 1, 0.2)]
    assert layers.nearest([[None], [None]], "mse") == []


def test_the_map_in_words() -> None:
    assert layers.map_words({2: 6, 1: 3}) == "Student layer ← teacher layer: 1 ← 3, 2 ← 6."
    assert "no layers" in layers.map_words({})


def test_tiles_put_layers_below_one_another_with_empty_gutters() -> None:
    maps = np.arange(2 * 3 * 4 * 4, dtype=float).reshape(2, 3, 4, 4)
    tiled = attention.tiles(maps)
    assert tiled.shape == (2 * 4 + 1, 3 * 4 + 2)
    assert np.isnan(tiled[4]).all() and np.isnan(tiled[:, 4]).all()
    assert np.array_equal(tiled[5:9, 10:14], maps[1, 2])


def test_pictures_beside_one_another_share_their_scale() -> None:
    teacher, student = np.full((1, 2, 3, 3), 0.2), np.full((1, 2, 3, 3), 0.6)
    top = attention.shared_top(teacher, student)
    assert top == pytest.approx(0.6)
    plain = attention.grid(teacher, "Teacher", top=top).data[0]
    assert (plain.zmin, plain.zmax) == (0.0, top)
    signed = attention.grid(teacher - student, "Difference", top=top, signed=True, dark=True).data[0]
    assert (signed.zmin, signed.zmid, signed.zmax) == (-top, 0, top)
    assert signed.colorscale[2][1] == palette.DIVERGING_DARK[2][1]


def test_one_head_names_its_tokens_and_escapes_them() -> None:
    figure = attention.head(np.eye(2), ["<b>", "[SEP]"], "Head", top=1.0)
    assert list(figure.layout.xaxis.ticktext) == ["&lt;b&gt;", "[SEP]"]
    assert figure.data[0].customdata[0][1] == "&lt;b&gt; → [SEP]"
    assert figure.layout.yaxis.autorange == "reversed"


def test_uniform_attention_is_noticed() -> None:
    assert attention.uniform(np.full((1, 1, 4, 4), 0.25))
    assert not attention.uniform(np.eye(4)[None, None])
    assert not attention.uniform(np.ones((1, 1, 1, 1))), "a single token has nowhere else to look"


CONFIG = {
    "name": "a",
    "method": "kd",
    "options": {"alpha": 0.5},
    "teachers": [{"name": "t"}],
    "train": {"seed": 0, "lr": 1.0},
}


def test_runs_of_a_group_differ_in_seed_and_name_only() -> None:
    again = CONFIG | {"name": "b", "train": {"seed": 7, "lr": 1.0}}
    other = CONFIG | {"train": {"seed": 0, "lr": 2.0}}
    assert groups.group_of(CONFIG) == groups.group_of(again) != groups.group_of(other)


def test_differences_list_only_what_differs() -> None:
    other = CONFIG | {"train": {"seed": 0, "lr": 2.0}}
    table = groups.differences({"x": CONFIG, "y": other})
    assert table.to_dict("index") == {"train.lr": {"x": "1.0", "y": "2.0"}}
    assert "teachers[0].name" in groups.differences({"x": CONFIG, "y": other}, every=True).index


def test_labels_tell_groups_apart_by_what_differs() -> None:
    other = CONFIG | {"options": {"alpha": 0.9}}
    labels = groups.labels({"g": CONFIG, "h": other}, {"g": "KD", "h": "KD"})
    assert labels == {"g": "KD, alpha 0.5", "h": "KD, alpha 0.9"}
    assert groups.labels({"g": CONFIG}, {"g": "KD"}) == {"g": "KD"}


def test_mean_and_std_in_words() -> None:
    assert groups.in_words(*groups.mean_and_std([1.0, 2.0, 3.0])) == "2.0 ± 1.0 (N=3)"
    assert groups.in_words(*groups.mean_and_std([2.0, float("nan")])) == "2.0 (N=1)"
    assert groups.in_words(*groups.mean_and_std([])) == "–"
