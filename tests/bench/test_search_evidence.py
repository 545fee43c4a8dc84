"""Search against grid: one rule for both, nothing trained twice, and a file that says where they differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bench import search_evidence
from bench.search_page import BUSY, page
from kdcore.data import pocket
from kdcore.engine import own_vocabulary
from kdcore.models.count import parameters
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from kdcore.paths import run_dir
from kdcore.search.candidates import Space
from kdcore.search.question import Bound, Question, read_question
from kdcore.store import Store, open_store
from tests.helpers import model_families, tiny_task

STUDY = Path(search_evidence.__file__).parent / "studies"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pocket study over tiny rows and a finished teacher."""
    pytest.importorskip("optuna", reason="the extra search is not installed")
    monkeypatch.setattr(pocket, "load", tiny_task.data)
    settings = yaml.safe_load((STUDY / "search-pocket.yaml").read_text())
    settings["run"]["teachers"] = [tiny_task.teacher(tmp_path, "big", layers=2).model_dump(exclude_none=True)]
    settings["run"]["train"] |= {"precision": "fp32", "device": "cpu", "max_length": 32}
    file = tmp_path / "search-pocket.yaml"
    file.write_text(yaml.safe_dump(settings | {"trials": 2}))
    return file


def written(study: Path) -> dict[str, Any]:
    folder = study.parent / "results"
    search_evidence.main([str(study), "--into", str(folder)])
    content: dict[str, Any] = json.loads((folder / "search-pocket.json").read_text())
    assert (folder / "search-pocket.md").read_text() == page("search-pocket", content)
    return content


def cheapest_with_the_share(content: dict[str, Any], space: Space) -> str:
    """The rule, written again: the fewest parameters of those with 90 % of the teacher, else the best score."""
    count = {name: parameters(space.plan(space.run_of(space.default("kd", name))).student_size).total
             for name in space.sizes}  # fmt: skip
    cells = content["grid"]["cells"]
    enough = [cell for cell in cells if cell["select"] >= 0.9 * content["teacher"]]
    if enough:
        return str(min(enough, key=lambda cell: (count[cell["size"]], -cell["select"]))["run"])
    return str(max(cells, key=lambda cell: (cell["select"], -count[cell["size"]]))["run"])


def test_grid_and_search_share_their_runs_and_their_rule(study: Path) -> None:
    content, store = written(study), open_store()
    cells = content["grid"]["cells"]
    space = Space(read_question(study, {}))
    assert {(cell["method"], cell["size"]) for cell in cells} == {
        (method, size) for method in ("fine-tune", "kd") for size in space.sizes
    }
    tried = set(content["search"]["tried"])
    assert len(tried) == 2 and tried < {cell["run"] for cell in cells}, "its trials are cells of the grid"
    assert content["grid"]["recommended"]["run"] == cheapest_with_the_share(content, space)
    seeds = {run for side in ("search", "grid") for run in _seeds(store, content[side]["recommended"])}
    assert set(store.runs()["id"]) == {cell["run"] for cell in cells} | seeds
    assert content["grid"]["paid"] == pytest.approx(sum(cell["seconds"] for cell in cells), abs=0.1)
    assert content["grid"]["reused"] == 2, "the search trained them"
    before = sum(cell["seconds"] for cell in cells if cell["run"] in tried)
    assert content["grid"]["paid_before"] == pytest.approx(before, abs=0.1)
    models = content["deployed"]["models"]
    assert "big" in models and all(0 < one["p50_ms"] <= one["p95_ms"] for one in models.values())

    seconds, again = _seconds(store), written(study)
    assert again["search"] == content["search"] and _seconds(store) == seconds, "nothing is trained twice"
    assert again["grid"]["reused"] == 2, "what the grid trained itself is not done before"


def test_each_deployed_model_is_timed_on_its_own_tokens(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The student reads letters, and one of its teachers pieces of its own."""
    letters = sorted(set("".join(tiny_task.VOCABULARY[5:])))
    pieces = (*tiny_task.VOCABULARY[:5], *letters, *(f"##{letter}" for letter in letters))
    monkeypatch.setattr(own_vocabulary, "train_vocabulary", lambda *_: pieces)
    settings = yaml.safe_load(study.read_text())
    roberta = model_families.teacher(study.parent, "roberta").model_dump(exclude_none=True)
    settings["run"]["teachers"].append(roberta)
    size = {"layers": 1, "width": 16, "heads": 2, "intermediate": 32, "vocabulary": 64}
    bound = settings["bound"] | {"tokens": 16}
    study.write_text(
        yaml.safe_dump(settings | {"sizes": [size], "methods": ["wkd"], "trials": 1, "seeds": 1, "bound": bound})
    )
    timed: dict[str, int] = {}
    real = search_evidence._pass

    def noted(folder: Path, bound: Bound, tokens: int) -> Any:
        timed[folder.name] = tokens
        return real(folder, bound, tokens)

    monkeypatch.setattr(search_evidence, "_pass", noted)
    models = written(study)["deployed"]["models"]
    (student,) = models.keys() - {"big", "roberta"}
    texts = tiny_task.data_of().train.texts[0]
    words = {"big": tiny_task.tokenizer(), "roberta": model_families.tokenizer("roberta"),
             student: tokenizer_from_vocabulary(pieces)}  # fmt: skip
    mean = {name: np.mean([min(32, len(own(text)["input_ids"])) for text in texts]) for name, own in words.items()}
    assert mean[student] > 1.2 * mean["big"] and mean["roberta"] != mean["big"]
    expected = {name: 16 * length / mean["big"] for name, length in mean.items()}
    assert {name: model["tokens"] for name, model in models.items()} == pytest.approx(expected, abs=1)
    assert list(timed.values()) == [model["tokens"] for model in models.values()]


def _seeds(store: Store, recommended: dict[str, Any]) -> set[str]:
    """The runs of a recommended setting, whatever their seed."""
    runs = store.runs()
    group = runs.loc[runs["id"] == recommended["run"], "group"].iloc[0]
    return set(runs.loc[runs["group"] == group, "id"])


def _seconds(store: Store) -> dict[str, float]:
    runs = store.runs()
    return dict(zip(runs["id"], runs["seconds"], strict=True))


def test_killed_in_the_grid_it_goes_on(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(search_evidence.Cell, "starts", _killed)
        written(study)
    store = open_store()
    before = _seconds(store)
    assert len(before) == 3 and all((run_dir(run) / "student-best").is_dir() for run in before)  # 2 trials, a seed
    written(study)
    assert before.items() <= _seconds(store).items()


def _killed(cell: search_evidence.Cell, run_id: str, state: str) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def content() -> dict[str, Any]:
    """Figures by hand: the search recommends the larger of two students, the grid the smaller one."""
    question = Question.model_validate({
        "name": "by-hand", "run": {"task": "pocket-sentiment"}, "minutes": 6, "methods": ["kd"],
        "bound": {"share": 0.97, "least": "p95_ms", "runtime": "onnx-int8", "threads": 1},
    })  # fmt: skip

    def side(size: str, cost: float, score: float, paid: float) -> dict[str, Any]:
        chosen = {"run": f"run-{size}", "size": size, "start": "skip", "method": "kd", "options": {"alpha": 0.25},
                  "p95_ms": cost, "select": [score, score + 0.02], "dev": [score - 0.01]}  # fmt: skip
        return {"recommended": chosen, "trials": 3, "ended_early": 1, "reused": 0, "predicted": 60.0, "paid": paid,
                "other_seeds": 12.0, "tried": {"run-large": "complete"}}  # fmt: skip

    check = {"int8": {"validation": {"accuracy": 0.5}}, "int8_same": 0.99}
    cells = [
        {"run": f"run-{size}", "size": size, "start": "skip", "method": "kd", "cost": cost, "select": 0.9,
         "seconds": 30.0, "chosen": size == "small"}
        for size, cost in (("small", 2.0), ("large", 4.0))
    ]  # fmt: skip
    return {
        "command": "python -m bench.search_evidence by-hand.yaml", "hardware": "a processor", "python": "3.11",
        "versions": {"torch": "2"}, "question": question.model_dump(mode="json"), "tokens": 12, "teacher": 0.8,
        "sizes": {"small": {}, "large": {}}, "busy": False, "search": side("large", 4.0, 0.9, 60) | {"words": ["So."]},
        "grid": side("small", 2.0, 0.8, 180) | {"cells": cells},
        "deployed": {"busy": False, "models": {
            "run-small": {"p50_ms": 1.9, "p95_ms": 2.1, "rounds": 9, "onnx": check},
            "run-large": {"p50_ms": 3.9, "p95_ms": 4.1, "rounds": 9, "onnx": check},
        }},
    }  # fmt: skip


def test_the_page_says_where_they_differ_and_what_each_paid(content: dict[str, Any]) -> None:
    text = page("by-hand", content)
    assert "**They differ.** The search recommends kd on large (91.0 on select, 89.0 on the dev rows, p95 l" in text
    assert "The search paid 1.0 minutes for its trials, the grid 3.0." in text
    assert "| trained and exported, p50 and p95 (ms) | 3.9 and 4.1 | 1.9 and 2.1 |" in text
    assert "| **kd** | small | skip | 2 | 90.0 | 112.5 | 30 | not tried |" in text
    assert "| kd | large | skip | 4 | 90.0 | 112.5 | 30 | trained |" in text
    content["search"]["recommended"] = content["grid"]["recommended"]
    assert "**Both recommend kd on small.**" in page("by-hand", content)


@pytest.mark.parametrize("part", ["sizes", "deployed"])
def test_a_busy_machine_is_said(content: dict[str, Any], part: str) -> None:
    assert BUSY not in page("by-hand", content)
    if part == "sizes":
        content["busy"] = True
    else:
        content["deployed"]["busy"] = True
    assert BUSY in page("by-hand", content)
