"""What a model answers to one typed sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kdcore.errors import UserError
from kdcore.models.observe import evaluating, observe
from kdcore.models.shapes import usable_positions
from kdcore.records import Encoding, want


def answer(
    model: nn.Module, tokenizer: Any, sentence: str, pair: str | None = None, max_length: int = 128
) -> NDArray[np.float32]:
    """Logits of one sentence or pair in eval mode, float32 [outputs], computed in float32.

    Args:
        max_length: tokens kept, never more than the model has positions.

    Raises:
        UserError: the sentence is empty.
    """
    if not sentence.strip():
        raise UserError("sentence", "there is nothing to answer", "type a sentence")
    longest = min(max_length, usable_positions(model.config))
    coded = tokenizer(sentence, pair or None, truncation=True, max_length=longest)
    ids = torch.tensor([coded["input_ids"]])
    types = torch.tensor([coded["token_type_ids"]]) if "token_type_ids" in coded else torch.zeros_like(ids)
    encoding = Encoding(ids, torch.ones_like(ids), types).to(next(model.parameters()).device)
    with evaluating(model):
        logits = observe(model, encoding, want("logits"), grad=False).logits
    return np.asarray(logits[0].float().cpu().numpy())
