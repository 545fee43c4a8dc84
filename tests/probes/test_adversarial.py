"""Embeddings moved against a model: no step changes nothing, a small one raises the loss, special tokens stay."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kdcore.data.encode import encode, pad
from kdcore.models.observe import anatomy, observe
from kdcore.probes import adversarial
from kdcore.probes.adversarial import adversarial_logits
from kdcore.probes.saliency import special_ids, word_mask
from kdcore.records import Encoding, want
from tests.helpers import tiny_task
from tests.helpers.tiny_task import SIMILARITY, data_of, model, tokenizer


def rows(task: str = tiny_task.SENTIMENT) -> tuple[Encoding, torch.Tensor, torch.Tensor]:
    encoded = encode(data_of(task).splits["validation"], tokenizer(), 32)
    encoding = pad(encoded, torch.arange(30).numpy(), 2)
    return encoding, word_mask(encoding, special_ids(tokenizer())), torch.from_numpy(encoded.labels)


def test_no_step_is_the_models_own_answer_and_weights_stay() -> None:
    net, (encoding, words, gold) = model().eval(), rows()
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    found = adversarial_logits(net, encoding, words, gold, (0.0, 0.1))
    with torch.no_grad():
        own = observe(net, encoding, want("logits"), grad=False).logits
    assert found.shape == (2, 30, 2) and torch.allclose(found[0], own, atol=1e-5)
    assert all(torch.equal(before[name], weight) for name, weight in net.state_dict().items())
    assert all(weight.grad is None for weight in net.parameters()) and not found.requires_grad


def test_a_small_step_raises_the_loss_of_every_row() -> None:
    net, (encoding, words, gold) = model(), rows()
    own, moved = adversarial_logits(net, encoding, words, gold, (0.0, 0.01))
    raised = F.cross_entropy(moved, gold, reduction="none") - F.cross_entropy(own, gold, reduction="none")
    assert bool((raised > 0).all())


def test_a_score_is_moved_away_from_its_label() -> None:
    net, (encoding, words, gold) = model(labels=1), rows(SIMILARITY)
    own, moved = adversarial_logits(net, encoding, words, gold, (0.0, 0.01))
    assert bool(((moved[:, 0] - gold).abs() > (own[:, 0] - gold).abs()).all())


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_words_move_by_the_step_times_their_rms_and_others_stay(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    net, (encoding, words, gold) = model(), rows()
    table = anatomy(net).word_embeddings
    with torch.no_grad():
        table.weight.mul_(factor)
    given = []
    real = adversarial.rerun_of

    def recording(*about: object) -> object:
        run = real(*about)

        def again(embeddings: torch.Tensor, *more: object) -> object:
            given.append(embeddings.detach().clone())
            return run(embeddings, *more)

        return again

    monkeypatch.setattr(adversarial, "rerun_of", recording)
    adversarial_logits(net, encoding, words, gold, (0.0, 0.1))
    own, moved = given
    size = (moved - own).abs()
    rms = torch.stack([own[row][words[row]].square().mean().sqrt() for row in range(30)])
    assert bool((size[~words] == 0).all())
    expected = (0.1 * rms)[:, None, None].expand_as(size)
    assert torch.allclose(size[words], expected[words], rtol=1e-3, atol=1e-6)
