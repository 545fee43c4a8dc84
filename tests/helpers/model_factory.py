"""Small models on disk where a run would have left its student and teachers, and moments of its training."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import nn

from kdcore.data.encode import encode
from kdcore.data.splits import TaskData, make_split
from kdcore.models.sizes import bert_config
from kdcore.models.students import load_classifier, save_student
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from kdcore.models.weights import build_classifier
from kdcore.paths import run_dir
from kdcore.probes.snapshots import Snapshots
from kdcore.records import ModelSize
from kdcore.tasks import TASKS

WORDS = ["the", "film", "was", "good", "bad", "very", "and", "a", "plot", "##s", ",", "."]
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)
SENTENCES = [" ".join(WORDS[(row + at) % 9] for at in range(3 + row % 20)) for row in range(30)]
STEPS = (0, 20, 40, 60)


def rows_of(task: Any) -> TaskData:
    """Rows of a task as `kdcore.data` would give them."""
    labels = np.arange(len(SENTENCES)) % 2
    split = make_split(task, "validation", tuple(SENTENCES for _ in task.columns), labels)
    return TaskData(task, {"train": split, "validation": split}, "f", "made for tests", None, VOCABULARY)


def tokenizer() -> Any:
    return tokenizer_from_vocabulary(VOCABULARY)


def model(layers: int, seed: int, width: int = 16, heads: int = 2) -> nn.Module:
    shape = size_of(layers, width, heads)
    config = bert_config(shape, 2, None)
    config.initializer_range = 0.6
    built: nn.Module = build_classifier(config, {}, seed)[0]
    return built.eval()


def size_of(layers: int, width: int = 16, heads: int = 2) -> ModelSize:
    return ModelSize(layers, width, heads, 2 * width, len(VOCABULARY), 64, 2)


def leave(run: str, student: nn.Module, teachers: dict[str, nn.Module], moments: bool = True) -> None:
    """Writes what a run leaves behind that is looked at. The student is a new one until the last of `STEPS`."""
    folder = run_dir(run)
    save_student(student, tokenizer(), folder / "student-best")
    homes = {name: folder.parent.parent / "teachers" / f"{run}-{name}" for name in teachers}
    for name, teacher in teachers.items():
        save_student(teacher, tokenizer(), homes[name])
    (folder / "teachers.json").write_text(json.dumps({name: str(home) for name, home in homes.items()}))
    if not moments:
        return
    config = student.config
    size = size_of(config.num_hidden_layers, config.hidden_size, config.num_attention_heads)
    rows = encode(rows_of(TASKS["pocket-sentiment"]).splits["validation"], tokenizer(), 32)
    sources = {
        name: (size_of(teachers[name].config.num_hidden_layers), lambda home=home: load_classifier(home))
        for name, home in homes.items()
    }
    taken = Snapshots(folder, "validation", rows, tokenizer().convert_ids_to_tokens, size, sources, {0: STEPS[-1]},
                      torch.device("cpu"))  # fmt: skip
    for step in STEPS:
        now = student if step == STEPS[-1] else model(size.layers, 100 + step, size.width, size.heads)
        taken.take(now, step)


def attentions(of: nn.Module, tokens: list[str]) -> np.ndarray:
    """What transformers' own eager attention gives, not `observe`: [layers, heads, tokens, tokens]."""
    of.set_attn_implementation("eager")
    ids = torch.tensor([tokenizer().convert_tokens_to_ids(tokens)])
    with torch.no_grad():
        found = of(input_ids=ids, output_attentions=True).attentions
    of.set_attn_implementation("sdpa")
    return torch.cat(list(found)).numpy()
