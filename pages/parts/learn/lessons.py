"""The lessons: files in `pages/lessons/`.

Each step of a lesson names a page, what is chosen there, and which controls are hidden. Runs have a name within their
lesson; `lesson_address` looks them up in the store.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from kdcore.config import RunConfig, Settings, TeacherSpec
from kdcore.methods.catalog import title_of
from kdcore.runs.demo import STUDENT, demo_run
from kdcore.settings_file import read_settings, validate

FOLDER = Path(__file__).resolve().parents[2] / "lessons"


class Step(Settings):
    """One view with its text. run, runs: names of what is shown there. probe: what must have been measured."""

    title: str
    text: str
    question: str
    answer: str = Field(description="shown on a click")
    page: str = Field(pattern=r"^[a-z_]+$")
    view: dict[str, str] = Field(default_factory=dict, description="URL parameters besides lesson and runs")
    run: str | None = None
    runs: tuple[str, ...] = ()
    race: tuple[()] | tuple[str, str] = Field((), description="names of the runs that race on Compare")
    probe: Literal["", "distances", "latency"] = ""
    figure: str = Field(pattern=r"^[a-z_0-9]+$", description="key of what the question is about")
    hide: tuple[str, ...] = Field((), description="keys of controls that are hidden in this step")

    @property
    def names(self) -> tuple[str, ...]:
        """Of all runs that it shows."""
        return tuple(dict.fromkeys([*([self.run] if self.run else []), *self.runs]))


class Poll(Settings):
    """A guess to make before a lesson."""

    question: str
    choices: tuple[str, ...] = Field(min_length=2)


class LessonRun(Settings):
    """How a run of a lesson differs from the demo's. title: for people, where the method's does not tell it apart."""

    method: str
    title: str = ""
    teachers: tuple[str, ...] = Field(("large",), description="sizes of the task's pocket teachers")
    options: dict[str, Any] = Field(default_factory=dict)
    student: dict[str, Any] = Field(default_factory=dict)


class Lesson(Settings):
    """A lesson. task, runs: what its steps show, by name; all on the demo's protocol."""

    number: int
    title: str
    about: str
    minutes: int
    task: str = "pocket-sentiment"
    runs: dict[str, LessonRun] = Field(min_length=1)
    poll: Poll
    steps: tuple[Step, ...] = Field(min_length=2)
    summary: tuple[str, ...] = Field(min_length=1, description="what to keep in mind")

    def configs(self, seed: int = 0) -> dict[str, RunConfig]:
        """The runs to queue for this lesson, by name."""
        return {name: self._config(name, seed) for name in self.runs}

    def _config(self, name: str, seed: int) -> RunConfig:
        from kdcore.methods import METHODS  # brings torch, which the first page does without

        run = self.runs[name]
        return demo_run(
            run.method,
            self.task,
            seed,
            name=f"lesson {self.run_title(name).lower()} seed {seed}",
            options=METHODS[run.method].Config.model_validate(run.options).model_dump(mode="json"),
            teachers=tuple(TeacherSpec(name=size, source="pocket", where=size) for size in run.teachers),
            student=STUDENT.model_dump(mode="json") | run.student,
        )

    def run_title(self, name: str) -> str:
        """What people call this run."""
        return self.runs[name].title or title_of(self.runs[name].method)


@cache
def lessons() -> dict[str, Lesson]:
    """Key (the file's name) -> lesson, in the order of their numbers.

    Raises:
        UserError: a file that cannot be read; the field is named.
    """
    by_key = {path.stem: validate(Lesson, read_settings(path), path.name) for path in FOLDER.glob("*.yaml")}
    return dict(sorted(by_key.items(), key=lambda item: item[1].number))
