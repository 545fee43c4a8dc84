"""The same run without one part: which ablations its settings have. Asked by pages and by sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdcore.config import RunConfig
from kdcore.formatting import option_text
from kdcore.methods.catalog import title_of
from kdcore.tasks import TASKS, Kind

START = "initial weights"
"""The part that is left out where a student starts from random weights."""
TAG = "ablation"
"""Tag of the runs that were queued as one."""
LONGEST_NAME = 120


@dataclass(frozen=True)
class Ablation:
    """A run without one part.

    part: a term, `stage NAME`, something else of the method in words, or `START`. run: the settings without it, its
    options complete. changes: setting -> its value with the part and without; all else is equal.
    """

    part: str
    run: RunConfig
    changes: Mapping[str, tuple[Any, Any]]

    @property
    def title(self) -> str:
        """`without patience`, `without the ptp stage`, or `from random weights`."""
        if self.part == START:
            return "from random weights"
        stage = self.part.removeprefix("stage ")
        return f"without {self.part}" if stage == self.part else f"without the {stage} stage"

    @property
    def detail(self) -> str:
        """What changes: `beta 500 → 0`."""
        return ", ".join(
            f"{key.rpartition('.')[2].replace('_', ' ')} {option_text(before)} → {option_text(after)}"
            for key, (before, after) in self.changes.items()
        )

    @property
    def tags(self) -> tuple[str, str]:
        """By which lists find its runs, and comparisons name them."""
        return TAG, self.title


def title_in(tags: Sequence[str]) -> str:
    """What a run with these tags is called as an ablation; empty where it was not queued as one.

    >>> title_in(["mine", "ablation", "without patience"])
    'without patience'
    """
    return next((tag for tag in tags if tag.startswith(("without ", "from "))), "") if TAG in tags else ""


def ablations(run: RunConfig) -> list[Ablation]:
    """Every part that this run can do without, each left out alone: parts of its method, then its initial weights.

    Raises:
        UserError: unknown method or option, or a value out of bounds; the field is named.
    """
    from kdcore.methods import resolve

    method, config = resolve(run.method, run.options)
    whole = run.model_copy(update={"options": config.model_dump(mode="json")})
    found = [_without(whole, part, off) for part, off in method.ablations(config, _kind(run)).items()]
    if run.student.form != "plain":  # it factors the initial weights, so there must be some
        return found
    return found if run.student.init == "random" else [*found, _from_random(whole)]


def _kind(run: RunConfig) -> Kind:
    if run.own is not None:
        return run.own.kind
    return TASKS[run.task].kind if run.task in TASKS else "classification"


def _without(whole: RunConfig, part: str, off: Mapping[str, Any]) -> Ablation:
    from kdcore.methods import resolve

    options = resolve(whole.method, whole.options | dict(off))[1].model_dump(mode="json")
    changes = {f"options.{name}": (whole.options[name], options[name]) for name in off}
    return _with_name(Ablation(part, whole.model_copy(update={"options": options}), changes))


def _from_random(whole: RunConfig) -> Ablation:
    student = whole.student.model_copy(update={"init": "random"})
    changes = {"student.init": (whole.student.init, "random")}
    return _with_name(Ablation(START, whole.model_copy(update={"student": student}), changes))


def _with_name(ablation: Ablation) -> Ablation:
    """Its run says in its name what is left out, before the seed."""
    run = ablation.run
    seed = f"seed {run.train.seed}"
    stem = run.name.removesuffix(seed).rstrip(" ,")[:LONGEST_NAME] or title_of(run.method)
    named = run.model_copy(update={"name": f"{stem} {ablation.title}, {seed}"})
    return Ablation(ablation.part, named, ablation.changes)
