"""The page Examples: its lists are the cells of its matrix, and it says why where there is nothing to list."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdcore.data.splits import TaskData, make_split
from kdcore.paths import run_dir
from kdcore.probes import examples
from kdcore.tasks import TASKS
from pages.parts.examples import row_table
from tests.helpers.store_factory import add, run_config, words

HOSTILE = "<script>alert(1)</script> [x](javascript:alert(1)) :red[r] $e^x$ **b** `c` ![i](http://e.org/i.png)\n# head"
MARKS = ("<script>", "[x](", ":red[", "$e^x$", "**b**", "`c`", "![i]", "\n# head")
ROWS = 40
OUTCOMES = {"lost": "Lost", "gained": "Gained", "both wrong": "Both wrong", "both right": "Both right"}


def rows_of(task: Any) -> TaskData:
    """Rows of a task as `kdcore.data` would give them."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, ROWS) if task.kind == "classification" else rng.uniform(0, 5, ROWS)
    texts = tuple([f"{HOSTILE} {column} {row}" for row in range(ROWS)] for column in task.columns)
    split = make_split(task, "validation", texts, labels)
    return TaskData(task, {"train": replace(split, name="train"), "validation": split}, "f", "made for tests")


@pytest.fixture(autouse=True)
def small_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdcore.data import pocket

    monkeypatch.setattr(pocket, "load", rows_of)


def answers(run: str, task: str = "pocket-sentiment", names: tuple[str, ...] = ("large",), seed: int = 0) -> Any:
    """Writes what student and teachers of a run said; returns name -> logits, and the gold labels."""
    split = rows_of(TASKS[task]).splits["validation"]
    rng = np.random.default_rng(seed)
    outputs = TASKS[task].outputs
    said = {}
    folder = run_dir(run) / "predictions"
    folder.mkdir(parents=True)
    for name in (*names, "student"):
        said[name] = rng.normal(size=(ROWS, outputs)).astype(np.float32)
        for where in ("validation", "select"):
            np.savez(folder / f"{where}.{name}.npz", logits=said[name], labels=split.labels, ids=split.ids)
    return said, split.labels


def table(app: Any) -> Any:
    """The list as it stands on the page."""
    return app.dataframe[0].value


def test_every_cell_lists_exactly_its_rows(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"))
    said, gold = answers(run)
    judged = examples.compare_labels(range(ROWS), gold, said["large"], said["student"])
    app = visit("examples", runs=run)
    assert not app.exception and not app.error
    for fate, title in OUTCOMES.items():
        app.segmented_control(key="fate").set_value(fate).run()
        found = table(app)
        assert len(found) == (judged["outcome"] == fate).sum() > 0
        assert set(found["row"]) == set(judged.index[judged["outcome"] == fate])
        assert f"{title}: {len(found)} rows" in words(app)
    app.segmented_control(key="matrix").set_value("labels").run()
    for one, first in enumerate(("negative", "positive")):
        for other, second in enumerate(("negative", "positive")):
            app.selectbox(key="osays").set_value(first).run()
            app.selectbox(key="ssays").set_value(second).run()
            wanted = judged.index[(judged["reference"] == one) & (judged["student"] == other)]
            assert set(table(app)["row"]) == set(wanted) and len(wanted)
    assert not app.exception


def test_only_a_teacher_can_have_what_a_student_lost(store: Any, visit: Callable[..., Any]) -> None:
    runs = [add(store, run_config("kd", seed, name=f"run {seed}")) for seed in range(2)]
    for seed, run in enumerate(runs):
        answers(run, seed=seed)
    app = visit("examples", runs=",".join(runs), job=runs[0])
    assert "Lost: " in words(app) and "Teacher large right" in [metric.label for metric in app.metric]
    app.selectbox(key="with").select_index(1).run()
    assert not app.exception and "Only the other right: " in words(app) and "Lost" not in words(app)
    assert any(metric.label.startswith("Student run 1") for metric in app.metric)


def test_a_probability_says_whose_it_is_and_labels_come_before(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"))
    answers(run)
    shown = visit("examples", runs=run).dataframe[0].proto
    heads = {name: one.get("label") for name, one in json.loads(shown.columns).items()}
    assert [head for head in heads.values() if head] == ["teacher", "p(gold) teacher", "student", "p(gold) student"]
    order = list(shown.column_order)
    assert order.index("gold") < order.index("teacher large") < order.index("teacher large: p(gold)")
    assert [name.endswith("p(gold)") for name in order[-3:]] == [True, True, False], "the fall comes last"
    assert shown.row_height == row_table.ROW_HEIGHT


def test_a_link_opens_the_same_list(store: Any, visit: Callable[..., Any]) -> None:
    runs = [add(store, run_config("kd", seed)) for seed in range(2)]
    for seed, run in enumerate(runs):
        answers(run, seed=seed)
    app = visit("examples", runs=",".join(runs), job=runs[1], fate="Both wrong")
    assert app.segmented_control(key="fate").value == "both wrong"
    assert app.selectbox(key="examples_run").value == runs[1] and app.query_params["job"] == runs[1]
    assert "Both wrong" in words(app)


def test_a_link_to_one_run_shows_that_run(store: Any, visit: Callable[..., Any]) -> None:
    old = add(store, run_config("kd", task="pocket-acceptability"))
    answers(old, "pocket-acceptability")
    newer = [add(store, run_config("kd", seed)) for seed in range(14)]
    for run in newer:
        answers(run)
    app = visit("examples", job=old)
    assert app.selectbox(key="examples_run").value == old
    assert not app.warning
    silent = add(store, run_config("pkd", 3))  # kept no answers
    app = visit("examples", job=silent)
    assert not app.exception
    assert "nothing to show of the run of the link" in app.warning[0].value


def test_runs_of_one_name_are_told_apart(store: Any, visit: Callable[..., Any]) -> None:
    runs = [add(store, run_config("kd", name="twin")) for _ in range(3)]
    for seed, run in enumerate(runs):
        answers(run, seed=seed)
    app = visit("examples", runs=f"{runs[0]},{runs[2]}", job=runs[2])
    assert app.multiselect(key="examples_runs").value == [runs[0], runs[2]]
    assert app.selectbox(key="examples_run").value == runs[2]
    assert runs[0][-6:] in app.selectbox(key="with").options[1]


def test_sentences_are_never_read_as_markup(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd", name=HOSTILE))
    answers(run)
    app = visit("examples", runs=run)
    app.button(key="examples_copy").click().run()
    assert not app.exception
    assert table(app)["sentence"].iloc[0].startswith(HOSTILE), "a table shows text letter by letter"
    for kind in ("title", "subheader", "markdown", "caption", "info", "warning", "error", "button"):
        for element in getattr(app, kind):
            said = str(getattr(element, "label", "") or element.value)
            assert not [mark for mark in MARKS if mark in said], (kind, said)


def test_the_whole_ensemble_is_heard(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("skd"))
    said, gold = answers(run, names=("large", "medium", "small"))
    app = visit("examples", runs=run, fate="Both right")
    shown = table(app)
    for name in ("large", "medium", "small"):
        column = shown[f"teacher {name}: p(gold)"].to_numpy()
        expected = examples.of_class(said[name], gold)[shown["row"]]
        assert np.allclose(column, expected, atol=1e-4)
    assert (shown["disagreement"] >= 0).all()
    app.selectbox(key="with").set_value("mean of the teachers").run()
    assert not app.exception and "mean of the teachers" in table(app).columns


def test_two_students_are_set_side_by_side(store: Any, visit: Callable[..., Any]) -> None:
    alone, other = add(store, run_config("fine-tune")), add(store, run_config("fine-tune", 1))
    answers(alone, names=())
    said = visit("examples", runs=alone)
    assert not said.exception and "no teacher" in words(said) and "Choose a second run" in words(said)
    answers(other, names=(), seed=1)
    app = visit("examples", runs=f"{alone},{other}", job=alone)
    assert not app.exception and app.selectbox(key="with").options == ["student fine-tune seed 1"]


def test_a_choice_that_another_run_does_not_have_falls_back(store: Any, visit: Callable[..., Any]) -> None:
    several, one = add(store, run_config("skd")), add(store, run_config("kd"))
    other = add(store, run_config("kd", task="pocket-paraphrase"))
    answers(several, names=("large", "small"))
    answers(one)
    answers(other, "pocket-paraphrase")
    app = visit("examples", runs=f"{several},{one},{other}", job=several, matrix="Label by label")
    app.selectbox(key="etask").set_value("pocket-sentiment").run()
    app.selectbox(key="examples_run").set_value(several).run()
    app.selectbox(key="with").set_value("mean of the teachers").run()
    app.selectbox(key="osays").set_value("positive").run()
    app.selectbox(key="examples_run").set_value(one).run()
    assert not app.exception and not app.error
    assert app.selectbox(key="with").value == "teacher large"
    app.selectbox(key="etask").set_value("pocket-paraphrase").run()
    assert not app.exception and not app.error
    assert app.selectbox(key="osays").value in ("not_equivalent", "equivalent")


def test_scores_are_listed_by_their_difference(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd", task="pocket-similarity"))
    said, gold = answers(run, "pocket-similarity")
    app = visit("examples", runs=run)
    assert not app.exception and not app.error
    gaps = np.abs(said["student"] - said["large"])[:, 0]
    assert table(app)["row"].tolist() == np.argsort(-gaps, kind="stable").tolist()
    app.segmented_control(key="gap").set_value("farther").run()
    farther = np.abs(said["student"][:, 0] - gold) > np.abs(said["large"][:, 0] - gold)
    assert set(table(app)["row"]) == set(np.flatnonzero(farther))


def test_a_typed_sentence_is_answered_by_student_and_teacher(store: Any, visit: Callable[..., Any]) -> None:
    import json

    from kdcore.models.sizes import bert_config
    from kdcore.models.students import save_student
    from kdcore.models.tokenizers import tokenizer_from_vocabulary
    from kdcore.models.weights import build_classifier
    from kdcore.records import ModelSize

    run = add(store, run_config("kd"))
    answers(run)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    model = build_classifier(bert_config(ModelSize(1, 8, 2, 16, len(tokens), 16, 2), 2, None), {}, 0)[0]
    teacher = run_dir(run).parent / "made-teacher"
    for folder in (teacher, run_dir(run) / "student-best"):
        save_student(model, tokenizer_from_vocabulary(tokens), folder)
    (run_dir(run) / "teachers.json").write_text(json.dumps({"large": str(teacher)}))
    app = visit("examples", runs=run)
    assert "Type above" in words(app)
    app.text_input(key="examples_text").set_value("good <b>bad</b>").run()
    assert not app.exception and not app.error and "Type above" not in words(app)


@pytest.mark.parametrize("damage", ["absent", "broken"])
def test_answers_that_cannot_be_read_are_explained(damage: str, store: Any, visit: Callable[..., Any]) -> None:
    run, fine = add(store, run_config("kd", name="poor")), add(store, run_config("kd", 1))
    if damage == "broken":
        answers(run)
        (run_dir(run) / "predictions" / "validation.large.npz").write_bytes(b"PK no archive")
    alone = visit("examples", runs=run)
    assert not alone.exception and "None of these runs has predictions" in words(alone)
    answers(fine)
    app = visit("examples", runs=f"{run},{fine}")
    assert not app.exception and "poor" in words(app) and len(app.dataframe)


def test_other_rows_than_those_scored_are_not_shown_as_theirs(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"))
    answers(run)
    for file in (run_dir(run) / "predictions").glob("*.npz"):
        kept = dict(np.load(file))
        np.savez(file, **kept | {"labels": 1 - kept["labels"]})
    app = visit("examples", runs=run)
    assert not app.exception and "other rows" in words(app)
    assert "sentence" not in table(app).columns


def test_an_empty_store_and_a_run_under_way_are_explained(store: Any, visit: Callable[..., Any]) -> None:
    assert "No finished run yet" in words(visit("examples"))
    add(store, run_config("kd"), end="running")
    assert "No finished run yet" in words(visit("examples"))


def test_nonsense_in_the_address_is_answered_kindly(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"))
    answers(run)
    app = visit("examples", runs=f"{run},../../x,<b>", job="../../etc/passwd", fate="..", matrix="evil", osays="<b>")
    assert not app.exception and "not in this store" in words(app)
    assert ".." not in str(app.query_params.get("runs", "")) and "job" in app.query_params
    assert app.query_params["job"] == run


def test_a_damaged_run_harms_no_other(store: Any, visit: Callable[..., Any], tmp_path: Path) -> None:
    poor, fine = add(store, run_config("kd")), add(store, run_config("kd", 1))
    for run in (poor, fine):
        answers(run)
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        connection.execute("update runs set config = ? where id = ?", ('{"task": 3', poor))
    app = visit("examples", runs=f"{poor},{fine}")
    assert not app.exception and len(app.dataframe)


def test_a_clicked_dot_puts_its_row_first(store: Any, visit: Callable[..., Any]) -> None:
    from types import SimpleNamespace

    from pages.parts.common.keys import CLICKED_ROW
    from pages.parts.common.plot import Click
    from pages.parts.examples import regression

    run = add(store, run_config("kd", task="pocket-similarity"))
    answers(run, "pocket-similarity")
    app = visit("examples", runs=run)
    plain_order = table(app)["row"].tolist()
    row = plain_order[7]
    split = rows_of(TASKS["pocket-similarity"]).splits["validation"]
    app.session_state[CLICKED_ROW] = ("pocket-similarity", int(split.ids[row]))
    app.run()
    assert not app.exception and not app.error
    assert table(app)["row"].tolist() == [row, *plain_order[:7], *plain_order[8:]]
    assert f"**row {row}**" in words(app)
    app.segmented_control(key="gap").set_value("nearer").run()
    assert table(app)["row"].tolist()[0] == row, "also where the list would not hold it"
    app.button(key="examples_unclick").click().run()
    app.segmented_control(key="gap").set_value("difference").run()
    assert table(app)["row"].tolist() == plain_order

    import streamlit as st

    pair: Any = SimpleNamespace(
        dev=SimpleNamespace(task=TASKS["pocket-similarity"]), predictions=SimpleNamespace(ids=split.ids)
    )
    regression._choose(pair, Click(1, "", 4, None, None, 2.0, 3.0, None, (4, 2.5)))
    assert st.session_state[CLICKED_ROW] == ("pocket-similarity", int(split.ids[4]))
    regression._choose(pair, Click(0, "", 1, None, None, 0.0, 0.0, None, ()))  # the line of agreement is no row
    assert st.session_state[CLICKED_ROW] == ("pocket-similarity", int(split.ids[4]))
    del st.session_state[CLICKED_ROW]


def test_the_chosen_dot_has_a_ring() -> None:
    from kdcore.figures import examples as figures

    frame = examples.compare_scores([10, 11, 12], [1.0, 2.0, 3.0], [1.5, 2.5, 3.5], [1.0, 2.0, 4.0])
    drawn = figures.scatter(frame, [0, 1, 2], "teacher", "student", "kd", chosen=11)
    assert (drawn.data[-1].x[0], drawn.data[-1].y[0]) == (2.5, 2.0) and drawn.data[-1].marker.symbol == "circle-open"
    assert len(figures.scatter(frame, [0, 1, 2], "teacher", "student", "kd", chosen=99).data) == len(drawn.data) - 1


def test_a_table_that_changed_since_the_run_shows_no_texts(tmp_path: Path) -> None:
    """Ids are a plain count and labels may stay, so that only the fingerprint tells."""
    from kdcore.config import OwnData, RunConfig
    from kdcore.data import load
    from pages.parts.examples.predictions import Predictions, dev_rows

    table = tmp_path / "table.csv"
    table.write_text("text,label\n" + "".join(f"film {n},{'pos' if n % 2 else 'neg'}\n" for n in range(60)))
    own = OwnData(path=str(table), text="text", label="label")
    data = load("own", own)
    dev = data.splits["validation"]
    both = Predictions(dev.ids, dev.labels, np.zeros((len(dev), 2), np.float32), {})
    config = RunConfig(task="own", own=own, method="fine-tune")
    facts = {"data_fingerprint": data.fingerprint}
    assert list(dev_rows(config, facts, "validation", both).texts.iloc[:, 0]) == list(dev.texts[0])
    table.write_text(table.read_text().replace("film", "book"))
    again = dev_rows(config, facts, "validation", both)
    assert again.texts.empty or not again.texts.shape[1]
    assert "other rows" in again.why
    assert "book" in dev_rows(config, {}, "validation", both).texts.iloc[0, 0], "the file is read anew"
