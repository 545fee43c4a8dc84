"""Steps with tensors made by hand, for what an equation says; `test_contract.py` uses real tiny models."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
import torch

from kdcore.config import StudentSpec
from kdcore.methods import Method, resolve
from kdcore.methods.introspect import sizes
from kdcore.models.observe import rerun_of
from kdcore.models.students import build_student
from kdcore.records import ALL_LAYERS, Batch, Encoding, ModelSize, Outputs, Setup, Stage, Step, Want

ROWS, TOKENS, CLASSES, WIDTH = 6, 5, 3, 8
WITH_LAYER_ZERO = ("cls", "hidden")


def shape(layers: int, width: int = WIDTH, labels: int = CLASSES) -> ModelSize:
    return ModelSize(layers, width, heads=2, intermediate=2 * width, vocabulary=50, positions=32, labels=labels)


def attention_mask(rows: int = ROWS) -> torch.Tensor:
    """Rows of 1 to TOKENS real tokens, padded on the right."""
    lengths = torch.arange(rows) % TOKENS + 1
    return (torch.arange(TOKENS)[None] < lengths[:, None]).long()


def outputs(wanted: Want, size: ModelSize, seed: int, classes: int = CLASSES, trained: bool = False) -> Outputs:
    """Random values in the shapes of the wanted tensors; float64, with a gradient where the model is trained."""
    generator = torch.Generator().manual_seed(seed)

    def random(*dims: int) -> torch.Tensor:
        return torch.randn(*dims, generator=generator, dtype=torch.float64).requires_grad_(trained)

    split = (ROWS, size.heads, TOKENS, size.width // size.heads)
    dims = {
        "logits": (ROWS, classes),
        "cls": (ROWS, size.width),
        "pooled": (ROWS, size.width),
        "hidden": (ROWS, TOKENS, size.width),
        "embeddings": (ROWS, TOKENS, size.width),
        "head_outputs": (ROWS, TOKENS, size.width),
        "queries": split,
        "keys": split,
        "values": split,
        "scores": (ROWS, size.heads, TOKENS, TOKENS),
        "attention": (ROWS, size.heads, TOKENS, TOKENS),
    }
    tensors: dict[str, object] = {}
    for name, layers in wanted.items():
        if layers == ALL_LAYERS:
            layers = tuple(range(0 if name in WITH_LAYER_ZERO else 1, size.layers + 1))
        tensors[name] = {layer: random(*dims[name]) for layer in layers} if layers else random(*dims[name])
        if name == "attention":
            tensors[name] = {layer: attending(scores) for layer, scores in tensors[name].items()}
    return Outputs(tensors, attention_mask())


def attending(scores: torch.Tensor) -> torch.Tensor:
    """Distributions over the valid tokens, as a leaf of its own."""
    padding = attention_mask()[:, None, None, :] == 0
    return scores.detach().masked_fill(padding, -torch.inf).softmax(-1).requires_grad_(scores.requires_grad)


class World:
    """One method on hand-made tensors: `step()` gives a step of its stage, as the engine would."""

    def __init__(
        self,
        key: str,
        options: Mapping[str, object] | None = None,
        *,
        student: ModelSize | None = None,
        teachers: Mapping[str, ModelSize] | Sequence[str] | None = None,
        scores: Mapping[str, float | None] | None = None,
        regression: bool = False,
    ) -> None:
        classes = 1 if regression else CLASSES
        method, config = resolve(key, dict(options or {}))
        if teachers is None:
            teachers = ["big"][: method.teachers[1]]
        if not isinstance(teachers, Mapping):
            teachers = {name: shape(6) for name in teachers}
        self.setup = Setup(
            kind="regression" if regression else "classification",
            labels=classes,
            student=student or shape(3),
            teachers=dict(teachers),
            scores=dict(scores or dict.fromkeys(teachers)),
            domains=("first", "second", "third") if method.domains else (),
        )
        self.method: Method = method(config, self.setup)
        self.regression, self.classes = regression, classes
        self.rng = torch.Generator().manual_seed(0)
        self.models: dict[str, torch.nn.Module] = {}
        """Role or teacher -> the model that is run again; what is observed at first is made by hand all the same."""

    def stage(self, name: str | None = None) -> Stage:
        """The stage of this name; the last one by default."""
        stages = {stage.name: stage for stage in self.method.stages()}
        return stages[name] if name else list(stages.values())[-1]

    def batch(self) -> Batch:
        generator = torch.Generator().manual_seed(9)
        if self.regression:
            labels = 5 * torch.rand(ROWS, generator=generator, dtype=torch.float64)
        else:
            labels = torch.randint(0, self.classes, (ROWS,), generator=generator)
        mask = attention_mask()
        encodings = {"": Encoding(mask, mask, torch.zeros_like(mask))}
        return Batch(torch.arange(ROWS), labels, encodings, source=torch.arange(ROWS) % 3)

    def step(self, stage: str | None = None, seed: int = 0, number: int = 1) -> Step:
        """A step in which every teacher answers whom the method asks to."""
        chosen = self.stage(stage)
        size, adopted = self.setup.student, self._adopted()
        students = {
            role: outputs(
                chosen.needs.of_student(role), adopted.get(role, size), seed + 50 * place, self.classes,
                chosen.trains(role),
            )
            for place, role in enumerate(chosen.students or ("student",))
        }  # fmt: skip
        if "student" in chosen.needs.rerun:
            students = {
                role: self._again(role, size, said, chosen.needs.of_student(role), trained=True)
                for role, said in students.items()
            }
        bare = Step(
            batch=self.batch(), students=students, stage=chosen.name, step=number, steps=100, epoch=0.0, rng=self.rng,
            regression=self.regression,
        )  # fmt: skip
        asked = chosen.asks([*self.setup.teachers, *adopted])
        rows = dict(self.method.pick_teachers(bare)) if asked else {}
        said = {
            name: outputs(chosen.needs.of_teacher(name), teacher, seed + 100 + place, self.classes)
            for place, (name, teacher) in enumerate({**self.setup.teachers, **adopted}.items())
            if name in rows
        }
        if "teacher" in chosen.needs.rerun:
            said = {
                name: self._again(name, self.setup.teachers[name], outputs, chosen.needs.of_teacher(name))
                for name, outputs in said.items()
            }
        return replaced(bare, teachers=said, rows=rows)

    def _adopted(self) -> dict[str, ModelSize]:
        """Role -> size of those that become teachers."""
        names = [role for stage in self.method.stages() for role in stage.adopt]
        found = sizes(self.method, self.setup.student) if names else {}
        return {role: found[role] for role in names}

    def _again(self, name: str, size: ModelSize, said: Outputs, wanted: Want, trained: bool = False) -> Outputs:
        """The outputs with a float64 model without dropout to be run again."""
        if name not in self.models:
            spec = StudentSpec(layers=size.layers, init="random")
            model = build_student(size, self.classes, spec, None, seed=len(self.models), dropout=0.0).double()
            for parameter in model.requires_grad_(trained).parameters():
                parameter.data.mul_(5)  # BERT's start is so small that all models would say nearly the same
            self.models[name] = model
        return said.with_rerun(rerun_of(self.models[name], self.batch().encoding, wanted))

    def terms(self, step: Step) -> dict[str, float]:
        """Raw values."""
        return {name: term.value.item() for name, term in self.method.terms(step).items()}

    def loss(self, step: Step) -> torch.Tensor:
        return sum((term.value * term.weight for term in self.method.terms(step).values()), torch.zeros(()))


def replaced(step: Step, **changes: object) -> Step:
    return Step(**{**vars(step), **changes})


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and lose much to waiting for them on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def world() -> type[World]:
    return World


@pytest.fixture(name="shape")
def _shape() -> Callable[..., ModelSize]:
    return shape


@pytest.fixture(name="replaced")
def _replaced() -> Callable[..., Step]:
    """A step with some fields changed."""
    return replaced
