"""The formulas against models that are built (on `meta`, so nothing is stored) and against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdcore.engine.dropout import seeded_dropout
from kdcore.errors import UserError
from kdcore.models.count import flops, parameters
from kdcore.models.observe import observe
from kdcore.models.sizes import bert_config, size_of
from kdcore.records import ModelSize, want


def built(config):
    from transformers import AutoModelForSequenceClassification

    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)


def distinct(module):
    """Weights of the module, each tensor once however often it is tied."""
    return sum({id(p): p.numel() for p in module.parameters()}.values())


@pytest.mark.parametrize(
    ("layers", "millions"), [(1, 31.52), (2, 38.60), (3, 45.69), (4, 52.78), (6, 66.96), (12, 109.48)]
)
def test_published_counts_of_bert(layers, millions):
    assert parameters(ModelSize(layers, 768, 12, 3072)).total / 1e6 == pytest.approx(millions, abs=0.006)


def test_published_count_of_tinybert():
    assert parameters(ModelSize(4, 312, 12, 1200)).total / 1e6 == pytest.approx(14.35, abs=0.006)


@pytest.mark.parametrize("shape", [ModelSize(3, 32, 4, 48, 100, 64, 3), ModelSize(1, 16, 1, 64, 50, 512, 1)])
def test_bert_counts_part_by_part(shape):
    model = built(bert_config(shape, shape.labels, None))
    count = parameters(shape)
    assert count.embeddings == distinct(model.bert.embeddings)
    assert count.encoder == distinct(model.bert.encoder)
    assert count.head == distinct(model.bert.pooler) + distinct(model.classifier)
    assert count.total == distinct(model)


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra", "mpnet"])
def test_other_families_counts(tiny, family):
    model = tiny(family)
    assert parameters(size_of(model.config)).total == distinct(model)


def test_unknown_family_is_refused():
    with pytest.raises(UserError, match="gpt2"):
        parameters(ModelSize(1, 8, 1, 8, model_type="gpt2"))


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet"])
def test_flops_equal_torchs_counter(tiny, encoding, family):
    model = tiny(family)
    model.set_attn_implementation("eager")  # the counter reads SDPA's operands only on some devices
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=encoding.input_ids, attention_mask=encoding.attention_mask)
    assert flops(size_of(model.config), tokens=7, batch=3) == counter.get_total_flops()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
def test_flops_of_a_lean_last_layer_equal_torchs_counter(tiny, encoding, family):
    model = tiny(family).train()
    with (
        seeded_dropout(model, torch.Generator()),  # its attention is written out in training, so that it is counted
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
    ):
        observe(model, encoding, want("logits"))
    sums = 2 * 3 * 2 * 7 * 16  # one query's scores and mix: a multiply-add a number, and no product of matrices
    assert flops(size_of(model.config), tokens=7, batch=3, cls_only=True) == counter.get_total_flops() + sums
    assert counter.get_total_flops() < flops(size_of(model.config), tokens=7, batch=3)
