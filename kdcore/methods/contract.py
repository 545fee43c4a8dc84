"""What every method must hold, as checks on real models of a few layers: `kdcore check-method` and the tests run them.

A check takes a `Case`, or a method's class. It returns where all is well, raises `ContractError` with what is wrong,
and `NotApplicable` where it has no meaning for the method. Its docstring's line is its name for people.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from kdcore.errors import UndeclaredTensorError
from kdcore.layer_map import pairs
from kdcore.methods.contract_bench import STUDENT, TEACHER, Bench, Case, part
from kdcore.models.sizes import size_of
from kdcore.records import TENSORS, Outputs, Stage, Step, Term


class ContractError(AssertionError):
    """What a method does not hold."""


class NotApplicable(Exception):  # noqa: N818  # it is no error
    """Why a check has no meaning for this method."""


def require(holds: Any, words: str) -> None:
    if not holds:
        raise ContractError(words)


def _close(one: Tensor, other: Tensor, what: str) -> None:
    """Equal up to the rounding of float32."""
    try:
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    except AssertionError:
        gap = (one - other).abs().max().item()
        raise ContractError(f"{what} (largest difference {gap:.3g})") from None


# --- one step ---------------------------------------------------------------------------------------------------------


def terms_are_named_float32_scalars(case: Case) -> None:
    """Terms are finite float32 scalars with names and weights of at least 0"""
    bench = Bench(case)
    for stage in bench.ready():
        terms = stage.terms(bench.step(stage, bench.batch()))
        require(terms and all(isinstance(name, str) and name for name in terms), "a term has no name")
        for name, term in terms.items():
            shape, kind = tuple(term.value.shape), term.value.dtype
            require(shape == (), f"term {name} has the shape {list(shape)}, not that of a scalar")
            require(kind == torch.float32, f"term {name} is {kind}, not float32")
            require(torch.isfinite(term.value), f"term {name} is {term.value.item()}")
            require(term.weight >= 0, f"term {name} has the weight {float(term.weight):g}")
        require(sum(float(term.weight) for term in terms.values()) > 0, "all weights are 0")


def half_precision_gives_float32_terms(case: Case) -> None:
    """Terms of bfloat16 outputs are float32 and finite"""
    bench = Bench(case)
    for stage in bench.ready():
        for name, term in stage.terms(bench.step(stage, bench.batch(), change=_half)).items():
            require(
                term.value.dtype == torch.float32,
                f"term {name} of bfloat16 outputs is {term.value.dtype}: call .float() on what it is made of",
            )
            require(torch.isfinite(term.value), f"term {name} of bfloat16 outputs is {term.value.item()}")


def _half(outputs: Outputs) -> Outputs:
    tensors = {name: getattr(outputs, name) for name in outputs.names()}
    cast = {
        name: {layer: tensor.bfloat16() for layer, tensor in value.items()}
        if isinstance(value, dict)
        else value.bfloat16()
        for name, value in tensors.items()
    }
    return outputs.with_tensors(cast)


def gradients_reach_every_trained_role_and_no_teacher(case: Case) -> None:
    """Gradients reach every model that is trained, and no teacher"""
    bench = Bench(case)
    for stage in bench.ready():
        roles = {**bench.students, "method": bench.method}
        before = {name: [p.clone() for p in model.parameters()] for name, model in bench.teachers.items()}
        for module in roles.values():
            module.zero_grad()
        bench.train(stage, 2, bench.batch())
        for role in (role for role in roles if stage.trains(role)):
            gradients = [p.grad for p in roles[role].parameters()]
            reached = not gradients or any(g is not None and g.abs().sum() > 0 for g in gradients)
            require(reached, f"no gradient reaches {role}: is something detached, or without a graph?")
        for name, model in bench.teachers.items():
            untouched = all(p.grad is None for p in model.parameters())
            require(untouched, f"a gradient reaches the teacher {name}")
            same = all(torch.equal(a, b) for a, b in zip(before[name], model.parameters(), strict=True))
            require(same, f"training changes the teacher {name}")


def students_and_teachers_are_no_part_of_the_method(case: Case) -> None:
    """Students and teachers are no part of the method's own module"""
    bench = Bench(case)
    ids = {id(p) for p in bench.method.parameters()}
    for name, model in [*bench.students.items(), *bench.teachers.items()]:
        require(not ids & {id(p) for p in model.parameters()}, f"the method holds parameters of {name}")


def padding_does_not_matter(case: Case) -> None:
    """Padding does not change the loss"""
    bench = Bench(case)
    for stage in bench.ready():
        narrow, wide = bench.loss(stage, bench.batch()), bench.loss(stage, bench.batch(pad=7))
        _close(narrow, wide, "seven more columns of padding change the loss: leave them out by `step.student.mask`")


def batch_composition_does_not_matter(case: Case) -> None:
    """The loss of a batch is the mean over its rows of each row's own loss"""
    bench = Bench(case)
    if bench.method.relates_rows(bench.config):
        raise NotApplicable("its terms relate the rows of a batch to one another, and it says so")
    whole = bench.batch()
    for stage in bench.ready():
        alone = [bench.loss(stage, part(whole, torch.tensor([row]))) for row in range(len(whole))]
        _close(
            bench.loss(stage, whole), torch.stack(alone).mean(),
            "the loss of a batch is not the mean of its rows' losses: take means over rows, or set batch_relational",
        )  # fmt: skip


def rows_that_a_teacher_answers_are_compared_with_those_of_the_student(case: Case) -> None:
    """A teacher that answers some rows is compared with the student on just these"""
    bench = Bench(case)
    rows, whole = torch.tensor([4, 1]), bench.batch()
    for stage in bench.ready():
        full = bench.step(stage, whole)
        if len(full.rows) != 1:
            raise NotApplicable("asks none or several teachers at once, and those answer every row")
        (name,) = full.teachers
        encoding = whole.encoding.rows(rows)
        outputs = bench.teacher_outputs(stage, name, encoding)
        answers = replace(full, teachers={name: outputs}, rows={name: rows})
        students = bench.student_outputs(stage, encoding)
        alone = replace(full, batch=part(whole, rows), students=students, teachers={name: outputs}, rows={name: None})
        got, expected = stage.terms(answers), stage.terms(alone)
        others = {name: bench.teacher_outputs(stage, name, whole.encoding.rows(rows - 1))}
        otherwise = stage.terms(replace(answers, teachers=others))
        for term in (name for name in got if not torch.equal(got[name].value, otherwise[name].value)):
            words = f"term {term} sets other rows of the student against the teacher's: use `rows_for_teacher`"
            _close(got[term].value, expected[term].value, words)


def reads_all_that_it_declares(case: Case, side: Literal["student", "teacher"] = "student") -> None:
    """It reads every tensor and layer that its needs declare"""
    bench = Bench(case)
    for stage in bench.ready():
        full = bench.step(stage, bench.batch())
        for name, layers in _declared(stage, full, side).items():
            for missing in layers or [None]:
                models = _without(getattr(full, f"{side}s"), name, missing)
                step = replace(full, students=models) if side == "student" else replace(full, teachers=models)
                try:
                    stage.terms(step)
                except (UndeclaredTensorError, KeyError):
                    continue
                where = "" if missing is None else f" of layer {missing}"
                raise ContractError(f"stage {stage.name} declares {name}{where} of the {side} and never reads it")


def _declared(stage: Stage, step: Step, side: Literal["student", "teacher"]) -> dict[str, tuple[int, ...]]:
    """Tensor -> layers that the stage reads of any of these models."""
    wanted: dict[str, tuple[int, ...]] = {}
    for model in getattr(step, f"{side}s"):
        of_model = stage.needs.of_student(model) if side == "student" else stage.needs.of_teacher(model)
        for name, layers in of_model.items():
            wanted[name] = tuple(dict.fromkeys((*wanted.get(name, ()), *layers)))
    return wanted


def reads_all_that_it_declares_of_teachers(case: Case) -> None:
    """It reads every tensor and layer of its teachers that its needs declare"""
    reads_all_that_it_declares(case, "teacher")


def _without(models: Mapping[str, Outputs], name: str, layer: int | None) -> dict[str, Outputs]:
    """The same outputs, less one tensor or one layer of it."""
    less = {}
    for model, outputs in models.items():
        tensors = {known: getattr(outputs, known) for known in outputs.names()}
        if layer is None:
            tensors.pop(name, None)
        elif name in tensors:
            tensors[name] = {at: tensor for at, tensor in tensors[name].items() if at != layer}
        less[model] = outputs.with_tensors(tensors)
    return less


def no_distillation_loss_where_student_equals_teacher(case: Case, allowed: Collection[str] = ()) -> None:
    """Terms but `hard` are 0 where the student is the teacher, and greater elsewhere"""
    equal, different = Bench(case, equal=True), Bench(case)
    for same, other in zip(equal.ready(), different.ready(), strict=True):
        terms = same.terms(equal.step(same, equal.batch()))
        apart = other.terms(different.step(other, different.batch()))
        for name in terms.keys() - {"hard", *allowed}:
            value = terms[name].value.item()
            require(abs(value) <= 1e-5, f"term {name} is {value:.3g} where the student is the teacher")
            require(apart[name].value.item() > 1e-4, f"term {name} is 0 where the student is not the teacher, too")


# --- several steps ----------------------------------------------------------------------------------------------------


def a_repeated_batch_is_learned(case: Case) -> None:
    """Fifteen steps on one batch lower its loss"""
    bench = Bench(case)
    for stage in bench.ready():
        batch = bench.batch()
        first = [bench.terms(stage, batch, draw) for draw in range(6)]
        bench.train(stage, 15, batch)
        later = [bench.terms(stage, batch, draw) for draw in range(6)]
        before, after = sum(_sums(first, first)), sum(_sums(later, first))
        words = f"stage {stage.name}: 15 steps on one batch take its loss from {before:.4g} to {after:.4g}"
        require(after < before, words)


def _sums(values: Sequence[Mapping[str, Term]], weights: Sequence[Mapping[str, Term]]) -> list[float]:
    """Weighted sums, each with the weights of another moment, since a method may change its weights as it learns."""
    return [
        sum(term.value.item() * float(weighed.get(name, term).weight) for name, term in terms.items())
        for terms, weighed in zip(values, weights, strict=True)
    ]


def same_seed_same_losses_and_no_use_of_global_randomness(case: Case) -> None:
    """The same seed gives the same losses, and torch's own generator is left alone"""
    one, two = Bench(case), Bench(case)
    before = torch.get_rng_state()
    losses = [[bench.train(stage, 4, bench.batch()) for stage in bench.ready()] for bench in (one, two)]
    require(losses[0] == losses[1], "the same seed gives other losses: draw with `step.rng` alone")
    words = "it draws from torch's own generator: draw with `step.rng`, or a generator seeded by `setup.seed`"
    require(torch.equal(torch.get_rng_state(), before), words)


def state_survives_saving_and_loading(case: Case) -> None:
    """What a checkpoint keeps is all that it needs to go on"""
    bench, again = Bench(case), Bench(case)
    for stage in bench.ready():
        bench.train(stage, 3, bench.batch())
    again.method.load_state_dict(bench.method.state_dict())
    again.method.restore_history(json.loads(json.dumps(bench.method.history())))
    for name, model in again.students.items():
        model.load_state_dict(bench.students[name].state_dict())
    require(again.method.history() == bench.method.history(), "history() differs after restore_history()")
    words = "notes() differ after a resume: what they show belongs into a buffer or history()"
    require(again.method.notes() == bench.method.notes(), words)
    final, batch = bench.method.stages()[-1], bench.batch()
    same = again.resumed()
    for draw in range(4):
        equal = torch.equal(again.loss(same, batch, draw), bench.loss(final, batch, draw))
        require(
            equal, "the loss differs after a resume: what `terms` uses belongs into parameters, buffers or history()"
        )


def notes_are_numbers_and_history_is_json(case: Case) -> None:
    """notes() are numbers, history() is JSON"""
    bench = Bench(case)
    for stage in bench.ready():
        bench.train(stage, 2, bench.batch())
        for name, value in bench.method.notes().items():
            require(isinstance(name, str) and isinstance(value, float), f"the note {name!r} is {value!r}, not a float")
        history = bench.method.history()
        require(json.loads(json.dumps(history)) == history, "history() is not what JSON gives back")


# --- what it says of itself -------------------------------------------------------------------------------------------


def stages_are_consistent(case: Case) -> None:
    """Stages name roles, teachers and tensors that exist, and their shares sum to 1"""
    bench = Bench(case)
    stages, method = bench.method.stages(), bench.method
    deployed = method.deployed(bench.config, STUDENT, method.setup.teachers)
    deepest = replace(TEACHER, layers=max(TEACHER.layers, deployed.layers))
    require(len({stage.name for stage in stages}) == len(stages), "two stages have one name")
    require(not stages[-1].pilot, "the last stage is a pilot; it has to train the student that is kept")
    shares = sum(stage.share for stage in stages if not stage.pilot)
    require(abs(shares - 1) < 1e-6, f"the shares of the stages sum to {shares:g}, not to 1")
    price = sum(stage.share for stage in stages if stage.pilot)
    require(price == method.pilots(bench.config, len(bench.teachers)), f"pilots() does not say {price:g}")
    roles, asked = {*bench.students, "method"}, set(bench.teachers)
    for stage in stages:
        require(
            set(stage.lr) <= roles, f"stage {stage.name} trains {sorted(set(stage.lr) - roles)}, which are not there"
        )
        require(any(stage.trains(role) for role in bench.students), f"stage {stage.name} trains no student")
        require(
            set(stage.students or ()) <= set(bench.students), f"stage {stage.name} runs students that are not there"
        )
        require(set(stage.teachers or ()) <= asked, f"stage {stage.name} asks teachers that are not there")
        require(set(stage.adopt) <= set(bench.students), f"stage {stage.name} adopts students that are not there")
        asked |= set(stage.adopt)
        for declared, allowed, shape in (
            (stage.needs.student, method.needs.student, deepest),
            (stage.needs.teacher, method.needs.teacher, TEACHER),
        ):
            extra = sorted(set(declared) - set(allowed))
            require(not extra, f"stage {stage.name} reads {', '.join(extra)}, which the class's `needs` do not name")
            require(set(allowed) <= set(TENSORS), "`needs` name tensors that do not exist")
            deep = [layer for layers in declared.values() for layer in layers if not -1 <= layer <= shape.layers]
            require(not deep, f"stage {stage.name} reads layers {deep} of a model of {shape.layers}")


def asks_only_teachers_that_are_there(case: Case) -> None:
    """It asks only teachers of the run, and none where it needs none"""
    bench = Bench(case)
    for stage in bench.ready():
        step = bench.step(stage, bench.batch())
        require(
            set(step.rows) <= set(stage.teachers or bench.teachers), "it asks teachers that the stage does not have"
        )
        require(bench.method.needs.teacher or not step.rows, "it asks teachers and `needs` name none of their tensors")


def layer_map_names_layers_that_exist(case: Case) -> None:
    """The layer map names layers that exist"""
    bench = Bench(case)
    mapped = bench.method.layer_map(bench.config, STUDENT, TEACHER)
    deployed = bench.method.deployed(bench.config, STUDENT, bench.setup.teachers)
    require(all(mapped.values()), "a student layer is matched with no teacher layer: leave it out")
    for student, teacher in pairs(mapped):
        there = 0 <= student <= deployed.layers and 0 <= teacher <= TEACHER.layers
        require(there, f"student layer {student} or teacher layer {teacher} does not exist")


def the_deployed_model_has_the_announced_size(case: Case) -> None:
    """`deployed` says the size of the model that is trained"""
    bench = Bench(case)
    deployed = bench.method.deployed(bench.config, STUDENT, bench.setup.teachers)
    main: Any = next(iter(bench.students.values()))
    built, said = size_of(main.config), replace(deployed, labels=bench.classes)
    require(built == said, f"it builds {built} and `deployed` says {said}")
