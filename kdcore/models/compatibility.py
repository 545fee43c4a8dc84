"""Whether stored weights are those that their config.json describes, before any of them is read.

Names, types and shapes stand in the headers of the files; what they have to be follows from a model that is built
without weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcore.errors import UserError
from kdcore.models.header import FLOATS, StoredTensor
from kdcore.models.sizes import family_of
from kdcore.models.weights import parameter_shapes, stored_tensors

_WORDS = "embeddings.word_embeddings.weight"
_FINE_TUNE = "fine-tune it here on the task (fine_tune: {}), which gives it a new classifier"
_OTHER_HEADS = ("ForTokenClassification", "ForMultipleChoice", "ForNextSentencePrediction", "ForQuestionAnswering")


def is_head(name: str) -> bool:
    """Whether a parameter stands between the encoder's last layer and the logits."""
    return name.startswith(("classifier.", "pre_classifier.", "pooler.")) or ".pooler." in name


def check_encoder(folder: Path, config: Any, field: str, words: str) -> None:
    """Raises UserError where the stored weights lack a part of the encoder, or have it in another size or type.

    Args:
        words: what the model is called in the message.
    """
    stored, expected = stored_tensors(folder, field), _expected_shapes(config, field)
    encoder = {name: shape for name, shape in expected.items() if not is_head(name)}
    _check_names(stored, encoder, config, field, words)
    _check_tensors(stored, encoder, config, field, words)


def check_classifier(folder: Path, config: Any, labels: int, field: str, words: str) -> None:
    """Raises UserError where the stored head is not one that classifies sentences into `labels` classes.

    Args:
        labels: outputs that the task needs. words: what the model is called in the message.
    """
    classes = getattr(config, "architectures", None) or [""]
    other = next((head for head in _OTHER_HEADS if str(classes[0]).endswith(head)), None)
    if other:
        raise UserError(field, f"{words} was saved as {classes[0]}, which does not classify sentences", _FINE_TUNE)
    stored, expected = stored_tensors(folder, field), _expected_shapes(config, field)
    head = {name: shape for name, shape in expected.items() if is_head(name)}
    missing = [name for name in head if _lookup(stored, name, config) is None]
    if missing:
        raise UserError(field, f"{words} has a classifier, but not one of sentences: it lacks {missing[0]}", _FINE_TUNE)
    last = _lookup(stored, next(name for name in reversed(head) if name.endswith("weight")), config)
    outputs = last.shape[0] if last and last.shape else 0
    if outputs != labels:
        raise UserError(
            field,
            f"{words} answers with {outputs} outputs, the task needs {labels}",
            f"choose a teacher of this task, or {_FINE_TUNE}",
        )
    if config.num_labels != outputs:
        raise UserError(
            field,
            f"{words} answers with {outputs} outputs, but its config.json names {config.num_labels} classes",
            f"correct id2label in config.json, or {_FINE_TUNE}",
        )
    _check_tensors(stored, head, config, field, words)


def _check_names(
    stored: Mapping[str, StoredTensor], expected: Mapping[str, tuple[int, ...]], config: Any, field: str, words: str
) -> None:
    missing = [name for name in expected if _lookup(stored, name, config) is None]
    if not missing:
        return
    elsewhere = next((name for name in stored if name.endswith(f".{_WORDS}") and missing[0].endswith(_WORDS)), None)
    if elsewhere:
        inner = elsewhere.removesuffix(_WORDS).rstrip(".")
        raise UserError(
            field,
            f"{words} names its weights {elsewhere} and so on: it was saved inside another model",
            f"save the encoder alone: load it as it was and call model.{inner}.save_pretrained(...)",
        )
    raise UserError(field, f"{words} lacks {len(missing)} weights, {missing[0]} first", "use complete weights")


def _check_tensors(
    stored: Mapping[str, StoredTensor], expected: Mapping[str, tuple[int, ...]], config: Any, field: str, words: str
) -> None:
    for name, shape in expected.items():
        tensor = _lookup(stored, name, config)
        if tensor is None:
            continue
        if tensor.dtype not in FLOATS:
            raise UserError(
                field,
                f"{words} holds {name} as {tensor.dtype}, not as floating-point numbers",
                "save the model before it was quantised, in float32 or float16",
            )
        if tensor.shape != shape:
            pruned = bool(getattr(config, "pruned_heads", None))
            raise UserError(
                field,
                f"{name} is {list(tensor.shape)} in the file, but config.json asks for {list(shape)}"
                + (" (attention heads were pruned)" if pruned else ""),
                "choose a model with all its heads" if pruned else "use the config.json that belongs to these weights",
            )


def _lookup(stored: Mapping[str, StoredTensor], name: str, config: Any) -> StoredTensor | None:
    """The stored tensor of a parameter, with or without the encoder's prefix (`bert.`)."""
    return stored.get(name) or stored.get(name.removeprefix(f"{family_of(config)}."))


def _expected_shapes(config: Any, field: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of a classifier of this config."""
    try:
        return parameter_shapes(config)
    except UserError as error:
        problem = f"the model does not fit its config.json: {error.problem}"
        raise UserError(field, problem, error.remedy) from error
