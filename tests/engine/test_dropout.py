"""Dropout with a generator of its own: right in its statistics, repeatable, and gone without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from kdcore.engine.dropout import ATTENTION, SeededDropout, drop, seeded_dropout
from kdcore.models.observe import observe
from kdcore.models.students import save_student
from kdcore.models.weights import build_classifier
from kdcore.records import Encoding, want
from tests.helpers import tiny_task as world


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def encoding() -> Encoding:
    """Four rows of 12, 9, 5 and 2 tokens."""
    mask = (torch.arange(12)[None] < torch.tensor([12, 9, 5, 2])[:, None]).long()
    ids = torch.randint(5, len(world.VOCABULARY), (4, 12), generator=generator(3)) * mask
    return Encoding(ids, mask, torch.zeros_like(ids))


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_rate_and_scale(p):
    x = torch.full((400, 500), 3.0)
    kept = drop(x, p, generator())
    share = (kept != 0).double().mean().item()
    assert share == pytest.approx(1 - p, abs=5 * (p * (1 - p) / x.numel()) ** 0.5 + 2**-16)
    assert kept.unique().tolist() == pytest.approx([0.0, 3.0 / (1 - p)], rel=1e-3)
    assert kept.mean().item() == pytest.approx(3.0, rel=0.02)


def test_no_place_is_dropped_more_often_than_another():
    """Four masks are cut from one draw of 64 bits: each of the four, and each row and column, keeps its share."""
    kept = sum((drop(torch.ones(8, 12), 0.3, generator(seed)) != 0).double() for seed in range(2000)) / 2000
    bound = 5 * (0.3 * 0.7 / 2000) ** 0.5
    assert (kept - 0.7).abs().max() < bound
    pairs = torch.stack([(drop(torch.ones(64), 0.3, generator(seed)) != 0).double() for seed in range(2000)])
    together = torch.corrcoef(pairs.T) - torch.eye(64)
    assert together.abs().max() < 5.5 / 2000**0.5  # neighbours are independent


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 5), (4, 4)])
def test_any_shape_and_type(shape):
    x = torch.ones(shape, dtype=torch.bfloat16)
    assert drop(x, 0.5, generator()).shape == shape and drop(x, 0.5, generator()).dtype == torch.bfloat16


@pytest.mark.parametrize("p", [0.0, 1e-9, 0.9999999])
def test_extremes_are_finite(p):
    kept = drop(torch.ones(1000), p, generator())
    assert torch.isfinite(kept).all()
    if p < 1e-6:
        assert torch.equal(kept, torch.ones(1000))


def test_same_seed_same_mask_and_the_global_generator_is_neither_used_nor_heard():
    before = torch.get_rng_state()
    one = drop(torch.ones(1000), 0.5, generator(7))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    torch.rand(13)
    assert torch.equal(drop(torch.ones(1000), 0.5, generator(7)), one)
    assert not torch.equal(drop(torch.ones(1000), 0.5, generator(8)), one)
    source = generator(7)
    drop(torch.ones(1000), 0.5, source)
    assert not torch.equal(drop(torch.ones(1000), 0.5, source), one)  # the next draw differs


def test_gradients_pass_where_values_do():
    x = torch.ones(1000, requires_grad=True)
    kept = drop(x, 0.25, generator())
    kept.sum().backward()
    assert torch.equal(x.grad, kept.detach())


def family(name: str) -> nn.Module:
    """A two-layer classifier of each family that can be a teacher, and so be fine-tuned by the loop."""
    from transformers import BertConfig, DistilBertConfig, ElectraConfig, RobertaConfig

    sizes = {
        "vocab_size": len(world.VOCABULARY), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 40, "num_labels": 2, "initializer_range": 0.3,
    }  # fmt: skip
    configs = {
        "bert": lambda: BertConfig(**sizes),
        "roberta": lambda: RobertaConfig(**sizes, type_vocab_size=1),
        "electra": lambda: ElectraConfig(**sizes, embedding_size=8),
        "distilbert": lambda: DistilBertConfig(
            vocab_size=len(world.VOCABULARY),
            dim=16,
            n_layers=2,
            n_heads=2,
            hidden_dim=32,
            num_labels=2,
            max_position_embeddings=40,
            initializer_range=0.3,
        ),
    }
    config = configs[name]()
    for field in (
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "dropout",
        "attention_dropout",
        "seq_classif_dropout",
    ):
        if hasattr(config, field):
            setattr(config, field, 0.0)
    return build_classifier(config, {}, 5)[0]


FAMILIES = ("bert", "roberta", "electra", "distilbert")


@pytest.mark.parametrize("read", [2, 1], ids=["all tokens", "[CLS] alone"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_attention_that_is_trained_is_that_of_sdpa(name, read, encoding):
    """With dropout 0 the steps written out give SDPA's outputs and gradients.

    read: the last layer whose states are wanted. Where it is not the last there is, that one has a single query.
    """
    model = family(name).train()
    asked = want("logits", hidden=(read,))

    def look() -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        seen = observe(model, encoding, asked)
        states = seen.hidden[read] * encoding.attention_mask[..., None]
        (seen.logits.square().sum() + states.square().sum()).backward()
        return seen.logits.detach(), states.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = look()
    with seeded_dropout(model, generator()):
        assert model.config._attn_implementation == ATTENTION
        ours = look()
    torch.testing.assert_close(ours[0], plain[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[1], plain[1], rtol=1e-4, atol=1e-5)
    for one, two in zip(ours[2], plain[2], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_dropout_of_a_family_is_seeded(name, encoding):
    """Attention's too: a training pass leaves torch's generator alone, and each kind of dropout has an effect."""
    for field in ("states", "attention"):
        model = family(name).train()
        for parent in model.modules():
            inside = hasattr(parent, "query") or hasattr(parent, "q_lin")
            for child in parent.children():
                if isinstance(child, nn.Dropout) and inside == (field == "attention"):
                    child.p = 0.5
        before = torch.get_rng_state()
        with seeded_dropout(model, generator(1)):
            said = [observe(model, encoding, want("logits")).logits for _ in range(2)]
        assert torch.equal(torch.get_rng_state(), before), field
        assert not torch.equal(said[0], said[1]), f"{field} dropout of {name} does nothing"
        with seeded_dropout(model, generator(1)):
            assert torch.equal(observe(model, encoding, want("logits")).logits, said[0])


def test_evaluation_inside_the_block_is_that_outside(encoding):
    model = world.model().eval()
    plain = observe(model, encoding, want("logits")).logits
    with seeded_dropout(model, generator()):
        assert torch.equal(observe(model, encoding, want("logits")).logits, plain)


def tree(model: nn.Module) -> list[tuple[str, int]]:
    return [(name, id(module)) for name, module in model.named_modules()]


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_as_before_afterwards(fails, encoding):
    model = world.model().train()
    model.dropout.eval()  # a module's own mode is kept too
    before, names, modes = tree(model), list(model.state_dict()), [m.training for m in model.modules()]
    try:
        with seeded_dropout(model, generator()):
            assert any(isinstance(module, SeededDropout) for module in model.modules())
            assert not any(isinstance(module, nn.Dropout) for module in model.modules())
            assert list(model.state_dict()) == names
            assert [m.training for m in model.modules()] == modes
            if fails:
                raise RuntimeError("in the middle of a step")
    except RuntimeError:
        assert fails
    assert tree(model) == before and model.config._attn_implementation == "sdpa"
    assert [m.training for m in model.modules()] == modes


def test_each_dropout_keeps_its_own_rate():
    model = world.model(dropout=0.3)
    with seeded_dropout(model, generator()):
        assert {module.p for module in model.modules() if isinstance(module, SeededDropout)} == {0.3}


def test_a_student_saved_inside_the_block_knows_nothing_of_it(tmp_path: Path, encoding):
    from transformers import AutoModelForSequenceClassification

    model = world.model()
    with seeded_dropout(model, generator()):
        save_student(model, world.tokenizer(), tmp_path / "student")
    for file in (tmp_path / "student").glob("*.json"):
        assert ATTENTION not in file.read_text()
    assert json.loads((tmp_path / "student" / "config.json").read_text())["model_type"] == "bert"
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student", local_files_only=True)
    assert again.config._attn_implementation == "sdpa"
    plain = observe(model.eval(), encoding, want("logits")).logits
    said = again.eval()(encoding.input_ids, encoding.attention_mask, encoding.token_type_ids).logits
    torch.testing.assert_close(said, plain)
