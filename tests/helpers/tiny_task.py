"""A world small enough to train in: three tasks of about a hundred short sentences, and teachers of two layers.

A plain module, so that child processes of the tests build the very same world.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdcore.config import FineTune, ProbeConfig, RunConfig, StudentSpec, TeacherSpec, TrainConfig
from kdcore.data.splits import TaskData, fingerprint, make_split, with_domains
from kdcore.events import Event, StepDone
from kdcore.models.sizes import bert_config
from kdcore.models.students import save_student
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from kdcore.models.weights import build_classifier
from kdcore.records import ModelSize
from kdcore.tasks import TASKS, Task

GOOD, BAD = ("good", "fine", "nice"), ("bad", "poor", "dull")
PLAIN = ("the", "a", "film", "plot", "actor", "song", "was", "is", "very", "and", "so", "one", "two", "red", "old")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *PLAIN)
ROWS = {"train": 100, "validation": 30}
SIZE = ModelSize(layers=2, width=16, heads=2, intermediate=32, vocabulary=len(VOCABULARY), positions=64)

SENTIMENT, PARAPHRASE, SIMILARITY = "pocket-sentiment", "pocket-paraphrase", "pocket-similarity"
RUN = ("task", "student", "probes", "base", "own", "data", "also")
OF_SEVERAL_TASKS = ("mkd",)
BRIEF = FineTune(epochs=0.5, lr=1e-3)
QUIET = ProbeConfig(fidelity=False, latency=False, distances=False)


def data(task: Task) -> TaskData:
    """Rows of two domains in turn, whose label is a word in them, so that a tiny model soon learns them."""
    rng = random.Random(task.key)
    splits = {name: _split(task, name, rows, rng) for name, rows in ROWS.items()}
    made = TaskData(task, splits, fingerprint(task, splits), "made for tests", None, VOCABULARY)
    return with_domains(made, ("one", "other"), [row % 2 for row in range(ROWS["train"])])


def _split(task: Task, name: str, rows: int, rng: random.Random) -> Any:
    labels = [rng.randrange(2) for _ in range(rows)]
    columns = []
    for _ in task.columns:
        words = [[*rng.choices(PLAIN, k=rng.randint(1, 12)), rng.choice((BAD, GOOD)[label])] for label in labels]
        columns.append([" ".join(rng.sample(row, len(row))) for row in words])
    scores = [label * 4 + rng.random() for label in labels]
    return make_split(task, name, tuple(columns), np.array(labels if task.kind == "classification" else scores))


def inhabit(task_data: Any = data) -> None:
    """Lets `kdcore.data.load` give these rows in place of the pocket suite's."""
    from kdcore.data import pocket

    pocket.load = task_data


def model(layers: int = 2, width: int = 16, labels: int = 2, seed: int = 0, dropout: float = 0.1, spread: float = 0.1):
    """A BERT classifier with new weights of this spread, five times BERT's, or all models would say nearly the same."""
    size = ModelSize(layers, width, 2, 2 * width, len(VOCABULARY), 64, labels)
    config = bert_config(size, labels, dropout)
    config.initializer_range = spread
    built = build_classifier(config, {}, seed)[0]
    built.config.initializer_range = 0.02
    return built


def tokenizer() -> Any:
    return tokenizer_from_vocabulary(VOCABULARY)


def teacher(folder: Path, name: str, **sizes: Any) -> TeacherSpec:
    """A finished teacher in a folder, made if it is not there."""
    home = folder / name
    if not home.exists():
        save_student(model(**sizes), tokenizer(), home)
    return TeacherSpec(name=name, source="folder", where=str(home))


def teachers(folder: Path, count: int, **sizes: Any) -> tuple[TeacherSpec, ...]:
    """`count` finished teachers that differ."""
    return tuple(teacher(folder, f"t{i}", seed=10 + i, **sizes) for i in range(count))


def run(
    method: str = "kd", teachers: Iterable[TeacherSpec] = (), options: dict[str, Any] | None = None, **changes: Any
) -> RunConfig:
    """A run of 2 epochs of 6 steps. `changes` are fields of TrainConfig, or of the run (`RUN`).

    Where the method needs another task there is one, and finished teachers are fine-tuned on it.
    """
    whole = {name: changes.pop(name) for name in RUN if name in changes}
    if method in OF_SEVERAL_TASKS and "also" not in whole:
        whole["also"] = (SIMILARITY if whole.get("task") == PARAPHRASE else PARAPHRASE,)
        teachers = [t if t.fine_tune else t.model_copy(update={"fine_tune": BRIEF}) for t in teachers]
    train = {"epochs": 2, "batch_size": 16, "lr": 1e-2, "max_length": 32, "precision": "fp32", "device": "cpu",
             "log_every": 1, "checkpoint_every": 5, **changes}  # fmt: skip
    settings = {"task": SENTIMENT, "student": STUDENT, "probes": QUIET, **whole}
    return RunConfig(
        method=method, options=options or {}, teachers=tuple(teachers), train=TrainConfig(**train), **settings
    )


STUDENT = StudentSpec(layers=2, width=16, heads=2, intermediate=32, init="random")


def data_of(key: str = SENTIMENT) -> TaskData:
    return data(TASKS[key])


class StopAt:
    """Asks for a stop in the step it saw logged."""

    def __init__(self, step: int, how: str = "keep") -> None:
        self.step, self.how, self.seen = step, how, 0

    def see(self, event: Event) -> None:
        self.seen = max(self.seen, getattr(event, "step", 0) if isinstance(event, StepDone) else 0)

    def stop_requested(self) -> Any:
        return self.how if self.seen >= self.step else None


def of(kind: type, events: Iterable[Event]) -> list[Any]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a saved model."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
