"""What a linear classifier reads out of each layer of a finished run's student, and of its teacher."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdcore.config import RunConfig
from kdcore.data.encode import Encoded, encode
from kdcore.data.splits import Split
from kdcore.engine import measure_process, results
from kdcore.engine.device import Compute
from kdcore.engine.predict import by_batch
from kdcore.engine.remeasure import absent_teacher, compute_here, scored_split, threads_of
from kdcore.errors import UserError
from kdcore.events import Event, Progress
from kdcore.models.observe import observe
from kdcore.models.students import load_classifier
from kdcore.models.tokenizers import load_tokenizer
from kdcore.probes import linear_probe
from kdcore.probes.linear_probe import CLS, LEAST_ROWS, MEAN, Parts, Property
from kdcore.probes.lost_rows import bootstrap
from kdcore.records import ALL_LAYERS, Encoding

PROBE = "linear_probe"
BATCH = 32
"""Rows of a pass: the states of all layers are in memory at once."""

States = dict[str, NDArray[np.float32]]
"""Pooling -> the vectors of every layer from the embeddings on, [layers + 1, rows, width]."""
RightRows = dict[str, dict[str, list[NDArray[np.bool_]]]]
"""Pooling -> property -> for each layer which scored rows are right."""


def measure(
    run: RunConfig,
    folder: Path,
    facts: Mapping[str, Any],
    known: Mapping[str, Any] | None = None,
    rivals_of: str | None = None,
    beside: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Probes the run's kept student and one of its teachers, layer by layer, on rows of the first dev split.

    Yields progress and one `Probed` "linear_probe": split; fit and score (how many rows); teacher; properties (key,
    title, classes, chance; absent: why nothing is told, else ""); models: "student" or the teacher's name -> pooling ->
    property -> one record a layer, embeddings first, with `value` (accuracy, a fraction), `low`, `high`; gaps: pooling
    -> property -> the teacher's accuracy less the student's in the last layers of both, with `value`, `low`, `high`
    (paired bootstrap over rows). The same JSON goes to the run's `probes/`.

    Args:
        folder: the run's. facts: its `RunStarted.facts`. rivals_of: the teacher. known, beside: unused, for the form of
            `remeasure.measure`: nothing here is timed.

    Raises:
        UserError: student or teacher are no longer on this disk, the rows are not those that the run was scored on, or
            they are fewer than `LEAST_ROWS`.
    """
    rows, names = _rows(run, facts)
    chosen = linear_probe.parts(len(rows))
    asked = linear_probe.properties(rows.texts, rows.labels, names)
    told = [one for one in asked if not linear_probe.absence(one, chosen)]
    compute = compute_here(run.train)
    right: dict[str, RightRows] = {}
    with threads_of(facts):
        for name, (model, tokenizer) in _models(folder, rivals_of).items():
            encoded = encode(rows, tokenizer, run.train.max_length)
            states = yield from _states(model.to(compute.device), encoded, compute, name)
            right[name] = yield from _read_out(states, told, chosen, name)
    theirs, ours = right[str(rivals_of)], right["student"]
    data = {
        "split": rows.name, "fit": len(chosen.fit), "score": len(chosen.score), "teacher": rivals_of,
        "properties": [_about(one, chosen) for one in asked],
        "models": {name: _shares(found) for name, found in right.items()},
        "gaps": {pooling: {key: _gap(theirs[pooling][key][-1], layers[-1]) for key, layers in of.items()}
                 for pooling, of in ours.items()},
    }  # fmt: skip
    yield results.keep_probe(folder, PROBE, int(facts.get("steps") or 0), data)


def _rows(run: RunConfig, facts: Mapping[str, Any]) -> tuple[Split, tuple[str, ...]]:
    """The rows of the first dev split that are used, and the names of their classes."""
    task, split = scored_split(run, facts)
    if len(split) < LEAST_ROWS:
        raise UserError(
            "task", f"its dev split has {len(split)} rows, a linear probe takes {LEAST_ROWS}", "choose a larger task"
        )
    return split.take(linear_probe.sample(len(split))), task.labels


def _models(folder: Path, teacher: str | None) -> dict[str, tuple[nn.Module, Any]]:
    home = results.teacher_folders(folder).get(str(teacher))
    if teacher is None or home is None:
        raise absent_teacher(teacher)
    return {"student": results.student(folder), teacher: (load_classifier(home), load_tokenizer(home))}


def _states(model: nn.Module, rows: Encoded, compute: Compute, name: str) -> Generator[Progress, None, States]:
    """The vectors of these rows, in their order; padding is part of none."""

    def vectors(encoding: Encoding, _chosen: NDArray[np.int64]) -> Tensor:
        with compute.autocast():
            hidden = observe(model, encoding, {"hidden": ALL_LAYERS}, grad=False).hidden
        real = encoding.attention_mask[..., None].float()
        stacked = torch.stack([hidden[layer].float() for layer in sorted(hidden)])
        return torch.cat([(stacked * real).sum(2) / real.sum(1), stacked[:, :, 0]])

    model.eval()
    both = yield from by_batch(rows, BATCH, compute, vectors, f"{name}, states of its layers")
    return dict(zip((MEAN, CLS), np.split(both, 2), strict=True))


def _read_out(
    states: States, told: Sequence[Property], chosen: Parts, name: str
) -> Generator[Progress, None, RightRows]:
    found: RightRows = {pooling: {one.key: [] for one in told} for pooling in states}
    layers = len(next(iter(states.values())))
    for layer in range(layers):
        for pooling, vectors in states.items():
            for one in told:
                found[pooling][one.key].append(linear_probe.right_rows(vectors[layer], one, chosen))
        yield Progress(f"{name}, probes on layer {layer}", layer + 1, layers)
    return found


def _shares(found: RightRows) -> dict[str, dict[str, Any]]:
    """Pooling -> property -> the share of right rows of each layer."""
    return {
        pooling: {key: [asdict(linear_probe.share(one)) for one in layers] for key, layers in of.items()}
        for pooling, of in found.items()
    }


def _about(one: Property, chosen: Parts) -> dict[str, Any]:
    return {
        "key": one.key, "title": one.title, "classes": list(one.classes),
        "chance": linear_probe.chance(one, chosen), "absent": linear_probe.absence(one, chosen),
    }  # fmt: skip


def _gap(theirs: NDArray[np.bool_], ours: NDArray[np.bool_]) -> dict[str, float]:
    (low, high), _ = bootstrap(theirs, ours)
    return {"value": float(theirs.mean() - ours.mean()), "low": low, "high": high}


if __name__ == "__main__":
    measure_process.main(measure)
