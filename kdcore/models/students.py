"""Students: built to a size, filled from a source's layers, saved and loaded as Hugging Face folders."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcore import layer_map
from kdcore.config import StudentSpec
from kdcore.errors import CorruptError, UserError
from kdcore.models.anatomy import anatomy
from kdcore.models.convert_weights import bert_settings, bert_weights
from kdcore.models.library import transformers
from kdcore.models.sizes import bert_config, size_of, usable_positions
from kdcore.models.sources import Located, load_encoder, read_config
from kdcore.models.tokenizers import save_tokenizer
from kdcore.models.weights import build_classifier, read_weights, write_model
from kdcore.paths import user_path
from kdcore.records import ModelSize

_WORDS, _TYPES = (f"bert.embeddings.{part}_embeddings.weight" for part in ("word", "token_type"))


def build_student(
    size: ModelSize,
    labels: int,
    spec: StudentSpec,
    source: nn.Module | None,
    seed: int,
    dropout: float | None = None,
    words: Sequence[Sequence[int]] | None = None,
) -> nn.Module:
    """A BERT classifier of this size with its initial weights: float32, SDPA, eval mode.

    Embeddings, the layers that `spec.init_layers` names and the pooler are copied from `source` (with
    `init='checkpoint'` from the folder `spec.checkpoint`, with `init='random'` from nowhere). The classifier is copied
    where a fine-tuned teacher of as many labels is the source, else new. The source may be of any family that `observe`
    knows; pooler and classifier come along from BERT and RoBERTa, whose heads compute the same (see `translate`). New
    weights depend on `seed` and their name alone; the global random state stays as it is.

    Args:
        dropout: of states and attentions; None: as the source's config says, BERT's 0.1 where there is no source.
        words: of a student with other words than the source, the ids of the source that each of its own stands for: it
            starts with the mean of their vectors.

    Raises:
        UserError: widths, feed-forward sizes, vocabularies or layers of the source do not fit.
    """
    config = bert_config(size, labels, dropout)
    if spec.init == "random" and size.form != "plain":
        raise UserError("student.init", f"form={size.form} factors the weights of a model", "choose init=teacher")
    if spec.init == "random":
        return build_classifier(config, {}, seed)[0]
    if spec.init == "checkpoint":
        source = _checkpoint(spec.checkpoint or "")
    if source is None:
        raise UserError("student.init", f"init={spec.init} needs a source of weights", "choose init=random")
    _check_fits(size, source.config, words is not None)
    layers = source_layers(spec, size_of(source.config).layers)
    state = _chosen_weights(source, layers, size, keep_classifier=spec.init == "teacher")
    if words is not None:
        state = {**state, **_own_words(state, words)}
    if size_of(source.config).labels != labels:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("classifier.")}
    for name, value in bert_settings(source.config).items():
        of_words = name in ("pad_token_id", "type_vocab_size")
        if (dropout is None or "dropout" not in name) and (words is None or not of_words):
            setattr(config, name, value)
    model = build_classifier(config, state, seed)[0]
    return model if size.form == "plain" else _factorize(model, size.form)


def dense_model(model: nn.Module) -> nn.Module:
    """The plain BERT classifier that computes what a student of another form does.

    Raises:
        UserError: the model is plain already, or computes what no plain one can.
    """
    from kdcore.models.forms import FormedBert

    if not isinstance(model, FormedBert):
        raise UserError("--dense", "this student's matrices are whole already", "leave --dense out")
    config: Any = model.config
    if config.pooled_width:
        raise UserError(
            "--dense", "this student's pooler ends with a projection, which no plain BERT has", "leave --dense out"
        )
    own = ("model_type", "form", "pooled_width", "projection_width")
    kept = {name: value for name, value in config.to_dict().items() if name not in own}
    return build_classifier(transformers().BertConfig(**kept), model.dense_weights(), seed=0)[0]


def _factorize(model: nn.Module, form: str) -> nn.Module:
    """The model with the nearest factors in place of its matrices."""
    from kdcore.models.forms import factor_weights, formed_config

    config = formed_config(model.config, form=form)
    return build_classifier(config, factor_weights(model.state_dict(), form), seed=0)[0]


def projected_student(model: nn.Module, teacher: nn.Module, inner: int, seed: int) -> nn.Module:
    """The student with a projection of its pooler's output to the teacher's, and the teacher's classifier on top.

    The projection is new; its weights depend on `seed` and their names alone.

    Args:
        model: a BERT student; its own classifier is left out. teacher: of any family, with as many labels. inner: width
            inside the projection.
    """
    from kdcore.models.forms import formed_config

    classifier: Any = anatomy(teacher).classifier
    config = formed_config(model.config, pooled_width=classifier.in_features, projection_width=inner)
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("classifier.")}
    theirs = {f"classifier.{name}": tensor for name, tensor in classifier.state_dict().items()}
    return build_classifier(config, own | theirs, seed)[0]


def save_student(
    model: nn.Module, tokenizer: Any, folder: Path, before_saving: Callable[[], None] = lambda: None
) -> None:
    """Writes a folder that `AutoModelForSequenceClassification.from_pretrained` loads: complete, or not at all.

    It is written under a temporary name and renamed; an older one of the same name is replaced. before_saving: called
    in between; where it raises, the older one stays.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    writing, old = (folder.with_name(f".{folder.name}.{mark}.{kind}") for kind in ("writing", "old"))
    try:
        write_model(model, writing)
        if tokenizer is not None:
            save_tokenizer(tokenizer, writing)
        before_saving()
        if folder.exists():
            os.rename(folder, old)
        os.rename(writing, folder)
    finally:
        shutil.rmtree(writing, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def load_classifier(folder: Path, labels: int | None = None) -> nn.Module:
    """The model that `save_student` wrote, bit for bit: float32, SDPA, eval mode; no network.

    Raises:
        CorruptError: the folder is not complete or cannot be read.
        UserError: it has another label count than `labels`.
    """
    folder = Path(folder)
    try:
        config = read_config(folder, "model folder")
        model, fresh = build_classifier(config, read_weights(folder, "model folder"), seed=0)
    except UserError as error:
        raise CorruptError(
            "model folder", f"{folder.name} cannot be read ({error.problem})", "train or export it again"
        ) from error
    if fresh:
        raise CorruptError("model folder", f"{folder.name} lacks the weights {fresh[0]}", "train or export it again")
    outputs = model.config.num_labels  # type: ignore[union-attr]
    if labels is not None and outputs != labels:
        raise UserError(
            "model folder", f"{folder.name} answers with {outputs} outputs, {labels} are needed", "choose another model"
        )
    return model


def _checkpoint(folder: str) -> nn.Module:
    path = user_path(folder, "student.checkpoint")
    if not path.is_dir():
        raise UserError(
            "student.checkpoint", f"{path} is not a folder", "name a folder with config.json and safetensors"
        )
    try:
        config = read_config(path, "student.checkpoint")
        return load_encoder(Located(path, True, f"checkpoint {path.name}"), config.num_labels)
    except UserError as error:
        raise UserError("student.checkpoint", error.problem, error.remedy) from error


def _own_words(state: Mapping[str, Tensor], words: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Word vectors, of each the mean of some of the source's, and two token types, of which RoBERTa has one."""
    offsets, types = torch.tensor([0, *map(len, words)][:-1]).cumsum(0), state[_TYPES]
    vectors = F.embedding_bag(torch.tensor([*chain.from_iterable(words)]), state[_WORDS], offsets, mode="mean")
    return {_WORDS: vectors, _TYPES: types if len(types) > 1 else types.repeat(2, 1)}


def _check_fits(size: ModelSize, config: Any, own_words: bool) -> None:
    """Copied weights need the same sizes; depth and heads may differ, and words where they are the student's own."""
    source = size_of(config)
    pairs = {
        "student.width": (size.width, source.width),
        "student.intermediate": (size.intermediate, source.intermediate),
        "student.init": (size.vocabulary, source.vocabulary),
    }
    names = {"student.width": "width", "student.intermediate": "feed-forward size", "student.init": "vocabulary"}
    if own_words:
        del pairs["student.init"]
    for field, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise UserError(
                field,
                f"the student's {names[field]} {ours} differs from {theirs} of the model that fills it",
                f"leave the student's {names[field]} as the source's, or choose init=random",
            )
    if size.positions > usable_positions(config):
        raise UserError(
            "student.init",
            f"the source has {usable_positions(config)} positions, not {size.positions}",
            "choose init=random",
        )


def source_layers(spec: StudentSpec, depth: int) -> list[int]:
    """Source layer (from 1) of each student layer, for a source of `depth` layers.

    Raises:
        UserError: the source is too shallow for what was asked.
    """
    if isinstance(spec.init_layers, tuple):
        wrong = [layer for layer in spec.init_layers if not 1 <= layer <= depth]
        if wrong:
            raise UserError("student.init_layers", f"the source has layers 1 to {depth}, not {wrong}", "name those")
        return list(spec.init_layers)
    if spec.init_layers == "skip":
        return layer_map.skip_init(spec.layers, depth)
    if spec.layers > depth:
        raise UserError(
            "student.layers",
            f"a student of {spec.layers} layers cannot take the {spec.init_layers} ones of {depth}",
            "choose fewer layers, init_layers=skip (it repeats layers), or init=random",
        )
    choose = layer_map.first if spec.init_layers == "first" else layer_map.last
    return list(choose(spec.layers, depth).values())


def _chosen_weights(
    source: nn.Module, layers: list[int], size: ModelSize, keep_classifier: bool
) -> Mapping[str, Tensor]:
    """The source's weights under the student's names."""
    stored = bert_weights(source)
    chosen = {name: tensor for name, tensor in stored.items() if ".embeddings." in name or ".pooler." in name}
    if keep_classifier:
        chosen.update({name: tensor for name, tensor in stored.items() if name.startswith("classifier.")})
    for place, layer in enumerate(layers):
        old, new = f".encoder.layer.{layer - 1}.", f".encoder.layer.{place}."
        chosen.update({name.replace(old, new): tensor for name, tensor in stored.items() if old in name})
    positions = "bert.embeddings.position_embeddings.weight"
    chosen[positions] = chosen[positions][: size.positions]
    return chosen
