"""What every registered method must hold, on real two-layer models. A new method is covered by being registered."""

import copy
import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from kdcore.config import StudentSpec
from kdcore.errors import UndeclaredTensorError, UserError
from kdcore.layer_map import pairs
from kdcore.methods import METHODS, resolve
from kdcore.models.observe import observe
from kdcore.models.sizes import size_of
from kdcore.models.students import build_student
from kdcore.records import TENSORS, Batch, Encoding, ModelSize, Outputs, Setup, Stage, Step
from tests.helpers import masked_lm_folder
from tests.methods.contract import contract_of

STUDENT = ModelSize(layers=2, width=16, heads=2, intermediate=32, vocabulary=40, positions=32)
TEACHER = ModelSize(layers=4, width=16, heads=2, intermediate=32, vocabulary=40, positions=32)

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(5, STUDENT.vocabulary))]


def cases(training: bool) -> Iterator[object]:
    """Every method with the settings, tasks and numbers of teachers that it is checked with.

    training: those alone of the checks that train.
    """
    for key, method in METHODS.items():
        for options in contract_of(method).options(training):
            fewest, most = method.takes(resolve(key, options)[1])
            counts = sorted({fewest, max(fewest, min(most, 2))})
            for kind in sorted(method.kinds):
                for count in counts:
                    name = f"{key}-{kind}-{count}-" + ",".join(f"{k}={v}" for k, v in options.items())
                    yield pytest.param((key, options, kind, count), id=name.strip("-"))


def trains(check: Callable[..., None]) -> Callable[..., None]:
    """Marks a check that trains for many steps: it runs over the variants that ask for it alone."""
    check.trains = True  # type: ignore[attr-defined]
    return check


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The cases of each check. They are found here, since the tests of methods that they stand in use this file."""
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", list(cases(hasattr(metafunc.function, "trains"))))


class Answers:
    """What the teachers say of the bench's batch, as `Method.before_stage` gets it."""

    def __init__(self, bench: "Bench") -> None:
        self._bench = bench

    def labels(self) -> torch.Tensor:
        return self._bench.batch().labels

    def logits(self, teacher: str) -> torch.Tensor:
        model = self._bench.teachers[teacher]
        return observe(model, self._bench.batch().encoding, {"logits": ()}, grad=False).logits

    def word_embeddings(self, teacher: str) -> torch.Tensor:
        return self._bench.teachers[teacher].bert.embeddings.word_embeddings.weight.detach().clone()

    def vocabulary(self) -> list[str]:
        return VOCABULARY


@functools.cache
def initial(shape: ModelSize, classes: int, seed: int) -> nn.Module:
    """A model as it is before it learns, made once."""
    model = build_student(shape, classes, StudentSpec(layers=shape.layers, init="random"), None, seed, 0.0)
    with torch.no_grad():  # larger than BERT's 0.02, or all models would say nearly the same
        for parameter in model.parameters():
            parameter.mul_(5)
    return model


class Bench:
    """A method with real models and no engine: steps as `Method` and `Step` document them."""

    def __init__(self, case: tuple, seed: int = 0, equal: bool = False) -> None:
        key, options, kind, count = case
        self.regression = kind == "regression"
        self.classes = 1 if self.regression else 3
        shape = STUDENT if equal else TEACHER
        self.teachers = {
            f"t{i}": self._model(shape, seed=5 if equal else 10 + i).requires_grad_(False) for i in range(count)
        }
        self.setup = Setup(
            kind=kind,
            labels=self.classes,
            student=STUDENT,
            teachers=dict.fromkeys(self.teachers, shape),
            scores={name: 0.6 + 0.1 * place for place, name in enumerate(self.teachers)},
            train_rows=6,
            task="mrpc",
        )
        method, self.config = resolve(key, options)
        self.method = method(self.config, self.setup)
        self.students = self.method.build_students(self._build)
        self.rng = torch.Generator().manual_seed(seed)

    def _build(self, layers: int | None = None, draw: int = 0, of: str | None = None) -> nn.Module:
        if of is not None:
            return copy.deepcopy(self.teachers[of]).requires_grad_(True)
        return self._model(replace(STUDENT, layers=layers or STUDENT.layers), seed=5 + 100 * draw)

    def _model(self, shape: ModelSize, seed: int) -> nn.Module:
        return copy.deepcopy(initial(shape, self.classes, seed))

    def ready(self) -> Iterator[Stage]:
        """The stages, each with what the teachers and earlier stages would have told before it begins."""
        for stage in self.method.stages():
            self.method.before_stage(stage.name, Answers(self))
            if stage.pilot:
                self.method.after_stage(stage.name, {"accuracy": 0.5 + 0.1 * len(stage.name)})
            yield stage

    def step(self, stage, batch: Batch, number: int = 1, change=lambda outputs: outputs) -> Step:
        students = {
            name: change(observe(model, batch.encoding, stage.needs.of_student(name), grad=stage.trains(name)))
            for name, model in self.students.items()
            if stage.runs(name)
        }
        bare = Step(
            batch=batch, students=students, stage=stage.name, step=number, steps=50, epoch=0.0, rng=self.rng,
            regression=self.regression,
        )  # fmt: skip
        asked = stage.asks(self.teachers)
        rows = {name: rows for name, rows in self.method.pick_teachers(bare).items() if name in asked} if asked else {}
        said = {}
        for name, chosen in rows.items():
            encoding = batch.encoding if chosen is None else batch.encoding.rows(chosen)
            said[name] = change(observe(self.teachers[name], encoding, stage.needs.of_teacher(name), grad=False))
        return replace(bare, teachers=said, rows=rows)

    def loss(self, stage, batch: Batch, draw: int = 0) -> torch.Tensor:
        """The weighted sum, with the teacher draw fixed."""
        self.rng.manual_seed(draw)
        return total(stage.terms(self.step(stage, batch)))

    def batch(self, rows: int = 6, pad: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(3)
        lengths = torch.tensor([9, 4, 7, 2, 9, 5])[:rows]
        tokens = torch.randint(5, 40, (rows, 9), generator=generator)
        mask = (torch.arange(9 + pad)[None] < lengths[:, None]).long()
        ids = nn.functional.pad(tokens, (0, pad)) * mask
        labels = torch.randint(0, 3, (rows,), generator=generator)
        labels = labels.float() if self.regression else labels
        return Batch(torch.arange(rows), labels, {"": Encoding(ids, mask, torch.zeros_like(ids))})

    def optimiser(self, stage) -> torch.optim.Optimizer:
        roles = {**self.students, "method": self.method}
        groups = [
            {"params": list(roles[role].parameters()), "lr": 1e-3 * rate}
            for role, rate in stage.lr.items()
            if stage.trains(role)
        ]
        return torch.optim.AdamW([group for group in groups if group["params"]])

    def train(self, stage, steps: int, batch: Batch) -> list[float]:
        optimiser, losses = self.optimiser(stage), []
        for number in range(1, steps + 1):
            step = self.step(stage, batch, number)
            loss = total(stage.terms(step))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            self.method.after_step(step)
            losses.append(loss.item())
        return losses


def total(terms) -> torch.Tensor:
    return sum((term.value * term.weight for term in terms.values()), torch.zeros(()))


def part(batch: Batch, rows: torch.Tensor) -> Batch:
    return Batch(batch.ids[rows], batch.labels[rows], {"": batch.encoding.rows(rows)})


@pytest.fixture(autouse=True, scope="module")
def masked_lm_at_hand(tmp_path_factory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    masked_lm_folder.write(home / "masked-lm", VOCABULARY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        yield


@pytest.fixture
def bench(case) -> Bench:
    return Bench(case)


def test_terms_are_finite_named_float32_scalars(bench):
    for stage in bench.ready():
        terms = stage.terms(bench.step(stage, bench.batch()))
        assert terms and all(isinstance(name, str) and name for name in terms)
        for term in terms.values():
            assert term.value.shape == () and term.value.dtype == torch.float32
            assert torch.isfinite(term.value) and term.weight >= 0
        assert sum(term.weight for term in terms.values()) > 0


def test_half_precision_outputs_give_float32_terms(bench):
    def half(outputs: Outputs) -> Outputs:
        cast = {
            name: {layer: tensor.bfloat16() for layer, tensor in said.items()}
            if isinstance(said, dict)
            else said.bfloat16()
            for name in outputs.names()
            for said in [getattr(outputs, name)]
        }
        return Outputs(cast, outputs.mask)

    for stage in bench.ready():
        for term in stage.terms(bench.step(stage, bench.batch(), change=half)).values():
            assert term.value.dtype == torch.float32 and torch.isfinite(term.value)


def test_gradients_reach_every_trained_role_and_no_teacher(bench):
    for stage in bench.ready():
        roles = {**bench.students, "method": bench.method}
        before = {name: [p.clone() for p in model.parameters()] for name, model in bench.teachers.items()}
        for module in roles.values():
            module.zero_grad()
        bench.train(stage, 2, bench.batch())
        for role in (role for role in roles if stage.trains(role)):
            gradients = [p.grad for p in roles[role].parameters()]
            assert not gradients or any(g is not None and g.abs().sum() > 0 for g in gradients), role
        for name, model in bench.teachers.items():
            assert all(p.grad is None for p in model.parameters())
            assert all(torch.equal(a, b) for a, b in zip(before[name], model.parameters(), strict=True))


def test_students_and_teachers_are_no_part_of_the_method(bench):
    ids = {id(p) for p in bench.method.parameters()}
    for model in [*bench.students.values(), *bench.teachers.values()]:
        assert not ids & {id(p) for p in model.parameters()}


def test_padding_does_not_matter(bench):
    for stage in bench.ready():
        narrow, wide = bench.loss(stage, bench.batch()), bench.loss(stage, bench.batch(pad=7))
        torch.testing.assert_close(narrow, wide, rtol=1e-5, atol=1e-6)


def test_batch_composition_does_not_matter(bench):
    """The loss of a batch is the mean over its rows of each row's own loss."""
    if bench.method.relates_rows(bench.config):
        pytest.skip("its terms relate the rows of a batch to one another, and it says so")
    whole = bench.batch()
    for stage in bench.ready():
        alone = [bench.loss(stage, part(whole, torch.tensor([row]))) for row in range(len(whole))]
        torch.testing.assert_close(bench.loss(stage, whole), torch.stack(alone).mean(), rtol=1e-5, atol=1e-6)


def test_rows_that_a_teacher_answers_are_compared_with_those_of_the_student(bench):
    """A teacher that answers rows 4 and 1 gives the loss of a batch of just these, in this order."""
    rows, whole = torch.tensor([4, 1]), bench.batch()
    for stage in bench.ready():
        full = bench.step(stage, whole)
        if len(full.rows) != 1:
            pytest.skip("asks none or several teachers at once, and those answer every row")
        ((name, said),) = full.teachers.items()
        said = observe(bench.teachers[name], whole.encoding.rows(rows), stage.needs.of_teacher(name), grad=False)
        answers = Step(**{**vars(full), "teachers": {name: said}, "rows": {name: rows}})
        students = {role: observe(model, part(whole, rows).encoding, stage.needs.of_student(role))
                    for role, model in bench.students.items() if stage.runs(role)}  # fmt: skip
        alone = Step(**{**vars(full), "batch": part(whole, rows), "students": students, "teachers": {name: said},
                        "rows": {name: None}})  # fmt: skip
        got, expected = stage.terms(answers), stage.terms(alone)
        for term in got.keys() - {"hard"}:
            torch.testing.assert_close(got[term].value, expected[term].value, rtol=1e-5, atol=1e-6)


@trains
def test_a_repeated_batch_is_learned(bench):
    for stage in bench.ready():
        batch = bench.batch()
        before = [bench.loss(stage, batch, draw).item() for draw in range(6)]
        bench.train(stage, 15, batch)
        after = [bench.loss(stage, batch, draw).item() for draw in range(6)]
        assert sum(after) < sum(before)


@trains
def test_same_seed_same_losses_and_no_use_of_global_randomness(case):
    one, two = Bench(case), Bench(case)
    before = torch.get_rng_state()
    losses = [[bench.train(stage, 4, bench.batch()) for stage in bench.ready()] for bench in (one, two)]
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), before)


@trains
def test_state_survives_saving_and_loading(case):
    bench, again = Bench(case), Bench(case)
    for stage in bench.ready():
        bench.train(stage, 3, bench.batch())
    again.method.load_state_dict(bench.method.state_dict())
    again.method.restore_history(json.loads(json.dumps(bench.method.history())))
    for name, model in again.students.items():
        model.load_state_dict(bench.students[name].state_dict())
    assert again.method.history() == bench.method.history()
    assert again.method.notes() == bench.method.notes()
    final, batch = bench.method.stages()[-1], bench.batch()
    same = again.method.stages()[-1]
    for draw in range(4):
        assert torch.equal(again.loss(same, batch, draw), bench.loss(final, batch, draw))


def test_no_distillation_loss_where_student_equals_teacher(case):
    contract = contract_of(METHODS[case[0]])
    if contract.deeper_teacher:
        pytest.skip("its teacher is deeper than its student")
    equal, different = Bench(case, equal=True), Bench(case)
    allowed = contract.not_zero | {"hard"}
    for same, other in zip(equal.ready(), different.ready(), strict=True):
        terms = same.terms(equal.step(same, equal.batch()))
        apart = other.terms(different.step(other, different.batch()))
        for name in terms.keys() - allowed:
            assert terms[name].value.item() == pytest.approx(0.0, abs=1e-5), name
            assert apart[name].value.item() > 1e-4, name


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_reads_all_that_it_declares_and_nothing_else(bench, side):
    """Undeclared tensors raise (so every test above shows that nothing else is read); and no layer is read in vain."""
    for stage in bench.ready():
        full = bench.step(stage, bench.batch())
        for name, layers in getattr(stage.needs, side).items():
            for missing in layers or [None]:
                step = Step(**{**vars(full), f"{side}s": without(getattr(full, f"{side}s"), name, missing)})
                with pytest.raises((UndeclaredTensorError, KeyError)):
                    stage.terms(step)


def without(models, name: str, layer: int | None) -> dict[str, Outputs]:
    """The same outputs, less one tensor or one layer of it."""
    less = {}
    for model, outputs in models.items():
        tensors = {known: getattr(outputs, known) for known in outputs.names()}
        if layer is None:
            del tensors[name]
        else:
            tensors[name] = {at: tensor for at, tensor in tensors[name].items() if at != layer}
        less[model] = Outputs(tensors, outputs.mask)
    return less


def test_stages_are_consistent(bench):
    stages, method = bench.method.stages(), bench.method
    deployed = method.deployed(bench.config, STUDENT)
    deepest = replace(TEACHER, layers=max(TEACHER.layers, deployed.layers))
    assert len({stage.name for stage in stages}) == len(stages)
    assert not stages[-1].pilot, "the last stage trains the student that is kept"
    assert sum(stage.share for stage in stages if not stage.pilot) == pytest.approx(1.0)
    price = sum(stage.share for stage in stages if stage.pilot)
    assert price == method.pilots(bench.config, len(bench.teachers))
    roles = {*bench.students, "method"}
    for stage in stages:
        assert set(stage.lr) <= roles and any(stage.trains(role) for role in bench.students)
        assert set(stage.students or ()) <= set(bench.students)
        assert set(stage.teachers or ()) <= set(bench.teachers)
        for declared, allowed, shape in (
            (stage.needs.student, method.needs.student, deepest),
            (stage.needs.teacher, method.needs.teacher, TEACHER),
        ):
            assert set(declared) <= set(allowed) <= set(TENSORS)
            assert all(-1 <= layer <= shape.layers for layers in declared.values() for layer in layers)


def test_asks_only_teachers_that_are_there(bench):
    for stage in bench.ready():
        step = bench.step(stage, bench.batch())
        assert set(step.rows) <= set(stage.teachers or bench.teachers)
        if not method_needs_teacher(bench):
            assert not step.rows


def method_needs_teacher(bench: Bench) -> bool:
    return bool(bench.method.needs.teacher)


def test_layer_map_names_layers_that_exist(bench):
    mapped = bench.method.layer_map(bench.config, STUDENT, TEACHER)
    deployed = bench.method.deployed(bench.config, STUDENT)
    assert all(mapped.values())
    assert all(0 <= m <= deployed.layers and 0 <= n <= TEACHER.layers for m, n in pairs(mapped))


def test_notes_are_numbers_and_history_is_json(bench):
    for stage in bench.ready():
        bench.train(stage, 2, bench.batch())
        assert all(isinstance(name, str) and isinstance(value, float) for name, value in bench.method.notes().items())
        history = bench.method.history()
        assert json.loads(json.dumps(history)) == history


# --- the settings and the words, without models -----------------------------------------------------------------------


@pytest.fixture(params=sorted(METHODS))
def method(request):
    return METHODS[request.param]


def test_config_round_trip(method):
    for options in contract_of(method).options():
        config = resolve(method.key, options)[1]
        assert resolve(method.key, json.loads(config.model_dump_json()))[1] == config


def test_every_setting_has_a_default_and_a_description(method):
    method.Config()
    for name, field in method.Config.model_fields.items():
        assert field.description, name
        number = field.annotation in (int, float)
        bounds = {type(bound).__name__ for bound in field.metadata}
        assert not number or (bounds & {"Ge", "Gt"} and bounds & {"Le", "Lt"}), f"{name} has no bounds"


def test_wrong_settings_are_named(method):
    with pytest.raises(UserError, match=r"options\.no_such_thing"):
        resolve(method.key, {"no_such_thing": 1})
    for name, field in method.Config.model_fields.items():
        if field.annotation is float:
            for wrong in (-1.0, 1e9, float("nan"), "many"):
                with pytest.raises(UserError, match=rf"options\.{name}"):
                    resolve(method.key, {name: wrong})


def test_words_for_people(method):
    words = method.__doc__ or ""
    assert words.split("\n")[0].strip().endswith(".")
    starts = {line.split()[0] for line in words.splitlines() if line.strip()}
    assert {"loss", "shapes", "departs"} <= starts
    assert method.title and METHODS[method.key] is method


def test_papers(method):
    keys = [paper.key for other in METHODS.values() for paper in other.papers]
    assert len(set(keys)) == len(keys)
    for paper in method.papers:
        assert all((paper.key, paper.title, paper.authors, paper.venue)) and 2012 <= paper.year <= 2026
        prefix, number = paper.arxiv.split(".")
        assert len(prefix) == 4 and len(number) in (4, 5) and (prefix + number).isdigit()


def test_counts_of_teachers(method):
    fewest, most = method.teachers
    assert 0 <= fewest <= most <= 12
    assert (fewest == 0) == (not method.needs.teacher)
    for options in contract_of(method).options():
        config = resolve(method.key, options)[1]
        least, greatest = method.takes(config)
        assert fewest <= least <= greatest <= most
        assert method.batch_relational or not method.relates_rows(config)


def test_the_deployed_model_has_the_size_that_was_announced(bench):
    """Time, memory and export are told from this size before anything is built."""
    deployed = bench.method.deployed(bench.config, STUDENT)
    main = next(iter(bench.students.values()))
    assert size_of(main.config) == replace(deployed, labels=bench.classes)
