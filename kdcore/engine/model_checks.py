"""What is wrong with the models that a run starts from, told before any of them is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from kdcore.config import TeacherSpec
from kdcore.data.notes import Note
from kdcore.data.splits import TaskData
from kdcore.engine.plan import Plan
from kdcore.errors import UserError
from kdcore.formatting import listed
from kdcore.models.compatibility import check_classifier
from kdcore.models.config_file import read_config_file
from kdcore.models.label_names import contradiction, label_order
from kdcore.models.sources import Located, locate, read_config
from kdcore.models.tokenizer_checks import states_case, unread_words


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
    _ = plan.tokenizer
    for spec in plan.pretrained:
        words = unread_words(plan.tokenizer_of(spec))
        if words and spec.source != "pocket" and not states_case(locate(spec).path):
            yield Note(
                "warn", f"teachers.{spec.name}",
                f"{spec.name} reads every word in lower case, though its vocabulary holds {len(words):,} in upper "
                f"case, such as {words[0][:40]!r}",
                'if it was trained with case, add tokenizer_config.json with {"do_lower_case": false}',
            )  # fmt: skip


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
