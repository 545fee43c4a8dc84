"""Training only the words that occur gives what training the whole table gives, and looks like it from outside."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from kdcore.engine import checkpoint, loop
from kdcore.engine.checkpoint import TrainingState
from kdcore.engine.job import Job
from kdcore.engine.sparse_embedding import SparseEmbedding, sparse_embedding
from kdcore.errors import CorruptError
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run, same

USED = torch.tensor([2, 7, 0, 11, 9])
WORDS, WIDTH = 14, 6


class Reader(nn.Module):
    """Words in, one number a word out; takes its table as transformers' models do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(WORDS, WIDTH, padding_idx=0).double()
        self.out = nn.Linear(WIDTH, 1).double()

    def get_input_embeddings(self) -> nn.Module:
        return self.table

    def set_input_embeddings(self, table: nn.Module) -> None:
        self.table = table

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.table(ids))[..., 0]


@pytest.fixture
def reader() -> Reader:
    return Reader().train()


def learn(model: Reader, steps: int = 12) -> Tensor:
    """AdamW with clipping and a moving rate over batches of used words; returns the losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.3, fused=True)
    if isinstance(model.table, SparseEmbedding):
        optimizer.register_step_post_hook(model.table.decay)
    draws, losses = torch.Generator().manual_seed(5), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        ids = USED[torch.randint(len(USED) - 1, (4, 3), generator=draws)]  # the last used word comes in no batch
        loss = (model(ids) - ids.double()).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses)


def test_every_row_ends_as_in_the_whole_table(reader):
    whole, start = copy.deepcopy(reader), reader.table.weight.detach().clone()
    expected = learn(whole)
    with sparse_embedding(reader, USED) as words:
        assert words.trained.shape == (len(USED), WIDTH)
        got = learn(reader)
    assert torch.allclose(got, expected, rtol=1e-12, atol=0)
    assert torch.allclose(reader.table.weight, whole.table.weight, rtol=1e-12, atol=1e-15)
    share = torch.prod(1 - 0.3 * 0.1 / torch.arange(1.0, 13.0).double())
    assert torch.allclose(reader.table.weight[5], start[5] * share, rtol=1e-12, atol=0)
    assert not torch.allclose(reader.table.weight[7], start[7] * share, rtol=1e-3)


def test_in_eval_mode_all_words_are_known(reader):
    every = torch.arange(WORDS)
    with sparse_embedding(reader, USED):
        learn(reader)
        reader.eval()
        said, state = reader(every), reader.state_dict()["table.weight"]
        assert torch.equal(reader.table(every), state)
    assert torch.equal(reader(every), said) and torch.equal(reader.table.weight, state)


def test_its_state_is_that_of_the_plain_table(reader):
    plain = copy.deepcopy(reader)
    with sparse_embedding(reader, USED):
        assert reader.state_dict().keys() == plain.state_dict().keys()
        assert same(dict(reader.state_dict()), dict(plain.state_dict()))
        other = {name: torch.full_like(tensor, 3.0) for name, tensor in plain.state_dict().items()}
        other["table.weight"] = torch.arange(WORDS * WIDTH).double().view(WORDS, WIDTH)
        reader.load_state_dict(other)
        assert torch.equal(reader.state_dict()["table.weight"], other["table.weight"])
        assert torch.equal(reader.table(USED), other["table.weight"][USED])


def test_padding_learns_nothing(reader):
    with sparse_embedding(reader, USED) as words:
        reader(torch.tensor([[2, 0, 0]])).sum().backward()
    assert words.trained.grad[0].abs().min() > 0  # word 2
    assert not words.trained.grad[2].any()  # word 0, the padding


def test_a_word_that_was_not_announced_is_an_error_not_a_wrong_vector(reader):
    with sparse_embedding(reader, USED), pytest.raises(IndexError):
        reader(torch.tensor([[1]]))


def test_the_plain_table_is_back_after_an_error(reader):
    table = reader.table
    with pytest.raises(RuntimeError, match="halt"), sparse_embedding(reader, USED):
        raise RuntimeError("halt")
    assert reader.table is table


def test_nothing_changes_where_every_word_is_used(reader):
    table = reader.table
    with sparse_embedding(reader, torch.arange(WORDS)) as words:
        assert words is None and reader.table is table


def test_nothing_changes_where_words_have_no_plain_table(reader):
    reader.table = factors = nn.Sequential(nn.Embedding(WORDS, 2), nn.Linear(2, WIDTH)).double()
    with sparse_embedding(reader, USED) as words:
        assert words is None and reader.table is factors


def test_only_plain_tables_of_one_student_each_are_trained_in_part():
    alone, factors, one, two = (Reader() for _ in range(4))
    factors.table = nn.Sequential(nn.Embedding(WORDS, 2), nn.Linear(2, WIDTH)).double()
    two.table = one.table
    job = SimpleNamespace(students={"alone": alone, "factors": factors, "one": one, "two": two})
    assert Job.word_tables(job).keys() == {"alone"}
    job.students = {"alone": alone, "factors": factors}
    with sparse_embedding(alone, USED) as words:
        assert Job.sparse_embeddings(job) == {"alone": words}


def test_a_run_is_the_same_with_the_whole_table(trained, one_teacher, monkeypatch):
    """Best, last and scores of a run with evaluations, snapshots and a stop in between, in float32."""
    setting = run("kd", one_teacher, evaluate_every=4, precision="fp32")
    got = trained(setting)
    seen: list[int] = []
    monkeypatch.setattr(
        loop, "sparse_embedding", lambda model, used: sparse_embedding(model, all_words(model, used, seen))
    )
    whole = trained(setting)
    assert seen and seen[0] < len(world.VOCABULARY)
    for which in ("last", "best"):
        for name, tensor in whole.weights(which).items():
            assert torch.allclose(got.weights(which)[name], tensor, rtol=1e-5, atol=1e-6), (which, name)


def all_words(model: nn.Module, used: Tensor, seen: list[int]) -> Tensor:
    seen.append(len(used))
    return torch.arange(model.get_input_embeddings().num_embeddings)


@pytest.mark.parametrize(
    ("options", "whole"), [({}, False), ({"augment": "word-neighbours", "augment_words": 3}, True)]
)
def test_a_stream_with_other_words_trains_the_whole_table(trained, one_teacher, monkeypatch, options, whole):
    asked: list[int] = []
    monkeypatch.setattr(
        loop, "sparse_embedding", lambda model, used: (asked.append(1), sparse_embedding(model, used))[1]
    )
    trained(run("tinybert", one_teacher, options=options, epochs=1))
    assert (not asked) is whole


def test_moments_of_another_size_are_refused(tmp_path, reader):
    """As when a checkpoint comes from a version that trained the whole table."""
    optimizer = torch.optim.AdamW(reader.parameters(), fused=True)
    reader(USED).sum().backward()
    optimizer.step()
    checkpoint.save(tmp_path, TrainingState(step=1), {"student": reader}, {"stage": optimizer})
    with sparse_embedding(reader, USED), pytest.raises(CorruptError):
        checkpoint.restore(checkpoint.newest(tmp_path), {}, {"stage": torch.optim.AdamW(reader.parameters())})
