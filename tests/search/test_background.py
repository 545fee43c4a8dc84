"""A search as a process of its own: its file, its state, its end."""

import json
import sys
import time

import pytest
import yaml

from kdcore.errors import UserError
from kdcore.search import background, record
from kdcore.search.question import Question, read_question

PATIENCE = 60.0
WAITS = "import sys, time; print('timing sizes', flush=True); time.sleep(600)"
FAILS = "print('taking costs'); print('error: bound: no size keeps to it; allow more')"


@pytest.fixture
def question(asked):
    return asked({"p95_ms": 8, "runtime": "onnx-int8"})


def program(text):
    return (sys.executable, "-c", text)


def wait(until):
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, background.state("tiny")
        time.sleep(0.05)


def test_a_search_goes_on_by_itself_says_how_it_stands_and_is_stopped(own_cache, question):
    background.start(question, program(WAITS))
    try:
        wait(lambda: background.state("tiny").last == "timing sizes")
        assert background.state("tiny").running and not background.state("tiny").failed
        assert background.started() == ["tiny"] and not record.searches(), "it has found nothing yet"
        with pytest.raises(UserError, match=r"^name: tiny is under way"):
            background.start(question, program(WAITS))
    finally:
        background.stop("tiny")
    wait(lambda: not background.state("tiny").running)
    assert not background.state("tiny").failed
    background.stop("tiny")  # of a process that is gone: nothing


def test_what_a_search_dies_of_is_told(own_cache, question):
    background.start(question, program(FAILS))
    wait(lambda: not background.state("tiny").running)
    assert background.state("tiny") == background.State(False, "bound: no size keeps to it; allow more", True)


def test_the_file_is_the_one_that_the_command_takes(own_cache, question, tmp_path):
    background.start(question, program("pass"))
    file = record.folder_of("tiny") / record.ASKED
    assert read_question(file, {}) == question == background.asked("tiny")
    assert "seeds" in yaml.safe_load(file.read_text()) and "slots" not in yaml.safe_load(file.read_text())


def test_a_search_from_a_command_line_is_known_by_its_record(own_cache, question):
    record.folder_of("tiny").mkdir()
    record.write("tiny", record.SearchRecord(json.loads(question.model_dump_json())))
    assert background.asked("tiny") == question and background.state("tiny") == background.State(False, "", False)


def test_another_question_leaves_the_search_of_its_name_as_it_was(own_cache, question, asked):
    background.start(question, program("pass"))
    wait(lambda: not background.state("tiny").running)
    record.write("tiny", record.SearchRecord(json.loads(question.model_dump_json())))
    with pytest.raises(UserError, match=r"^bound: differs from what the search tiny was asked before; choose another"):
        background.start(asked({"p95_ms": 5, "runtime": "onnx-int8"}), program("pass"))
    assert background.asked("tiny") == question, "so that it can go on"
    background.start(question.model_copy(update={"minutes": 90}), program("pass"))
    assert background.asked("tiny").minutes == 90


def test_a_name_is_taken_once_a_search_was_asked_for(own_cache, question):
    """The search itself has found nothing yet, so that only its question stands in the folder."""
    background.start(question, program("pass"))
    wait(lambda: not background.state("tiny").running)
    with (
        pytest.raises(UserError, match=r"^name: tiny is the name of a search"),
        record.folder_lock("tiny", record.TUNING),
    ):
        pass
    with record.folder_lock("options", record.TUNING) as folder:
        (folder / record.TUNING).write_text("{}")
    assert record.names_in_use() == {"tiny", "options"}
    with pytest.raises(UserError, match=r"^name: options is the name of a tuning"):
        background.start(question.model_copy(update={"name": "options"}), program("pass"))
    assert background.started() == ["tiny"]


def test_what_a_run_shares_with_a_search_leaves_out_what_is_searched(question):
    run = {**question.run, "method": "pkd", "options": {"beta": 1}, "student": {"layers": 2}, "name": "mine"}
    assert Question.model_validate(question.model_dump() | {"run": background.like(run)}) == question
