"""What the probe "linear_probe" leaves of a run, without probing anything."""

from __future__ import annotations

from typing import Any


def record(value: float, half: float = 0.04) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def probe(label_gap: float = 0.2, teacher: str = "large") -> dict[str, Any]:
    """A student of two layers and a teacher of four; the label is told worse by the student, negation too rare."""
    length, label = [0.9, 0.8, 0.7], [0.6, 0.7, 0.9 - label_gap]
    student = {"length": [record(each) for each in length], "label": [record(each) for each in label]}
    large = {"length": [record(each) for each in (0.9, 0.85, 0.8, 0.75, 0.7)],
             "label": [record(each) for each in (0.6, 0.7, 0.8, 0.85, 0.9)]}  # fmt: skip
    flat = {key: [record(0.5)] * 3 for key in student}, {key: [record(0.5)] * 5 for key in large}
    gaps = {"length": record(0.0), "label": record(label_gap)}
    absent = "3 of 150 rows to fit on are not of the most frequent class, 10 are needed"
    return {
        "split": "validation", "fit": 150, "score": 150, "teacher": teacher,
        "properties": [
            {"key": "length", "title": "Length in words", "classes": ["1 to 4", "5 to 9"], "chance": 0.5, "absent": ""},
            {"key": "negation", "title": "Negation", "classes": ["absent", "there"], "chance": 0.98, "absent": absent},
            {"key": "label", "title": "The task's label", "classes": ["no", "yes"], "chance": 0.55, "absent": ""},
        ],
        "models": {"student": {"mean": student, "cls": flat[0]}, teacher: {"mean": large, "cls": flat[1]}},
        "gaps": {"mean": gaps, "cls": {key: record(0.0) for key in gaps}},
    }  # fmt: skip
