"""What settings must hold before anything is built; each raises with the field and what to do."""

from __future__ import annotations

from kdcore.engine.plan import Plan
from kdcore.engine.teacher_source import needs_training, teacher_size
from kdcore.errors import UserError
from kdcore.formatting import listed
from kdcore.methods import Method
from kdcore.methods.introspect import copies, depths
from kdcore.models.observe import layers_read
from kdcore.records import ROW_LEVEL, Want


def check_others(plan: Plan) -> None:
    """Raises UserError where a method does not learn so many tasks, or a teacher cannot be made for one of them."""
    method, also = plan.method_class, plan.config.also
    fewest, most = method.other_tasks
    if len(also) > most:
        remedy = f"name {most} at most" if most else "leave it empty, or choose a method of several tasks, such as MKD"
        raise UserError("also", f"{method.title} cannot learn {', '.join(also)} beside the run's task", remedy)
    if len(also) < fewest:
        problem = f"{method.title} learns several tasks, and no other is named"
        raise UserError("also", problem, "name another task, or several")
    for spec in plan.config.teachers:
        for data in plan.others.values():
            if not needs_training(spec):
                raise UserError(
                    f"teachers.{spec.name}",
                    f"{spec.name} is a teacher of {plan.data.task.title} alone, so {data.task.title} has none",
                    "choose a pretrained model, which is fine-tuned on each task, or a pocket teacher",
                )
            teacher_size(spec, data)  # raises where it cannot be a teacher of this task


def check_layers(plan: Plan) -> None:
    """Raises UserError where a stage reads layers that a model of the run does not have, or two have one name."""
    roles = depths(plan.method)
    for name in sorted(set(roles) & set(plan.teacher_sizes)):
        raise UserError(
            f"teachers.{name}", f"{plan.method.title} trains a model of this name itself", "choose another name"
        )
    teachers = roles | {name: size.layers for name, size in plan.teacher_sizes.items()}
    for stage in plan.stages:
        for role, layers in roles.items():
            if stage.runs(role):
                remedy = "give the student more layers, or choose other ones in the options"
                _check_layers(plan, stage.needs.of_student(role), layers, "student.layers", role, remedy)
        for name in stage.asks(plan.teacher_sizes):
            remedy = "choose a teacher of more layers, or other layers in the options"
            wanted, depth = stage.needs.of_teacher(name), teachers[name]
            _check_layers(plan, wanted, depth, f"teachers.{name}", f"teacher {name}", remedy)


def check_vocabularies(plan: Plan) -> None:
    """Raises UserError where a method compares tokens with a teacher that cuts a text into others than the student."""
    method, others = plan.method, plan.method.setup.other_vocabulary
    for role, name in copies(method).items():
        if name in others:
            why = f"trains a copy of teacher {name} on the student's tokens ({role})"
            raise _other_tokens(method, name, why)
    for stage in plan.stages:
        for name in stage.asks(plan.teacher_sizes):
            if name not in others:
                continue
            tensors = sorted(set(stage.needs.of_teacher(name)) - ROW_LEVEL)
            if "teacher" in stage.needs.rerun:
                raise _other_tokens(method, name, f"differentiates teacher {name} at the student's tokens")
            if tensors:
                raise _other_tokens(method, name, f"compares {listed(tensors)} of teacher {name} token by token")
            if stage.live:
                raise _other_tokens(method, name, f"has teacher {name} answer rows whose tokens it alters")


def _other_tokens(method: Method, name: str, why: str) -> UserError:
    return UserError(
        f"teachers.{name}",
        f"{method.title} {why}, and {name} cuts a text into other tokens than the student does",
        "choose a teacher that shares the student's tokenizer, or a method that learns from whole rows, such as "
        "knowledge distillation (kd) or PKD",
    )


def _check_layers(plan: Plan, wanted: Want, depth: int, field: str, who: str, remedy: str) -> None:
    try:
        layers_read(wanted, depth)
    except ValueError as error:
        raise UserError(field, f"{plan.method.title} reads layers that {who} lacks: {error}", remedy) from error


def check_length(plan: Plan) -> None:
    """Raises UserError where rows may be longer than a teacher or the base can read."""
    length = plan.config.train.max_length
    for spec in plan.pretrained:
        longest = teacher_size(spec, plan.data).longest
        if length > longest:
            raise UserError("train.max_length", f"{spec.name} reads {longest} tokens, not {length}", "lower it to that")
