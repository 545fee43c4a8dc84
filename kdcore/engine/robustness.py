"""What a finished run's models still know where dev sentences are damaged, or their embeddings moved against them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdcore.config import RunConfig
from kdcore.data.encode import encode
from kdcore.data.splits import Split
from kdcore.engine import measure_process, results
from kdcore.engine.device import Compute
from kdcore.engine.evaluate import scores
from kdcore.engine.predict import by_batch, predict
from kdcore.engine.remeasure import compute_here, scored_split, threads_of
from kdcore.events import Event, Progress
from kdcore.probes import adversarial
from kdcore.probes.calibration import confidence
from kdcore.probes.robustness import EMBEDDINGS, KINDS, SEVERITIES, STEPS, damaged
from kdcore.probes.saliency import special_ids, word_mask
from kdcore.records import Encoding
from kdcore.tasks import Task

PROBE = "robustness"


def measure(
    run: RunConfig,
    folder: Path,
    facts: Mapping[str, Any],
    known: Mapping[str, Any] | None = None,
    rivals_of: str | None = None,
    beside: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Scores the run's kept student and its teachers on the first dev split, damaged in each of `KINDS` at each of
    `SEVERITIES`, and under `STEPS` against each model's own embeddings.

    Yields progress and one `Probed` "robustness": split, metric, rows, models: "student" or a teacher's name -> kind ->
    one record a severity with `severity`, `score` (fraction) and, of classes, `ece`, `brier`, `nll`. The same JSON goes
    to the run's `probes/`. At severity 0 the scores are those of the run where machine and precision are the same; of
    embeddings, which are moved in float32, where that is the run's precision.

    Args:
        folder: the run's. facts: its `RunStarted.facts`. known, rivals_of, beside: unused, for the form of
            `remeasure.measure`: nothing here is timed.

    Raises:
        UserError: the student is no longer on this disk, or the rows are not those that the run was scored on.
    """
    task, split = scored_split(run, facts)
    compute = compute_here(run.train)
    with threads_of(facts):
        models = {"student": results.student(folder), **results.teachers(folder)}
        found: dict[str, Any] = {}
        for name, (model, tokenizer) in models.items():
            reader = _Reader(task, model.to(compute.device), tokenizer, run.train.max_length, compute, name)
            found[name] = yield from _by_kind(reader, split)
            found[name][EMBEDDINGS] = yield from reader.adversarial(split)
    told = {"split": split.name, "metric": task.main_metric, "rows": len(split), "models": found}
    yield results.keep_probe(folder, PROBE, int(facts.get("steps") or 0), told)


class _Reader:
    """A model with all that it takes to score rows."""

    def __init__(
        self, task: Task, model: nn.Module, tokenizer: Any, max_length: int, compute: Compute, name: str
    ) -> None:
        self.task, self.model, self.tokenizer = task, model, tokenizer
        self.max_length, self.compute, self.name = max_length, compute, name

    def record(self, split: Split, severity: float, what: str) -> Generator[Progress, None, dict[str, float]]:
        """The scores of these rows as they are."""
        rows = encode(split, self.tokenizer, self.max_length)
        logits = yield from predict(self.model, rows, self.compute, f"{self.name}, {what}")
        return self._told(severity, logits, rows.labels)

    def adversarial(self, split: Split) -> Generator[Progress, None, list[dict[str, float]]]:
        """One record a step of the embeddings against this model."""
        rows = encode(split, self.tokenizer, self.max_length)
        special = special_ids(self.tokenizer)

        def answers(encoding: Encoding, chosen: NDArray[np.int64]) -> Tensor:
            gold = torch.from_numpy(rows.labels[chosen]).to(self.compute.device)
            return adversarial.adversarial_logits(self.model, encoding, word_mask(encoding, special), gold)

        self.model.eval()
        passing = by_batch(rows, adversarial.ROWS_AT_ONCE, self.compute, answers, f"{self.name}, {EMBEDDINGS}")
        logits = yield from passing
        return [self._told(step, of, rows.labels) for step, of in zip(STEPS, logits, strict=True)]

    def _told(self, severity: float, logits: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, float]:
        score = scores(self.task, logits, labels)[self.task.main_metric]
        return {"severity": severity, "score": score} | confidence(logits, labels)


def _by_kind(reader: _Reader, split: Split) -> Generator[Event, None, dict[str, list[dict[str, float]]]]:
    plain = yield from reader.record(split, 0.0, "as it is")
    found: dict[str, list[dict[str, float]]] = {kind: [plain] for kind in KINDS}
    for kind in KINDS:
        for severity in SEVERITIES[1:]:
            columns = (damaged(texts, split.ids, kind, severity, at) for at, texts in enumerate(split.texts))
            rows = replace(split, texts=tuple(columns))
            found[kind].append((yield from reader.record(rows, severity, f"{kind} {severity:.0%}")))
    return found


if __name__ == "__main__":
    measure_process.main(measure)
