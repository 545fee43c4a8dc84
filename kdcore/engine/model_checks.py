"""What is wrong with the models that a run starts from, told before any of them is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from kdcore.config import TeacherSpec
from kdcore.data.notes import Note
from kdcore.data.splits import TaskData
from kdcore.engine.own_vocabulary import unknown_share
from kdcore.engine.plan import Plan
from kdcore.engine.plan_checks import check_vocabularies
from kdcore.engine.teacher_source import needs_training
from kdcore.errors import UserError
from kdcore.formatting import listed
from kdcore.methods.introspect import thin
from kdcore.models.compatibility import check_classifier
from kdcore.models.config_file import read_config_file
from kdcore.models.convert_weights import no_mpnet
from kdcore.models.label_names import contradiction, label_order
from kdcore.models.sources import Located, locate, read_config
from kdcore.models.tokenizer_checks import difference, reads_alike, states_case, unread_words

UNKNOWN = 0.02
"""Share of unknown tokens from which a person is warned."""


def teacher_notes(spec: TeacherSpec, data: TaskData) -> Iterator[Note]:
    """What a person should know of a teacher that is found, not trained here.

    Raises:
        UserError: it has no classifier for this task, or one whose classes are ordered otherwise.
    """
    field, located = f"teachers.{spec.name}", locate(spec)
    check_classifier(located.path, read_config(located.path, field), data.task.outputs, field, located.words)
    yield from _label_notes(field, located, data)
    yield Note("ok", field, f"{located.words} is ready; its score is taken when the run starts")


def tokenizer_notes(plan: Plan) -> Iterator[Note]:
    """What a person should know of the tokenizers of a run's models. Raises UserError where they do not fit them."""
    yield from _other_readings(plan)
    yield from _own_vocabulary(plan)
    for spec in plan.pretrained:
        words = unread_words(plan.tokenizer_of(spec))
        if words and spec.source != "pocket" and not states_case(locate(spec).path):
            yield Note(
                "warn", f"teachers.{spec.name}",
                f"{spec.name} reads every word in lower case, though its vocabulary holds {len(words):,} in upper "
                f"case, such as {words[0][:40]!r}",
                'if it was trained with case, add tokenizer_config.json with {"do_lower_case": false}',
            )  # fmt: skip


def _own_vocabulary(plan: Plan) -> Iterator[Note]:
    """How many pieces a student's own vocabulary has, and how much of the texts it cannot read."""
    asked, field = plan.config.student.vocabulary, "student.vocabulary"
    if not asked:
        return
    pieces, unknown = len(plan.tokenizer), unknown_share(plan.data, plan.tokenizer)
    few = f", since the texts give no more than that of {asked:,}" if pieces < asked else ""
    text = f"the student has {pieces:,} subword tokens of its own{few}"
    if unknown >= UNKNOWN:
        text = f"{text}, and reads {100 * unknown:.0f} % of the tokens of the texts as [UNK]"
        yield Note("warn", field, text, "raise student.vocabulary")
    else:
        yield Note("ok", field, f"{text}; it reads {100 * unknown:.1f} % of the tokens of the texts as [UNK]")


def _other_readings(plan: Plan) -> Iterator[Note]:
    """Teachers that do not read as the student does; one of the same vocabulary perhaps lacks a setting."""
    for spec in plan.config.teachers:
        if not plan.readings[spec.name]:
            continue
        own, field = plan.tokenizer_of(spec), f"teachers.{spec.name}"
        if own.get_vocab() == plan.tokenizer.get_vocab() and (found := difference(plan.tokenizer, own)):
            yield Note(
                "warn", field,
                f"{spec.name} has the student's vocabulary, but its tokenizer reads {found[0]!r} as {found[2]}, the "
                f"student's as {found[1]}",
                "give both the same tokenizer files, unless they were trained on different ones",
            )  # fmt: skip
        else:
            yield Note(
                "ok", field,
                f"{spec.name} cuts a text into other tokens than the student, so each reads the rows by its own "
                "tokenizer",
            )  # fmt: skip


def check_initial_weights(plan: Plan) -> None:
    """Raises UserError where the model that fills the student has another width, or too few layers."""
    source, student, spec = plan.source_size, plan.student_size, plan.config.student
    if source is None:
        return
    if (
        plan.source is not None
        and not spec.vocabulary
        and not reads_alike(plan.tokenizer_of(plan.source), plan.tokenizer)
    ):
        raise UserError(
            "student.init",
            f"{plan.source.name} cuts a text into other tokens than the student, so its word embeddings cannot fill it",
            "choose init=random, or a source that shares the student's tokenizer",
        )
    if source.model_type == "mpnet":
        raise no_mpnet()
    if source.embedding_width not in (None, source.width):
        raise UserError(
            "student.init",
            f"the source's word embeddings are {source.embedding_width} wide and its layers {source.width}, a BERT "
            "student has one width",
            "choose init=random",
        )
    labels = {"width": "width", "intermediate": "feed-forward size", "vocabulary": "vocabulary"}
    for name, label in labels.items():
        ours, theirs = getattr(student, name), getattr(source, name)
        if ours != theirs and not (name == "vocabulary" and spec.vocabulary):
            raise UserError(
                f"student.{name}" if name != "vocabulary" else "student.init",
                f"weights of {label} {theirs} cannot fill a student of {ours}",
                f"leave the {label} empty, or choose init=random",
            )
    layers = spec.init_layers
    if isinstance(layers, tuple) and not all(1 <= layer <= source.layers for layer in layers):
        raise UserError("student.init_layers", f"the source has layers 1 to {source.layers}", "name those")
    if layers in ("first", "last") and student.layers > source.layers:
        raise UserError(
            "student.layers", f"the source has only {source.layers} layers", "ask for fewer, or init=random"
        )


def check_other_depths(plan: Plan) -> None:
    """Raises UserError where a model that the method builds beside the student wants more layers than fill it."""
    method, source, spec = plan.method, plan.source_size, plan.config.student
    if source is None or spec.init_layers not in ("first", "last"):  # skip repeats layers, and so does a list
        return

    def build(layers: int | None = None, draw: int = 0, of: str | None = None) -> nn.Module:
        if of is None and layers and layers > source.layers:
            raise UserError(
                "student.init_layers",
                f"{method.title} builds a model of {layers} layers as well, and only {source.layers} are there to fill "
                f"it from",
                f"choose init_layers=skip (it repeats layers), init=random, or a base of {layers} layers or more",
            )
        result: nn.Module = thin(layers or spec.layers)
        return result

    method.build_students(build)


def check_before_teachers(plan: Plan) -> None:
    """Raises UserError for what would otherwise end a run once its teachers were trained.

    A queued run and a cell of a sweep start without a pre-flight.
    """
    check_vocabularies(plan)
    check_other_depths(plan)
    check_initial_weights(plan)
    _ = plan.steps


def model_warnings(plan: Plan) -> list[str]:
    """What a person should know of a run's models before the student learns, a sentence each."""
    notes = list(tokenizer_notes(plan))
    for spec in plan.config.teachers:
        if not needs_training(spec):
            notes += teacher_notes(spec, plan.data)
    warnings = [note for note in notes if note.level == "warn"]
    return [f"{_whose(note.field)}{note.text}; {note.remedy}" for note in warnings]


def _whose(field: str) -> str:
    """`teacher NAME: ` before what is said of a teacher."""
    owner, _, name = field.partition(".")
    return f"teacher {name}: " if owner == "teachers" else ""


def _label_notes(field: str, located: Located, data: TaskData) -> Iterator[Note]:
    """Labels that a finished teacher names in another order than the task would teach the opposite."""
    labels = list(data.task.labels)
    names = getattr(read_config(located.path, field), "id2label", {})
    theirs = [str(names.get(index, "")) for index in range(len(labels))]
    order = label_order(names, labels)
    if order == "permuted":
        raise UserError(
            field, f"its classes are ordered {listed(theirs)}, the task's are {listed(labels)}",
            "reorder its classifier, or choose another teacher",
        )  # fmt: skip
    if twice := contradiction(read_config_file(located.path, field)):
        raise UserError(
            field, f"in its config.json id2label and label2id give the class {twice!r} different numbers",
            "correct one of the two in config.json",
        )  # fmt: skip
    if order == "other":
        yield Note(
            "warn", field, f"it names its classes {listed(theirs)}, the task's are {listed(labels)}",
            "make sure that they mean the same, in this order",
        )  # fmt: skip
    elif order == "generic" and len(labels) > 1:
        yield Note("ok", field, f"it does not name its classes; they are taken for {listed(labels)}, in this order")
