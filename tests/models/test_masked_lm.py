"""Masked language models: the same scores as transformers', frozen, and refused in words where they do not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kdcore.errors import UserError
from kdcore.losses.vocabulary import IGNORE_INDEX
from kdcore.models import masked_lm
from kdcore.models.masked_lm import find, load, read_head
from kdcore.models.students import save_student
from kdcore.models.tokenizers import save_tokenizer, tokenizer_from_vocabulary
from kdcore.records import Encoding, ModelSize
from tests.helpers import masked_lm_folder

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", "##s", *(f"w{chr(97 + i)}" for i in range(13))]
STUDENT = ModelSize(layers=2, width=16, heads=2, intermediate=32, vocabulary=len(VOCABULARY), positions=32)
FAMILIES = ["bert", "distilbert"]


def loaded(source: str):
    return load(find(source, STUDENT), VOCABULARY)


def rows(count: int = 4, tokens: int = 9) -> Encoding:
    """[CLS], words, [SEP] and padding; every other row is a pair."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, len(VOCABULARY), (count, tokens), generator=generator)
    lengths = torch.tensor([tokens - row % 3 for row in range(count)])
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    ids[:, 0] = 2
    ids[torch.arange(count), lengths - 1] = 3
    types = (torch.arange(tokens) > 4) * (torch.arange(count) % 2)[:, None] * mask
    return Encoding(ids * mask, mask, types)


def problem(source: str) -> UserError:
    with pytest.raises(UserError) as error:
        loaded(source)
    assert error.value.field == "options.masked_lm" and error.value.remedy
    return error.value


def edit(folder, change) -> None:
    """Changes the stored tensors of a model."""
    state = load_file(folder / "model.safetensors")
    save_file(change(state), folder / "model.safetensors", metadata={"format": "pt"})


# --- what it says ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_transformers_own_class(tmp_path, family):
    lm = loaded(masked_lm_folder.write(tmp_path / "lm", VOCABULARY, family, seed=3))
    theirs, encoding = masked_lm_folder.model(len(VOCABULARY), family, seed=3), rows()
    inputs = {"input_ids": encoding.input_ids, "attention_mask": encoding.attention_mask}
    if family == "bert":
        inputs["token_type_ids"] = encoding.token_type_ids
    with torch.no_grad():
        expected = theirs(**inputs, output_hidden_states=True)
    valid = encoding.attention_mask.bool()
    states = lm.states(encoding)
    torch.testing.assert_close(states[valid], expected.hidden_states[-1][valid], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lm.scores(states)[valid], expected.logits[valid], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_of_output_words_of_its_own_is_read(tmp_path, family):
    folder = tmp_path / "lm"
    source = masked_lm_folder.write(folder, VOCABULARY, family)
    table = torch.randn(len(VOCABULARY), 16, generator=torch.Generator().manual_seed(1))
    name = "cls.predictions.decoder.weight" if family == "bert" else "vocab_projector.weight"
    edit(folder, lambda state: state | {name: table})
    assert torch.equal(loaded(source).table, table)
    edit(folder, lambda state: state | {name: table[:5].clone()})
    assert "decoder" in problem(source).problem or "projector" in problem(source).problem


def test_names_of_checkpoints_from_tensorflow_are_read(tmp_path):
    folder = tmp_path / "lm"
    source = masked_lm_folder.write(folder, VOCABULARY)
    expected = read_head(find(source, STUDENT)).state_dict()
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def aged(state):
        return {next((name.replace(a, b) for a, b in old.items() if a in name), name): t for name, t in state.items()}

    edit(folder, aged)
    assert "cls.predictions.transform.LayerNorm.gamma" in load_file(folder / "model.safetensors")
    got = read_head(find(source, STUDENT)).state_dict()
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_it_is_frozen_and_no_module(tmp_path):
    lm = loaded(masked_lm_folder.write(tmp_path / "lm", VOCABULARY))
    assert not isinstance(lm, torch.nn.Module) and not lm.encoder.training
    states = lm.states(rows())
    assert not states.requires_grad and not lm.scores(states.requires_grad_()).requires_grad
    assert not any(p.requires_grad for module in (lm.encoder, lm.head) for p in module.parameters())


def test_a_head_that_is_read_again_is_a_copy_that_learns(tmp_path):
    found = find(masked_lm_folder.write(tmp_path / "lm", VOCABULARY), STUDENT)
    one, two = read_head(found), read_head(found)
    assert all(p.requires_grad for p in one.parameters())
    with torch.no_grad():
        one.bias.add_(1.0)
    assert not torch.equal(one.bias, two.bias)
    assert {name for name, _ in one.named_parameters()} == {
        "dense.weight", "dense.bias", "layer_norm.weight", "layer_norm.bias", "bias"
    }  # fmt: skip


def test_nothing_here_uses_global_randomness(tmp_path):
    source = masked_lm_folder.write(tmp_path / "lm", VOCABULARY)
    before = torch.get_rng_state()
    loaded(source).hide(rows(), 0.5, np.random.default_rng(0))
    assert torch.equal(torch.get_rng_state(), before)


# --- hidden words ---------------------------------------------------------------------------------------------------


@pytest.fixture
def lm(tmp_path):
    return loaded(masked_lm_folder.write(tmp_path / "lm", VOCABULARY))


def test_words_are_hidden_in_the_shares_of_the_paper(lm):
    encoding = rows(3000)
    shown, words = lm.hide(encoding, 0.15, np.random.default_rng(1))
    free = encoding.attention_mask.bool() & (encoding.input_ids > 4)
    asked = words != IGNORE_INDEX
    assert not (asked & ~free).any()
    assert asked[free].float().mean().item() == pytest.approx(0.15, abs=0.01)
    ids, old = shown.input_ids[asked], encoding.input_ids[asked]
    assert torch.equal(words[asked], old)
    masked, same = ids == lm.mask_id, ids == old
    others = ~masked & ~same
    known = len(VOCABULARY)
    assert masked.float().mean().item() == pytest.approx(0.8 + 0.1 / known, abs=0.02)
    assert same.float().mean().item() == pytest.approx(0.1 + 0.1 / known, abs=0.02)
    assert others.float().mean().item() == pytest.approx(0.1 * (known - 2) / known, abs=0.02)
    assert len(ids[others].unique()) > known - 3  # any token may come


def test_what_is_not_asked_for_stays(lm):
    encoding = rows()
    shown, words = lm.hide(encoding, 0.6, np.random.default_rng(4))
    kept = words == IGNORE_INDEX
    assert torch.equal(shown.input_ids[kept], encoding.input_ids[kept])
    assert shown.attention_mask is encoding.attention_mask and shown.token_type_ids is encoding.token_type_ids


def test_the_same_numbers_hide_the_same_words(lm):
    one, two, other = (lm.hide(rows(), 0.5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one[0].input_ids, two[0].input_ids) and torch.equal(one[1], two[1])
    assert not torch.equal(one[1], other[1])


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "no masked language model is named"),
        ("/somewhere", "names no masked language model"),
        ("folder:", "names no masked language model"),
        ("run:abc", "names no masked language model"),
        ("folder:/nowhere/at/all", "is not a folder"),
        ("hub:nobody/nothing-of-this-name", "not in this machine's Hugging Face cache"),
        ("hub:a b", "is not a hub id"),
        ("package:numpy", "no package 'numpy'"),
    ],
)
def test_sources_that_are_not_there(source, said):
    assert said in problem(source).problem


def test_a_model_without_a_head_for_masked_words(tiny, tmp_path):
    save_student(tiny(), None, tmp_path / "classifier")
    assert "has no head for masked words" in problem(f"folder:{tmp_path / 'classifier'}").problem


def test_a_family_without_the_marks_of_pieces(tiny, tmp_path):
    save_student(tiny("roberta"), None, tmp_path / "roberta")
    assert "family roberta" in problem(f"folder:{tmp_path / 'roberta'}").problem


def test_weights_that_could_run_code(tmp_path):
    folder = tmp_path / "lm"
    source = masked_lm_folder.write(folder, VOCABULARY)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "can run code" in problem(source).problem


def test_another_size_of_vocabulary(tmp_path):
    source = masked_lm_folder.write(tmp_path / "lm", [*VOCABULARY, "more"])
    assert problem(source).problem == "its vocabulary has 21 tokens, the student's 20"


def test_another_vocabulary_of_the_same_size(tmp_path):
    source = masked_lm_folder.write(tmp_path / "lm", [*VOCABULARY[:-2], VOCABULARY[-1], VOCABULARY[-2]])
    assert "id 18 is 'wm', the student's 'wl'" in problem(source).problem
    find(source, STUDENT)  # only the whole tokenizer tells


def test_no_vocabulary_in_the_folder(tmp_path):
    folder = tmp_path / "lm"
    source = masked_lm_folder.write(folder, VOCABULARY)
    for file in folder.glob("*token*"):
        file.unlink()
    assert "holds no vocabulary" in problem(source).problem


def test_fewer_positions_than_the_student(tmp_path):
    source = masked_lm_folder.write(tmp_path / "lm", VOCABULARY, max_position_embeddings=16)
    assert "reads 16 tokens, the student 32" in problem(source).problem


@pytest.mark.parametrize("name", ["cls.predictions.bias", "bert.encoder.layer.1.output.dense.weight"])
def test_weights_that_are_missing(tmp_path, name):
    folder = tmp_path / "lm"
    source = masked_lm_folder.write(folder, VOCABULARY)
    edit(folder, lambda state: {known: tensor for known, tensor in state.items() if known != name})
    assert name in problem(source).problem


def test_a_head_that_does_not_fit_its_config(tmp_path):
    folder = tmp_path / "lm"
    source = masked_lm_folder.write(folder, VOCABULARY)
    edit(folder, lambda state: state | {"cls.predictions.bias": torch.zeros(3)})
    assert "does not fit its config" in problem(source).problem


def test_an_activation_that_does_not_exist(tmp_path):
    folder = tmp_path / "lm"
    source = masked_lm_folder.write(folder, VOCABULARY)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hidden_act": "no-such"}))
    problem(source)
    with pytest.raises(UserError, match=r"options\.masked_lm.*does not fit its config"):
        read_head(find(source, STUDENT))


def test_the_tokenizer_alone_decides_which_ids_are_special(tmp_path, lm):
    assert {VOCABULARY[i] for i in lm.special.nonzero().flatten().tolist()} == set(VOCABULARY[:5])
    assert (lm.mask_id, lm.pad_id, lm.tokens) == (4, 0, VOCABULARY)
    tokenizer = tokenizer_from_vocabulary(VOCABULARY)
    tokenizer.mask_token = None
    folder = tmp_path / "blind"
    source = masked_lm_folder.write(folder, VOCABULARY)
    save_tokenizer(tokenizer, folder)
    assert "no [MASK]" in problem(source).problem
    assert masked_lm.FIELD == "options.masked_lm"
