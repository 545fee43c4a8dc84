"""The loop that anyone would write, and PKD's loss in six lines: what the engine is measured against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import get_linear_schedule_with_warmup

from bench.fixtures import BATCH, LR
from kdcore.data.encode import Encoded, collate, epoch_order
from kdcore.engine.device import Compute
from kdcore.records import Batch, Encoding

ALPHA, TEMPERATURE, BETA = 0.5, 10.0, 500.0
PKD = {"alpha": ALPHA, "temperature": TEMPERATURE, "beta": BETA}
PAIRS = {1: 2, 2: 4}
"""Student layer -> teacher layer, for 3 layers under 6; layer 0 of `hidden_states` is the embedding output."""

Loss = Callable[[nn.Module, Batch], Tensor]


def learn(
    student: nn.Module, rows: Encoded, steps: int, loss: Loss, compute: Compute, *, bucket: bool, seed: int = 0
) -> list[float]:
    """Trains the student and returns the loss of every step. Dropout follows from torch's own generator."""
    torch.manual_seed(seed)
    optimizer, schedule = optimizer_and_schedule(student, steps)
    losses = []
    student.train()
    for batch in islice(_batches(rows, seed, bucket), steps):
        with compute.autocast():
            value = loss(student, batch)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(value.detach())
    return torch.stack(losses).tolist()


def optimizer_and_schedule(student: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW and its schedule as every arm has them: a tenth of the steps rising, then linearly to zero."""
    optimizer = torch.optim.AdamW(student.parameters(), lr=LR, weight_decay=0.01, fused=True)
    return optimizer, get_linear_schedule_with_warmup(optimizer, max(1, round(0.1 * steps)), steps)


def gold(student: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy with the gold labels."""
    return F.cross_entropy(outputs_of(student, batch.encoding).logits.float(), batch.labels)


def pkd_from_teacher(teacher: nn.Module) -> Loss:
    """PKD's loss, the teacher run at every step."""

    def loss(student: nn.Module, batch: Batch) -> Tensor:
        with torch.no_grad():
            theirs = outputs_of(teacher, batch.encoding, states=True)
        return pkd(outputs_of(student, batch.encoding, states=True), theirs, batch.labels)

    return loss


def pkd(ours: Any, theirs: Any, labels: Tensor) -> Tensor:
    """(1 - alpha) hard + alpha soft + beta patience, as `kdcore.methods.pkd` has it, from models' outputs."""
    hard = F.cross_entropy(ours.logits.float(), labels)
    student, teacher = (F.log_softmax(outputs.logits.float() / TEMPERATURE, dim=-1) for outputs in (ours, theirs))
    soft = TEMPERATURE**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    patience = F.mse_loss(_directions(ours, PAIRS), _directions(theirs, PAIRS.values()))
    return (1 - ALPHA) * hard + ALPHA * soft + BETA * patience


def outputs_of(model: nn.Module, encoding: Encoding, states: bool = False) -> Any:
    """The model's outputs; `states`: with the hidden states of all layers."""
    ids, mask, types = encoding.tensors()
    return model(input_ids=ids, attention_mask=mask, token_type_ids=types, output_hidden_states=states)


def _directions(outputs: Any, layers: Sequence[int] | Any) -> Tensor:
    """[CLS] states of these layers at length 1, [batch, layers, width]."""
    states = torch.stack([outputs.hidden_states[layer][:, 0] for layer in layers], dim=1)
    return F.normalize(states.float(), dim=-1)


def _batches(rows: Encoded, seed: int, bucket: bool) -> Iterator[Batch]:
    for epoch in count():
        for chosen in epoch_order(rows.lengths, BATCH, seed, epoch, bucket):
            yield collate(rows, chosen)
