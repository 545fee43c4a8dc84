"""The picture of a method follows from what it reads and from its layer map, whatever the method."""

from __future__ import annotations

import pytest

from kdcore.figures import method_picture, palette
from kdcore.figures.method_picture import BOTTOM, TOP, Match
from kdcore.figures.template import summary
from kdcore.layer_map import LayerMap
from kdcore.methods import METHODS
from kdcore.methods.introspect import example_setup, stages_of
from kdcore.records import ALL_LAYERS, Needs, want


def _same(*names: str, **layers: tuple[int, ...]) -> Needs:
    return Needs(want(*names, **layers), want(*names, **layers))


@pytest.mark.parametrize(
    ("needs", "layer_map", "expected"),
    [
        (_same("logits"), {}, [Match(TOP, TOP, ("logits",))]),
        (Needs(want("logits")), {}, []),
        (
            Needs(want("logits", cls=(1, 2)), want("logits", cls=(2, 4))),
            {1: (2,), 2: (4,)},
            [Match(TOP, TOP, ("logits",)), Match(4, 2, ("[CLS] states",)), Match(2, 1, ("[CLS] states",))],
        ),
        (  # no map: in their order, or one to all
            Needs(want(hidden=(1, 3)), want(hidden=(2, 6))),
            {},
            [Match(6, 3, ("hidden states",)), Match(2, 1, ("hidden states",))],
        ),
        (Needs(want(cls=(3,)), want(cls=(5, 6))), {}, [Match(6, 3, ("[CLS] states",)), Match(5, 3, ("[CLS] states",))]),
        (Needs(want(cls=(1, 2, 3)), want(cls=(5, 6))), {}, []),
        (  # two kinds on one line; layer 0 beside the map
            Needs(want("embeddings", hidden=(0, 1), keys=(1,)), want("embeddings", hidden=(0, 6), keys=(6,))),
            {1: (6,)},
            [Match(6, 1, ("hidden states", "keys")), Match(BOTTOM, BOTTOM, ("word embeddings", "hidden states"))],
        ),
        (  # a layer that learns from several, and one teacher layer that two learn from
            _same(hidden=(1, 2, 3)),
            {1: (1, 2), 2: (2,)},
            [
                Match(3, 3, ("hidden states",)),
                Match(2, 2, ("hidden states",)),
                Match(2, 1, ("hidden states",)),
                Match(1, 1, ("hidden states",)),
            ],
        ),
        (Needs(want("pooled"), want("logits")), {}, [Match(TOP, TOP, ("logits → pooled output",))]),
        (_same("cls"), {1: (3,)}, [Match(3, 1, ("[CLS] states",))]),  # the class's needs name no layers: the map does
        (
            Needs(want(attention=ALL_LAYERS), want(attention=(6,))),
            {},
            [Match(6, at, ("attention",)) for at in (3, 2, 1)],
        ),
    ],
)
def test_what_is_compared_follows_from_needs_and_map(needs: Needs, layer_map: LayerMap, expected: list[Match]) -> None:
    assert method_picture.matches(needs, layer_map, student=3, teacher=6) == expected


def test_one_line_a_pair_in_the_familys_colour_and_said_once() -> None:
    needs = Needs(want("logits", cls=(1, 2)), want("logits", cls=(2, 4)))
    figure = method_picture.picture(needs, {1: (2,), 2: (4,)}, 3, 6, family="hidden", dark=True)
    assert len(figure.data) == 3
    assert {line.line.color for line in figure.data} == {palette.FAMILIES["hidden"][True]}
    said = [note.text for note in figure.layout.annotations]
    assert said.count("[CLS] states") == 1 and "<b>Teacher</b> · 6 layers" in said and "layer 6" in said
    assert "teacher layer 4 to student layer 2" in summary(figure)


def test_several_teachers_stand_behind_the_first() -> None:
    def outlines(teachers: tuple[int, int]) -> list[str]:
        figure = method_picture.picture(_same("logits"), {}, 2, 4, family="choice", teachers=teachers)
        return [shape.line.dash for shape in figure.layout.shapes if shape.line.dash]

    assert outlines((1, 1)) == [] and outlines((1, 12)) == ["dot", "dot"]
    assert sorted(outlines((2, 12))) == ["dot", "solid"] and outlines((3, 3)) == ["solid", "solid"]


def test_without_a_teacher_nothing_is_joined() -> None:
    figure = method_picture.picture(Needs(want("logits")), {}, 2, 4, family="none", teachers=(0, 12))
    assert not figure.data and "no teacher is asked" in [note.text for note in figure.layout.annotations]


@pytest.mark.parametrize("key", METHODS)
def test_every_method_has_a_picture(key: str) -> None:
    method = METHODS[key]
    for info in stages_of(method, method.Config(), example_setup(method)):
        found = method_picture.matches(info.needs, info.layer_map, info.depth, info.teacher_depth)
        assert bool(found) == bool(info.needs.teacher), "what is read of a teacher is compared with something"
        figure = method_picture.picture(
            info.needs, info.layer_map, info.depth, info.teacher_depth, family=method.family
        )
        assert len(figure.data) == len(found)
