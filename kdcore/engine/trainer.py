"""A run from its settings to its student, as a stream of events. Consumers watch; only `control` can stop it."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from kdcore import __version__
from kdcore.config import RunConfig
from kdcore.engine import checkpoint, final_metrics, own_teachers
from kdcore.engine.control import Control, NoControl, Stop
from kdcore.engine.device import build_facts, give_back_memory, keep_freed_memory
from kdcore.engine.ensemble import Ensemble, Teacher, joint_facts
from kdcore.engine.evaluate import is_blind_guess, scores
from kdcore.engine.initial_models import builder
from kdcore.engine.job import Job, OtherTask, Rows, encode_rows
from kdcore.engine.loop import run_stages
from kdcore.engine.mean_row import mean_row
from kdcore.engine.model_checks import check_before_teachers, model_warnings
from kdcore.engine.other_tasks import facts_of_others, prepare_others
from kdcore.engine.plan import Plan, check_method
from kdcore.engine.plan_checks import check_layers, check_length, check_others
from kdcore.engine.run_files import remove_unfinished
from kdcore.engine.schedule import stage_steps
from kdcore.engine.teachers import prepare_teacher
from kdcore.errors import UserError
from kdcore.events import Evaluated, Event, RunFinished, RunStarted, RunStopped
from kdcore.formatting import data_text, metric_label
from kdcore.identity import model_contents, other_rows
from kdcore.methods.catalog import catalog
from kdcore.models.count import flops, parameters
from kdcore.models.sizes import size_of
from kdcore.models.students import save_student
from kdcore.probes.snapshots import Snapshots

__all__ = ["Control", "NoControl", "train"]

Scores = dict[str, dict[str, float]]
"""Split -> metric -> value."""


def train(run: RunConfig, folder: Path, control: Control | None = None) -> Iterator[Event]:
    """Trains the student of `run` in `folder`, from the newest checkpoint there if there is one.

    Yields the events of `kdcore.events`. On success the folder holds `student-best`, `student-last` (Hugging Face
    layout), `predictions/` and `probes/`; its checkpoint goes when the consumer asks for what follows the last event.
    A stop keeps checkpoint and student.

        from kdcore.config import RunConfig, TeacherSpec
        teacher = TeacherSpec(name="small", source="pocket", where="small")
        student = StudentSpec(layers=2, width=32, heads=2, init="random")
        run = RunConfig(task="pocket-sentiment", method="kd", teachers=(teacher,), student=student)
        for event in train(run, Path("my-run")):
            print(event)

    Raises:
        UserError: the settings cannot be met; field and remedy are named.
    """
    control = control or NoControl()
    keep_freed_memory()
    threads = torch.get_num_threads()
    if run.train.threads:
        torch.set_num_threads(run.train.threads)
    try:
        plan = Plan(run)
        _ = plan.compute  # without its device the run leaves no folder
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        (folder / "config.json").write_text(run.model_dump_json(indent=1))
        yield from _train(plan, folder, control, started=time.perf_counter())
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):  # safetensors hides what the system said
            raise OSError(errno.ENOSPC, "the disk is full", str(folder)) from error
        raise
    finally:
        torch.set_num_threads(threads)  # the next run in this thread makes its own choice
        give_back_memory()


def _train(plan: Plan, folder: Path, control: Control, started: float) -> Iterator[Event]:
    """Teachers first, then the student, then what is measured of it."""
    run = plan.config
    check_method(plan)
    check_others(plan)
    check_length(plan)
    check_layers(plan)
    check_before_teachers(plan)
    teachers: list[Teacher] = []
    for spec in run.teachers:
        teacher = yield from prepare_teacher(spec, plan.data, run.train, plan.compute, control, run.data)
        if teacher is None:
            yield from _stopped_early(control)
            return
        teachers.append(replace(teacher, reading=plan.readings[spec.name]))
    tokenizers = plan.other_tokenizers
    rows = encode_rows(plan.data, plan.tokenizer, run.train, run.data, plan.uses_unlabelled, tokenizers)
    ensemble = Ensemble(teachers, rows.train, rows.identity, plan.compute, run.train.teacher_cache)
    others = yield from prepare_others(plan, control)
    if others is None:
        yield from _stopped_early(control)
        return
    ensembles = [ensemble, *(other.ensemble for other in others.values())]
    with ExitStack() as opened:
        for each in ensembles:
            opened.enter_context(each.open())
        teacher_scores, teacher_events = yield from _teacher_scores(plan, ensemble, rows, control)
        if len(teacher_scores) < len(teachers):
            yield from _stopped_early(control)
            return
        job = _job(plan, folder, rows, ensemble, teacher_scores, others)
        facts = _facts(plan, job, teacher_scores)
        _check_content(plan, folder, facts)
        yield RunStarted(facts)
        yield from teacher_events
        (folder / "teachers.json").write_text(json.dumps({t.name: str(t.folder) for t in teachers}, indent=1))
        ready = time.perf_counter()
        if stopped := (yield from run_stages(job, control)):
            yield from _stop(job, stopped)
            return
        save_student(job.main, job.tokenizer, folder / "student-last", job.before_saving)
        trained = time.perf_counter()
        summary = yield from final_metrics.finish(run.probes, job)
        end = time.perf_counter()
        seconds = {
            "total": end - started,
            "teachers": ready - started,
            "training": trained - ready,
            "readings": end - trained,
        }
        job.before_saving()
        yield RunFinished(
            {**summary, "seconds": seconds["total"], "seconds_by_part": seconds, "cache": joint_facts(ensembles)}
        )
        # only now, when that is known: until then whoever takes the run up needs the checkpoint
        for name in ("checkpoint", own_teachers.FOLDER):
            shutil.rmtree(folder / name, ignore_errors=True)


def _job(
    plan: Plan, folder: Path, rows: Rows, ensemble: Ensemble, teacher_scores: dict[str, Scores],
    others: dict[str, OtherTask],
) -> Job:  # fmt: skip
    """The method, built with the teachers' real scores, and its students with their initial weights."""
    run, task = plan.config, plan.data.task
    known = {name: by_split["select"][task.main_metric] for name, by_split in teacher_scores.items()}
    method = plan.method_class(plan.options, plan.setup(known))
    build = builder(plan, ensemble)

    def fresh() -> dict[str, nn.Module]:
        return method.build_students(build)

    job = Job(
        train=run.train, task=task, folder=folder, rows=rows.train, epoch_rows=rows.epoch, splits=rows.splits,
        others=others, tokenizer=plan.tokenizer, tokenizers=plan.other_tokenizers,
        method=method, students=fresh(), fresh=fresh, ensemble=ensemble, compute=plan.compute,
        row=_mean_row(plan, rows), facts=build_facts(plan.compute),
        gradient_share_every=run.probes.gradient_share_every,
    )  # fmt: skip
    if run.probes.distances:
        job.snapshots = _snapshots(plan, job)
    return job


def _mean_row(plan: Plan, rows: Rows) -> dict[str, Any]:
    """The mean row of the first dev split, in tokens of the student and of each teacher."""
    split = plan.data.task.splits[0]
    keys = {"student": "", **plan.readings}
    return mean_row(plan.data.splits[split], {name: rows.splits[split].reading(key) for name, key in keys.items()})


def _snapshots(plan: Plan, job: Job) -> Snapshots | None:
    """What keeps moments of the student, in the stages in which it learns; None where it never does."""
    role, stages = next(iter(job.students)), job.method.stages()
    steps = enumerate(zip(stages, stage_steps(stages, job.budget), strict=True))
    learning = {index: count for index, (stage, count) in steps if stage.trains(role) and not stage.pilot}
    if not learning:
        return None
    split = job.task.splits[0]
    tokens = {key: tokenizer.convert_ids_to_tokens for key, tokenizer in plan.other_tokenizers.items()}
    others = {name: (key, tokens[key]) for name, key in plan.readings.items() if key}
    return Snapshots(
        job.folder, split, job.splits[split], job.tokenizer.convert_ids_to_tokens, size_of(job.main.config),
        {name: (teacher.size, teacher.load) for name, teacher in job.ensemble.teachers.items()}, learning,
        job.compute.device, others,
    )  # fmt: skip


def _teacher_scores(
    plan: Plan, ensemble: Ensemble, rows: Rows, control: Control
) -> Generator[Event, None, tuple[dict[str, Scores], list[Event]]]:
    """Scores of every teacher on every split, from its (kept) logits; and the events that report them.

    Where a stop was asked for, teachers are missing.
    """
    by_teacher: dict[str, Scores] = {}
    events: list[Event] = []
    for name in ensemble.teachers:
        if control.stop_requested():
            break
        for split, encoded in rows.splits.items():
            logits = yield from ensemble.logits(name, encoded, f"teacher {name} on {split}")
            metrics = scores(plan.data.task, logits, encoded.labels)
            by_teacher.setdefault(name, {})[split] = metrics
            events.append(Evaluated("teachers", 0, split, f"teacher:{name}", metrics, len(encoded)))
    return by_teacher, events


def _facts(plan: Plan, job: Job, teacher_scores: dict[str, Scores]) -> dict[str, Any]:
    """What stands beside every number of this run."""
    newest = checkpoint.newest(job.folder / "checkpoint")
    before = checkpoint.read_state(newest) if newest else None
    size = size_of(job.main.config)
    mean_tokens = float(job.rows.lengths.mean())
    specs = {spec.name: spec for spec in plan.config.teachers}
    guesses = {split: plan.blind_guess(split) for split in job.splits}
    return {
        **job.facts,
        "kdcore": __version__,
        "rows": len(job.rows),
        "select_rows": len(job.splits["select"]),
        **_label_facts(plan, job),
        "steps": sum(stage_steps(job.method.stages(), job.budget)),
        "student_steps": job.budget,
        "mean_tokens": mean_tokens,
        "row": job.row,
        "source": plan.data.source,
        "data_fingerprint": plan.data.fingerprint,
        **({"domain_fingerprint": plan.data.domain_fingerprint} if plan.config.own and job.method.domains else {}),
        "start_content": plan.start_content,
        "partial": _partial(plan),
        "synthetic": job.task.synthetic,
        "classes": list(job.task.labels),
        "blind_guess": guesses,
        "warnings": [*model_warnings(plan), *_warnings(plan, teacher_scores, guesses)],
        "student": asdict(size),
        "parameters": sum(p.numel() for p in job.main.parameters()),
        "exported_parameters": parameters(size).total,
        "extra_parameters": sum(p.numel() for p in job.method.parameters()),
        "flops": flops(size, int(mean_tokens)),
        "teachers": {
            name: {
                "words": t.origin, "content": plan.content_of(specs[name], t.identity), "shape": asdict(t.size),
                "parameters": parameters(t.size).total,
                "flops": flops(t.size, int(job.rows.reading(t.reading).lengths.mean())), "scores": teacher_scores[name],
            }
            for name, t in job.ensemble.teachers.items()
        },
        **facts_of_others(plan, dict(job.others)),
        **_method_source(plan.config.method),
        "resumed_at": before.step if before else 0,
        "exact_resume": before is None or before.facts == dict(job.facts),
    }  # fmt: skip


def _label_facts(plan: Plan, job: Job) -> dict[str, int]:
    """How many rows have a label, and how many of these a wrong one; nothing of whole data."""
    if plan.config.data.clean and not plan.rows.added:
        return {}
    return {"labelled_rows": len(job.labelled), "wrong_labels": plan.rows.wrong}


def _method_source(key: str) -> dict[str, Any]:
    """Where the method comes from and the SHA-256 of its source; nothing of a shipped one."""
    info = catalog().get(key)
    if info is None or info.source is None:
        return {}
    return {"method_source": {"origin": info.source.origin, "sha256": info.sha256}}


def _warnings(plan: Plan, teacher_scores: dict[str, Scores], guesses: Scores) -> Iterator[str]:
    """What a person should know before the student learns: teachers that cannot teach."""
    task, metric = plan.data.task, plan.data.task.main_metric
    for name, by_split in teacher_scores.items():
        for split in task.splits:
            score, guess = by_split[split][metric], guesses[split][metric]
            if is_blind_guess(metric, score, guess, len(plan.data.splits[split])):
                measured = f"{metric_label(metric, task.labels)} {100 * score:.1f} on {split}"
                yield (
                    f"teacher {name} has {measured}, where a blind guess has {100 * guess:.1f}: it knows nothing "
                    "of the task that a student could learn"
                )


def _check_content(plan: Plan, folder: Path, facts: dict[str, Any]) -> None:
    """Notes what the run's rows, models and method are, and that they are still the same where it resumes.

    Raises:
        UserError: the rows, a model's weights, or a method from outside have changed since the run began.
    """
    file = folder / "content.json"
    others = {f"rows of {key}": fingerprint for key, fingerprint in other_rows(facts).items()}
    now = {"rows": facts["data_fingerprint"], **others, **model_contents(facts)}
    if domains := facts.get("domain_fingerprint"):
        now["rows' domains"] = domains
    if source := facts.get("method_source"):
        now["method"] = source["sha256"]
    if checkpoint.newest(folder / "checkpoint") is not None and file.exists():
        before = json.loads(file.read_text())
        if plan.data.has_fingerprint(before.get("rows", "")):
            before["rows"] = now["rows"]
        changed = sorted(name for name in now if before.get(name, now[name]) != now[name])
        if changed:
            field = "own.path" if plan.config.own else "task"
            if "rows" not in changed and others.keys() & set(changed):
                field = "also"
            of_rows = any(name.startswith("rows") for name in changed)
            raise UserError(
                "method" if "method" in changed else field if of_rows else "teachers",
                f"{', '.join(changed)} changed since this run began, so it cannot go on as one run",
                "put back what was there, or clone the run to train on what is there now",
            )
    file.write_text(json.dumps(now, indent=1))


def _partial(plan: Plan) -> str | None:
    """In what the training rows differ from the task's official ones, in words; None: in nothing."""
    most, rows = plan.config.train.max_train_rows, len(plan.data.train)
    whole = f"trained on {most:,} of {rows:,} rows" if most and most < rows else plan.data.partial
    damage = data_text(plan.config.data.model_dump(mode="json"), bool(plan.config.teachers))
    return "; ".join(filter(None, (whole, damage))) or None


def _stopped_early(control: Control) -> Iterator[Event]:
    """The end of a run that was asked to stop before its student began."""
    if control.stop_requested() != "leave":
        yield RunStopped(0, kept=False)


def _stop(job: Job, stop: Stop) -> Generator[Event, None, None]:
    """What is left of a run that was asked to stop: its checkpoint and student, or nothing."""
    if stop == "leave":  # it goes on elsewhere, from the checkpoint that the loop has written
        return
    job.before_saving()
    step = job.state.step
    if stop == "discard":
        for name in ("student-best", "student-last", "stage-best", own_teachers.FOLDER, "checkpoint", "probes"):
            shutil.rmtree(job.folder / name, ignore_errors=True)
        yield RunStopped(step, kept=False)
        return
    if job.method.stages()[job.state.stage].pilot:
        why = "only pilots or assistants were trained so far, so there is no student yet; a resume goes on"
        yield RunStopped(step, kept=False, why_not=why)
        return
    save_student(job.main, job.tokenizer, job.folder / "student-last", job.before_saving)
    summary = yield from final_metrics.stop_early(job)
    yield RunStopped(step, kept=True, summary=summary)
