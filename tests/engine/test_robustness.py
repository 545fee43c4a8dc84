"""A finished run's models on damaged sentences: undamaged ones give the run's own scores, bit for bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from kdcore.engine.robustness import measure
from kdcore.engine.run_files import model_predictions
from kdcore.errors import UserError
from kdcore.events import Evaluated, Probed, Progress, RunStarted
from kdcore.probes.calibration import confidence
from kdcore.probes.robustness import EMBEDDINGS, KINDS, SEVERITIES, STEPS
from tests.helpers.tiny_task import SIMILARITY, run, same, teacher


def measured(done: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was found, and the run's facts."""
    (started,) = done.of(RunStarted)
    events = list(measure(done.run, done.folder, started.facts))
    assert any(isinstance(event, Progress) for event in events)
    (probed,) = (event for event in events if isinstance(event, Probed))
    assert probed.name == "robustness"
    assert json.loads((done.folder / "probes" / "robustness.json").read_text()) == probed.data
    return probed.data, started.facts


def test_no_damage_is_the_runs_own_score_bit_for_bit(trained: Any, one_teacher: Any) -> None:
    done = trained(run("kd", one_teacher))
    before = done.weights()
    found, facts = measured(done)
    assert set(found["models"]) == {"student", *facts["teachers"]} and found["rows"] == 30
    (best,) = (e.scores for e in done.of(Evaluated) if (e.stage, e.split, e.which) == ("end", "validation", "best"))
    for kind in KINDS:
        records = found["models"]["student"][kind]
        assert [record["severity"] for record in records] == list(SEVERITIES)
        assert records[0]["score"] == best[found["metric"]]
        kept = model_predictions(done.folder, "validation", "student")
        assert kept is not None
        plain = confidence(kept["logits"], kept["labels"])
        assert {name: records[0][name] for name in plain} == plain and set(plain) == {"ece", "brier", "nll"}
    moved = found["models"]["student"][EMBEDDINGS]
    assert [record["severity"] for record in moved] == list(STEPS)
    assert moved[0]["score"] == best[found["metric"]], "a step of 0 is none"
    assert moved[-1]["nll"] > moved[1]["nll"] > moved[0]["nll"]
    for name, about in facts["teachers"].items():
        assert found["models"][name]["typos"][0]["score"] == about["scores"]["validation"][found["metric"]]
    assert same(done.weights(), before)
    assert measured(done)[0] == found, "the same damage every time"


def test_scores_have_no_calibration(trained: Any, shelf: Any) -> None:
    found, _ = measured(trained(run("kd", [teacher(shelf, "wise-1", labels=1)], task=SIMILARITY)))
    assert set(found["models"]["student"]["dropped words"][2]) == {"severity", "score"}
    assert set(found["models"]["student"][EMBEDDINGS][2]) == {"severity", "score"}
    assert confidence(np.zeros((3, 1)), np.zeros(3)) == {}


def test_other_rows_and_a_lost_student_are_refused(trained: Any, one_teacher: Any) -> None:
    done = trained(run("kd", one_teacher))
    (started,) = done.of(RunStarted)
    with pytest.raises(UserError, match="not those this run was scored on"):
        list(measure(done.run, done.folder, {**started.facts, "data_fingerprint": "other"}))
    with pytest.raises(UserError, match="kept no best student"):
        list(measure(done.run, done.folder / "nowhere", started.facts))
