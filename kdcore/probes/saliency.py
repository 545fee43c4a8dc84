"""Which words decide: attribution of a model's answer to the words of its input, and how alike two models are in it.

Gradient x input (Shrikumar et al. 2016, arXiv 1605.01713) and integrated gradients (Sundararajan et al. 2017, arXiv
1703.01365), both on the word embeddings, in the precision of the weights (float32 as loaded) and in eval mode.

What is explained is the score of a regression, or the logit of one class minus the mean of all logits: a shift of all
logits changes no answer and so no attribution.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from kdcore.data.words import shared_words, spell
from kdcore.models.observe import anatomy, evaluating, observe, rerun_of
from kdcore.models.tokenizers import encode_typed
from kdcore.probes.attention import typed_words
from kdcore.probes.fidelity import pearson
from kdcore.records import Encoding, want

Floats = NDArray[np.float64]

GRADIENT, INTEGRATED = "gradient x input", "integrated gradients"
METHODS = (GRADIENT, INTEGRATED)
STEPS = 32
"""Points of the integral, placed by Gauss and Legendre."""
ROWS = 64
"""Dev rows of saliency loyalty."""
ROWS_AT_ONCE = 16
LEAST_WORDS = 3
"""Between two words a rank correlation is 1 or -1, whatever the models do."""


@dataclass(frozen=True)
class Attribution:
    """Of one sentence. tokens: its words or pieces of them, without special tokens. values: float64 [tokens], signed.

    label: the class that is explained; None: the score of a regression. words: of each token the number of its word
        (`data.words.word_numbers`); None where that is not told.
    """

    tokens: list[str]
    values: Floats
    label: int | None
    words: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class Agreement:
    """Of two attributions, each from -1 to 1; 0 where one of them does not vary (spearman) or is all zero (cosine)."""

    spearman: float
    cosine: float


def explain(
    model: nn.Module,
    tokenizer: Any,
    sentence: str,
    pair: str | None = None,
    *,
    label: int | None = None,
    method: str = GRADIENT,
    max_length: int = 128,
) -> Attribution:
    """What each word of one sentence or pair adds to a model's answer.

    Args:
        label: the class to explain; None: the one that the model predicts. A regression has none.
        method: one of `METHODS`. max_length: tokens kept, never more than the model has positions.

    Raises:
        UserError: the sentence is empty.
        ValueError: an unknown method, or a class that the model does not have.
    """
    encoding = encode_typed(model, tokenizer, sentence, pair, max_length)
    words = word_mask(encoding, special_ids(tokenizer))
    classes = predict_classes(model, encoding) if label is None else torch.tensor([label], device=words.device)
    values = attribute(model, encoding, words, classes, method)[0][words[0]]
    tokens = tokenizer.convert_ids_to_tokens(encoding.input_ids[0][words[0]].tolist())
    of_class = None if _outputs(model) == 1 else int(classes[0])
    numbers = typed_words(tokenizer, sentence, pair, encoding.input_ids.shape[1])
    of_tokens = None if numbers is None else numbers[words[0].cpu().numpy()]
    return Attribution(tokens, values.double().cpu().numpy(), of_class, of_tokens)


def by_words(first: Attribution, second: Attribution) -> tuple[Attribution, Attribution] | None:
    """Two attributions of one text word by word, where the models cut it into other tokens: a word's value is the sum
    over its pieces.

    Returns:
        Both, with the words as the second's pieces spell them; None where the words are not told, or none is shared.
    """
    if first.words is None or second.words is None:
        return None
    shared = shared_words(first.words, second.words)
    if not len(shared):
        return None
    spelt = spell(second.tokens, second.words, shared)
    sums = [(each.words == shared[:, None]) @ each.values for each in (first, second)]
    one, other = (replace(each, tokens=spelt, values=of, words=shared)
                  for each, of in zip((first, second), sums, strict=True))  # fmt: skip
    return one, other


def attribute(
    model: nn.Module, encoding: Encoding, words: Tensor, classes: Tensor, method: str = GRADIENT, steps: int = STEPS
) -> Tensor:
    """Attribution of each token, [batch, tokens]; 0 where `words` is False.

    With f the score that is explained, e a word's embedding and b its baseline, here 0: gradient x input is
    e · df/de; integrated gradients are (e - b) · the mean of df/de on the straight line from b to e, so that a row's
    values sum to f(words) - f(baseline). Special tokens keep their embeddings in the baseline. Positions and token
    types are part of neither.

    Args:
        words: bool [batch, tokens], the tokens that are explained. classes: int64 [batch]; not read for a regression.
        steps: points of the integral; gradient x input needs one.

    Raises:
        ValueError: an unknown method, or a class that the model does not have.
    """
    outputs = _outputs(model)
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known are {list(METHODS)}")
    if outputs > 1 and not bool(((classes >= 0) & (classes < outputs)).all()):
        raise ValueError(f"classes are 0 to {outputs - 1}, not {classes.tolist()}")
    with torch.no_grad():
        embeddings = anatomy(model).word_embeddings(encoding.input_ids)
    change = embeddings * words[..., None]
    total = torch.zeros_like(change)
    for place, weight in _points(method, steps):
        total += weight * _gradient(model, encoding, embeddings - (1 - place) * change, classes)
    result: Tensor = (total * change).sum(-1)
    return result


def loyalty(
    teacher: nn.Module, student: nn.Module, encodings: Iterable[Encoding], special: Collection[int]
) -> dict[str, float]:
    """Saliency loyalty: how alike teacher and student weigh the words of the same rows, for the teacher's answers.

    Gradient x input, signed; per row the agreement over its words, then the mean over rows. GKD (Wang et al. 2022)
    measures a saliency loyalty too; which correlation it takes, and over what, was not to be verified.

    Args:
        encodings: the rows, read by both models. special: see `special_ids`.

    Returns:
        `spearman` and `cosine`, each from -1 to 1, and `rows`: how many had `LEAST_WORDS` words or more. NaN where none
        had.
    """
    found = [each for encoding in encodings for each in _agreements(teacher, student, encoding, special)]
    if not found:
        return {"spearman": math.nan, "cosine": math.nan, "rows": 0}
    return {
        "spearman": float(np.mean([each.spearman for each in found])),
        "cosine": float(np.mean([each.cosine for each in found])),
        "rows": len(found),
    }


def agreement(teacher: ArrayLike, student: ArrayLike) -> Agreement:
    """How alike two attributions of the same words are: Spearman's rank correlation and the cosine.

    Args:
        teacher, student: [words].

    Raises:
        ValueError: the two differ in length, or there are no words.
    """
    a, b = np.asarray(teacher, np.float64), np.asarray(student, np.float64)
    if a.shape != b.shape or not a.size:
        raise ValueError(f"teacher has {a.shape}, student {b.shape}; need the same words, at least one")
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(np.clip(a @ b / scale, -1.0, 1.0)) if scale > 0 else 0.0
    return Agreement(pearson(rankdata(a), rankdata(b)), cosine)


def sample(lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Numbers of the dev rows of saliency loyalty: `ROWS` drawn by a fixed seed, or all, in parts of like length.

    Args:
        lengths: tokens of each row.
    """
    rows = np.random.default_rng(0).permutation(len(lengths))[:ROWS]
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    return [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids that a tokenizer adds to a text. An unknown word is a word of it."""
    return frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}


def word_mask(encoding: Encoding, special: Collection[int]) -> Tensor:
    """True on words, False on special tokens and padding: bool [batch, tokens]."""
    ids = encoding.input_ids
    return encoding.attention_mask.bool() & ~torch.isin(ids, torch.tensor(sorted(special), device=ids.device))


def predict_classes(model: nn.Module, encoding: Encoding) -> Tensor:
    """The class that a model gives each row, int64 [batch]; 0 for a regression."""
    with evaluating(model), torch.autocast(encoding.input_ids.device.type, enabled=False):
        logits: Tensor = observe(model, encoding, want("logits"), grad=False).logits
    return logits.argmax(-1)


def _outputs(model: Any) -> int:
    return int(model.config.num_labels)


def _agreements(
    teacher: nn.Module, student: nn.Module, encoding: Encoding, special: Collection[int]
) -> Iterable[Agreement]:
    """Of each row that has enough words."""
    words, classes = word_mask(encoding, special), predict_classes(teacher, encoding)
    theirs, ours = (attribute(model, encoding, words, classes).double().cpu() for model in (teacher, student))
    for row, real in enumerate(words.cpu()):
        if int(real.sum()) >= LEAST_WORDS:
            yield agreement(theirs[row][real].numpy(), ours[row][real].numpy())


def _points(method: str, steps: int) -> list[tuple[float, float]]:
    """Places between baseline (0) and input (1) where the gradient is taken, and their weights, which sum to 1."""
    if method == GRADIENT:
        return [(1.0, 1.0)]
    places, weights = np.polynomial.legendre.leggauss(steps)
    return [(float(place + 1) / 2, float(weight) / 2) for place, weight in zip(places, weights, strict=True)]


def _gradient(model: nn.Module, encoding: Encoding, embeddings: Tensor, classes: Tensor) -> Tensor:
    """Of the explained score with respect to the word embeddings, [batch, tokens, width]; weights get none."""
    embeddings = embeddings.detach().requires_grad_()
    with torch.enable_grad():
        logits = rerun_of(model, encoding, {})(embeddings, None, True).logits
        explained = logits[:, 0]
        if logits.shape[-1] > 1:
            explained = (logits - logits.mean(-1, keepdim=True)).gather(-1, classes[:, None])[:, 0]
        gradient: Tensor = torch.autograd.grad(explained.sum(), embeddings)[0]
    return gradient
