"""A model's prediction for one typed sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from kdcore.models.observe import evaluating, observe
from kdcore.models.tokenizers import encode_typed
from kdcore.records import want


def predict_logits(
    model: nn.Module, tokenizer: Any, sentence: str, pair: str | None = None, max_length: int = 128
) -> NDArray[np.float32]:
    """Logits of one sentence or pair in eval mode, float32 [outputs], computed in float32.

    Args:
        max_length: tokens kept, never more than the model has positions.

    Raises:
        UserError: the sentence is empty.
    """
    encoding = encode_typed(model, tokenizer, sentence, pair, max_length)
    with evaluating(model):
        logits = observe(model, encoding, want("logits"), grad=False).logits
    return np.asarray(logits[0].float().cpu().numpy())
