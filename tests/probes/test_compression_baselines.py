"""Undistilled rivals: what they keep of the teacher, what they cost, and what is said where one cannot be had."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdcore.config import StudentSpec
from kdcore.models.anatomy import anatomy
from kdcore.models.count import flops, parameters
from kdcore.models.sizes import bert_config, size_of
from kdcore.models.weights import build_classifier
from kdcore.probes import compression_baselines
from kdcore.records import ModelSize


@pytest.fixture
def teacher() -> Any:
    return build_classifier(bert_config(ModelSize(4, 16, 2, 24, 30, 16, 2), 2, None), {}, 0)[0]


def _logits(model: Any) -> torch.Tensor:
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=(ids > 0).long()).logits.float()


def test_a_cut_teacher_is_its_layers_one_after_another(teacher: Any) -> None:
    shorter = compression_baselines.cut(teacher, [1, 3])
    assert len(anatomy(shorter).layers) == 2 and size_of(shorter.config).layers == 2
    kept, whole = anatomy(shorter), anatomy(teacher)
    for new, old in zip(kept.layers, (whole.layers[0], whole.layers[2]), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(new.module.parameters(), old.module.parameters(), strict=True))
    passed = teacher.bert.encoder.layer
    teacher.bert.encoder.layer = torch.nn.ModuleList([passed[0], passed[2]])
    assert torch.equal(_logits(shorter), _logits(teacher))
    teacher.bert.encoder.layer = passed


def test_the_whole_teacher_is_itself_and_stays_as_it_was(teacher: Any) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    said = _logits(teacher)
    assert torch.equal(_logits(compression_baselines.cut(teacher, [1, 2, 3, 4])), said)
    compression_baselines.build(teacher, [1, 2])
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert teacher.config.num_hidden_layers == 4 and torch.equal(_logits(teacher), said)


def test_a_layer_used_twice_is_stored_twice(teacher: Any) -> None:
    shorter = compression_baselines.cut(teacher, [2, 2])
    assert parameters(size_of(shorter.config)).total == sum(p.numel() for p in shorter.parameters())


@pytest.mark.parametrize("kept", [[], [0], [5]])
def test_layers_that_are_not_there(teacher: Any, kept: list[int]) -> None:
    with pytest.raises(ValueError, match="layers 1 to 4"):
        compression_baselines.cut(teacher, kept)


def test_cheaper_teachers_say_nearly_the_same(teacher: Any) -> None:
    found, absent = compression_baselines.build(teacher, [1, 2], "fp32")
    by_kind = {rival.kind: rival for rival in found}
    assert set(by_kind) | set(absent) == set(compression_baselines.KINDS)
    assert by_kind["bf16"].model.classifier.weight.dtype == torch.bfloat16
    assert torch.allclose(_logits(by_kind["bf16"].model), _logits(teacher), atol=0.05)
    if "int8" in by_kind:
        assert torch.allclose(_logits(by_kind["int8"].model), _logits(teacher), atol=0.05)
    assert [by_kind[kind].precision for kind in ("bf16", "cut")] == ["bf16 weights", "fp32"]
    assert by_kind["cut"].words == "cut to layers 1, 2"


def test_what_they_cost(teacher: Any) -> None:
    found, _ = compression_baselines.build(teacher, [1])
    sizes = {rival.kind: compression_baselines.footprint_of(rival, 8) for rival in found}
    whole = ModelSize(4, 16, 2, 24, 30, 16, 2)
    weights = parameters(whole).total
    assert (sizes["bf16"].parameters, sizes["bf16"].flops) == (weights, flops(whole, 8))
    assert 2 * weights <= sizes["bf16"].bytes < 2 * weights + 20_000  # two bytes a weight, and their names
    assert sizes["cut"].flops == flops(size_of(found[-1].model.config), 8) < sizes["bf16"].flops
    assert 4 * sizes["cut"].parameters <= sizes["cut"].bytes < 4 * sizes["cut"].parameters + 20_000


def test_a_build_without_int8_says_so_in_one_line(teacher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("Didn't find engine for operation quantized::linear_prepack NoQEngine\nand a stack")

    monkeypatch.setattr(torch.ao.quantization, "quantize_dynamic", refuse)
    found, absent = compression_baselines.build(teacher, [])
    assert [rival.kind for rival in found] == ["bf16"]
    assert "NoQEngine" in absent["int8"] and "\n" not in absent["int8"]
    assert "not shallower" in absent["cut"]


@pytest.mark.parametrize(
    ("named", "layers", "depth", "kept"),
    [
        ("first", 2, 2, [1, 2]),
        ("last", 2, 2, [3, 4]),
        ("skip", 2, 2, [2, 4]),
        ((1, 4), 2, 2, [1, 4]),
        ((1, 4), 2, 3, [1, 3, 4]),  # listed for another depth: evenly spread
        ((1, 9), 2, 2, [2, 4]),  # a layer that this teacher does not have
        ("first", 2, 4, []),
        ("first", 2, 6, []),
    ],
)
def test_the_layers_of_the_students_init(named: Any, layers: int, depth: int, kept: list[int]) -> None:
    assert compression_baselines.kept_layers(StudentSpec(layers=layers, init_layers=named), depth, 4) == kept
