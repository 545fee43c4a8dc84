from __future__ import annotations

import pytest
import torch

from kdcore.config import StudentSpec
from kdcore.errors import UserError
from kdcore.models.sizes import PRESETS, bert_config, presets_for, size_of, student_size
from kdcore.records import ModelSize

MINILM = ModelSize(6, 384, 12, 1536)
BERT_BASE = ModelSize(12, 768, 12, 3072)


def test_shape_of_reads_every_family(tiny):
    expected = ModelSize(2, 16, 4, 24, 40, 20, 3)
    assert size_of(tiny("bert").config) == expected
    for family in ("roberta", "distilbert"):
        size = size_of(tiny(family).config)
        assert size.model_type == family and size.pad == (1 if family == "roberta" else 0)
        assert size.__dict__ | {"model_type": "bert", "pad": 0} == expected.__dict__
    assert size_of(tiny("electra").config, labels=5).labels == 5
    assert size_of(tiny("electra").config).embedding_width == 8


def test_what_a_spec_leaves_empty_is_the_bases():
    assert student_size(StudentSpec(layers=3), MINILM, 1) == ModelSize(3, 384, 12, 1536, labels=1)
    odd = ModelSize(4, 312, 12, 1200, vocabulary=99, positions=64)
    assert student_size(StudentSpec(layers=2), odd, 2) == ModelSize(2, 312, 12, 1200, 99, 64)


def test_another_width_takes_four_times_it_and_needs_heads_that_divide_it():
    assert student_size(StudentSpec(layers=2, width=96), MINILM, 2) == ModelSize(2, 96, 12, 384)
    with pytest.raises(UserError) as error:
        student_size(StudentSpec(layers=2, width=128), MINILM, 2)
    assert error.value.field == "student.heads" and "1, 2, 4, 8, 16, 32, 64" in error.value.remedy


def test_roberta_positions_lose_the_two_that_are_never_used():
    roberta = ModelSize(6, 16, 4, 24, positions=514, model_type="roberta", pad=1)
    assert student_size(StudentSpec(), roberta, 2).positions == 512 == roberta.longest


def test_config_round_trip_and_dropout():
    shape = ModelSize(3, 32, 4, 48, 100, 64, 3)
    config = bert_config(shape, 3, 0.25)
    assert size_of(config) == shape and config.dtype == torch.float32
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.25
    assert bert_config(shape, 3, None).hidden_dropout_prob == 0.1
    assert bert_config(shape, 3, 0.0).hidden_dropout_prob == 0.0


def test_config_refuses_what_no_bert_can_be():
    with pytest.raises(UserError, match="do not divide"):
        bert_config(ModelSize(1, 10, 3, 8), 2, None)
    with pytest.raises(UserError, match="as wide"):
        bert_config(ModelSize(1, 16, 2, 8, embedding_width=8), 2, None)


@pytest.mark.parametrize("base", [BERT_BASE, MINILM, ModelSize(4, 64, 4, 128, 1000, 64)])
def test_every_offered_preset_builds_and_is_smaller(base):
    offered = presets_for(base)
    assert len(offered) >= 3
    for preset in offered.values():
        spec = StudentSpec(
            layers=preset.layers, width=preset.width, heads=preset.heads, intermediate=preset.intermediate
        )
        shape = student_size(spec, base, 2)
        bert_config(shape, 2, None)
        assert (shape.layers, shape.width) < (base.layers, base.width) and shape.width <= base.width
        assert preset.words and PRESETS[preset.name] is preset
