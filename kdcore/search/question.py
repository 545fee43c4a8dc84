"""What a search is asked: a task and a teacher, what the student may cost, and how many minutes there are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from kdcore.config import RunConfig, Settings
from kdcore.errors import UserError
from kdcore.settings_file import merge, read_settings, validate

Runtime = Literal["torch-fp32", "torch-bf16", "onnx-fp32", "onnx-int8"]
Measure = Literal["p50_ms", "p95_ms", "parameters", "disk_mib"]

MEASURES: dict[Measure, str] = {
    "p50_ms": "median latency (ms)", "p95_ms": "p95 latency (ms)", "parameters": "parameters",
    "disk_mib": "size on disk (MiB)",
}  # fmt: skip
"""What a student costs -> its name for people."""
METHODS = ("kd", "fine-tune", "pkd", "minilm-v2")
"""Methods that are tried where none are named: no distillation, and one each of soft targets, states and relations."""


class Bound(Settings):
    """What the student may cost at most, what it has to reach, and where its latency counts. One limit at least."""

    p50_ms: float | None = Field(None, gt=0, description="half of the batches are answered within so many ms")
    p95_ms: float | None = Field(None, gt=0, description="95 % of the batches are answered within so many ms")
    parameters: float | None = Field(None, gt=0, description="weights, embeddings included")
    disk_mib: float | None = Field(None, gt=0, description="MiB of its weights' file for the runtime")
    share: float | None = Field(None, gt=0, le=1.5, description="of the best teacher's score on `select`")
    least: Measure | None = Field(None, description="what to make small where a share is asked; empty: the limit's")
    runtime: Runtime = Field("torch-fp32", description="what answers, on the CPU")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; empty: torch's own choice")
    batch: int = Field(1, ge=1, le=4096, description="rows a batch")
    tokens: int | None = Field(
        None, ge=2, le=512, description="tokens a row, in the base's vocabulary; empty: the mean of the training rows"
    )

    @model_validator(mode="after")
    def _limited(self) -> Bound:
        if not self.limits and self.share is None:
            raise ValueError(f"needs a limit: {', '.join(MEASURES)} or share")
        return self

    @property
    def limits(self) -> dict[Measure, float]:
        """Measure -> the most of it."""
        given = {name: getattr(self, name) for name in MEASURES}
        return {name: limit for name, limit in given.items() if limit is not None}

    @property
    def axis(self) -> Measure:
        """The cost that a front is drawn over, and that is made small where a share is asked."""
        first: Measure = next(iter(self.limits), "p50_ms")
        return first if self.least is None else self.least

    @property
    def is_timed(self) -> bool:
        """Whether anything of it asks for a latency."""
        return any(name.endswith("_ms") for name in (*self.limits, self.axis))


@dataclass(frozen=True)
class Cost:
    """What one student costs. Latencies are None where the bound asks for none. tokens: of a row as it reads it; None
    in searches of older versions."""

    parameters: int
    disk_mib: float
    p50_ms: float | None = None
    p95_ms: float | None = None
    tokens: int | None = None

    def of(self, measure: Measure) -> float:
        """This much of a measure; infinite where it was not taken."""
        value = getattr(self, measure)
        return float("inf") if value is None else float(value)

    def exceeds(self, bound: Bound) -> Measure | None:
        """The first limit that it does not keep to."""
        return next((measure for measure, limit in bound.limits.items() if self.of(measure) > limit), None)

    def data(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


class Question(Settings):
    """The file's schema. run: settings that all trials share, without method, options and student."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,59}$", description="of the search, and of its runs' sweep")
    run: dict[str, Any] = Field(description="task, teachers, train: as of a run")
    bound: Bound
    minutes: float = Field(gt=0, le=100_000, description="of training, all trials together")
    methods: tuple[str, ...] = Field(METHODS, min_length=1)
    sizes: tuple[str | dict[str, Any], ...] = Field((), description="names of sizes, or settings; empty: all there are")
    starts: tuple[dict[str, Any], ...] = Field((), description="init and init_layers; empty: what the teacher allows")
    seeds: int = Field(3, ge=1, le=20, description="of the setting that is recommended")
    trials: int | None = Field(None, ge=1, description="at most; empty: as many as the minutes allow")
    slots: int = Field(1, ge=1, le=256, description="runs under way at once; more where other workers share the queue")

    @property
    def seed(self) -> int:
        """Of the trials' runs; the recommended setting is trained with the following ones, too."""
        return int(self.run.get("train", {}).get("seed", 0))


CHOSEN = ("method", "options", "student", "method_source", "name")
"""Settings of a run that a search chooses itself."""


def template(run: dict[str, Any], method: str, student: dict[str, Any] | None = None) -> RunConfig:
    """A run of what all trials share.

    Raises:
        UserError: the settings are not valid, or name what the search chooses; the field is named.
    """
    if own := [name for name in CHOSEN if name in run]:
        raise UserError(f"run.{own[0]}", "is what the search chooses", "leave it out; see methods, sizes, starts")
    settings: dict[str, Any] = {"method": method} | ({} if student is None else {"student": student})
    return validate(RunConfig, merge(run, settings), "run")


def read_question(file: Path | None, flags: dict[str, Any]) -> Question:
    """The question in a file, flags over it.

    Raises:
        UserError: naming the field.
    """
    settings = read_settings(file) if file is not None else {}
    if not isinstance(settings, dict):
        raise UserError("file", f"{file} holds no settings by name", "write lines such as minutes: 60")
    return validate(Question, merge(settings, flags))
