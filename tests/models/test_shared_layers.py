"""Parameter sharing: what is tied, what is exchanged, and what an export holds."""

import torch

from kdcore.config import StudentSpec
from kdcore.engine import checkpoint
from kdcore.engine.checkpoint import TrainingState
from kdcore.models.observe import observe
from kdcore.models.shared_layers import run_again
from kdcore.models.students import build_student, load_classifier, save_student
from kdcore.records import Encoding, ModelSize

SHAPE = ModelSize(layers=2, width=16, heads=2, intermediate=32, vocabulary=40, positions=32)


def plain(layers: int = 2, seed: int = 0) -> torch.nn.Module:
    shape = ModelSize(**{**vars(SHAPE), "layers": layers})
    model = build_student(shape, 3, StudentSpec(layers=layers, init="random"), None, seed, 0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        for layer in model.bert.encoder.layer:  # biases start at 0, and would hide that they change places
            layer.attention.self.query.bias.normal_(generator=torch.Generator().manual_seed(1))
    return model


def encoding() -> Encoding:
    ids = torch.randint(5, 40, (4, 7), generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(7)[None] < torch.tensor([7, 4, 2, 6])[:, None]).long()
    return Encoding(ids * mask, mask, torch.zeros_like(ids))


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_no_parameter_is_added_and_tied_ones_share_their_storage():
    before = count(plain())
    model = run_again(plain(), [1, 2], swap=True)
    assert count(model) == before
    first, second = model.bert.encoder.layer[0], model.bert.encoder.layer[2]
    assert first is not second
    assert second.attention.self.query.weight is first.attention.self.key.weight
    assert second.attention.self.key.bias is first.attention.self.query.bias
    for path in ("attention.self.value", "attention.output.dense", "intermediate.dense", "output.LayerNorm"):
        ours, theirs = second.get_submodule(path).weight, first.get_submodule(path).weight
        assert ours is theirs and ours.data_ptr() == theirs.data_ptr()


def test_a_repeat_follows_the_models_config():
    """The config names the attention that runs; a copy of it would keep torch's own dropout in half of the layers."""
    model = run_again(plain(), [1, 2], swap=True)
    assert all(layer.attention.self.config is model.config for layer in model.bert.encoder.layer)


def test_as_many_layers_are_seen_as_run():
    model = run_again(plain(), [1, 2], swap=True)
    said = observe(model, encoding(), {"hidden": (-1,)}, grad=False)
    assert sorted(said.hidden) == [0, 1, 2, 3, 4] and model.config.num_hidden_layers == 4


def test_scores_of_an_exchanged_layer_are_the_transpose():
    model = run_again(plain(layers=1), [1], swap=True)
    encoder = model.bert.encoder
    states = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(3))

    def scores(layer):
        heads = layer.attention.self
        split = [part(states).view(2, 5, 2, 8).transpose(1, 2) for part in (heads.query, heads.key)]
        return split[0] @ split[1].transpose(-1, -2)

    ordinary, exchanged = scores(encoder.layer[0]), scores(encoder.layer[1])
    torch.testing.assert_close(exchanged, ordinary.transpose(-1, -2))
    assert not torch.allclose(exchanged, ordinary)


def test_exchanging_equal_weights_changes_nothing():
    models = [plain(), plain()]
    for model in models:
        for layer in model.bert.encoder.layer:
            layer.attention.self.key.load_state_dict(layer.attention.self.query.state_dict())
    said = [
        observe(run_again(model, [1, 2], swap), encoding(), {"logits": ()}, grad=False).logits
        for model, swap in zip(models, (True, False), strict=True)
    ]
    assert torch.equal(said[0], said[1])


def test_without_exchange_it_is_the_plain_stack_applied_twice():
    model = plain()
    mask = torch.zeros(4, 1, 1, 7).masked_fill(encoding().attention_mask[:, None, None, :] == 0, -1e9)
    with torch.no_grad():
        states = observe(model, encoding(), {"hidden": (0,)}, grad=False).hidden[0]
        for _ in range(2):
            for layer in model.bert.encoder.layer:
                states = layer(states, mask)
                states = states[0] if isinstance(states, tuple) else states
    said = observe(run_again(model, [1, 2], swap=False), encoding(), {"hidden": (4,)}, grad=False)
    torch.testing.assert_close(said.hidden[4][0], states[0])


def test_a_tied_gradient_is_the_sum_over_its_two_uses(tmp_path):
    """Against an untied copy; the query weight gets part of its gradient in the role of keys."""
    tied = run_again(plain(), [1, 2], swap=True)
    save_student(tied, None, tmp_path / "untied")
    untied = load_classifier(tmp_path / "untied")
    for model in (tied, untied):
        model.train()  # dropout is 0
        observe(model, encoding(), {"logits": ()}).logits.square().sum().backward()
    first, second = untied.bert.encoder.layer[0], untied.bert.encoder.layer[2]
    query = first.attention.self.query.weight.grad + second.attention.self.key.weight.grad
    torch.testing.assert_close(tied.bert.encoder.layer[0].attention.self.query.weight.grad, query)
    value = first.attention.self.value.weight.grad + second.attention.self.value.weight.grad
    torch.testing.assert_close(tied.bert.encoder.layer[0].attention.self.value.weight.grad, value)
    assert second.attention.self.key.weight.grad.abs().sum() > 0


def test_an_export_is_a_plain_deeper_model_that_says_the_same(tmp_path):
    tied = run_again(plain(), [1, 2], swap=True)
    save_student(tied, None, tmp_path / "student")
    exported = load_classifier(tmp_path / "student")
    assert count(exported) > count(tied) and exported.config.num_hidden_layers == 4
    said = [observe(model, encoding(), {"logits": ()}, grad=False).logits for model in (tied, exported)]
    assert torch.equal(said[0], said[1])


def test_a_checkpoint_comes_back_into_tied_weights(tmp_path):
    one, two = run_again(plain(seed=0), [1, 2], True), run_again(plain(seed=9), [1, 2], True)
    checkpoint.save(tmp_path, TrainingState(), {"student": one}, {})
    checkpoint.restore(checkpoint.newest(tmp_path), {"student": two}, {})
    said = [observe(model, encoding(), {"logits": ()}, grad=False).logits for model in (one, two)]
    assert torch.equal(said[0], said[1])
    assert two.bert.encoder.layer[2].attention.self.query.weight is two.bert.encoder.layer[0].attention.self.key.weight


def test_an_optimiser_updates_a_tied_weight_once():
    model = run_again(plain(), [1, 2], swap=True)
    named = [parameter for _, parameter in model.named_parameters()]
    assert len({id(parameter) for parameter in named}) == len(named)
