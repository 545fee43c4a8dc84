"""Learn: every method explains itself, and a temperature is turned on real and on typed logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kdcore.events import Event, RunFinished, RunStarted, StageStarted, StepDone
from kdcore.methods import METHODS
from kdcore.methods.docs import read
from kdcore.paths import run_dir
from kdcore.probes.temperature import soften
from tests.helpers.store_factory import add, run_config, words

TEACHER = np.array([[4.0, -4.0], [0.2, 0.0], [1.0, 3.0]], np.float32)
STUDENT = np.array([[3.0, -1.0], [0.0, 0.5], [2.5, 1.0]], np.float32)


def _unescaped(app: Any) -> str:
    return words(app).replace("\\", "")


def _answers(run: str, student: Any = STUDENT, **teachers: Any) -> None:
    """The answers that a finished run keeps."""
    folder = run_dir(run) / "predictions"
    folder.mkdir(parents=True)
    for name, logits in {"student": student, **teachers}.items():
        np.savez(folder / f"validation.{name}.npz", logits=logits, labels=np.array([0, 1, 1]), ids=np.arange(3))


def _metrics(app: Any) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def test_every_method_is_explained_without_any_run(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("learn")
    for key, method in METHODS.items():
        app.selectbox(key="learn_method").set_value(key).run()
        assert not app.exception and not [error.value for error in app.error], key
        said = _unescaped(app)
        assert read(method).idea in said and "No finished run of this method" in said
        assert all(paper.arxiv in said for paper in method.papers) and app.query_params["method"] == key
        assert app.get("latex"), "the loss is an equation"


def test_departures_from_the_paper_are_a_list_by_setting(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("learn", method="tinybert")
    (text,) = [block.value for block in app.markdown if "20 epochs for the intermediate stage" in block.value]
    departs = read(METHODS["tinybert"]).departs
    assert len(text.splitlines()) == len(departs) > 10
    assert all(line.startswith("- **") for line in text.splitlines())
    assert "- **`intermediate_share`**: They take 20 epochs" in text and "- **corpus**: " in text
    assert "**`augment_chance`**, **`augment_words`**: " in text and "`word-neighbours` needs neither" in text


def test_a_finished_run_lends_its_numbers_and_its_size(store: Any, visit: Callable[..., Any]) -> None:
    config = run_config("pkd", student={"layers": 4, "width": 64, "heads": 4, "init": "random"})
    run = add(store, config)
    app = visit("learn", method="pkd", job=run)
    assert not app.exception and not app.error
    formulas = "".join(one.value for one in app.get("latex"))
    assert r"\beta" in formulas and r"\text{patience}" in formulas and r"10\,\text{patience}" in formulas
    assert "Student layer ← teacher layer: 1 ← 2, 2 ← 3, 3 ← 5" in _unescaped(app)
    metrics = store.metrics([run])
    total = metrics[(metrics["kind"] == "loss") & (metrics["step"] == 60)]["value"].iloc[0]
    assert f"{total:.4g}" in formulas


def test_a_run_of_several_stages_has_an_equation_for_each(store: Any, visit: Callable[..., Any]) -> None:
    run = store.add_run(run_config("minilm", student={"layers": 2, "width": 64, "heads": 4, "init": "random"}))
    store.claim("written", "cpu", run)
    stages = {"relations": {"attention": 0.25, "values": 0.5}, "predict": {"hard": 0.4, "soft": 0.2}}
    said: list[Event] = [RunStarted({"steps": 2})]
    for step, (stage, terms) in enumerate(stages.items(), start=1):
        said += [StageStarted(stage, step - 1, step, 1),
                 StepDone(stage, step, 2, 1.0, sum(terms.values()), terms, terms, 1e-3, 1.0, 1.0, 1.0)]  # fmt: skip
    store.record(run, [*said, RunFinished({})])
    app = visit("learn", method="minilm")
    assert not app.exception and not app.error
    formulas = [one.value for one in app.get("latex")]
    assert "0.25" in formulas[-2] and r"\mathbf{0.75}" in formulas[-2] and r"\mathbf{0.6}" in formulas[-1]
    assert "**Stage relations**" in words(app) and "Stage predict" in words(app)


def test_a_run_of_another_method_or_a_damaged_one_is_no_trouble(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("learn", method="kd", job=add(store, run_config("pkd")))
    assert not app.exception and "No finished run of this method" in words(app)


def test_an_unknown_method_is_left_out(visit: Callable[..., Any]) -> None:
    app = visit("learn", method="<b>x</b>", part="nowhere")
    assert not app.exception and "There is no method" in words(app) and "<b>" not in words(app).replace("\\<", "")
    assert app.query_params["method"] == "kd"


def test_typed_logits_are_softened_in_an_empty_store(visit: Callable[..., Any]) -> None:
    app = visit("learn", part="Temperature", T="5")
    assert not app.exception and "type logits of your own" in words(app)
    app.text_input(key="learn_t_logits").set_value("3 -1 0.5").run()
    app.text_input(key="learn_s_logits").set_value("1; 0; 0.2").run()
    expected = soften([3, -1, 0.5], [1, 0, 0.2], 5.0)
    assert _metrics(app)["T² · KL"] == f"{expected.loss:.4g}"
    app.slider(key="T").set_value(10.0).run()
    assert _metrics(app)["Teacher's entropy"] == f"{soften([3, -1, 0.5], [1, 0, 0.2], 10.0).teacher_entropy:.3f}"


@pytest.mark.parametrize(
    ("typed", "said"),
    [("1, x", "is not a number"), ("1", "Give 2 to 12"), ("1, 2, 3, 4", "against 3"), ("1, 1e9", "is not a number")],
)
def test_what_is_no_list_of_logits_is_answered_kindly(typed: str, said: str, visit: Callable[..., Any]) -> None:
    app = visit("learn", part="Temperature")
    app.text_input(key="learn_t_logits").set_value(typed).run()
    assert not app.exception and said in _unescaped(app) and not app.metric


def test_a_row_of_a_run_is_softened(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd", options={"temperature": 7.0}))
    _answers(run, large=TEACHER, small=-TEACHER)
    app = visit("learn", part="Temperature", job=run, T="3")
    assert not app.exception and not app.error
    rows = app.selectbox(key=f"learn_row_{run}_apart")
    assert rows.value == 2, "first where teacher and student differ most"
    assert _metrics(app)["T² · KL"] == f"{soften(TEACHER[2], STUDENT[2], 3.0).loss:.4g}"
    app.selectbox(key="learn_order").set_value("unsure").run()
    assert app.selectbox(key=f"learn_row_{run}_unsure").value == 1
    app.selectbox(key="learn_teacher").set_value("small").run()
    assert _metrics(app)["KL(teacher ‖ student)"] == f"{soften(-TEACHER[1], STUDENT[1], 3.0).kl:.4g}"
    assert "trained at T = 7" in words(app)


def test_runs_on_scores_are_not_offered(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd", task="pocket-similarity"))
    _answers(run, STUDENT[:, :1], large=TEACHER[:, :1])
    app = visit("learn", part="Temperature", job=run)
    assert not app.exception and "type logits of your own" in words(app)
