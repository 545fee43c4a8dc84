"""What a measurement of a run's runtimes leaves, without measuring anything."""

from __future__ import annotations

from typing import Any

ROWS = 1000


def probe(lost: int | None, gained: int | None, busy: bool = False) -> dict[str, Any]:
    """Student and teacher in ONNX Runtime, float32 and int8; so many of the student's answers change. None: scores."""
    change = 0.0 if lost is None or gained is None else (gained - lost) / ROWS
    models, records = [], []
    for name, kind, score, moved in (("student", "student", 0.8, change), ("large", "teacher", 0.9, 0.0)):
        for runtime in ("onnx-fp32", "onnx-int8"):
            small = runtime == "onnx-int8"
            changes = (lost, gained) if kind == "student" or lost is None else (0, 0)
            total = 10 if lost is None or gained is None else sum(filter(None, changes))
            answers = {"rows": ROWS, "changed": total, "lost": changes[0], "gained": changes[1]}
            models.append({
                "name": name, "kind": kind, "words": "the student" if kind == "student" else f"teacher {name}",
                "runtime": runtime, "disk": (2 if small else 8) * 2**20, "memory": None,
                "scores": {"accuracy": score + (moved if small else 0.0)},
                "against": "onnx-fp32" if small else "torch-fp32", "answers": answers,
            })  # fmt: skip
            records += [
                {"name": name, "runtime": runtime, "batch": batch, "tokens": 14, "threads": 1,
                 "p50_ms": (1.0 if small else 2.0) * batch, "p95_ms": (1.5 if small else 3.0) * batch,
                 "per_second": 500.0, "repeats": 40, "busy": busy}
                for batch in (1, 8)
            ]  # fmt: skip
    return {
        "tokens": {"mean": 14, "p95": 14, "maximum": 14}, "split": "validation", "rows": ROWS, "all_rows": ROWS,
        "hardware": "Test CPU (2 cores)", "session": "s", "versions": {}, "busy": busy, "models": models,
        "records": records, "absent": [{"name": "student", "runtime": "openvino-fp32", "why": "not installed"}],
    }  # fmt: skip
