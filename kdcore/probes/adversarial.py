"""Word embeddings moved against a model by its own gradient: the fast gradient sign method, in embedding space.

Goodfellow, Shlens and Szegedy 2015 (arXiv 1412.6572) move pixels so. A moved embedding is no word, so there is no
sentence that does this: it tells how steep a model is around the rows, not what an attacker could write.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcore.models.observe import anatomy, rerun_of
from kdcore.probes.robustness import STEPS
from kdcore.records import Encoding

ROWS_AT_ONCE = 16
"""A gradient is taken of all of them at once."""


def adversarial_logits(
    model: nn.Module, encoding: Encoding, words: Tensor, gold: Tensor, steps: Sequence[float] = STEPS
) -> Tensor:
    """What a model answers once each word's embedding e is moved to e + step · rms · sign(dL/de), in float32.

    L is the cross-entropy of the gold class, or the squared error of a score; rms is taken over all elements of the
    row's words. Step 0 gives the model's own answer. Weights get no gradient.

    Args:
        words: bool [batch, tokens], the tokens that are moved. gold: int64 or float [batch].

    Returns:
        logits [steps, batch, outputs].
    """
    run = rerun_of(model, encoding, {})
    with torch.no_grad():
        embeddings = anatomy(model).word_embeddings(encoding.input_ids).float()
    leaf = embeddings.clone().requires_grad_()
    with torch.enable_grad():
        logits = run(leaf, None, True).logits
        loss = F.mse_loss(logits[:, 0], gold.float(), reduction="sum")
        if logits.shape[-1] > 1:
            loss = F.cross_entropy(logits, gold, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
    moved = words[..., None].to(embeddings)
    count = (words.sum(1) * embeddings.shape[-1]).clamp(min=1)
    rms = ((embeddings * moved).square().sum((1, 2)) / count).sqrt()
    change = gradient.sign() * moved * rms[:, None, None]
    moves = (run(embeddings + step * change, None, True).logits if step else logits for step in steps)
    return torch.stack([answers.detach() for answers in moves])
