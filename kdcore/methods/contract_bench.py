"""A method with real models of two and four layers and no engine: what `contract` tries methods on."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from kdcore.config import StudentSpec
from kdcore.events import Progress
from kdcore.losses.hidden import content_means
from kdcore.losses.soft_targets import hard_labels
from kdcore.methods.registry import resolve
from kdcore.models.observe import observe, rerun_of
from kdcore.models.students import build_student
from kdcore.records import Batch, Encoding, ModelSize, Outputs, Setup, Stage, Step, Term, Want

STUDENT = ModelSize(layers=2, width=16, heads=2, intermediate=32, vocabulary=40, positions=32)
TEACHER = ModelSize(layers=4, width=16, heads=2, intermediate=32, vocabulary=40, positions=32)
DOMAINS = ("first", "second")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(5, STUDENT.vocabulary))]

Case = tuple[str, Mapping[str, Any], str, int]
"""Key of a method, its options, the kind of task, and how many teachers."""


class Answers:
    """What the teachers say of the bench's batch, as `Method.before_stage` gets it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def labels(self) -> Tensor:
        return self._bench.batch().labels

    def logits(self, teacher: str) -> Tensor:
        model = self._bench.teachers[teacher]
        logits: Tensor = observe(model, self._bench.batch().encoding, {"logits": ()}, grad=False).logits
        return logits

    def ids(self) -> Tensor:
        return self._bench.batch().ids

    def sources(self) -> Tensor:
        source = self._bench.batch().source
        assert source is not None
        return source

    def mean_states(self, teacher: str) -> Generator[Progress, None, Tensor]:
        batch = self._bench.batch()
        yield Progress(f"states of {teacher}", 1, 1)
        outputs = observe(self._bench.teachers[teacher], batch.encoding, {"hidden": (-1,)}, grad=False)
        return content_means(outputs.hidden[max(outputs.hidden)], batch.encoding.attention_mask)

    def word_embeddings(self, teacher: str) -> Tensor:
        model = cast(Any, self._bench.teachers[teacher])
        table: Tensor = model.bert.embeddings.word_embeddings.weight
        return table.detach().clone()

    def vocabulary(self, teacher: str = "") -> list[str]:
        return VOCABULARY


@functools.cache
def _initial(shape: ModelSize, classes: int, seed: int) -> nn.Module:
    """A model as it is before it learns, made once."""
    spec = StudentSpec(layers=shape.layers, init="random")
    model: nn.Module = build_student(shape, classes, spec, None, seed, 0.0)
    with torch.no_grad():  # larger than BERT's 0.02, or all models would say nearly the same
        for parameter in model.parameters():
            parameter.mul_(5)
    return model


class Bench:
    """A method with real models and no engine: steps as `Method` and `Step` document them."""

    def __init__(self, case: Case, seed: int = 0, equal: bool = False) -> None:
        """equal: each teacher is the student."""
        key, options, kind, count = case
        self.regression = kind == "regression"
        self.classes = 1 if self.regression else 3
        shape = STUDENT if equal else TEACHER
        self.teachers = {
            f"t{i}": self._model(shape, seed=5 if equal else 10 + i).requires_grad_(False) for i in range(count)
        }
        self.setup = Setup(
            kind=cast(Literal["classification", "regression"], kind),
            labels=self.classes,
            student=STUDENT,
            teachers=dict.fromkeys(self.teachers, shape),
            scores={name: 0.6 + 0.1 * place for place, name in enumerate(self.teachers)},
            train_rows=6,
            task="mrpc",
            domains=DOMAINS,
        )
        method, self.config = resolve(key, dict(options))
        self.method = method(self.config, self.setup)
        self.method.optimizers = self.method.own_optimizers()
        self.students = self.method.build_students(self._build)
        self.rng = torch.Generator().manual_seed(seed)

    def _build(self, layers: int | None = None, draw: int = 0, of: str | None = None) -> nn.Module:
        if of is not None:
            return copy.deepcopy(self.teachers[of]).requires_grad_(True)
        return self._model(replace(STUDENT, layers=layers or STUDENT.layers), seed=5 + 100 * draw)

    def _model(self, shape: ModelSize, seed: int) -> nn.Module:
        return copy.deepcopy(_initial(shape, self.classes, seed))

    def ready(self) -> Iterator[Stage]:
        """The stages, each with what the teachers and earlier stages would have told before it begins, and with fresh
        weights where it starts from these."""
        for index, stage in enumerate(self.method.stages()):
            if stage.start == "fresh" and index:
                for role, model in self.method.build_students(self._build).items():
                    if stage.trains(role):
                        self.students[role].load_state_dict(model.state_dict())
            self.prepare(stage)
            if stage.pilot:
                self.method.after_stage(stage.name, {"accuracy": 0.5 + 0.1 * len(stage.name)})
            yield stage

    def resumed(self) -> Stage:
        """The last stage, as where a run goes on inside it."""
        stage = self.method.stages()[-1]
        self.prepare(stage)
        return stage

    def prepare(self, stage: Stage) -> None:
        """What the method does before the stage, to its end."""
        for _ in self.method.before_stage(stage.name, Answers(self)) or ():
            pass

    def step(
        self,
        stage: Stage,
        batch: Batch,
        number: int = 1,
        change: Callable[[Outputs], Outputs] = lambda outputs: outputs,
    ) -> Step:
        """One step of the stage. change: of all that is observed, before the method sees it."""
        students = {name: change(outputs) for name, outputs in self.student_outputs(stage, batch.encoding).items()}
        bare = Step(
            batch=batch, students=students, stage=stage.name, step=number, steps=50, epoch=0.0, rng=self.rng,
            regression=self.regression,
        )  # fmt: skip
        asked = stage.asks(self.teachers)
        rows = {name: rows for name, rows in self.method.pick_teachers(bare).items() if name in asked} if asked else {}
        teachers = {
            name: change(
                self.teacher_outputs(stage, name, batch.encoding if chosen is None else batch.encoding.rows(chosen))
            )
            for name, chosen in rows.items()
        }
        return replace(bare, teachers=teachers, rows=rows, probe=partial(self._probe, stage, batch))

    def _probe(self, stage: Stage, batch: Batch, source: int | None = None) -> dict[str, float]:
        """Loss of the stage's learner on the batch, in place of `select`, and a score that falls where it rises."""
        if source is not None:
            assert batch.source is not None
            batch = part(batch, (batch.source == source).nonzero()[:, 0])
        learner = next(model for role, model in self.students.items() if stage.trains(role))
        logits = observe(learner, batch.encoding, {"logits": ()}, grad=False).logits
        loss = float(hard_labels(logits, batch.labels, self.regression))
        return {"loss": loss, "score": -loss}

    def student_outputs(self, stage: Stage, encoding: Encoding) -> dict[str, Outputs]:
        """Role -> what the stage reads of it on these rows, for the roles that run in it."""
        return {
            role: _observed(
                model, encoding, stage.needs.of_student(role), stage.trains(role), "student" in stage.needs.rerun
            )
            for role, model in self.students.items()
            if stage.runs(role)
        }

    def teacher_outputs(self, stage: Stage, name: str, encoding: Encoding) -> Outputs:
        """What the stage reads on these rows of a teacher, also of one that an earlier stage trained."""
        model, wanted = {**self.students, **self.teachers}[name], stage.needs.of_teacher(name)
        return _observed(model, encoding, wanted, False, "teacher" in stage.needs.rerun)

    def loss(self, stage: Stage, batch: Batch, draw: int = 0) -> Tensor:
        """The weighted sum, with the teacher draw fixed."""
        return total(self.terms(stage, batch, draw))

    def terms(self, stage: Stage, batch: Batch, draw: int = 0) -> dict[str, Term]:
        """The terms of the stage's first step on this batch, with the teacher draw fixed."""
        self.rng.manual_seed(draw)
        return stage.terms(self.step(stage, batch))

    def batch(self, rows: int = 6, pad: int = 0) -> Batch:
        """Rows of 2 to 9 tokens. pad: columns of padding beyond the longest row."""
        generator = torch.Generator().manual_seed(3)
        lengths = torch.tensor([9, 4, 7, 2, 9, 5])[:rows]
        tokens = torch.randint(5, 40, (rows, 9), generator=generator)
        mask = (torch.arange(9 + pad)[None] < lengths[:, None]).long()
        ids = nn.functional.pad(tokens, (0, pad)) * mask
        labels = torch.randint(0, 3, (rows,), generator=generator)
        labels = labels.float() if self.regression else labels
        encodings = {"": Encoding(ids, mask, torch.zeros_like(ids))}
        return Batch(torch.arange(rows), labels, encodings, source=torch.arange(rows) % len(DOMAINS))

    def optimiser(self, stage: Stage) -> torch.optim.Optimizer:
        """Over what the stage trains, a parameter that several roles share once; not what the method's own train."""
        roles = {**self.students, "method": self.method}
        taken = {
            parameter
            for own in self.method.optimizers.values()
            for group in own.param_groups
            for parameter in group["params"]
        }
        groups = []
        for role, rate in stage.lr.items():
            chosen = [p for p in roles[role].parameters() if p not in taken] if stage.trains(role) else []
            taken.update(chosen)
            groups.append({"params": chosen, "lr": 1e-3 * rate})
        return torch.optim.AdamW([group for group in groups if group["params"]])

    def train(self, stage: Stage, steps: int, batch: Batch) -> list[float]:
        """So many steps on one batch; the loss of each."""
        optimiser, losses = self.optimiser(stage), []
        for number in range(1, steps + 1):
            step = self.step(stage, batch, number)
            loss = total(stage.terms(step))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            self.method.after_step(step)
            losses.append(loss.item())
        return losses


def _observed(model: nn.Module, encoding: Encoding, wanted: Want, grad: bool, rerun: bool) -> Outputs:
    outputs = observe(model, encoding, wanted, grad=grad)
    return outputs.with_rerun(rerun_of(model, encoding, wanted)) if rerun else outputs


def total(terms: Mapping[str, Term]) -> Tensor:
    """The weighted sum of the terms, a scalar."""
    return sum((term.value * term.weight for term in terms.values()), torch.zeros(()))


def part(batch: Batch, rows: Tensor) -> Batch:
    """Some rows of a batch, in the order of `rows`."""
    return batch.rows(rows)
