"""The page Attention: its numbers are the models' own, and all that is chosen stands in the address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kdcore.figures import attention, attention_heads, layers
from kdcore.models.sizes import bert_config
from kdcore.models.students import save_student
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from kdcore.models.weights import build_classifier
from kdcore.paths import run_dir
from kdcore.probes.attention import attention_maps, head_divergences, nearest_heads
from kdcore.probes.saliency import Attribution, by_words
from tests.helpers import model_factory as at
from tests.helpers.store_factory import add, run_config, words

SENTENCE = "the film was very good"
TOKENS = ["[CLS]", *SENTENCE.split(), "[SEP]"]


@pytest.fixture(autouse=True)
def small_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdcore.data import pocket

    monkeypatch.setattr(pocket, "load", at.rows_of)


class Drawn:
    """What the page gave to be drawn, by title."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.grids: dict[str, Any] = {}
        self.heads: dict[str, Any] = {}
        self.layers: list[Any] = []
        self.numbers: dict[str, Any] = {}
        self.lines: list[Any] = []
        numbers, lines = attention_heads.overview, attention_heads.lines
        monkeypatch.setattr(attention_heads, "overview", lambda values, title, *a, **k: self._number(
            title, numbers(values, title, *a, **k), k))  # fmt: skip
        monkeypatch.setattr(attention_heads, "lines", lambda *a, **k: self.lines.append(a) or lines(*a, **k))
        for kept, name in ((self.grids, "grid"), (self.heads, "head")):
            monkeypatch.setattr(attention, name, self._watch(kept, getattr(attention, name)))
        real = layers.matrix
        monkeypatch.setattr(layers, "matrix", lambda *a, **k: self.layers.append((a, k)) or real(*a, **k))

    def _number(self, title: str, figure: Any, more: Any) -> Any:
        self.numbers[title] = figure, more
        return figure

    @staticmethod
    def _watch(kept: dict[str, Any], draw: Any) -> Any:
        def drawn(maps: Any, rows: Any, columns: Any, title: str, **more: Any) -> Any:
            figure = draw(maps, rows, columns, title, **more)
            kept[title] = (figure, list(rows), list(columns), more)
            return figure

        return drawn


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    return Drawn(monkeypatch)


@pytest.fixture
def run(store: Any) -> str:
    """PKD from a teacher of four layers to a student of two."""
    made = add(store, run_config("pkd"))
    at.leave(made, at.model(2, 1), {"large": at.model(4, 2)})
    return made


def opened(app: Any) -> Any:
    """The page with what is closed at first."""
    for key in ("attention_all_maps", "attention_nearest"):
        app.session_state[key] = True
    return app.run()


def z_of(drawn: tuple[Any, ...]) -> np.ndarray:
    return np.asarray(drawn[0].data[0].z, dtype=float)


def test_the_number_under_the_cursor_is_the_models_own(run: str, visit: Callable[..., Any], drawn: Drawn) -> None:
    opened(visit("attention", job=run, s=SENTENCE, layer="2", head="1", thead="3.2"))
    app = visit("attention", job=run, s=SENTENCE, layer="2", head="1", thead="3.2", view="difference")
    assert not app.exception and not app.error
    ours, theirs = at.attentions(at.model(2, 1), TOKENS), at.attentions(at.model(4, 2), TOKENS)
    for title, expected in (
        ("Student 2.1", ours[1, 0]),
        ("Teacher large 3.2", theirs[2, 1]),
        ("Teacher head − student head", theirs[2, 1] - ours[1, 0]),
    ):
        figure, rows, columns, _ = drawn.heads[title]
        assert rows == columns == TOKENS
        np.testing.assert_allclose(z_of(drawn.heads[title]), expected, atol=1e-5)
        place = (2, 4)
        said = figure.data[0].customdata[place[0]][place[1]]
        t, s = theirs[2, 1][place], ours[1, 0][place]
        assert said == f"film → very: teacher {t:.3f}, student {s:.3f}, difference {t - s:+.3f}"
    grid = z_of(drawn.grids["Student"])
    for row, column in ((0, 0), (3, 9), (10, 2), (14, 14)):
        layer, head = attention.tile_at(row, column, len(TOKENS), len(TOKENS))
        assert grid[row, column] == pytest.approx(ours[layer - 1, head - 1][row % 8, column % 8], abs=1e-5)
    figure = drawn.grids["Student"][0]
    assert figure.data[0].y[10] == "film (3, layer 2)" and figure.data[0].x[2] == "film (3, head 1)"


def test_all_three_share_one_scale(run: str, visit: Callable[..., Any], drawn: Drawn) -> None:
    opened(visit("attention", job=run, s=SENTENCE, stretch="false"))
    visit("attention", job=run, s=SENTENCE, stretch="false", view="difference")
    tops = {(figure.data[0].zmin, figure.data[0].zmax) for figure, *_ in (*drawn.grids.values(), *drawn.heads.values())}
    assert tops == {(0.0, 1.0), (-1.0, 1.0)}
    app = opened(visit("attention", job=run, s=SENTENCE, thead="3.2"))
    ours, theirs = at.attentions(at.model(2, 1), TOKENS), at.attentions(at.model(4, 2), TOKENS)
    top, near = max(ours.max(), theirs.max()), max(ours[0, 0].max(), theirs[2, 1].max())
    assert [more["top"] for *_, more in drawn.grids.values()] == [pytest.approx(top)] * 3
    assert drawn.heads["Student 1.1"][3]["top"] == drawn.heads["Teacher large 3.2"][3]["top"] == pytest.approx(near)
    assert f"0 to {near:.2f} (the largest value of either model), colours by the square root" in words(app)


def test_each_head_has_a_number_and_a_click_opens_it(run: str, visit: Callable[..., Any], drawn: Drawn) -> None:
    ours, theirs = at.attentions(at.model(2, 1), TOKENS), at.attentions(at.model(4, 2), TOKENS)
    divergences = head_divergences(theirs, ours)
    visit("attention", job=run, s=SENTENCE, layer="2", head="1", thead="3.2")
    for title, values, head in (
        ("Teacher large", divergences.min((2, 3)), (3, 2)), ("Student", divergences.min((0, 1)), (2, 1)),
    ):  # fmt: skip
        figure, more = drawn.numbers[title]
        np.testing.assert_allclose(np.asarray(figure.data[0].z, float), values, atol=1e-5)
        assert more["marked"] == head
    visit("attention", job=run, s=SENTENCE, number="entropy")
    expected = -(theirs * np.log(np.maximum(theirs, 1e-12))).sum(-1).mean(-1)
    np.testing.assert_allclose(np.asarray(drawn.numbers["Teacher large"][0].data[0].z, float), expected, atol=1e-4)


def test_both_answers_to_the_sentence_are_said(run: str, visit: Callable[..., Any]) -> None:
    from kdcore.probes.examples import probabilities
    from kdcore.probes.predict_text import predict_logits

    said = words(visit("attention", job=run, s=SENTENCE)).replace("\\", "")
    for name, model in (("Teacher large", at.model(4, 2)), ("Student", at.model(2, 1))):
        shares = probabilities(predict_logits(model, at.tokenizer(), SENTENCE))
        label = ("negative", "positive")[int(shares.argmax())]
        assert f"{name}: **{label}** ({shares.max():.1%})" in said


def test_lines_and_maps_are_views(run: str, visit: Callable[..., Any], drawn: Drawn) -> None:
    for view, maps, lines in (("map and lines", 2, 2), ("map", 2, 0), ("lines", 0, 2), ("difference", 1, 0)):
        drawn.heads.clear()
        drawn.lines.clear()
        app = visit("attention", job=run, s=SENTENCE, view=view)
        assert not app.exception and (len(drawn.heads), len(drawn.lines)) == (maps, lines)


def test_each_student_head_is_matched_and_marked(run: str, visit: Callable[..., Any], drawn: Drawn) -> None:
    app = opened(visit("attention", job=run, s=SENTENCE, layer="2", head="2"))
    ours, theirs = at.attentions(at.model(2, 1), TOKENS), at.attentions(at.model(4, 2), TOKENS)
    divergences = head_divergences(theirs, ours)
    matches = nearest_heads(divergences)
    table = app.dataframe[0].value
    assert table["student head"].tolist() == ["1.1", "1.2", "2.1", "2.2"]
    expected = [f"{match.teacher_layer}.{match.teacher_head}" for match in matches]
    assert table["teacher head"].tolist() == expected
    np.testing.assert_allclose(table["divergence"], [match.divergence for match in matches], atol=1e-5)
    assert table[""].tolist() == ["", "", "", "◀"]
    last = matches[-1]
    assert drawn.grids["Teacher large"][3]["marked"] == (last.teacher_layer, last.teacher_head)
    assert drawn.grids["Student"][3]["marked"] == (2, 2)
    assert f"divergence **{last.divergence:.4f}** nats" in words(app) and "the nearest of all" in words(app)
    (values, measure, matched, _), more = drawn.layers[-1]
    assert measure == "js" and values.shape == (4, 2) and matched == {1: (2,)} and more["first"] == 1


def test_a_student_equal_to_its_teacher_differs_nowhere(store: Any, visit: Callable[..., Any], drawn: Drawn) -> None:
    run = add(store, run_config("kd"))
    at.leave(run, at.model(2, 5), {"large": at.model(2, 5)})
    for more in ({"s": SENTENCE}, {"look": "Through the training", "moment": "60"}):
        app = opened(visit("attention", job=run, **more))
        assert not app.exception and not app.error
        table = app.dataframe[0].value
        assert table["student head"].tolist() == table["teacher head"].tolist()
        assert table["divergence"].max() == 0.0
        assert np.nanmax(np.abs(z_of(drawn.grids["Teacher head − student head"]))) == 0.0
        (values, *_), _ = drawn.layers[-1]
        assert np.diag(values).max() == 0.0


def test_special_tokens_are_hidden_with_or_without_renormalising(
    run: str, visit: Callable[..., Any], drawn: Drawn
) -> None:
    ours = at.attentions(at.model(2, 1), TOKENS)[0, 0][1:-1, 1:-1]
    app = visit("attention", job=run, s=SENTENCE, special="hidden")
    assert drawn.heads["Student 1.1"][1] == TOKENS[1:-1]
    np.testing.assert_allclose(z_of(drawn.heads["Student 1.1"]), ours, atol=1e-5)
    assert "2 special tokens hidden (numbers not renormalised)" in words(app)
    app = visit("attention", job=run, s=SENTENCE, special="hidden, rows sum to 1 again")
    np.testing.assert_allclose(z_of(drawn.heads["Student 1.1"]), ours / ours.sum(-1, keepdims=True), atol=1e-5)
    assert "each row divided by the sum of the rest" in words(app)


def test_a_long_sentence_is_drawn_a_window_at_a_time(run: str, visit: Callable[..., Any], drawn: Drawn) -> None:
    sentence = " ".join(at.WORDS[number % 9] for number in range(40))
    app = visit("attention", job=run, s=sentence, rows="3", columns="11")
    assert not app.exception and not app.error
    tokens = ["[CLS]", *sentence.split(), "[SEP]"]
    expected = at.attentions(at.model(2, 1), tokens)[0, 0][2:34, 10:42]
    figure, rows, columns, _ = drawn.heads["Student 1.1"]
    assert rows == tokens[2:34] and columns == tokens[10:42]
    np.testing.assert_allclose(np.asarray(figure.data[0].z), expected, atol=1e-5)
    assert "42 tokens; rows: tokens 3 to 34, columns: tokens 11 to 42" in words(app)
    app.slider(key="rows").set_value(1).run()
    assert drawn.heads["Student 1.1"][1] == tokens[:32]
    app.text_input(key="s").set_value(SENTENCE).run()
    assert not app.exception and drawn.heads["Student 1.1"][1] == TOKENS


def test_scrubbing_shows_each_moment(run: str, visit: Callable[..., Any], drawn: Drawn) -> None:
    app = visit("attention", job=run, look="Through the training", kept="")
    assert not app.exception and not app.error
    slider = app.select_slider(key="moment")
    assert slider.value == "60" and list(slider.options) == ["0", "20", "40", "60"]
    tokens = drawn.heads["Student 1.1"][1]
    models = {"60": at.model(2, 1), **{str(step): at.model(2, 100 + step) for step in at.STEPS[:-1]}}
    for step, model in models.items():
        app.select_slider(key="moment").set_value(step).run()
        assert not app.exception and f"kept in half precision at step {step}" in words(app)
        expected = at.attentions(model, tokens)[0, 0]
        np.testing.assert_allclose(z_of(drawn.heads["Student 1.1"]), expected, atol=6e-4)
    assert "4 snapshots were taken while training" in words(app) and "s of the run's time" in words(app)
    app = visit("attention", job=run, look="Through the training", moment="999")
    assert not app.exception and app.select_slider(key="moment").value == "60"


def test_moments_are_seen_where_the_models_are_not(run: str, visit: Callable[..., Any], drawn: Drawn) -> None:
    """A run from a bundle brings no teacher; what was kept of it does."""
    (run_dir(run) / "teachers.json").unlink()
    app = opened(visit("attention", job=run, s=SENTENCE))
    assert "not on this machine" in words(app) and set(drawn.grids) == {"Student"}
    app = opened(visit("attention", job=run, look="Through the training"))
    assert not app.exception and "Teacher large" in drawn.grids


def test_a_student_alone_is_seen_in_full(store: Any, visit: Callable[..., Any], drawn: Drawn) -> None:
    run = add(store, run_config("fine-tune"))
    at.leave(run, at.model(2, 1), {})
    for more in ({"s": SENTENCE}, {"look": "Through the training"}):
        app = opened(visit("attention", job=run, head="2", **more))
        assert not app.exception and not app.error
        assert set(drawn.grids) == {"Student"} and set(drawn.heads) == {"Student 1.2"}
        assert "differences" not in words(app)


def test_samples_and_dev_rows_fill_the_box(run: str, visit: Callable[..., Any]) -> None:
    app = visit("attention", job=run)
    assert not app.exception
    assert app.text_input(key="s").value in at.SENTENCES
    app.number_input(key="attention_row").set_value(4).run()
    assert app.text_input(key="s").value == at.SENTENCES[4] and app.query_params["s"] == at.SENTENCES[4]
    app.text_input(key="s").set_value("  ").run()
    assert "Type a sentence" in words(app)


def test_a_task_of_pairs_has_two_boxes(store: Any, visit: Callable[..., Any], drawn: Drawn) -> None:
    run = add(store, run_config("kd", task="pocket-paraphrase"))
    at.leave(run, at.model(2, 1), {"large": at.model(4, 2)}, moments=False)
    app = opened(visit("attention", job=run, s="the film", s2="good plots"))
    assert not app.exception and not app.error
    assert drawn.heads["Student 1.1"][1] == ["[CLS]", "the", "film", "[SEP]", "good", "plot", "##s", "[SEP]"]
    assert not app.select_slider


def test_several_teachers_are_chosen_from(store: Any, visit: Callable[..., Any], drawn: Drawn) -> None:
    run = add(store, run_config("skd"))
    at.leave(run, at.model(2, 1), {"small": at.model(2, 2), "medium": at.model(3, 3)})
    app = opened(visit("attention", job=run, s=SENTENCE, teacher="medium", look="Through the training"))
    assert not app.exception and app.selectbox(key="teacher").value == "medium"
    assert set(drawn.grids) == {"Teacher medium", "Student", "Teacher head − student head"}


@pytest.mark.parametrize("look", ["A sentence", "Through the training"])
def test_nonsense_in_the_address_is_passed_over(run: str, visit: Callable[..., Any], look: str) -> None:
    app = visit("attention", job=run, look=look, s="<b>" * 500, layer="99", head="-1", thead="9.9", special="no",
                rows="x", columns="1e9", stretch="perhaps", kept="77", moment="../..", teacher="nobody")  # fmt: skip
    assert not app.exception and not app.error


def test_damage_is_a_card_with_a_remedy(run: str, visit: Callable[..., Any]) -> None:
    file = run_dir(run) / "probes" / "snapshots" / "00000060.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    app = visit("attention", job=run, look="Through the training")
    assert not app.exception and "cannot be read" in words(app) and "What to do" in words(app)
    (file.parent / "rows.json").write_text("{")
    app = visit("attention", job=run, s=SENTENCE)
    assert not app.exception and "cannot be read" in words(app).replace("\\", "")


def test_models_of_other_tokens_are_compared_between_words(store: Any, visit: Callable[..., Any], drawn: Drawn) -> None:
    """A student that spells its words: to a word goes what its pieces get, from a word the mean of its pieces."""
    made = add(store, run_config("kd"))
    letters = sorted(set("".join(at.WORDS)) - set("#"))
    spelling = tokenizer_from_vocabulary([*at.VOCABULARY[:5], *letters, *(f"##{letter}" for letter in letters)])
    student = build_classifier(bert_config(replace(at.size_of(2), vocabulary=len(spelling)), 2, None), {}, 1)[0].eval()
    at.leave(made, at.model(2, 1), {"large": at.model(4, 2)}, moments=False)
    save_student(student, spelling, run_dir(made) / "student-best")
    app = opened(visit("attention", job=made, s=SENTENCE, layer="2", head="1", thead="3.2"))
    assert not app.exception and not app.error
    assert any("compared between words" in caption.value for caption in app.caption)
    _, rows, columns, _ = drawn.heads["Student 2.1"]
    assert rows == columns == SENTENCE.split()
    teacher = at.attentions(at.model(4, 2), TOKENS)[2, 1][1:-1, 1:-1]
    np.testing.assert_allclose(
        z_of(drawn.heads["Teacher large 3.2"]), teacher / teacher.sum(1, keepdims=True), atol=1e-5
    )
    maps = attention_maps(student, spelling, SENTENCE)
    pieces = [np.flatnonzero(maps.words == word) for word in range(5)]
    summed = np.array([[maps.maps[1, 0][np.ix_(one, other)].sum(1).mean() for other in pieces] for one in pieces])
    np.testing.assert_allclose(z_of(drawn.heads["Student 2.1"]), summed / summed.sum(1, keepdims=True), atol=1e-5)


def test_deciding_words_of_other_tokens_are_sums_over_pieces() -> None:
    first = Attribution(["the", "film"], np.array([1.0, 2.0]), 0, np.array([0, 1], np.int32))
    second = Attribution(
        ["t", "##he", "fi", "##lm"], np.array([1.0, 2.0, 3.0, -1.0]), 0, np.array([0, 0, 1, 1], np.int32)
    )
    one, other = by_words(first, second)
    assert one.tokens == other.tokens == ["the", "film"]
    assert one.values.tolist() == [1.0, 2.0] and other.values.tolist() == [3.0, 2.0]
    assert by_words(replace(first, words=None), second) is None
