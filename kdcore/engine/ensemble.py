"""The teachers while a student learns: each answers from the cache where it can, from the model where it must."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdcore.data.encode import Encoded, pad, sorted_order
from kdcore.engine import teacher_cache
from kdcore.engine.device import Compute
from kdcore.engine.pins import pinned
from kdcore.engine.predict import BATCH
from kdcore.engine.teacher_cache import CachedTensor, TeacherCache
from kdcore.errors import UserError
from kdcore.events import Progress
from kdcore.losses.hidden import content_means
from kdcore.models.anatomy import anatomy
from kdcore.models.observe import observe, rerun_of
from kdcore.models.students import load_classifier
from kdcore.records import Batch, Encoding, ModelSize, Needs, Outputs, want


@dataclass(frozen=True)
class Teacher:
    """A frozen teacher of the task, on disk.

    identity: hash of its weights. origin: where it comes from, in words. reading: key of the encoding that it reads; ""
        is the student's.
    """

    name: str
    folder: Path
    size: ModelSize
    identity: str
    origin: str
    reading: str = ""

    def load(self) -> nn.Module:
        """The model in eval mode, no gradients."""
        return load_classifier(self.folder, self.size.labels).eval().requires_grad_(False)


class Ensemble:
    """The run's teachers over its training rows.

    Args:
        rows: the training rows, encoded.
        data: words that identify the data and its encoding, part of every cache entry's name.
        cached: whether outputs may be kept on disk.
    """

    def __init__(
        self, teachers: Iterable[Teacher], rows: Encoded, data: Mapping[str, Any], compute: Compute, cached: bool
    ) -> None:
        self.teachers = {teacher.name: teacher for teacher in teachers}
        self._rows, self._data, self._compute, self._cached = rows, data, compute, cached
        self._own: dict[str, Teacher] = {}  # trained in this run, asked by name alone
        self._models: dict[str, nn.Module] = {}
        self._exact: dict[str, nn.Module] = {}  # in float32, for stages that differentiate a teacher
        self._caches: dict[str, TeacherCache] = {}
        self._needs = Needs()
        self._pins = ExitStack()
        self.seconds = 0.0
        self.hits = self.misses = self.live = self.damaged = 0

    def adopt(self, teacher: Teacher) -> None:
        """Takes in a teacher that the run trained; stages that name it can ask it, others do not know it."""
        self._own[teacher.name] = teacher
        self._models.pop(teacher.name, None)

    def _teacher(self, name: str) -> Teacher:
        return self._own[name] if name in self._own else self.teachers[name]

    def ready(self, needs: Needs, names: Iterable[str]) -> Generator[Progress, None, None]:
        """Before a stage: fills the cache for what it reads of these teachers, or loads the models it must run."""
        self._needs, names = needs, tuple(names)
        self._caches.clear()
        rerun = names if "teacher" in needs.rerun else ()
        self._exact = {name: self._teacher(name).load().to(self._compute.device) for name in rerun}
        for name in names:
            teacher = self._teacher(name)
            tensors = teacher_cache.tensors_of(needs.of_teacher(name), teacher.size) if self._cached else None
            if tensors is not None and self._fits(teacher, tensors):
                yield from self._fill(teacher, tensors)
            else:
                self._model(teacher)
        if all(name in self._caches for name in names):
            self._models.clear()

    def answer(self, name: str, batch: Batch, rows: Tensor | None) -> Outputs:
        """What a teacher says of these rows of the batch (None: all). Never with a graph, but where it is run again.

        Raises:
            UserError: the method rewrote the rows for one tokenizer, and the teacher reads by another.
        """
        ids = batch.ids if rows is None else batch.ids[rows.cpu()]
        encoding = self._read(name, batch)
        encoding = encoding if rows is None else encoding.rows(rows)
        outputs = self._outputs(name, ids, encoding)
        if name in self._exact:
            return outputs.with_rerun(rerun_of(self._exact[name], encoding, self._needs.of_teacher(name)))
        return outputs

    def _read(self, name: str, batch: Batch) -> Encoding:
        """The batch as a teacher reads it. A stage that says `live` was refused before the run."""
        reading = self.reading(name)
        if reading not in batch.encodings:
            raise UserError(
                f"teachers.{name}", "it reads by a tokenizer of its own, by which the method's `stream` gave no rows",
                "set `live` on the stage, so that this teacher is refused before a run, or keep the batch's encodings",
            )  # fmt: skip
        return batch.encodings[reading]

    def _outputs(self, name: str, ids: Tensor, encoding: Encoding) -> Outputs:
        if name in self._caches and bool((ids >= 0).all()):
            return self._caches[name].read(ids, encoding, self._compute.device)
        self.live += len(ids)
        with self._compute.autocast():
            wanted = self._needs.of_teacher(name)
            return observe(self._model(self._teacher(name)), encoding, wanted, grad=False, whole=True)

    def logits(self, name: str, rows: Encoded, what: str) -> Generator[Progress, None, NDArray[np.float32]]:
        """A teacher's logits over any rows (dev splits, `select`), float32 [rows, outputs]; kept like the others."""
        teacher = self._teacher(name)
        rows = rows.reading(teacher.reading)
        tensors = teacher_cache.tensors_of({"logits": ()}, teacher.size)
        assert tensors is not None
        with pinned(teacher_cache.entry_folder(self._identity(teacher), rows)):
            cache = TeacherCache(self._identity(teacher), rows, tensors)
            if cache.missing().any():
                yield from cache.fill(self._model(teacher), self._compute, _reason(cache, what))
            self.damaged += cache.damaged
            return cache.logits()

    def mean_states(self, name: str, rows: Encoded) -> Generator[Progress, None, Tensor]:
        """A teacher's last states, mean over each row's tokens but the first: float32 [rows, width], on the CPU."""
        teacher = self._teacher(name)
        rows, last = rows.reading(teacher.reading), teacher.size.layers
        means = torch.zeros(len(rows), teacher.size.width)
        batches = sorted_order(rows.lengths, BATCH)
        for done, chosen in enumerate(batches, start=1):
            encoding = pad(rows, chosen, self._compute.pad_to).to(self._compute.device)
            with self._compute.autocast():
                states = observe(self._model(teacher), encoding, want(hidden=(last,)), grad=False, whole=True)
            means[torch.from_numpy(chosen)] = content_means(states.hidden[last], encoding.attention_mask).cpu()
            yield Progress(f"states of teacher {name} on the training rows", done, len(batches))
        return means

    def reading(self, name: str) -> str:
        """Key of the encoding that a teacher reads."""
        return self._teacher(name).reading

    def word_embeddings(self, name: str) -> Tensor:
        """A copy of a teacher's table of word embeddings, float32 [vocabulary, width], on the CPU."""
        return anatomy(self._model(self._teacher(name))).word_vectors().float().cpu()

    @contextmanager
    def open(self) -> Iterator[Ensemble]:
        """Keeps the used entries from being dropped; lets models and maps go at the end."""
        with self._pins:
            yield self
        self._models.clear()
        self._exact.clear()
        self._caches.clear()

    def facts(self) -> dict[str, Any]:
        """How the cache served: rows found and rows computed, the seconds that took, bytes on disk.

        live: rows that a teacher answered in the middle of training, since what was asked of it is not kept. damaged:
        rows whose kept outputs were not those that were written; they were made anew.
        """
        counts = {"hits": self.hits, "misses": self.misses, "live": self.live, "damaged": self.damaged}
        return {**counts, "seconds": self.seconds, "bytes": teacher_cache.bytes_in_use()}

    def _fill(self, teacher: Teacher, tensors: list[CachedTensor]) -> Generator[Progress, None, None]:
        rows = self._rows.reading(teacher.reading)
        folder = teacher_cache.entry_folder(self._identity(teacher), rows)
        self._pins.enter_context(pinned(folder))
        cache = TeacherCache(self._identity(teacher), rows, tensors)
        if cache.missing().any():
            what = _reason(cache, f"teacher {teacher.name} answers once")
            self.seconds += yield from cache.fill(self._model(teacher), self._compute, what)
            self.misses += cache.misses
            self.hits += cache.hits
            self.damaged += cache.damaged
        else:
            self.hits += len(self._rows)
        self._caches[teacher.name] = cache

    def _fits(self, teacher: Teacher, tensors: list[CachedTensor]) -> bool:
        rows = self._rows.reading(teacher.reading)
        folder = teacher_cache.entry_folder(self._identity(teacher), rows)
        needed = sum(tensor.size(rows) for tensor in tensors if not (folder / tensor.file).exists())
        return teacher_cache.make_room(needed, {folder, *(cache.folder for cache in self._caches.values())})

    def _model(self, teacher: Teacher) -> nn.Module:
        if teacher.name not in self._models:
            self._models[teacher.name] = self._compute.frozen(teacher.load())
        return self._models[teacher.name]

    def _identity(self, teacher: Teacher) -> dict[str, Any]:
        compute = self._compute
        return {
            "teacher": teacher.identity,
            "precision": compute.precision,
            "device": compute.device.type,
            "padded to": compute.pad_to,
            "torch": torch.__version__,
            **self._data,
        }


def joint_facts(ensembles: Iterable[Ensemble]) -> dict[str, Any]:
    """`Ensemble.facts` of all of them together; the bytes on disk are shared."""
    each = [ensemble.facts() for ensemble in ensembles]
    return {name: value if name == "bytes" else sum(facts[name] for facts in each) for name, value in each[0].items()}


def _reason(cache: TeacherCache, what: str) -> str:
    """What a fill of the cache is called."""
    return f"{what}, {cache.damaged:,} rows again since their kept outputs are damaged" if cache.damaged else what
