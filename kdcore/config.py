"""What a run is: the settings that a form, a YAML file or the command line fill in. Pydantic checks them here, once."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Settings(BaseModel):
    """A settings model: unknown fields are errors, and nothing changes after it is built."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FineTune(Settings):
    """How a pretrained base becomes a teacher of the task."""

    epochs: float = Field(3.0, gt=0, le=100, description="passes over the training rows")
    lr: float = Field(5e-5, gt=0, le=1, description="peak learning rate")
    batch_size: int = Field(32, ge=1, le=4096, description="rows per step")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of data order, new weights and dropout")


class TeacherSpec(Settings):
    """One teacher of the ensemble."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,39}$", description="its name on every page, unique in the run")
    source: Literal["pocket", "package", "folder", "hub", "run"] = Field(
        description="pocket ladder, installed package, local folder, hub id, or an earlier run's student"
    )
    where: str = Field(
        min_length=1, max_length=500, description="small|medium|large, minilm, a path, org/name, or a run id"
    )
    layers: int | None = Field(
        None, ge=1, le=64, description="keep only the first layers of the base before it is fine-tuned"
    )
    fine_tune: FineTune | None = Field(
        None, description="fine-tune the base on the task; None where the source is already a teacher of the task"
    )


class StudentSpec(Settings):
    """The model that is trained and kept. Layers, width and heads left empty are those of the first teacher's base."""

    layers: int = Field(3, ge=1, le=48, description="Transformer layers")
    width: int | None = Field(None, ge=8, le=4096, description="hidden size; empty: the first teacher's")
    heads: int | None = Field(None, ge=1, le=64, description="attention heads; empty: the first teacher's")
    intermediate: int | None = Field(None, ge=8, le=16384, description="feed-forward size; empty: 4 x width")
    init: Literal["base", "teacher", "checkpoint", "random"] = Field(
        "base",
        description="initial weights: the teacher's pretrained base, the fine-tuned teacher, a checkpoint, or random",
    )
    init_layers: Literal["first", "last", "skip"] | tuple[int, ...] = Field(
        "first", description="which layers of the source fill the student: first, last, every n-th, or a list from 1"
    )
    checkpoint: str | None = Field(None, description="folder of the weights for init=checkpoint")
    form: Literal["plain", "kronecker-8", "kronecker-21"] = Field(
        "plain", description="whole matrices, or Kronecker products of two: BERT-base becomes 8 or 21 times smaller"
    )

    vocabulary: int | None = Field(
        None,
        ge=64,
        le=100_000,
        description="subword tokens of a vocabulary of its own, learned from the training texts; empty: the base's",
    )

    @model_validator(mode="after")
    def _checked(self) -> StudentSpec:
        if self.width and self.heads and self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.init == "checkpoint" and not self.checkpoint:
            raise ValueError("init=checkpoint needs the field checkpoint: a folder with safetensors weights")
        if self.form != "plain" and self.init == "random":
            raise ValueError(f"form={self.form} factors the initial weights, so init=random cannot fill it")
        if self.vocabulary and self.init == "checkpoint":
            raise ValueError("a vocabulary of its own takes its words from a teacher or base, not from a checkpoint")
        if isinstance(self.init_layers, tuple) and len(self.init_layers) != self.layers:
            raise ValueError(f"init_layers lists {len(self.init_layers)} layers for a student of {self.layers}")
        return self


class OwnData(Settings):
    """A person's own table, as a task (`task: own`)."""

    path: str = Field(description="CSV, TSV, TXT, JSON, JSONL or Parquet file with the training rows")
    validation_path: str | None = Field(None, description="file with the dev rows; empty: a seeded tenth of the first")
    unlabelled_path: str | None = Field(
        None, description="file with more texts, under the same column names, that need no label"
    )
    text: str = Field(description="column with the (first) sentence")
    text_pair: str | None = Field(None, description="column with the second sentence, for pairs")
    label: str = Field(description="column with the label (classification) or the score (regression)")
    kind: Literal["classification", "regression"] = Field("classification", description="what the label is")
    domain: str | None = Field(
        None, description="column with the domain of a row, such as where it comes from; for methods of several domains"
    )


OWN_FILES = ("path", "validation_path", "unlabelled_path")
"""Fields of `OwnData` that name a file."""


class DataConfig(Settings):
    """What is wrong with the training data, made on purpose: few labels, wrong ones, rare classes. Dev stays clean.

    Rows are taken from training rows and `select` alike, by a seed of its own: every method and seed of a run sees the
    same ones, and a smaller damage is part of a larger one.
    """

    label_fraction: float = Field(
        1.0, gt=0, le=1, description="share of the training rows that keep their label; the others stay without one"
    )
    label_noise: float = Field(0.0, ge=0, le=0.9, description="share of the training labels that are wrong")
    noise_kind: Literal["uniform", "confused"] = Field(
        "uniform", description="wrong labels: any other class alike (scores: those of other rows), or always the next"
    )
    imbalance: float = Field(
        1.0, gt=0, le=1, description="rows of the rarest class as a share of the most frequent one's; 1: as they are"
    )
    teacher_data: Literal["same", "clean"] = Field(
        "same", description="rows of the teachers that are trained here: the same as the student's, or the clean ones"
    )
    unlabelled: Literal["use", "leave out"] = Field(
        "use", description="rows without a label: used by methods that learn from the teacher's answers, or left out"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="which rows are affected; the run's seed does not change it")

    @property
    def clean(self) -> bool:
        """Whether the rows are as they were."""
        return self.label_fraction == 1 and self.label_noise == 0 and self.imbalance == 1

    @property
    def of_teachers(self) -> DataConfig:
        """What the teachers that are trained here learn from."""
        return self.model_copy(update={"unlabelled": "use"}) if self.teacher_data == "same" else DataConfig()


class TrainConfig(Settings):
    """The protocol that compared runs share."""

    epochs: float = Field(3.0, gt=0, le=2000, description="passes over the training rows, all stages together")
    max_steps: int | None = Field(None, ge=1, description="student steps, in place of epochs")
    batch_size: int = Field(32, ge=1, le=4096, description="rows per optimiser step")
    accumulate: int = Field(1, ge=1, le=256, description="parts a batch is split into, to save memory")
    lr: float = Field(5e-5, gt=0, le=1, description="peak learning rate of AdamW")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of steps with rising learning rate")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW weight decay (not on biases and LayerNorm)")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    dropout: float | None = Field(None, ge=0, lt=1, description="the student's dropout; empty: as its config says")
    max_length: int = Field(128, ge=8, le=512, description="tokens kept of a row")
    max_train_rows: int | None = Field(None, ge=16, description="train on a seeded subset; shown as partial")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of data order, new weights, dropout, teacher draws")
    select_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="share of training rows kept aside for every decision (best, early stop, ranks)"
    )
    evaluate_every: int | Literal["epoch"] = Field("epoch", description="steps between evaluations, or 'epoch'")
    early_stop: int | None = Field(None, ge=1, description="stop after so many evaluations without a better `select`")
    log_every: int = Field(10, ge=1, description="steps between logged points")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="arithmetic of forward passes")
    device: Literal["auto", "cpu", "cuda"] | str = Field("auto", description="where to train; cuda:1: the second GPU")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; empty: torch's own choice")
    teacher_cache: bool = Field(True, description="run frozen teachers once and keep what they said")
    bucket: bool = Field(True, description="put rows of like length into a batch")

    @field_validator("device")
    @classmethod
    def _known(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value):
            raise ValueError("must be 'auto', 'cpu', 'cuda', or one GPU by its index, such as 'cuda:1'")
        return value

    @field_validator("evaluate_every")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1 step, or 'epoch'")
        return value

    @model_validator(mode="after")
    def _divisible(self) -> TrainConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} does not divide batch_size {self.batch_size}")
        return self


class ProbeConfig(Settings):
    """What is measured beside the score."""

    fidelity: bool = Field(True, description="agreement and KL between student and teachers on the dev rows")
    latency: bool = Field(True, description="time of student and teachers, batch 1 and 32, in turn")
    distances: bool = Field(
        True, description="layer by layer, distances of the hidden states, and attention; at moments and at the end"
    )
    saliency: bool = Field(
        False,
        description="saliency loyalty: whether student and teachers weigh the words of 64 dev rows alike, at the end; "
        "costs a pass back and forth of the student and a little more of the teacher over them, for each teacher",
    )
    gradient_share_every: int = Field(
        0,
        ge=0,
        description="steps between samples of each term's share of the gradient norm; 0: never. A sampled step costs "
        "one more backward pass a term; only logged steps show it, so take a multiple of log_every",
    )


class MethodSource(Settings):
    """Where a method that is not shipped comes from."""

    origin: str = Field(min_length=1, max_length=200, description="file name, or package and its version")
    version: str = Field(pattern=r"^[0-9a-f]{12}$", description="first digits of the SHA-256 of its source")


class RunConfig(Settings):
    """Everything that defines a run. Two equal RunConfigs train the same student."""

    name: str = Field("", max_length=200, description="a person's name for the run; empty: made from the settings")
    task: str = Field(description="key of a task, or 'own'")
    own: OwnData | None = Field(None, description="the table, where task is 'own'")
    also: tuple[str, ...] = Field(
        (), max_length=8, description="other tasks that it learns from, with teachers of their own; for some methods"
    )
    method: str = Field(description="key of a method")
    method_source: MethodSource | None = Field(None, description="where it comes from; empty: it is shipped")
    options: dict[str, Any] = Field(default_factory=dict, description="the method's own settings")
    teachers: tuple[TeacherSpec, ...] = Field((), max_length=12, description="the ensemble; empty for the baseline")
    student: StudentSpec = StudentSpec()
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()
    probes: ProbeConfig = ProbeConfig()
    base: TeacherSpec | None = Field(
        None, description="the pretrained base that init=base reads; empty: the first teacher's base"
    )

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        names = [teacher.name for teacher in self.teachers]
        if len(set(names)) < len(names):
            raise ValueError(f"teachers need different names, got {names}")
        if (self.task == "own") != (self.own is not None):
            raise ValueError("task 'own' and the field own (path, columns) go together")
        if len({self.task, *self.also}) < 1 + len(self.also):
            raise ValueError(f"also names other tasks than {self.task}, each once, got {list(self.also)}")
        return self
