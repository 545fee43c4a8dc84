"""The one-minute demo: one pocket task's ladder of teachers, and the same small student learning in three ways."""

from __future__ import annotations

from kdcore.config import RunConfig, StudentSpec, TeacherSpec, TrainConfig

LARGE = TeacherSpec(name="large", source="pocket", where="large")
LADDER = (LARGE, *(TeacherSpec(name=size, source="pocket", where=size) for size in ("medium", "small")))


def demo_runs(task: str = "pocket-entailment", seed: int = 0) -> list[RunConfig]:
    """Fine-tuning alone, KD and stochastic KD into one student: same data order, initial weights and steps.

    Two thin layers trained briefly leave room below the teachers; with fewer layers no method has anything to show.
    """
    student = StudentSpec(layers=2, width=32, heads=2, intermediate=64, init="random")
    train = TrainConfig(epochs=4, lr=2e-3, seed=seed, log_every=5, max_length=64)
    ways: list[tuple[str, dict[str, object], tuple[TeacherSpec, ...]]] = [
        ("fine-tune", {}, (LARGE,)),
        ("kd", {"temperature": 2.0, "alpha": 0.9}, (LARGE,)),
        ("skd", {"sampling": "uniform", "temperature": 2.0}, LADDER),
    ]
    return [
        RunConfig(
            name=f"demo {method}", task=task, method=method, options=options, teachers=teachers, student=student,
            train=train,
        )
        for method, options, teachers in ways
    ]  # fmt: skip
