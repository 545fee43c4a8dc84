"""Snapshots of a training: where the student attends, and how far its layers are from the teachers'.

At the start, evenly spaced between, and at the end: the student's attention over a few dev rows, and the distances of
its layers from every teacher's. The folder `probes/snapshots` of a run holds `rows.json` (which rows),
`teachers.safetensors` (the teachers' attention over them, once) and `<step>.safetensors` for each moment. Taking one
changes nothing in the training: eval mode, no gradients, no random draw.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from kdcore.data.encode import Encoded, pad
from kdcore.errors import CorruptError
from kdcore.events import Probed
from kdcore.models.observe import evaluating, observe
from kdcore.probes.attention import AttentionMaps, Maps
from kdcore.probes.distances import (
    Distances,
    LayerStates,
    compare_first_tokens,
    compare_states,
    layer_states,
    sample,
    sample_tokens,
    word_pieces,
)
from kdcore.records import ALL_LAYERS, ModelSize

FOLDER = "snapshots"
"""Inside a run's `probes`."""
MOMENTS = 8
ROWS = 4
"""Dev rows whose attention is kept."""
TOKENS = 16
"""Length of the rows that are preferred: long enough to show something, short enough to read."""
MAX_BYTES = 20 * 2**20
"""What all snapshots of a run may take on disk: fewer rows, then fewer moments, where the models are large."""

MEASURES = ("cka", "cosine", "mse", "cls")
_HEADERS = 16 * 2**10
"""Room for a file's header and the list of rows."""


@dataclass(frozen=True)
class Plan:
    """What fits: numbers of the rows whose attention is kept, and how many moments."""

    rows: NDArray[np.int64]
    moments: int


def plan(lengths: NDArray[np.int64], student: ModelSize, teachers: Sequence[ModelSize]) -> Plan:
    """The largest plan within `MAX_BYTES`: rows are given up first, then moments, then attention altogether.

    Args:
        lengths: tokens of each dev row. The rows nearest to `TOKENS` are taken, ties by number.
    """
    near = np.argsort(np.abs(lengths - TOKENS), kind="stable")[:ROWS]
    choices = [(MOMENTS, rows) for rows in range(len(near), 0, -1)]
    choices += [(moments, 1) for moments in range(MOMENTS - 1, 1, -1)]
    for moments, rows in choices:
        if size(lengths[near[:rows]], moments, student, teachers) <= MAX_BYTES:
            return Plan(near[:rows], moments)
    return Plan(near[:0], MOMENTS)


def size(lengths: NDArray[np.int64], moments: int, student: ModelSize, teachers: Sequence[ModelSize]) -> int:
    """Bytes on disk, a little more than it will be: attention in float16, matrices in float32.

    Args:
        lengths: tokens of the rows whose attention is kept.
    """
    cells = 2 * int((lengths.astype(np.int64) ** 2).sum())
    matrices = sum(4 * len(MEASURES) * (teacher.layers + 1) * (student.layers + 1) for teacher in teachers)
    once = cells * sum(teacher.layers * teacher.heads for teacher in teachers)
    return moments * (cells * student.layers * student.heads + matrices + _HEADERS) + once + 2 * _HEADERS


def moments(stages: Mapping[int, int], count: int) -> list[tuple[int, int]]:
    """(stage, steps done in it) of the start, the end, and evenly spaced between.

    Args:
        stages: number of a stage -> its steps, for those in which the kept student learns.
    """
    numbers, ends = list(stages), np.cumsum(list(stages.values()))
    points = [(numbers[0], 0)]
    for step in np.unique(np.round(np.linspace(0, ends[-1], count)).astype(int))[1:]:
        index = int(np.searchsorted(ends, step))
        points.append((numbers[index], int(step - (ends[index - 1] if index else 0))))
    return points


class Snapshots:
    """Takes the moments of one training.

    Args:
        folder: the run's folder. split, rows: the dev split that is looked at, encoded. words: ids -> tokens.
        student: size of the kept student. teachers: name -> its size and how to load it, in eval mode.
        stages: as for `moments`.
        others: of teachers that read other tokens, the key of their reading of the rows, and its ids -> tokens.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        rows: Encoded,
        words: Callable[[list[int]], list[str]],
        student: ModelSize,
        teachers: Mapping[str, tuple[ModelSize, Callable[[], nn.Module]]],
        stages: Mapping[int, int],
        device: torch.device,
        others: Mapping[str, tuple[str, Callable[[list[int]], list[str]]]] | None = None,
    ) -> None:
        self.folder = folder / "probes" / FOLDER
        self._split, self._rows, self._words, self._device = split, rows, words, device
        self._plan = plan(rows.lengths, student, [size for size, _ in teachers.values()])
        self._moments = frozenset(moments(stages, self._plan.moments))
        self._others = dict(others or {})
        self._last_stage = max(stages)
        self._load = {name: load for name, (_, load) in teachers.items()}
        self._compared = sample(rows.lengths) if teachers else np.empty(0, np.int64)
        self._teachers: dict[str, LayerStates] | None = None

    def begin(self, step: int | None) -> None:
        """Before training: forgets moments after `step`, where the training goes on; all, where it starts anew."""
        if step is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        for later in (other for other in steps(self.folder) if other > step):
            _file(self.folder, later).unlink()

    def due(self, stage: int, done: int, step: int, ended: bool = False) -> bool:
        """Whether a moment has come after so many steps of a stage, `step` of the run, and is not kept yet.

        Args:
            ended: the stage is over, perhaps earlier than planned.
        """
        at_its_end = ended and stage == self._last_stage
        return ((stage, done) in self._moments or at_its_end) and not _file(self.folder, step).exists()

    def take(self, model: nn.Module, step: int) -> Probed:
        """Keeps this moment of the student; the event gives the cost of all moments so far."""
        started = time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._teachers is None:
            self._teachers = self._observe_teachers()
        tensors = self._attention(model)
        ours = self._states(model)
        for name, theirs in self._teachers.items():
            distances = self._distances(model, name, theirs, ours)
            tensors |= {f"{measure}.{name}": _float32(getattr(distances, measure)) for measure in MEASURES}
        _write(_file(self.folder, step), tensors, {"seconds": f"{time.perf_counter() - started:.4f}"})
        return Probed(FOLDER, step, cost(self.folder))

    def _distances(self, model: nn.Module, teacher: str, theirs: LayerStates, ours: LayerStates) -> Distances:
        """Over tokens, or over words where the teacher reads other tokens; of [CLS] alone where words are not told.

        ours: the student's states of all tokens.
        """
        if teacher not in self._others:
            return compare_states(theirs, ours)
        if self._pieces(teacher) is None:
            return compare_first_tokens(theirs, ours)
        return compare_states(theirs, self._states(model, teacher, 0))

    def _observe_teachers(self) -> dict[str, LayerStates]:
        """The teachers' states, and, on disk, the rows and where the teachers attend in them. One teacher at a time."""
        states: dict[str, LayerStates] = {}
        attention: dict[str, NDArray[Any]] = {}
        for name, load in self._load.items():
            model = load().to(self._device)
            states[name] = self._states(model, name, 1)
            attention |= {f"{name}.{key}": maps for key, maps in self._attention(model, self._reading(name)).items()}
        _write(self.folder / "teachers.safetensors", attention, {})
        (self.folder / "rows.json").write_text(json.dumps(self._facts()))
        return states

    def _facts(self) -> dict[str, Any]:
        others = {
            name: [_row(self._rows.reading(key), row, tokens) for row in self._plan.rows]
            for name, (key, tokens) in self._others.items()
        }
        return {
            "split": self._split,
            "rows": [_row(self._rows, row, self._words) for row in self._plan.rows],
            "teachers": list(self._load),
            **({"teacher_rows": others} if others else {}),
            "compared_tokens": sample_tokens(self._rows.lengths[self._compared]),
        }

    def _reading(self, teacher: str) -> Encoded:
        return self._rows.reading(self._others[teacher][0] if teacher in self._others else "")

    def _states(self, model: nn.Module, teacher: str = "", side: int = 0) -> LayerStates:
        """The states that are compared: of all tokens, or of the words that the student shares with a teacher who reads
        other tokens, where both tokenizers tell words.

        side: whose reading it is; 0: the student's, 1: the teacher's.
        """
        if not self._load:
            return LayerStates([], [])
        rows = self._reading(teacher) if side else self._rows
        pieces = self._pieces(teacher) if teacher in self._others else None
        encoding = pad(rows, self._compared).to(self._device)
        return layer_states(model, encoding, pieces and pieces[side])

    def _pieces(self, teacher: str) -> tuple[list[Tensor], list[Tensor]] | None:
        """Of the words that student and teacher share; None where a tokenizer does not tell words."""
        return word_pieces(self._rows, self._reading(teacher), self._compared)

    def _attention(self, model: nn.Module, rows: Encoded | None = None) -> dict[str, NDArray[Any]]:
        """Number of a kept row -> [layers, heads, tokens, tokens] in float16. rows: as the model reads them."""
        attention, rows = {}, rows or self._rows
        for number, row in enumerate(self._plan.rows):
            encoding = pad(rows, np.array([row])).to(self._device)
            with evaluating(model):
                layers = observe(model, encoding, {"attention": ALL_LAYERS}, grad=False).attention
            tokens = int(rows.lengths[row])
            maps = torch.stack([layers[layer][0, :, :tokens, :tokens] for layer in sorted(layers)])
            attention[str(number)] = maps.half().cpu().numpy()
        return attention


def _row(rows: Encoded, row: int, words: Callable[[list[int]], list[str]]) -> dict[str, Any]:
    """What is told of a kept row: its id, its tokens, and the word that each is of, where that is known."""
    place = slice(rows.offsets[row], rows.offsets[row + 1])
    told = {} if rows.words is None else {"words": rows.words[place].tolist()}
    return {"id": int(rows.ids[row]), "tokens": words(rows.input_ids[place].tolist()), **told}


@dataclass(frozen=True)
class SnapshotReader:
    """The snapshots in a run's folder.

    steps: of the moments, rising. rows: the tokens of each kept row. ids: of these rows in the split.
    compared_tokens: how many tokens the distances are taken over.
    words: of each kept row, the word that each token is of; None where that was not told. teacher_rows, teacher_words:
        the same rows as teachers read them that cut a text into other tokens.
    """

    folder: Path
    steps: tuple[int, ...]
    split: str
    rows: tuple[tuple[str, ...], ...]
    ids: tuple[int, ...]
    teachers: tuple[str, ...]
    compared_tokens: int
    words: tuple[tuple[int, ...] | None, ...] = ()
    teacher_rows: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    teacher_words: Mapping[str, tuple[tuple[int, ...] | None, ...]] = field(default_factory=dict)

    def student(self, step: int, row: int) -> AttentionMaps:
        """Where the student attended in a row at a step, to half precision."""
        return self._maps(_file(self.folder, step), str(row), self.rows[row], self.words[row])

    def teacher(self, name: str, row: int) -> AttentionMaps:
        """Where a teacher attends in a row, to half precision."""
        tokens, words = self.teacher_rows.get(name, self.rows)[row], self.teacher_words.get(name, self.words)[row]
        return self._maps(self.folder / "teachers.safetensors", f"{name}.{row}", tokens, words)

    def distances(self, step: int) -> dict[str, dict[str, Maps]]:
        """Teacher -> measure -> [teacher layers + 1, student layers + 1], as in `distances.Distances`.

        Measures that were not taken yet when the run trained are left out.
        """
        keys = {(name, measure): f"{measure}.{name}" for name in self.teachers for measure in MEASURES}
        tensors = _read(_file(self.folder, step), list(keys.values()), missing=tuple(f"cls.{n}" for n in self.teachers))
        return {
            name: {measure: tensors[keys[name, measure]] for measure in MEASURES if keys[name, measure] in tensors}
            for name in self.teachers
        }

    def _maps(self, file: Path, key: str, tokens: Sequence[str], words: Sequence[int] | None) -> AttentionMaps:
        maps = _read(file, [key])[key].astype(np.float32)
        return AttentionMaps(list(tokens), maps, None if words is None else np.array(words, np.int32))


def read(run: Path) -> SnapshotReader | None:
    """What is in a run's folder; None where no moment was kept.

    Raises:
        CorruptError: the list of rows cannot be read.
    """
    folder = run / "probes" / FOLDER
    kept = steps(folder)
    if not kept:
        return None
    try:
        facts = json.loads((folder / "rows.json").read_text())
        return SnapshotReader(
            folder,
            tuple(kept),
            str(facts["split"]),
            _tokens(facts["rows"]),
            tuple(int(row["id"]) for row in facts["rows"]),
            tuple(map(str, facts["teachers"])),
            int(facts["compared_tokens"]),
            _words(facts["rows"]),
            {str(name): _tokens(rows) for name, rows in facts.get("teacher_rows", {}).items()},
            {str(name): _words(rows) for name, rows in facts.get("teacher_rows", {}).items()},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _corrupt(folder / "rows.json", error) from error


def _tokens(rows: Any) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(map(str, row["tokens"])) for row in rows)


def _words(rows: Any) -> tuple[tuple[int, ...] | None, ...]:
    return tuple(tuple(map(int, row["words"])) if "words" in row else None for row in rows)


def cost(folder: Path) -> dict[str, Any]:
    """steps of the moments kept so far, and what they took: bytes on disk and seconds of the training's time.

    A file that cannot be read counts no seconds: reading its moment raises.
    """
    kept = steps(folder)
    seconds = 0.0
    for step in kept:
        with suppress(OSError, SafetensorError), safe_open(_file(folder, step), framework="np") as file:
            seconds += float((file.metadata() or {}).get("seconds", 0.0))
    return {"steps": kept, "seconds": seconds, "bytes": sum(file.stat().st_size for file in folder.iterdir())}


def steps(folder: Path) -> list[int]:
    """Steps of the moments in a folder of snapshots, rising."""
    return sorted(int(file.stem) for file in folder.glob("*.safetensors") if file.stem.isdigit())


def _file(folder: Path, step: int) -> Path:
    return folder / f"{step:08d}.safetensors"


def _float32(matrix: Tensor) -> NDArray[np.float32]:
    return matrix.float().cpu().numpy()


def _write(file: Path, tensors: Mapping[str, NDArray[Any]], about: dict[str, str]) -> None:
    """Whole or absent: a reader never sees half a file."""
    partial = file.with_suffix(".partial")
    # an empty `about` must not be passed: of no tensors and no metadata safetensors makes a header that is not JSON
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, partial, about or None)
    partial.replace(file)


def _read(file: Path, names: Sequence[str], missing: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """The tensors of a file by name. missing: those that it may lack."""
    try:
        with safe_open(file, framework="np") as tensors:
            absent = set(missing) - set(tensors.keys())
            return {name: tensors.get_tensor(name) for name in names if name not in absent}
    except (OSError, SafetensorError) as error:
        raise _corrupt(file, error) from error


def _corrupt(file: Path, error: Exception) -> CorruptError:
    problem = f"the snapshot {file.name} cannot be read ({str(error)[:120]})"
    return CorruptError("run", problem, "clone the run to train anew; its scores stay")
