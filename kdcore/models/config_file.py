"""A model's config.json as it is written, checked before anything is built from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcore.errors import UserError
from kdcore.models.factors import FORMS, MODEL_TYPE

FAMILIES = ("bert", "roberta", "distilbert", "electra", "mpnet")
"""Model types that are taken: those `observe` can look into."""

FILE_LIMIT = 16 * 2**20
CLASS_LIMIT = 100_000

_LIMITS = {
    ("num_hidden_layers", "n_layers"): 96,
    ("hidden_size", "dim", "embedding_size"): 16_384,
    ("num_attention_heads", "n_heads"): 1_024,
    ("intermediate_size", "hidden_dim"): 262_144,
    ("vocab_size",): 2_000_000,
    ("max_position_embeddings",): 100_000,
    ("type_vocab_size",): 1_000,
    ("num_labels", "_num_labels"): CLASS_LIMIT,
    ("pooled_width", "projection_width"): 16_384,
}
"""Names of a size -> the largest that is taken. Building even an empty model of 10^9 classes takes all memory."""

_OF_FAMILY = {"Bert": "bert", "Roberta": "roberta", "DistilBert": "distilbert", "Electra": "electra", "MPNet": "mpnet"}


def read_config_file(folder: Path, field: str) -> Mapping[str, Any]:
    """The content of config.json: an object of a known `model_type` with possible sizes.

    Raises:
        UserError: there is none, it cannot be read, is of another family, or names absurd sizes.
    """
    content = _read(folder, field)
    _check_family(content, folder, field)
    wrong = list(_absurd(content))
    if wrong:
        raise UserError(
            field, f"{folder / 'config.json'} has {', '.join(wrong[:3])}", "use the config of these weights"
        )
    return content


def _read(folder: Path, field: str) -> Mapping[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(field, f"{folder} has no config.json", "name the folder that save_pretrained(...) wrote")
    try:
        if file.stat().st_size > FILE_LIMIT:
            raise ValueError(f"it has more than {FILE_LIMIT:,} bytes")
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(field, f"{file} cannot be read: {str(error)[:200]}", "save the model again") from error
    if not isinstance(content, dict):
        raise UserError(field, f"{file} is not a JSON object", "save the model again")
    return content


def _check_family(content: Mapping[str, Any], folder: Path, field: str) -> None:
    family = content.get("model_type")
    if family is None:
        likely = _likely_family(content)
        raise UserError(
            field,
            f"{folder} holds a model of type None: its config.json has no model_type",
            f'add "model_type": "{likely or "bert"}" to config.json'
            + ("" if likely else f", or what else of {', '.join(FAMILIES)} these weights are"),
        )
    if family == MODEL_TYPE:
        if content.get("form") not in FORMS:
            raise UserError(
                field, f"{folder} names the form {str(content.get('form'))[:40]!r}", f"known are {', '.join(FORMS)}"
            )
        return
    if family not in FAMILIES:
        raise UserError(
            field, f"{folder} holds a model of type {str(family)[:60]!r}", f"choose an encoder of {', '.join(FAMILIES)}"
        )


def _likely_family(content: Mapping[str, Any]) -> str | None:
    """What the class that saved it says."""
    classes = content.get("architectures")
    name = str(classes[0]) if isinstance(classes, list) and classes else ""
    return next(
        (family for start, family in _OF_FAMILY.items() if name.startswith((f"{start}For", f"{start}Model"))), None
    )


def _absurd(content: Mapping[str, Any]) -> list[str]:
    wrong = []
    for names, most in _LIMITS.items():
        for name in names:
            size = content.get(name)
            if size is not None and (type(size) is not int or not 0 <= size <= most):
                wrong.append(f"{name} {str(size)[:40]}")
    for name in ("id2label", "label2id"):
        if isinstance(content.get(name), (dict, list)) and len(content[name]) > CLASS_LIMIT:
            wrong.append(f"{len(content[name]):,} entries in {name}")
    return wrong
