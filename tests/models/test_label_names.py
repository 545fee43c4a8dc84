"""Names of classes in configs: written as the task has them, and compared in their order."""

from __future__ import annotations

import pytest
from transformers import BertConfig

from kdcore.models.label_names import label_order, name_labels


@pytest.mark.parametrize(
    ("names", "labels", "order"),
    [
        (["negative", "positive"], ["negative", "positive"], "same"),
        (["Not-Entailment", "ENTAILMENT"], ["not_entailment", "entailment"], "same"),
        (["positive", "negative"], ["negative", "positive"], "permuted"),
        (["LABEL_0", "LABEL_1"], ["negative", "positive"], "generic"),
        (["0", "1"], ["negative", "positive"], "generic"),
        (["0", "1"], ["0", "1"], "same"),
        (["1", "0"], ["0", "1"], "generic"),
        (["sad", "happy"], ["negative", "positive"], "other"),
        ([], ["negative", "positive"], "generic"),
    ],
)
def test_orders_are_compared_by_name(names: list[str], labels: list[str], order: str) -> None:
    assert label_order(dict(enumerate(names)), labels) == order


def test_a_config_gets_the_tasks_classes() -> None:
    config = BertConfig(num_labels=2)
    name_labels(config, ("bad", "good"))
    assert config.id2label == {0: "bad", 1: "good"} and config.label2id == {"bad": 0, "good": 1}
    scores = BertConfig(num_labels=1)
    name_labels(scores, ())
    assert scores.id2label == {0: "LABEL_0"}
