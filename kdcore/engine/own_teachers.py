"""Models that a run trains in one stage and asks in later ones: teachers on disk like the others, cached like them."""

from __future__ import annotations

from collections.abc import Iterable

from kdcore.engine.ensemble import Teacher
from kdcore.engine.job import Job
from kdcore.engine.teacher_source import folder_hash
from kdcore.errors import CorruptError
from kdcore.models.sizes import size_of
from kdcore.models.students import save_student
from kdcore.records import Stage

FOLDER = "own-teachers"
"""In a run's folder while it trains: one folder a teacher."""


def adopt(job: Job, stage: Stage) -> None:
    """Makes teachers of the roles that the stage names, as they are now."""
    for role in stage.adopt:
        folder = job.folder / FOLDER / role
        save_student(job.students[role], job.tokenizer, folder, job.before_saving)
        job.state.own_teachers[role] = folder_hash(folder)
        _ask_from_now_on(job, role)


def adopt_again(job: Job, ended: Iterable[Stage]) -> None:
    """After a resume: the teachers of the stages that are over.

    A checkpoint that names none of them holds their weights: 0.1.0 kept assistants among its models.

    Raises:
        CorruptError: one of them is not there, or has other weights than were kept.
    """
    for role, identity in job.state.own_teachers.items():
        folder = job.folder / FOLDER / role
        if not (folder / "config.json").is_file() or folder_hash(folder) != identity:
            raise CorruptError(
                "checkpoint",
                f"the weights of {role}, which this run trained and asks, are not as they were written",
                "clone the run to start it anew; its logged points stay",
            )
        _ask_from_now_on(job, role)
    for stage in ended:
        if not set(stage.adopt) <= set(job.state.own_teachers):
            adopt(job, stage)


def _ask_from_now_on(job: Job, role: str) -> None:
    size, identity = size_of(job.students[role].config), job.state.own_teachers[role]
    job.ensemble.adopt(Teacher(role, job.folder / FOLDER / role, size, identity, "trained in this run"))
