"""BERT students of another form (Kronecker products, a projection after the pooler): a model type, `kdboard_bert`.

Importing this module makes the type known to transformers' AutoConfig and AutoModelForSequenceClassification; without
it they refuse such a folder, in place of filling plain matrices with new weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcore.models.factors import MODEL_TYPE, Factors, Matrix, factors
from kdcore.models.library import transformers

_LIBRARY = transformers()


class FormedConfig(_LIBRARY.BertConfig):  # type: ignore[misc,name-defined]
    """A BERT config with the form of the matrices (a name that `factors` knows) and the widths of a projection."""

    model_type = MODEL_TYPE

    def __init__(
        self, form: str = "plain", pooled_width: int | None = None, projection_width: int | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.form, self.pooled_width, self.projection_width = form, pooled_width, projection_width


class FormedBert(_LIBRARY.BertForSequenceClassification):  # type: ignore[misc,name-defined]
    """A BERT classifier whose matrices are of its config's form, and whose pooler may end with a projection."""

    config_class = FormedConfig

    def __init__(self, config: FormedConfig) -> None:
        super().__init__(config)
        for layer in self.bert.encoder.layer:
            heads = layer.attention.self
            for owner, name, matrix in (
                (heads, "query", "attention"), (heads, "key", "attention"), (heads, "value", "attention"),
                (layer.attention.output, "dense", "attention"), (layer.intermediate, "dense", "up"),
                (layer.output, "dense", "down"),
            ):  # fmt: skip
                setattr(owner, name, _linear(getattr(owner, name), config.form, matrix))
        words = self.bert.embeddings
        if parts := factors(config.form, "table", *words.word_embeddings.weight.shape):
            words.word_embeddings = KroneckerEmbedding(parts)
        if config.pooled_width and config.projection_width:
            self.bert.pooler = ProjectedPooler(config.hidden_size, config.projection_width, config.pooled_width)
            self.classifier = nn.Linear(config.pooled_width, config.num_labels)

    def dense_weights(self) -> dict[str, Tensor]:
        """The weights of the plain BERT classifier that computes the same, under its names; no gradient.

        A projection has no place in one: it is left out, and so is the classifier that reads it.
        """
        products = {
            f"{name}.": module for name, module in self.named_modules()
            if isinstance(module, (KroneckerLinear, KroneckerEmbedding))
        }  # fmt: skip
        kept = {
            name: tensor.detach() for name, tensor in self.state_dict().items()
            if not (name.endswith((".a", ".b")) and name[:-1] in products)
            and not (self.config.pooled_width and name.startswith(("classifier.", "bert.pooler.projection.")))
        }  # fmt: skip
        return kept | {f"{path}weight": module.weight.detach() for path, module in products.items()}


class KroneckerLinear(nn.Module):
    """x -> (A (x) B) x + bias, without the product: x as a matrix X [n1, n2] gives A X B^T (Tahaei et al. 2022).

    Parameters: a [m1, n1], b [m2, n2], bias [m1 m2]. Takes [..., n1 n2], gives [..., m1 m2].
    """

    def __init__(self, parts: Factors) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.empty(shape)) for shape in (parts.a, parts.b))
        self.bias = nn.Parameter(torch.zeros(parts.a[0] * parts.b[0]))
        self.b_first = parts.b_first

    @property
    def weight(self) -> Tensor:
        """The whole matrix, [m1 m2, n1 n2]."""
        return torch.kron(self.a, self.b)

    def forward(self, x: Tensor) -> Tensor:
        blocks = x.reshape(*x.shape[:-1], self.a.shape[1], self.b.shape[1])
        product: Tensor = self.a @ (blocks @ self.b.T) if self.b_first else (self.a @ blocks) @ self.b.T
        return product.flatten(-2) + self.bias


class KroneckerEmbedding(nn.Module):
    """Word v -> A[v] (x) B: a [vocabulary, width / n], b [1, n]. Takes ids of any shape, gives [..., width]."""

    def __init__(self, parts: Factors) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.empty(shape)) for shape in (parts.a, parts.b))

    @property
    def weight(self) -> Tensor:
        """The whole table, [vocabulary, width]."""
        return torch.kron(self.a, self.b)

    def forward(self, ids: Tensor) -> Tensor:
        return (F.embedding(ids, self.a).unsqueeze(-1) * self.b[0]).flatten(-2)


class ProjectedPooler(nn.Module):
    """BERT's pooler, and a projection of its output to the width of another model's (Chen et al. 2022, with LayerNorm
    and GELU in place of BatchNorm and ReLU).

    Takes states [batch, tokens, width], gives [batch, pooled].
    """

    def __init__(self, width: int, inner: int, pooled: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.projection = nn.Sequential(
            OrderedDict(
                first=nn.Linear(width, inner), first_LayerNorm=nn.LayerNorm(inner), first_activation=nn.GELU(),
                second=nn.Linear(inner, inner), second_LayerNorm=nn.LayerNorm(inner), second_activation=nn.GELU(),
                last=nn.Linear(inner, pooled),
            )
        )  # fmt: skip

    def forward(self, states: Tensor) -> Tensor:
        result: Tensor = self.projection(torch.tanh(self.dense(states[:, 0])))
        return result


def factor_weights(state: Mapping[str, Tensor], form: str) -> dict[str, Tensor]:
    """A plain BERT classifier's weights, each matrix of the form replaced by its nearest factors, under their names."""
    kinds: dict[str, Matrix] = {
        "attention.self.query": "attention", "attention.self.key": "attention", "attention.self.value": "attention",
        "attention.output.dense": "attention", "intermediate.dense": "up", "output.dense": "down",
        "embeddings.word_embeddings": "table",
    }  # fmt: skip
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        path = name.removesuffix(".weight")
        matrix = next((kind for end, kind in kinds.items() if path.endswith(f".{end}")), None)
        parts = factors(form, matrix, *tensor.shape) if matrix and path != name else None
        if parts is None:
            found[name] = tensor
        else:
            found[f"{path}.a"], found[f"{path}.b"] = nearest(tensor, parts)
    return found


def nearest(weight: Tensor, parts: Factors) -> tuple[Tensor, Tensor]:
    """A and B with the least squared difference between A (x) B and the weight [m1 m2, n1 n2].

    They are the first singular vectors of the weight with its blocks as rows, each times the root of the singular value
    (Van Loan & Pitsianis 1993). The vectors come from the smaller of the two products of that matrix with itself, in
    float64, and B's largest entry is positive.
    """
    (m1, n1), (m2, n2) = parts.a, parts.b
    blocks = weight.detach().double().view(m1, m2, n1, n2).transpose(1, 2).reshape(m1 * n1, m2 * n2)
    wide = blocks.shape[0] < blocks.shape[1]
    matrix = blocks.T if wide else blocks
    short = torch.linalg.eigh(matrix.T @ matrix).eigenvectors[:, -1]
    long = matrix @ short
    root = long.norm().sqrt()
    a, b = (short * root, long / root.clamp(min=1e-300)) if wide else (long / root.clamp(min=1e-300), short * root)
    sign = b[b.abs().argmax()].sign() + (b.abs().max() == 0)
    return (sign * a).view(m1, n1).to(weight.dtype), (sign * b).view(m2, n2).to(weight.dtype)


def formed_config(config: Any, **form: Any) -> FormedConfig:
    """A BERT config of any form with some of `FormedConfig`'s own settings changed."""
    settings = {name: value for name, value in config.to_dict().items() if name not in ("model_type", "architectures")}
    formed = FormedConfig(**settings | form)
    formed._attn_implementation = config._attn_implementation
    return formed


def _linear(linear: nn.Linear, form: str, matrix: Any) -> nn.Module:
    parts = factors(form, matrix, *linear.weight.shape)
    return KroneckerLinear(parts) if parts else linear


_LIBRARY.AutoConfig.register(MODEL_TYPE, FormedConfig)
_LIBRARY.AutoModelForSequenceClassification.register(FormedConfig, FormedBert)
