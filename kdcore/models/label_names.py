"""Names of classes in a model's config, and whether two lists of them mean the same order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Order = Literal["same", "permuted", "generic", "other"]


def name_labels(config: Any, labels: Sequence[str]) -> None:
    """Writes a task's classes into a model's config, so that an export answers with their names.

    labels: in the order of the model's outputs; empty for scores, which have no names.
    """
    if labels and len(labels) == config.num_labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}


def label_order(names: Mapping[int, str], labels: Sequence[str]) -> Order:
    """Whether a model's classes stand in a task's order.

    generic: the model does not name them (`LABEL_0`). other: it names something else. Case, spaces, '-' and '_' do not
    count.

    >>> label_order({0: "Not Entailment", 1: "entailment"}, ["entailment", "not_entailment"])
    'permuted'
    """
    theirs = [str(names.get(index, "")) for index in range(len(labels))]
    if all(re.fullmatch(r"(LABEL_)?\d*", name, re.IGNORECASE) for name in theirs):
        numbered = all(re.fullmatch(r"\d+", label) for label in labels)
        return "same" if numbered and theirs == list(labels) else "generic"
    mine, other = [[_plain(name) for name in listed] for listed in (labels, theirs)]
    if mine == other:
        return "same"
    return "permuted" if sorted(mine) == sorted(other) else "other"


def contradiction(content: Mapping[str, Any]) -> str | None:
    """A class to which the two tables of a config.json give different numbers; None where they agree.

    >>> contradiction({"id2label": {"0": "neg", "1": "pos"}, "label2id": {"pos": 0, "neg": 1}})
    'neg'
    """
    names, numbers = content.get("id2label"), content.get("label2id")
    if not isinstance(names, Mapping) or not isinstance(numbers, Mapping):
        return None
    return next((str(name) for number, name in names.items() if str(numbers.get(name, number)) != str(number)), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()
