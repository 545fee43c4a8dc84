"""A frozen model whose matrices are rounded once says, bit for bit, what autocast makes of it at every batch."""

from __future__ import annotations

import copy

import pytest
import torch

from kdcore.engine.device import Compute
from kdcore.models.observe import observe
from kdcore.records import Encoding, want
from tests.helpers import tiny_task as world

WANTED = want("logits", "pooled", hidden=(-1,), scores=(-1,), values=(-1,))


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_no_output_changes_a_bit(precision):
    where = Compute(torch.device("cpu"), precision)
    plain = world.model(seed=3).eval()
    frozen = where.frozen(copy.deepcopy(plain).train())
    mask = (torch.arange(12)[None] < torch.tensor([12, 9, 5, 2])[:, None]).long()
    ids = torch.randint(5, len(world.VOCABULARY), (4, 12), generator=torch.Generator().manual_seed(1)) * mask
    encoding = Encoding(ids, mask, torch.zeros_like(ids))
    with where.autocast():
        expected, got = (observe(model, encoding, WANTED, grad=False) for model in (plain, frozen))
    assert torch.equal(got.logits, expected.logits) and torch.equal(got.pooled, expected.pooled)
    for name in ("hidden", "scores", "values"):
        ours, theirs = getattr(got, name), getattr(expected, name)
        assert all(torch.equal(ours[layer], theirs[layer]) for layer in theirs), name
    assert not frozen.training and not any(parameter.requires_grad for parameter in frozen.parameters())
    rounded = {parameter.dtype for name, parameter in frozen.named_parameters() if "query" in name}
    assert rounded == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert frozen.get_input_embeddings().weight.dtype == torch.float32
