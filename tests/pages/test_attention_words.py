"""Attention, which words decide: values are the models' own, and all that is chosen stands in the address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from kdcore.figures import saliency
from kdcore.probes.saliency import agreement
from kdcore.tasks import TASKS
from tests.helpers import model_factory as at
from tests.helpers.store_factory import add, run_config, words

SENTENCE = "the film was very good"
LOOK = "Which words decide"


@pytest.fixture(autouse=True)
def small_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdcore.data import pocket

    monkeypatch.setattr(pocket, "load", at.rows_of)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the page gave to be drawn."""
    seen: list[Any] = []
    real = saliency.word_map
    monkeypatch.setattr(saliency, "word_map", lambda *a, **k: seen.append((*a, k)) or real(*a, **k))
    return seen


@pytest.fixture
def run(store: Any) -> str:
    made = add(store, run_config("pkd"))
    at.leave(made, at.model(2, 1), {"large": at.model(4, 2)})
    return made


def gradient_times_input(model: Any, label: int) -> tuple[np.ndarray, int]:
    """By transformers' own pass; values of the words, and the class that the model answers."""
    ids = torch.tensor([at.tokenizer().convert_tokens_to_ids(["[CLS]", *SENTENCE.split(), "[SEP]"])])
    embeddings = model.bert.embeddings.word_embeddings(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings).logits[0]
    (logits[label] - logits.mean()).backward()
    return (embeddings.grad * embeddings).sum(-1)[0, 1:-1].detach().numpy(), int(logits.argmax())


def test_the_words_are_weighed_for_the_teachers_answer(run: str, visit: Callable[..., Any], drawn: list[Any]) -> None:
    app = visit("attention", job=run, s=SENTENCE, look=LOOK)
    assert not app.exception and not app.error
    label = gradient_times_input(at.model(4, 2), 0)[1]
    theirs, ours = (gradient_times_input(at.model(*which), label)[0] for which in ((4, 2), (2, 1)))
    tokens, values, _, more = drawn[-1]
    assert tokens == SENTENCE.split()
    np.testing.assert_allclose(values["Teacher"], theirs, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(values["Student"], ours, rtol=1e-3, atol=1e-5)
    assert more["top"] == pytest.approx(max(abs(theirs).max(), abs(ours).max()), rel=1e-3)
    found = agreement(theirs, ours)
    said = words(app)
    assert f"rank correlation of **{found.spearman:.2f}** and a cosine of **{found.cosine:.2f}**" in said
    assert "Teacher large: **" in said and "Student: **" in said


def test_method_and_class_stand_in_the_address(run: str, visit: Callable[..., Any], drawn: list[Any]) -> None:
    no, yes = TASKS["pocket-sentiment"].labels
    visit("attention", job=run, s=SENTENCE, look=LOOK, explained=no)
    zero = drawn[-1][1]
    app = visit("attention", job=run, s=SENTENCE, look=LOOK, explained=yes)
    np.testing.assert_allclose(drawn[-1][1]["Student"], -zero["Student"], rtol=1e-3, atol=1e-5)  # of two classes
    assert not app.exception and app.selectbox(key="explained").value == yes
    visit("attention", job=run, s=SENTENCE, look=LOOK, explained=no, attribution="integrated gradients")
    assert np.abs(drawn[-1][1]["Student"] - zero["Student"]).max() > 1e-3


def test_a_student_equal_to_its_teacher_agrees(store: Any, visit: Callable[..., Any], drawn: list[Any]) -> None:
    run = add(store, run_config("kd"))
    at.leave(run, at.model(2, 5), {"large": at.model(2, 5)}, moments=False)
    app = visit("attention", job=run, s=SENTENCE, look=LOOK)
    assert not app.exception and "rank correlation of **1.00** and a cosine of **1.00**" in words(app)


def test_a_student_alone_and_few_words(store: Any, visit: Callable[..., Any], drawn: list[Any]) -> None:
    run = add(store, run_config("fine-tune"))
    at.leave(run, at.model(2, 1), {}, moments=False)
    app = visit("attention", job=run, s=SENTENCE, look=LOOK)
    assert not app.exception and not app.error and set(drawn[-1][1]) == {"Student"}
    assert "rank correlation" not in words(app)


def test_two_words_are_too_few_to_compare(run: str, visit: Callable[..., Any], drawn: list[Any]) -> None:
    app = visit("attention", job=run, s="good film", look=LOOK)
    assert not app.exception and "2 tokens are too few" in words(app)
    assert drawn[-1][0] == ["good", "film"]


def test_nonsense_is_passed_over_and_no_sentence_is_asked_for(run: str, visit: Callable[..., Any]) -> None:
    app = visit("attention", job=run, look=LOOK, s="<b>" * 500, attribution="lime", explained="99", teacher="nobody")
    assert not app.exception and not app.error
    app.text_input(key="s").set_value("  ").run()
    assert "Type a sentence" in words(app)
