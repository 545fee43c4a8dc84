"""Layers, attention, and groups of runs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from plotly.colors import sample_colorscale

from kdcore import layer_map
from kdcore.figures import attention, attention_heads, layer_pair, layers, palette, template


def test_layers_stand_student_by_teacher_with_the_map_outlined() -> None:
    values = np.arange(15.0).reshape(5, 3) / 15  # [teacher 4 + 1, student 2 + 1]
    figure = layers.matrix(values, "cka", {1: (2,), 2: (4,)})
    heat = figure.data[0]
    assert np.array_equal(np.asarray(heat.z), values.T)
    assert (heat.zmin, heat.zmax) == (0.0, 1.0)
    boxes = [(shape.x0, shape.x1, shape.y0, shape.y1) for shape in figure.layout.shapes]
    wanted = [(1.5, 2.5, 0.5, 1.5), (3.5, 4.5, 1.5, 2.5)]
    assert boxes == 2 * wanted, "rims in the page's own colour, and over them the frames"
    rims, frames = figure.layout.shapes[:2], figure.layout.shapes[2:]
    assert {rim.line.color for rim in rims} == {template.PAGE[False]} and rims[0].line.width > frames[0].line.width
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
    assert layers.describe_map({2: (6,), 1: (3,)}) == "Student layer ← teacher layer: 1 ← 3, 2 ← 6."
    assert layers.describe_map({1: (1, 2), 2: (4, 6)}) == "Student layer ← teacher layer: 1 ← 1–2, 2 ← 4 + 6."
    assert layers.describe_map(layer_map.every(3, 12)) == "Student layer ← teacher layer: 1–3 ← 1–12."
    assert "no layers" in layers.describe_map({})


def stacks(figure) -> dict:
    """The numbers of each model's layers."""
    return {trace.name: trace for trace in figure.data if trace.mode == "text"}


def edges(figure) -> dict[int, list[float]]:
    """The edge of each layer's box from the embeddings up, by column."""
    return {x: [box.line.width for box in figure.layout.shapes if box.x0 + box.x1 == 2 * x] for x in (0, 1)}


def lines(figure) -> list[tuple[float, ...]]:
    return [tuple(trace.y) for trace in figure.data if trace.mode == "lines"]


@pytest.mark.parametrize(("student", "teacher"), [(2, 4), (3, 12), (6, 12), (6, 24), (4, 4)])
def test_an_even_map_has_level_lines_from_the_student_left_to_the_teacher_right(student: int, teacher: int) -> None:
    figure = layers.map_figure(student, teacher, layer_map.alone(layer_map.uniform(student, teacher)))
    assert len(lines(figure)) == student and all(ours == pytest.approx(theirs) for ours, theirs in lines(figure))
    both = stacks(figure)
    assert set(both["Student"].x) == {0} and set(both["Teacher"].x) == {1}
    assert len(both["Student"].x) == student + 1 and len(both["Teacher"].x) == teacher + 1  # 0 = embeddings


def test_the_map_is_drawn_as_it_is_with_matched_layers_marked_without_colour() -> None:
    figure = layers.map_figure(3, 6, {2: (5,), 1: (5,), 0: (0,)})
    assert lines(figure) == [(0, 0), (1 / 3, 5 / 6), (2 / 3, 5 / 6)]
    both = stacks(figure)
    assert both["Student"].text == ("<b>0</b>", "<b>1</b>", "<b>2</b>", "3")
    assert [at for at, text in enumerate(both["Teacher"].text) if "<b>" in text] == [0, 5]
    thick, thin = edges(figure)[1][5], edges(figure)[1][6]
    assert thick > thin and edges(figure) == {0: [thick] * 3 + [thin], 1: [thick, *[thin] * 4, thick, thin]}
    assert [said.text for said in figure.layout.annotations] == ["Student", "Teacher"]


@pytest.mark.parametrize("dark", [False, True])
def test_any_depth_fits_and_is_legible_in_both_themes(dark: bool) -> None:
    heights = []
    for student, teacher in ((1, 1), (2, 4), (6, 12), (12, 24), (4, 3), (48, 48)):
        figure = layers.map_figure(student, teacher, layer_map.alone(layer_map.spread(student, teacher)), dark)
        heights.append(figure.layout.height)
        low, high = figure.layout.yaxis.range
        pixels = (figure.layout.height - 16) / (high - low)
        boxes = sorted((box.x0, box.y0, box.y1) for box in figure.layout.shapes)
        assert all(below[2] < above[1] for below, above in pairwise(boxes) if below[0] == above[0])
        assert all(min(numbers.textfont.size for numbers in stacks(figure).values()) < (top - bottom) * pixels
                   for _, bottom, top in boxes)  # fmt: skip
        assert {trace.line.color for trace in figure.data if trace.mode == "lines"} == {palette.term_color(1, dark)}
    assert max(heights[:4]) <= 420
    assert layers.map_figure(2, 4, {}, dark).data


def test_tiles_put_layers_below_one_another_with_empty_gutters() -> None:
    maps = np.arange(2 * 3 * 4 * 4, dtype=float).reshape(2, 3, 4, 4)
    tiled = attention.tiles(maps)
    assert tiled.shape == (2 * 4 + 1, 3 * 4 + 2)
    assert np.isnan(tiled[4]).all() and np.isnan(tiled[:, 4]).all()
    assert np.array_equal(tiled[5:9, 10:14], maps[1, 2])


TWO, THREE = ["a", "b"], ["a", "b", "c"]


def test_pictures_beside_one_another_share_their_scale() -> None:
    teacher, student = np.full((1, 2, 3, 3), 0.2), np.full((1, 2, 3, 3), 0.6)
    top = attention.shared_top(teacher, student)
    assert top == pytest.approx(0.6)
    plain = attention.grid(teacher, THREE, THREE, "Teacher", top=top).data[0]
    assert (plain.zmin, plain.zmax) == (0.0, top)
    signed = attention.grid(teacher - student, THREE, THREE, "Difference", top=top, signed=True, dark=True).data[0]
    assert (signed.zmin, signed.zmid, signed.zmax) == (-top, 0, top)
    assert signed.colorscale[2][1] == palette.DIVERGING_DARK[2][1]


def test_a_cell_of_the_overview_names_its_tokens_and_its_head() -> None:
    maps = np.random.default_rng(0).random((2, 3, 2, 3))  # a window: two tokens look at three
    figure = attention.grid(maps, TWO, THREE, "Student", top=1.0, marked=(2, 3))
    heat = figure.data[0]
    assert np.asarray(heat.z).shape == (2 * 3 - 1, 3 * 4 - 1)
    assert len(heat.y) == 5 and len(heat.x) == 11 and len(set(heat.x)) == 11 and len(set(heat.y)) == 5
    assert (heat.y[4], heat.x[9]) == ("b (2, layer 2)", "b (2, head 3)")
    assert heat.z[4][9] == maps[1, 2, 1, 1]
    (ring,) = figure.layout.shapes
    assert (ring.x0, ring.x1, ring.y0, ring.y1) == (7, 11, 2, 5)
    hostile = attention.grid(maps, ["<b>", "b"], THREE, "Student", top=1.0)
    assert hostile.data[0].y[0] == "&lt;b&gt; (1, layer 1)"


def test_one_head_names_its_tokens_and_escapes_them() -> None:
    figure = attention.head(np.eye(2), ["<b>", "[SEP]"], ["<b>", "[SEP]"], "Head", top=1.0, labels=[["x", "y"]] * 2)
    assert list(figure.layout.xaxis.ticktext) == ["&lt;b&gt;", "[SEP]"]
    assert figure.data[0].customdata[0][1] == "&lt;b&gt; → [SEP]: y"
    assert figure.layout.yaxis.autorange == "reversed"
    window = attention.head(np.ones((1, 2)), ["a"], ["b", "c"], "Head", top=1.0)
    assert list(window.data[0].customdata[0]) == ["a → b: 1.000", "a → c: 1.000"]


def test_contrast_gives_small_values_more_of_the_colours() -> None:
    scale = attention.head(np.eye(2), TWO, TWO, "Head", top=0.5, contrast=True).data[0].colorscale
    places, colors = zip(*scale, strict=True)
    assert (places[0], places[-1]) == (0, 1) and list(places) == sorted(places)
    linear = sample_colorscale(palette.SEQUENTIAL, len(colors))
    assert list(colors) == linear and places[16] == pytest.approx(0.25), (
        "half of the colours for a quarter of the values"
    )


def test_one_number_a_head_is_written_and_ringed() -> None:
    values = np.arange(6.0).reshape(2, 3) / 10
    figure = attention_heads.overview(values, "Student", "distance", top=0.5, low_is_near=True, marked=(2, 3))
    heat = figure.data[0]
    assert np.array_equal(heat.z, values) and list(heat.x) == [1, 2, 3] and list(heat.y) == [1, 2]
    assert heat.texttemplate and (heat.zmin, heat.zmax) == (0.0, 0.5)
    (ring,) = figure.layout.shapes
    assert (ring.x0 + ring.x1, ring.y0 + ring.y1) == (6, 4)
    assert attention_heads.overview(np.zeros((12, 24)), "Teacher", "entropy", top=1.0).data[0].texttemplate is None


def test_lines_go_from_token_to_token_as_strong_as_the_weight() -> None:
    figure = attention_heads.lines([[0.9, 0.1], [0.01, 0.5]], ["a", "<b>"], ["c", "d"], "Head", top=1.0)
    drawn = [trace for trace in figure.data if trace.mode == "lines"]
    ends = {tuple(zip(trace.y[::3], trace.y[1::3], strict=True)): trace.line for trace in drawn}
    assert set(ends) == {((0, 0),), ((0, 1),), ((1, 1),)}, "0.01 is too weak to be seen"
    opacity = {pair: float(line.color.rpartition(",")[2].rstrip(")")) for (pair,), line in ends.items()}
    assert opacity[0, 1] < opacity[1, 1] < opacity[0, 0] == 1
    assert ends[(0, 1),].width < ends[(0, 0),].width
    assert [list(trace.text) for trace in figure.data if trace.mode == "markers+text"] == [
        ["a", "&lt;b&gt;"],
        ["c", "d"],
    ]


def test_two_matrices_share_a_scale_and_may_begin_at_the_first_layer() -> None:
    one, other = [[0.5, None], [2.0, 1.0]], [[0.5, 3.0], [0.1, 0.2]]
    top = layers.shared_top("mse", one, other)
    assert top == 3.0 and layers.shared_top("cka", one) == 1.0 and layers.shared_top("mse", [[None]]) > 0
    figure = layers.matrix(one, "mse", {1: (2,)}, first=1, top=top, title="a run")
    heat = figure.data[0]
    assert (heat.zmin, heat.zmax) == (0.0, 3.0) and list(heat.x) == list(heat.y) == [1, 2]
    assert figure.layout.xaxis.title.text == "Teacher layer" and figure.layout.title.text == "a run"
    _, box = figure.layout.shapes
    assert (box.x0, box.x1, box.y0, box.y1) == (1.5, 2.5, 0.5, 1.5)


def test_pairs_have_the_same_colour_in_both_runs_and_the_second_is_dashed() -> None:
    lines = [
        layer_pair.Line("1 ↔ 2", [0, 10], [0.1, 0.5], 0),
        layer_pair.Line("<b> 1 ↔ 2", [0, 20], [0.1, 0.4], 0, beside=True),
        layer_pair.Line("7 ↔ 9", [0, 10], [0.2, 0.3], 6),
    ]
    figure = layer_pair.course(lines, "cka", {"step 10": 10})
    first, second, third = figure.data
    assert list(first.y) == [0.1, 0.5] and list(second.x) == [0, 20]
    assert first.line.color == second.line.color == third.line.color
    assert (first.line.dash, second.line.dash) == ("solid", "dash") and first.marker.symbol != third.marker.symbol
    few = layer_pair.course([layer_pair.Line(str(pair), [0], [0.1], pair) for pair in range(30)], "cka", {})
    assert len({line.marker.symbol for line in few.data[:5]}) == 5, "told apart without colours, too"
    assert len({(line.line.color, line.marker.symbol) for line in few.data}) == 30
    assert second.name.startswith("&lt;b&gt;") and figure.layout.shapes[0].x0 == 10
    assert not layer_pair.course(lines, "mse", {}).layout.shapes


def test_uniform_attention_is_noticed() -> None:
    assert attention.uniform(np.full((1, 1, 4, 4), 0.25))
    assert not attention.uniform(np.eye(4)[None, None])
    assert not attention.uniform(np.ones((1, 1, 1, 1))), "a single token has nowhere else to look"


def test_a_read_out_has_student_layers_up_and_teacher_layers_across_from_one() -> None:
    figure = layers.read_out("flow_of_states", [[0.2, 0.3, 0.0], [0.0, 0.1, 0.4]])
    heat = figure.data[0]
    assert [list(row) for row in heat.z] == [[0.2, 0.3, 0.0], [0.0, 0.1, 0.4]]
    assert list(heat.x) == [1, 2, 3] and list(heat.y) == [1, 2]
    assert (heat.zmin, heat.zmax) == (0.0, 0.4)
    assert "Flow of states" in figure.layout.title.text
    dark_end = heat.colorscale[0][1]
    assert dark_end == layers.matrix([[0.5]], "cka").data[0].colorscale[0][1], "more is brighter, as with CKA"
