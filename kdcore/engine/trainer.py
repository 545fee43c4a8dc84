"""A run from its settings to its student, as a stream of events. Consumers watch; only `control` can stop it."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from kdcore import __version__
from kdcore.config import RunConfig, StudentSpec
from kdcore.data import load
from kdcore.data.splits import TaskData
from kdcore.engine import checkpoint, final_metrics
from kdcore.engine.control import Control, NoControl, Stop
from kdcore.engine.device import Compute, build_facts, compute_for, give_back_memory, keep_freed_memory
from kdcore.engine.ensemble import Ensemble, Teacher
from kdcore.engine.loop import Job, run_stages, stage_steps
from kdcore.engine.seeds import seed_of
from kdcore.engine.teachers import Rows, base_size, encode_rows, load_base, prepare_teacher, tokenizer_of
from kdcore.errors import UserError
from kdcore.events import Evaluated, Event, RunFinished, RunStarted, RunStopped
from kdcore.methods import Method, resolve
from kdcore.models.count import flops, parameters
from kdcore.models.sizes import ROBERTA_OFFSET, size_of, student_size
from kdcore.models.students import build_student, save_student
from kdcore.models.tokenizers import same_vocabulary, tokenizer_from_vocabulary
from kdcore.probes.snapshots import Snapshots
from kdcore.records import ModelSize, Setup

__all__ = ["Control", "NoControl", "train"]


def train(run: RunConfig, folder: Path, control: Control | None = None) -> Iterator[Event]:
    """Trains the student of `run` in `folder`, from the newest checkpoint there if there is one.

    Yields the events of `kdcore.events`. On success the folder holds `student-best`, `student-last` (Hugging Face
    layout), `predictions/` and `probes/`; its checkpoint is gone. A stop keeps checkpoint and student.

    Raises:
        UserError: the settings cannot be met; field and remedy are named.
    """
    control = control or NoControl()
    keep_freed_memory()
    threads = torch.get_num_threads()
    if run.train.threads:
        torch.set_num_threads(run.train.threads)
    try:
        where = compute_for(run.train)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(run.model_dump_json(indent=1))
        yield from _train(run, folder, control, where, started=time.perf_counter())
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):  # safetensors hides what the system said
            raise OSError(errno.ENOSPC, "the disk is full", str(folder)) from error
        raise
    finally:
        torch.set_num_threads(threads)  # the next run in this thread makes its own choice
        give_back_memory()


def _train(run: RunConfig, folder: Path, control: Control, where: Compute, started: float) -> Iterator[Event]:
    data = load(run.task, run.own)
    method_class, options = resolve(run.method, run.options)
    check_method(method_class, run, data)
    check_length(run, data)
    teachers: list[Teacher] = []
    for spec in run.teachers:
        teacher = yield from prepare_teacher(spec, data, run.train, where, control)
        if teacher is None:
            yield RunStopped(0, kept=False)
            return
        teachers.append(teacher)
    tokenizer = shared_tokenizer(run, data)
    rows = encode_rows(data, tokenizer, run.train)
    ensemble = Ensemble(teachers, rows.train, rows.identity, where, run.train.teacher_cache)
    with ensemble.open():
        said, teacher_events = yield from _teacher_scores(teachers, ensemble, rows, data, control)
        if len(said) < len(teachers):
            yield RunStopped(0, kept=False)
            return
        base = reference_size(run, data, len(tokenizer))
        shape = student_size(run.student, base, data.task.outputs)
        setup = Setup(
            data.task.kind, data.task.outputs, shape, {t.name: t.shape for t in teachers},
            {name: scores["select"][data.task.main_metric] for name, scores in said.items()},
            len(rows.train), run.train.seed, data.task.key,
        )  # fmt: skip
        method = method_class(options, setup)
        job = _job(run, folder, data, tokenizer, rows, teachers, ensemble, method, shape, where)
        if run.probes.distances:
            job.snapshots = _snapshots(job, teachers)
        facts = _facts(run, job, teachers, said, data, rows)
        yield RunStarted(facts)
        yield from teacher_events
        (folder / "teachers.json").write_text(json.dumps({t.name: str(t.folder) for t in teachers}, indent=1))
        ready = time.perf_counter()
        stopped = yield from run_stages(job, control)
        if stopped:
            yield from _stopped(job, folder, stopped)
            return
        save_student(job.main, tokenizer, folder / "student-last", job.before_saving)
        trained = time.perf_counter()
        summary = yield from final_metrics.final(run, job, teachers, rows)
        seconds = {
            "total": time.perf_counter() - started,
            "teachers": ready - started,
            "training": trained - ready,
            "readings": time.perf_counter() - trained,
        }
        job.before_saving()  # a resume of another worker needs the checkpoint
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        yield RunFinished(
            {**summary, "seconds": seconds["total"], "seconds_by_part": seconds, "cache": ensemble.facts()}
        )


def check_method(method: type[Method], run: RunConfig, data: TaskData) -> None:
    """Raises UserError where a method has no meaning for the task, or not for so many teachers."""
    if data.task.kind not in method.kinds:
        raise UserError(
            "method", f"{method.title} has no meaning for {data.task.kind}", "choose another method or task"
        )
    fewest, most = method.teachers
    if not fewest <= len(run.teachers) <= most:
        wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        raise UserError(
            "teachers", f"{method.title} takes {wanted}, {len(run.teachers)} are chosen", "change the ensemble"
        )


def check_length(run: RunConfig, data: TaskData) -> None:
    """Raises UserError where rows may be longer than a teacher or the base can read."""
    for spec in (*run.teachers, *([run.base] if run.base else [])):
        shape = base_size(spec, data)
        longest = shape.positions - (ROBERTA_OFFSET if shape.model_type == "roberta" else 0)
        if run.train.max_length > longest:
            raise UserError(
                "train.max_length",
                f"{spec.name} reads {longest} tokens, not {run.train.max_length}",
                "lower it to that",
            )


def shared_tokenizer(run: RunConfig, data: TaskData) -> Any:
    """The one tokenizer of teachers and student.

    Raises:
        UserError: teachers of different vocabularies, or nothing that brings a vocabulary.
    """
    sources = [*run.teachers, *([run.base] if run.base else [])]
    if not sources:
        if data.vocabulary is None:
            raise UserError(
                "base", "without a teacher nothing says which vocabulary the student has", "name a base or a teacher"
            )
        return tokenizer_from_vocabulary(data.vocabulary)
    first = tokenizer_of(sources[0], data)
    for spec in sources[1:]:
        if not same_vocabulary(first, tokenizer_of(spec, data)):
            raise UserError(
                f"teachers.{spec.name}", f"its vocabulary differs from that of {sources[0].name}",
                "choose teachers of one vocabulary",
            )  # fmt: skip
    return first


def reference_size(run: RunConfig, data: TaskData, vocabulary: int) -> ModelSize:
    """The size that fills what the student's settings leave empty: the base's, or the first teacher's."""
    source = run.base or (run.teachers[0] if run.teachers else None)
    if source is not None:
        return base_size(source, data)
    spec = run.student
    if spec.init != "random" or spec.width is None or spec.heads is None:
        raise UserError(
            "student", "without a teacher or base the student needs width and heads, and init=random",
            "fill them in, or name a base",
        )  # fmt: skip
    return ModelSize(spec.layers, spec.width, spec.heads, spec.intermediate or 4 * spec.width, vocabulary)


def planned_setup(run: RunConfig, data: TaskData, student: ModelSize, teachers: Mapping[str, ModelSize]) -> Setup:
    """What a method may know, before anything is trained: with made-up scores, and all rows as training rows."""
    scores = dict.fromkeys(teachers, 0.5)
    return Setup(
        data.task.kind, data.task.outputs, student, teachers, scores, len(data.train), run.train.seed, data.task.key
    )


def _job(
    run: RunConfig, folder: Path, data: TaskData, tokenizer: Any, rows: Rows, teachers: list[Teacher],
    ensemble: Ensemble, method: Method, shape: ModelSize, where: Compute,
) -> Job:  # fmt: skip
    def build(layers: int | None = None) -> nn.Module:
        source = _source(run, data, teachers)
        seed = seed_of(run.train.seed, "weights") % 2**31
        size, spec = of_depth(shape, run.student, layers)
        return build_student(size, data.task.outputs, spec, source, seed, run.train.dropout)

    def fresh() -> dict[str, nn.Module]:
        return method.build_students(build)

    return Job(
        run.train, data.task, folder, rows.train, rows.splits, tokenizer, method, fresh(), fresh, ensemble, where,
        build_facts(where), run.probes.gradient_share_every,
    )  # fmt: skip


def _snapshots(job: Job, teachers: list[Teacher]) -> Snapshots | None:
    """What keeps moments of the student, in the stages in which it learns; None where it never does."""
    role, stages = next(iter(job.students)), job.method.stages()
    steps = enumerate(zip(stages, stage_steps(stages, job.budget), strict=True))
    learning = {index: count for index, (stage, count) in steps if stage.trains(role) and not stage.pilot}
    if not learning:
        return None
    split = job.task.splits[0]
    return Snapshots(
        job.folder, split, job.splits[split], job.tokenizer.convert_ids_to_tokens, size_of(job.main.config),
        {teacher.name: (teacher.shape, teacher.load) for teacher in teachers}, learning, job.where.device,
    )  # fmt: skip


def of_depth(shape: ModelSize, spec: StudentSpec, layers: int | None) -> tuple[ModelSize, StudentSpec]:
    """The student's size and settings with another number of layers. Layers listed one by one become evenly spread."""
    if layers is None or layers == shape.layers:
        return shape, spec
    named = "skip" if isinstance(spec.init_layers, tuple) else spec.init_layers
    return replace(shape, layers=layers), spec.model_copy(update={"layers": layers, "init_layers": named})


def _source(run: RunConfig, data: TaskData, teachers: list[Teacher]) -> nn.Module | None:
    """The model whose layers fill the student."""
    if run.student.init == "teacher":
        if not teachers:
            raise UserError("student.init", "there is no teacher to start from", "add a teacher or choose init=base")
        return teachers[0].load()
    if run.student.init == "base":
        spec = run.base or (run.teachers[0] if run.teachers else None)
        if spec is None:
            raise UserError("student.init", "there is no base to start from", "name a base, or choose init=random")
        return load_base(spec, data)
    return None


def _teacher_scores(
    teachers: list[Teacher], ensemble: Ensemble, rows: Rows, data: TaskData, control: Control
) -> Generator[Event, None, tuple[dict[str, dict[str, dict[str, float]]], list[Event]]]:
    """Scores of every teacher on every split, from its (kept) logits; and the events that report them.

    Where a stop was asked for, teachers are missing.
    """
    from kdcore.engine.evaluate import scores

    said: dict[str, dict[str, dict[str, float]]] = {}
    events: list[Event] = []
    for teacher in teachers:
        if control.stop_requested():
            break
        for split, encoded in rows.splits.items():
            logits = yield from ensemble.logits(teacher.name, encoded, f"teacher {teacher.name} on {split}")
            got = scores(data.task, logits, encoded.labels)
            said.setdefault(teacher.name, {})[split] = got
            events.append(Evaluated("teachers", 0, split, f"teacher:{teacher.name}", got, len(encoded)))
    return said, events


def _facts(
    run: RunConfig, job: Job, teachers: list[Teacher], said: dict[str, Any], data: TaskData, rows: Rows
) -> dict[str, Any]:
    """What stands beside every number of this run."""
    found = checkpoint.newest(job.folder / "checkpoint")
    before = checkpoint.read_place(found).facts if found else None
    shape = size_of(job.main.config)
    steps = stage_steps(job.method.stages(), job.budget)
    lengths = rows.train.lengths
    return {
        **job.facts,
        "kdcore": __version__,
        "rows": len(rows.train),
        "select_rows": len(rows.splits["select"]),
        "steps": sum(steps),
        "student_steps": job.budget,
        "mean_tokens": float(lengths.mean()),
        "source": data.source,
        "partial": _partial(run, data),
        "synthetic": data.task.synthetic,
        "student": asdict(shape),
        "parameters": sum(p.numel() for p in job.main.parameters()),
        "exported_parameters": parameters(shape).total,
        "extra_parameters": sum(p.numel() for p in job.method.parameters()),
        "flops": flops(shape, int(lengths.mean())),
        "teachers": {
            t.name: {
                "words": t.words, "shape": asdict(t.shape), "parameters": parameters(t.shape).total,
                "flops": flops(t.shape, int(lengths.mean())), "scores": said[t.name],
            }
            for t in teachers
        },
        "resumed_at": checkpoint.read_place(found).step if found else 0,
        "exact_resume": before is None or before == dict(job.facts),
    }  # fmt: skip


def _partial(run: RunConfig, data: TaskData) -> str | None:
    if run.train.max_train_rows and run.train.max_train_rows < len(data.train):
        return f"trained on {run.train.max_train_rows:,} of {len(data.train):,} rows"
    return data.partial


def _stopped(job: Job, folder: Path, stop: Stop) -> Generator[Event, None, None]:
    job.before_saving()
    if stop == "discard":
        for name in ("student-best", "student-last", "checkpoint", "probes"):
            shutil.rmtree(folder / name, ignore_errors=True)
        yield RunStopped(job.place.step, kept=False)
        return
    if job.method.stages()[job.place.stage].pilot:
        why = "only pilots or assistants were trained so far, so there is no student yet; a resume goes on"
        yield RunStopped(job.place.step, kept=False, why_not=why)
        return
    save_student(job.main, job.tokenizer, folder / "student-last", job.before_saving)
    summary = yield from final_metrics.kept(job)
    yield RunStopped(job.place.step, kept=True, summary=summary)
