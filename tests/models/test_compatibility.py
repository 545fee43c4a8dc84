"""Weights that are not those of their config.json are refused before they are read, and the teacher is named."""

from __future__ import annotations

import json
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdcore.config import TeacherSpec
from kdcore.errors import UserError
from kdcore.models.compatibility import check_classifier
from kdcore.models.sources import load_encoder, locate, read_config, weights_hash
from kdcore.models.students import save_student
from tests.models.conftest import tiny_config


@pytest.fixture
def saved(tiny, tmp_path):
    """A fine-tuned teacher of 3 labels and 2 layers."""
    save_student(tiny(), None, tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder, change):
    """Stores what `change` makes of the tensors."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


def edit_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def find(folder):
    return locate(TeacherSpec(name="t", source="folder", where=str(folder)))


def refused(folder, match):
    with pytest.raises(UserError, match=match) as error:
        find(folder)
    assert error.value.field == "teachers.t.where"
    return error.value.remedy


@pytest.mark.parametrize("before", ["module.", "_orig_mod.", "model.", "model._orig_mod."])
def test_names_of_wrappers_are_read_through(saved, tiny, before):
    rewrite(saved, lambda state: {before + name: tensor for name, tensor in state.items()})
    assert weights_hash(load_encoder(find(saved), 3)) == weights_hash(tiny())


def test_an_encoder_inside_another_model_is_told(saved):
    rewrite(saved, lambda state: {f"student.net.{name}": tensor for name, tensor in state.items()})
    assert "model.student.net.bert.save_pretrained" in refused(saved, "saved inside another model")


def test_weights_of_eight_bits_are_refused(saved):
    rewrite(saved, lambda state: {n: t.to(torch.int8) if "query.weight" in n else t for n, t in state.items()})
    assert "quantised" in refused(saved, "query.weight as I8")


def test_pruned_heads_are_refused(saved):
    edit_config(saved, pruned_heads={"0": [1]})
    rewrite(saved, lambda state: {n: t[:12].clone() if "layer.0.attention.self" in n else t for n, t in state.items()})
    assert "all its heads" in refused(saved, "heads were pruned")


def test_values_that_are_not_finite_are_told_when_they_are_read(saved):
    def change(state):
        state["bert.encoder.layer.1.output.dense.weight"][0, 0] = torch.inf
        return state

    rewrite(saved, change)
    with pytest.raises(UserError, match=r"layer\.1\.output\.dense\.weight holds values that are not finite"):
        load_encoder(find(saved), 3)


@pytest.mark.parametrize("head", ["ForTokenClassification", "ForMultipleChoice"])
@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "Electra"])
def test_heads_of_other_tasks_are_no_teachers(tmp_path, family, head):
    import transformers

    model = getattr(transformers, family + head)(tiny_config(family.lower(), labels=3))
    model.save_pretrained(tmp_path / "m")
    located = find(tmp_path / "m")
    for architectures in (None, []):  # with and without the name of the class
        if not located.pretrained_only:
            with pytest.raises(UserError) as error:
                check_classifier(located.path, read_config(located.path), 2, "teachers.t", "it")
            assert "fine_tune" in error.value.remedy
        edit_config(tmp_path / "m", architectures=architectures)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
def test_label_counts_are_compared_with_the_task_and_the_config(tiny, tmp_path, family):
    save_student(tiny(family), None, tmp_path / "m")
    config = read_config(tmp_path / "m")
    check_classifier(tmp_path / "m", config, 3, "teachers.t", "it")
    with pytest.raises(UserError, match="3 outputs, the task needs 2"):
        check_classifier(tmp_path / "m", config, 2, "teachers.t", "it")
    edit_config(tmp_path / "m", id2label={str(i): f"class {i}" for i in range(4)})
    with pytest.raises(UserError, match="names 4 classes"):
        check_classifier(tmp_path / "m", read_config(tmp_path / "m"), 3, "teachers.t", "it")


def test_a_missing_model_type_is_named_with_what_to_add(saved):
    edit_config(saved, model_type=None)
    assert 'add "model_type": "bert" to config.json' in refused(saved, "no model_type")
    edit_config(saved, architectures=None)
    assert "roberta" in refused(saved, "no model_type")
    edit_config(saved, architectures=["ElectraForSequenceClassification"])
    assert '"electra"' in refused(saved, "no model_type")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_labels": 10**9},
        {"num_labels": 1e9},
        {"num_labels": "many"},
        {"_num_labels": 10**9},
        {"num_hidden_layers": 10**9},
        {"n_layers": 10**9},
        {"vocab_size": 2**40},
        {"intermediate_size": 10**12},
        {"type_vocab_size": 10**9},
        {"embedding_size": 10**9},
        {"num_attention_heads": True},
        {"id2label": {str(i): "x" for i in range(200_000)}},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_absurd_sizes_never_reach_the_library(saved, changes, monkeypatch):
    from transformers import AutoConfig

    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("it was built"))
    edit_config(saved, **changes)
    start = time.perf_counter()
    assert "config" in refused(saved, "config.json")
    assert time.perf_counter() - start < 2


def test_a_config_of_absurd_length_is_not_parsed(saved):
    (saved / "config.json").write_text(" " * (16 * 2**20 + 1) + "{}")
    refused(saved, "more than")


@pytest.mark.parametrize("pad", [None, -1, 19])
def test_a_roberta_whose_padding_leaves_no_position_is_refused(tiny, tmp_path, pad):
    save_student(tiny("roberta"), None, tmp_path / "m")
    edit_config(tmp_path / "m", pad_token_id=pad)
    refused(tmp_path / "m", "pad_token_id")
