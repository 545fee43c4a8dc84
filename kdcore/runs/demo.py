"""The one-minute demo: one pocket task's largest teacher, and the same small student learning in three ways."""

from __future__ import annotations

from kdcore.config import ProbeConfig, RunConfig, StudentSpec, TeacherSpec, TrainConfig

LARGE = TeacherSpec(name="large", source="pocket", where="large")
STORY = "tinybert"
"""The method whose gain the demo and the example study are there to show."""
METHODS = ("fine-tune", "kd", STORY)
"""In the order of training, each with its own default settings."""
STUDENT = StudentSpec(layers=2, width=64, heads=4, intermediate=128, init="random")


def demo_runs(task: str = "pocket-sentiment", seed: int = 0) -> list[RunConfig]:
    """Fine-tuning alone, KD and TinyBERT into one student: same data order, initial weights and steps.

    Two layers as wide as the teacher's, trained briefly: labels alone leave the student far below the teacher, and the
    teacher's states and attention can be matched layer by layer.
    """
    return [demo_run(method, task, seed) for method in METHODS]


def demo_run(method: str, task: str = "pocket-sentiment", seed: int = 0, **settings: object) -> RunConfig:
    """One run of the demo's protocol; `settings` go over it. Options are spelt out, as every other way in does."""
    from kdcore import methods  # brings torch, which the first page does without

    fields: dict[str, object] = {
        "name": f"demo {method}",
        "task": task,
        "method": method,
        "options": methods.METHODS[method].Config().model_dump(mode="json"),
        "teachers": (LARGE,),
        "student": STUDENT,
        "train": TrainConfig(epochs=4, lr=1e-3, seed=seed, log_every=5, max_length=64),
        "probes": ProbeConfig(gradient_share_every=20),
    }
    return RunConfig.model_validate(fields | settings)
