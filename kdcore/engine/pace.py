"""How fast this machine computes passes of each kind, timed on one layer of the student's width."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from kdcore.config import StudentSpec
from kdcore.engine.device import Compute, keep_freed_memory
from kdcore.engine.dropout import seeded_dropout
from kdcore.models.count import flops, parameters
from kdcore.models.observe import observe, rerun_of
from kdcore.models.students import build_student
from kdcore.records import Encoding, ModelSize, want

clock = time.perf_counter
"""By which passes are timed. A bench on a busy machine counts CPU time."""


@dataclass(frozen=True)
class Rates:
    """Operations a second of each kind of pass.

    learn: forward and back, as in a step. answer: forward alone, of a model that is not trained. exact: run again in
    float32, with a gradient at its input. twice: the same with that gradient differentiated. bandwidth: bytes a second
    of an update.
    """

    learn: float
    answer: float
    exact: float
    twice: float
    bandwidth: float


@dataclass(frozen=True)
class Pace:
    """How fast this machine computes a run's rows.

    tokens: mean padded length of a row, as a model reads it. vocabulary: how many different words the training rows
    hold; the vectors of the others are not trained.
    """

    tokens: int
    vocabulary: int
    rates: Rates

    def forward(self, size: ModelSize, rows: int, cls_only: bool = False) -> float:
        """Seconds of one pass over so many rows. cls_only: nothing else of the last layer is computed."""
        return flops(size, self.tokens, rows, cls_only) / self.rates.answer

    def step(self, size: ModelSize, rows: int, cls_only: bool = False) -> float:
        """Seconds of forward and backward (3 forwards' worth), and of clipping and an update that move ten numbers a
        weight."""
        unused = max(0, size.vocabulary - self.vocabulary) * (size.embedding_width or size.width)
        passes = 3 * flops(size, self.tokens, rows, cls_only) / self.rates.learn
        return passes + (parameters(size).total - unused) * 40 / self.rates.bandwidth

    def exact(self, size: ModelSize, rows: int, forwards: float, cls_only: bool = False) -> float:
        """Seconds of passes that are run again, and of gradients of them; all told in forwards."""
        return forwards * flops(size, self.tokens, rows, cls_only) / self.rates.exact

    def twice(self, size: ModelSize, rows: int, forwards: float, cls_only: bool = False) -> float:
        """The same where the gradients are differentiated too."""
        return forwards * flops(size, self.tokens, rows, cls_only) / self.rates.twice


@functools.lru_cache(maxsize=64)
def timed(width: int, heads: int, intermediate: int, rows: int, tokens: int, compute: Compute, again: bool) -> Rates:
    """The rates of a batch of so many rows and tokens. again: whether any pass is run again; else nothing is timed of
    these."""
    keep_freed_memory()
    size = ModelSize(1, width, heads, intermediate, vocabulary=100, positions=tokens, labels=1)
    model = build_student(size, 1, StudentSpec(layers=1, init="random"), None, seed=0, dropout=0.1).to(compute.device)
    ids = torch.ones(rows, tokens, dtype=torch.int64, device=compute.device)
    encoding, forward = Encoding(ids, ids, torch.zeros_like(ids)), flops(size, tokens, rows)

    def rate(forwards: int, run: Callable[[], None]) -> float:
        return forwards * forward / _seconds_of(run, model, compute)

    model.train()
    learn = exact = twice = rate(3, lambda: _learn(model, encoding, compute))
    if again:
        twice = rate(6, lambda: _again(model, encoding, True))
        exact = rate(2, lambda: _again(model, encoding, False))
    compute.frozen(model)
    return Rates(learn, rate(1, lambda: _answer(model, encoding, compute)), exact, twice, _bandwidth())


def _learn(model: nn.Module, encoding: Encoding, compute: Compute) -> None:
    """Forward and backward, as in a step."""
    with compute.autocast():
        states = observe(model, encoding, want(hidden=(1,))).hidden[1]
    states.square().mean().backward()


def _answer(model: nn.Module, encoding: Encoding, compute: Compute) -> None:
    """What a teacher does."""
    with compute.autocast():
        observe(model, encoding, want(hidden=(1,)), grad=False)


def _again(model: nn.Module, encoding: Encoding, twice: bool) -> None:
    """Run again, with a gradient at the layer's input, which may be differentiated."""
    outputs = rerun_of(model, encoding, want(hidden=(1,)))(None, None, False)
    signal = outputs.hidden[1].square().mean()
    (slope,) = torch.autograd.grad(signal, outputs.hidden[0], create_graph=twice)
    if twice:
        slope.square().mean().backward()


def _seconds_of(step: Callable[[], None], model: nn.Module, compute: Compute) -> float:
    """The best of several, after one that makes kernels and finds memory."""
    times = []
    with seeded_dropout(model, torch.Generator()):
        for _ in range(6):
            start = clock()
            step()
            if compute.device.type == "cuda":
                torch.cuda.synchronize(compute.device)
            times.append(clock() - start)
    return min(times[1:])


@functools.cache
def _bandwidth() -> float:
    """Bytes a second of adding into a large array."""
    array = torch.ones(8_000_000)
    array.add_(1.0)
    start = clock()
    array.add_(1.0)
    return 2 * array.numel() * 4 / (clock() - start)
