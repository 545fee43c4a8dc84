"""config.json and the tokenizer's files so that plain transformers answers as the run did, from these files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcore.errors import CorruptError, UserError
from kdcore.tasks import Task

INPUTS = ("input_ids", "token_type_ids", "attention_mask")
"""What a student is given of a row; a teacher's tokenizer may leave token types out."""

SCORE = "score"
"""Name of the only output of a regression."""

_OF_THIS_MACHINE = (
    "_name_or_path", "name_or_path", "special_tokens_map_file", "tokenizer_file", "vocab_file", "is_local",
    "local_files_only", "max_length",
)  # fmt: skip
"""What transformers keeps of how a model or tokenizer was once read here."""


def check_form(folder: Path, name: str) -> None:
    """Raises UserError where the weights are not those of a classifier of config.json.

    transformers gives new weights to what it does not find and passes over what it does not know, without an error.
    """
    from kdcore.models.sources import read_config
    from kdcore.models.weights import parameter_shapes, stored_tensors

    expected = parameter_shapes(read_config(folder, "run"))
    stored = {key: tensor.shape for key, tensor in stored_tensors(folder, "run").items()}
    differing = sorted({key for key, _ in stored.items() ^ expected.items()})
    if differing:
        raise UserError(
            "run",
            f"the student of {name} is no plain classifier that transformers knows: {len(differing)} weights differ "
            f"from what its config.json says, {differing[0]} first",
            "keep it in a bundle (`export --bundle`), or train a student of a plain form",
        )


def longest_row(folder: Path, max_length: int) -> int:
    """Tokens of a row that the student reads: what the run kept of it, never more than there are positions."""
    from kdcore.models.sizes import usable_positions
    from kdcore.models.sources import read_config

    return min(max_length, usable_positions(read_config(folder, "run")))


def config_json(folder: Path, task: Task) -> bytes:
    """The student's config.json with the task's classes and kind.

    Raises:
        CorruptError: there is none that can be read.
    """
    content = _without_places(_object(folder / "config.json"))
    if task.kind == "regression":
        names = [SCORE]
    elif task.labels:
        names = list(task.labels)
    else:
        names = [str(name) for _, name in sorted(content.get("id2label", {}).items(), key=lambda item: int(item[0]))]
    content["problem_type"] = "regression" if task.kind == "regression" else "single_label_classification"
    if names:
        content["id2label"] = {str(number): name for number, name in enumerate(names)}
        content["label2id"] = {name: number for number, name in enumerate(names)}
    return _written(content)


def tokenizer_files(folder: Path, longest: int) -> dict[str, bytes]:
    """The tokenizer's files by name, so that they cut a row where the run did.

    `pipeline(..., truncation=True)` cuts to `model_max_length`, the library `tokenizers` as tokenizer.json says.

    Raises:
        CorruptError: a file cannot be read.
    """
    files: dict[str, bytes] = {}
    settings = folder / "tokenizer_config.json"
    content = _without_places(_object(settings)) if settings.is_file() else {}
    files[settings.name] = _written({**content, "model_max_length": longest, "model_input_names": list(INPUTS)})
    whole = folder / "tokenizer.json"
    if whole.is_file():
        cut = {"direction": "Right", "max_length": longest, "strategy": "LongestFirst", "stride": 0}
        files[whole.name] = _written({**_object(whole), "truncation": cut, "padding": None})
    return files


def _without_places(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in _OF_THIS_MACHINE}


def _object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        problem = f"{file.name} of the student cannot be read ({str(error)[:200]})"
        raise CorruptError("run", problem, "choose the other student, or train again") from error
    if not isinstance(content, dict):
        raise CorruptError("run", f"{file.name} of the student is not a JSON object", "train again")
    return content


def _written(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")
