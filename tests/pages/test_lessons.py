"""Lessons: their files, the runs they find, and the bar on top of every page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from kdcore.identity import config_hash
from kdcore.methods import METHODS
from kdcore.runs.example import open_study
from pages.parts.common import keys
from pages.parts.learn import lesson_address
from pages.parts.learn import lessons as lesson_files
from pages.parts.learn.handout import handout
from pages.parts.learn.lessons import Lesson, lessons
from tests.helpers.store_factory import add, fill, run_config, words

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "\n".join(path.read_text() for path in (ROOT / "pages").rglob("*.py"))
KEYS = {value: name for name, value in vars(keys).items() if name.isupper()}
STEPS = [(key, number) for key in lessons() for number in range(1, len(lessons()[key].steps) + 1)]


def _links(app: Any) -> dict[str, tuple[str, dict[str, list[str]]]]:
    """Label -> page and parameters of every link."""
    found = [link.proto for link in app.get("page_link")]
    return {one.label: (one.page, parse_qs(one.query_string)) for one in found}


# --- the files


def test_there_are_six_in_their_order() -> None:
    ordered = ["soft-targets", "patient-layers", "one-or-many", "initialisation", "attention-transfer"]
    assert list(lessons()) == [*ordered, "quality-and-speed"]
    assert [one.number for one in lessons().values()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("key", "number"), STEPS)
def test_every_step_names_what_there_is(key: str, number: int) -> None:
    one = lessons()[key]
    step = one.steps[number - 1]
    assert set(step.names) <= set(one.runs)
    assert set(step.race) <= set(step.runs) and (not step.race or step.page == "compare")
    assert (ROOT / "pages" / f"{step.page}.py").is_file()
    assert step.question.endswith("?") and step.answer.endswith(".")
    for control in step.hide:
        assert f'key="{control}"' in SOURCE or f'"{control}",' in SOURCE, control
    for name in step.view:
        constant = KEYS.get(name, "not a constant")
        uses = (f'key="{name}"', f'query_params.get("{name}")', f"key={constant},", f"query_params.get({constant})")
        assert any(use in SOURCE for use in uses), name


@pytest.mark.parametrize("key", lessons())
def test_every_lesson_makes_its_runs_on_one_protocol(key: str) -> None:
    made = lessons()[key].configs().values()
    assert [run.method for run in made] == [run.method for run in lessons()[key].runs.values()]
    assert len({(run.task, run.train) for run in made}) == 1, "they differ in method, teachers and start alone"
    assert len({config_hash(run) for run in made}) == len(made)
    assert all(METHODS[run.method].Config.model_validate(run.options) for run in made)


def test_every_run_of_a_lesson_is_shown_in_a_step() -> None:
    for lesson in lessons().values():
        assert {name for step in lesson.steps for name in step.names} == set(lesson.runs), lesson.title


# --- the runs


def _runs(store: Any, key: str = "soft-targets") -> dict[str, list[str]]:
    return lesson_address.runs_of(lessons()[key], store.runs(include_archived=True))


def test_a_lesson_takes_runs_that_compare(store: Any) -> None:
    assert _runs(store) == {"fine-tune": [], "kd": []}
    alone, taught = add(store, run_config("fine-tune")), add(store, run_config("kd"))
    add(store, run_config("kd", task="pocket-entailment"))
    add(store, run_config("kd", 5), end="failed")
    again = add(store, run_config("kd", 1))
    assert _runs(store) == {"fine-tune": [alone], "kd": [again, taught]}


def test_scores_are_no_ground_for_soft_targets(store: Any) -> None:
    add(store, run_config("kd", task="pocket-similarity"))
    assert _runs(store)["kd"] == []


def test_the_lessons_own_runs_come_first(store: Any) -> None:
    lesson = lessons()["soft-targets"]
    own = [add(store, run) for run in lesson.configs().values()]
    for method in ("fine-tune", "kd", "skd"):
        add(store, run_config(method))
    assert [run for ids in _runs(store).values() for run in ids] == own
    other_seed = [add(store, run) for run in lesson.configs(seed=1).values()]
    assert [ids[0] for ids in _runs(store).values()] == other_seed


def test_runs_that_differ_in_their_start_are_told_apart(store: Any) -> None:
    """Where methods do not tell a lesson's runs apart, runs of other settings cannot stand in for them."""
    add(store, run_config("fine-tune"))
    configs = lessons()["initialisation"].configs()
    first, spread = (add(store, configs[name]) for name in ("first", "spread"))
    assert _runs(store, "initialisation") == {"random": [], "first": [first], "spread": [spread], "tinybert": []}


# --- the bar


def test_a_step_stands_on_top_of_its_page_with_links_to_the_next(store: Any, visit: Callable[..., Any]) -> None:
    made = fill(store, seeds=2)
    alone, taught = made[:2], made[2:4]
    app = visit("live", lesson="soft-targets", step="4", job=taught[1])
    step = lessons()["soft-targets"].steps[3]
    assert not app.exception
    assert step.text in words(app) and step.question in words(app) and step.answer in words(app)
    links = _links(app)
    page, query = links["Next"]
    assert page == "compare" and query["step"] == ["5"] and query["tab"] == ["Scores"]
    assert query["runs"] == [",".join([*alone[::-1], *taught[::-1]])]
    page, query = links["Previous"]
    assert page == "learn" and query["T"] == ["5.0"] and query["job"] == [taught[1]]


@pytest.mark.parametrize(("key", "number"), STEPS)
def test_every_step_can_be_opened_with_the_study_alone(
    key: str, number: int, store: Any, visit: Callable[..., Any]
) -> None:
    open_study(store)
    page, query = lesson_address.address(key, number, _runs(store, key))
    app = visit(page.removeprefix("pages/").removesuffix(".py"), **query)
    assert not app.exception and not app.error
    assert lessons()[key].steps[number - 1].title in words(app) and "This step needs" not in words(app)
    hidden = "".join(one.proto.body for one in app.get("html"))
    for control in lessons()[key].steps[number - 1].hide:
        assert re.search(rf"\.st-key-{control}\b", hidden)


@pytest.mark.parametrize("elsewhere", [{}, {"job": "kd-from-elsewhere", "runs": "kd-from-elsewhere"}])
def test_a_link_that_was_handed_out_finds_the_runs_that_are_here(
    elsewhere: dict[str, str], store: Any, visit: Callable[..., Any]
) -> None:
    alone, taught = add(store, run_config("fine-tune")), add(store, run_config("kd"))
    add(store, run_config("pkd"))
    app = visit("live", lesson="soft-targets", step="4", **elsewhere)
    assert app.query_params["job"] in (taught, [taught]) and app.selectbox(key="live_run").value == taught
    app = visit("compare", lesson="soft-targets", step="5", **elsewhere)
    assert app.multiselect(key="compare_runs").value == [alone, taught]
    assert not app.exception and "not in this store" not in words(app)


def test_a_guess_is_kept_and_shown_at_the_end(store: Any, visit: Callable[..., Any]) -> None:
    fill(store, seeds=1)
    guess = lessons()["soft-targets"].poll.choices[1]
    app = visit("learn", lesson="soft-targets", step="1", part="Methods", method="kd")
    app.button_group(key="poll_soft-targets").select(guess).run()
    assert app.session_state["guess_soft-targets"] == guess
    app.query_params["step"] = "5"
    app.run()
    assert f"Your guess was:** {guess}" in words(app) and lessons()["soft-targets"].summary[0] in words(app)
    assert {"Lesson 2", "Compare these runs", "Launch your own"} <= set(_links(app)) and not app.exception


def test_a_handout_holds_questions_and_scores_and_asks_nothing_of_the_network(store: Any) -> None:
    open_study(store)
    runs = store.runs(include_archived=True)
    for lesson in lessons().values():
        by_name = lesson_address.runs_of(lesson, runs)
        page = handout(lesson, by_name, runs)
        for name, ids in by_name.items():
            for _, row in runs[runs["id"].isin(ids)].iterrows():
                cells = (lesson.run_title(name), f"{row['seed']}", f"{100 * row['score']:.1f}")
                assert "<td>{}</td><td>{}</td><td>{}</td>".format(*cells) in page
        assert page.count("class=room") == len(lesson.steps)
        assert not re.search(r"https?://|<script|src=", page) and "**" not in page


def test_a_missing_run_is_named_and_queued_by_one_click(store: Any, visit: Callable[..., Any]) -> None:
    add(store, run_config("fine-tune"))
    app = visit("live", lesson="soft-targets", step="4")
    assert "This step needs a finished run of KD" in words(app)
    app.button(key="lesson_queue_1").click().run()
    queued = store.runs(states=["queued"])
    assert sorted(queued["method"]) == ["fine-tune", "kd"] and not app.exception
    assert "2 of the lesson's 2 runs are queued or running" in words(app) and "job" in _links(app)["Watch them"][1]
    assert "lesson_queue_1" not in [button.key for button in app.button]


def test_a_reading_that_was_not_taken_is_named(store: Any, visit: Callable[..., Any]) -> None:
    run = store.add_run(run_config("kd"))
    store.claim("written", "cpu", run)
    from kdcore.events import RunFinished, RunStarted

    store.record(run, [RunStarted({}), RunFinished({})])
    app = visit("layers", lesson="patient-layers", step="4", job=run)
    assert "without the probe of layer distances" in words(app) and app.button(key="lesson_queue_2")


@pytest.mark.parametrize("step", ["99", "-1", "x", "", "1.5", "99999999999"])
def test_a_step_that_is_not_there_is_the_nearest(step: str, visit: Callable[..., Any]) -> None:
    app = visit("runs", lesson="soft-targets", step=step)
    assert not app.exception and "step " in words(app)
    assert app.query_params["step"] in ("1", ["1"], "5", ["5"])


def test_an_unknown_lesson_is_left_out(visit: Callable[..., Any]) -> None:
    app = visit("runs", lesson="../../etc/passwd", step="1")
    assert not app.exception and "There is no lesson" in words(app) and "lesson" not in app.query_params


def test_the_catalogue_says_what_each_lesson_uses_and_lacks(store: Any, visit: Callable[..., Any]) -> None:
    fill(store, seeds=1)
    app = visit("learn", part="Lessons")
    said = words(app)
    assert not app.exception and not app.error
    assert "Uses Fine-tuning alone, KD, Patient KD on Pocket sentiment. Not here yet: TinyBERT." in said
    assert "Not here yet: Random start, First two layers, Every other layer, TinyBERT, random start." in said
    assert _links(app)["Begin"][1]["step"] == ["1"]
    app.button(key="lesson_own_patient-layers").click().run()
    queued = ["fine-tune", "kd", "kd", "pkd", "tinybert"]  # one kd waited before
    assert sorted(store.runs(states=["queued"])["method"]) == queued


def test_a_lesson_file_with_a_mistake_is_refused_with_its_field(tmp_path: Path, monkeypatch: Any) -> None:
    from kdcore.errors import UserError

    (tmp_path / "bad.yaml").write_text(
        "number: 1\ntitle: x\nabout: y\nminutes: 1\nruns: {kd: {method: kd}}\nsteps: []\n"
    )
    monkeypatch.setattr(lesson_files, "FOLDER", tmp_path)
    with pytest.raises(UserError, match="steps"):
        lessons.__wrapped__()
    assert Lesson.model_fields["steps"].annotation
