"""Students: where each weight comes from, and that saving and loading changes none."""

from __future__ import annotations

import threading

import pytest
import torch

from kdcore.config import StudentSpec
from kdcore.errors import CorruptError, UserError
from kdcore.models.observe import observe
from kdcore.models.sizes import size_of, student_size
from kdcore.models.sources import weights_hash
from kdcore.models.students import build_student, load_classifier, save_student
from kdcore.models.tokenizers import load_tokenizer, tokenizer_from_vocabulary
from kdcore.records import Encoding, want

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog"]


def build(spec, source, labels=3, seed=0, dropout=None):
    base = size_of(source.config)
    return build_student(student_size(spec, base, labels), labels, spec, source, seed, dropout)


def same(first, second):
    """Whether two modules hold bit-equal weights."""
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("init_layers", "taken"), [("first", [1, 2]), ("last", [3, 4]), ("skip", [2, 4]), ((4, 1), [4, 1])]
)
def test_layers_embeddings_and_pooler_are_copied_bit_for_bit(tiny, init_layers, taken):
    source = tiny(layers=4)
    student = build(StudentSpec(layers=2, init="base", init_layers=init_layers), source)
    for mine, theirs in enumerate(taken):
        assert same(student.bert.encoder.layer[mine], source.bert.encoder.layer[theirs - 1])
    assert not same(student.bert.encoder.layer[0], source.bert.encoder.layer[taken[0] % 4])
    assert same(student.bert.embeddings, source.bert.embeddings) and same(student.bert.pooler, source.bert.pooler)


def test_copies_share_no_memory_with_the_source(tiny):
    source = tiny()
    before = weights_hash(source)
    student = build(StudentSpec(layers=2, init="teacher"), source)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert weights_hash(source) == before


def test_a_student_of_all_the_teachers_layers_says_what_the_teacher_says(tiny, encoding):
    source = tiny()
    student = build(StudentSpec(layers=2, init="teacher"), source)
    torch.testing.assert_close(
        observe(student, encoding, want("logits"), False).logits,
        observe(source, encoding, want("logits"), False).logits,
    )


def test_the_classifier_comes_only_from_a_teacher_of_as_many_labels(tiny):
    source = tiny(labels=3, seed=7)
    assert same(build(StudentSpec(layers=1, init="teacher"), source).classifier, source.classifier)
    assert not same(build(StudentSpec(layers=1, init="base"), source).classifier, source.classifier)
    assert build(StudentSpec(layers=1, init="teacher"), source, labels=2).classifier.out_features == 2


def test_new_weights_depend_on_seed_and_name_alone(tiny):
    source = tiny(layers=4)
    one = build(StudentSpec(layers=1), source, seed=5)
    deep = build(StudentSpec(layers=3, init_layers="last"), source, seed=5)
    random = build(StudentSpec(layers=3, init="random"), source, seed=5)
    assert same(one.classifier, deep.classifier)
    assert not same(one.classifier, build(StudentSpec(layers=1), source, seed=6).classifier)
    assert same(random, build(StudentSpec(layers=3, init="random"), source, seed=5))
    assert not same(random.bert.encoder.layer[0], random.bert.encoder.layer[1])


def test_new_weights_are_berts(tiny):
    spec = StudentSpec(layers=1, width=64, heads=4, init="random")
    student = build(spec, tiny())
    weight = student.bert.encoder.layer[0].intermediate.dense.weight
    assert abs(weight.std().item() - 0.02 * (768 / 64) ** 0.5) < 0.003 and abs(weight.mean().item()) < 0.003
    assert not student.bert.encoder.layer[0].intermediate.dense.bias.any()
    assert torch.equal(student.bert.embeddings.LayerNorm.weight, torch.ones(64))
    assert not student.bert.embeddings.word_embeddings.weight[0].any()


def test_building_and_loading_leave_the_random_state_alone(tiny, tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    student = build(StudentSpec(layers=1, init="random"), tiny())
    save_student(student, None, tmp_path / "s")
    load_classifier(tmp_path / "s")
    assert torch.equal(before, torch.get_rng_state())


def test_building_in_another_thread_does_not_move_this_threads_draws(tiny):
    source = tiny()
    torch.manual_seed(0)
    expected = [torch.rand(1).item() for _ in range(200)]
    stop = threading.Event()

    def builder():
        while not stop.is_set():
            build(StudentSpec(layers=1, init="random"), source)

    thread = threading.Thread(target=builder)
    torch.manual_seed(0)
    thread.start()
    try:
        assert [torch.rand(1).item() for _ in range(200)] == expected
    finally:
        stop.set()
        thread.join()


def test_settings_that_copied_layers_need_come_along(tiny):
    source = tiny()
    source.config.hidden_act, source.config.layer_norm_eps, source.config.hidden_dropout_prob = "relu", 1e-5, 0.3
    student = build(StudentSpec(layers=1), source)
    assert student.bert.embeddings.LayerNorm.eps == 1e-5 and student.config.hidden_act == "relu"
    assert student.bert.embeddings.dropout.p == student.dropout.p == 0.3
    quiet = build(StudentSpec(layers=1), source, dropout=0.0)
    assert not any(module.p for module in quiet.modules() if isinstance(module, torch.nn.Dropout))


def test_config_is_the_students_own_and_stays_on_sdpa(tiny):
    source = tiny()
    student = build(StudentSpec(layers=1), source)
    assert student.config is not source.config and student.config._attn_implementation == "sdpa"
    student.set_attn_implementation("eager")
    assert source.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (StudentSpec(layers=1, width=32), "student.width"),
        (StudentSpec(layers=1, intermediate=32), "student.intermediate"),
        (StudentSpec(layers=3), "student.layers"),
        (StudentSpec(layers=3, init_layers="last"), "student.layers"),
        (StudentSpec(layers=1, init_layers=(3,)), "student.init_layers"),
        (StudentSpec(layers=1, init_layers=(0,)), "student.init_layers"),
        (StudentSpec(layers=1, init="checkpoint", checkpoint="/nowhere"), "student.checkpoint"),
    ],
)
def test_what_does_not_fit_names_its_field(tiny, spec, field):
    with pytest.raises(UserError) as error:
        build(spec, tiny())
    assert error.value.field == field


def test_another_vocabulary_or_no_source_is_refused(tiny):
    source, spec = tiny(), StudentSpec(layers=1)
    other = size_of(source.config).__class__(1, 16, 4, 24, vocabulary=50, positions=20)
    with pytest.raises(UserError, match="vocabulary 50 differs from 40"):
        build_student(other, 2, spec, source, 0, None)
    with pytest.raises(UserError, match="needs a source"):
        build_student(size_of(source.config), 2, spec, None, 0, None)


def test_other_head_counts_may_take_the_layers(tiny):
    source = tiny()
    student = build(StudentSpec(layers=2, heads=2), source)
    assert student.config.num_attention_heads == 2
    assert same(student.bert.encoder.layer[1], source.bert.encoder.layer[1])


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra-wide"])
def test_layers_of_other_families_compute_the_same_in_a_bert(tiny, encoding, family):
    source = tiny(family)
    student = build(StudentSpec(layers=2, init="teacher"), source)
    wanted = want("logits", hidden=(0, 1, 2), attention=(2,))
    types = encoding.token_type_ids * (family == "electra-wide")  # the others have none
    plain = Encoding(encoding.input_ids, encoding.attention_mask, types)
    ours, theirs = observe(student, plain, wanted, False), observe(source, plain, wanted, False)
    valid = encoding.attention_mask.bool()
    for layer in (0, 1, 2):
        torch.testing.assert_close(ours.hidden[layer][valid], theirs.hidden[layer][valid], rtol=1e-5, atol=1e-5)
    # RoBERTa's head is a tanh as BERT's; the others' are not, so the student's is new
    assert torch.allclose(ours.logits, theirs.logits, atol=1e-5) == (family == "roberta")


def test_an_mpnet_cannot_fill_a_bert(tiny):
    with pytest.raises(UserError, match="count the distance"):
        build(StudentSpec(layers=2), tiny("mpnet"))


def test_an_electra_with_narrow_embeddings_cannot_fill_a_bert(tiny):
    with pytest.raises(UserError, match="narrower"):
        build(StudentSpec(layers=2), tiny("electra"))


def test_a_checkpoint_fills_the_student(tiny, tmp_path):
    saved = tiny(layers=3, seed=9)
    save_student(saved, None, tmp_path / "c")
    spec = StudentSpec(layers=2, init="checkpoint", checkpoint=str(tmp_path / "c"), init_layers="last")
    student = build_student(student_size(spec, size_of(saved.config), 2), 2, spec, None, 0, None)
    assert same(student.bert.encoder.layer[1], saved.bert.encoder.layer[2])
    assert same(student.bert.embeddings, saved.bert.embeddings)


@pytest.mark.parametrize("labels", [1, 2, 3])
def test_saved_and_loaded_is_bit_equal_and_transformers_loads_it_too(tiny, encoding, tmp_path, labels):
    from transformers import AutoModelForSequenceClassification

    student = build(StudentSpec(layers=2, init="random"), tiny(), labels=labels)
    save_student(student, tokenizer_from_vocabulary(TOKENS), tmp_path / "student-best")
    ours = load_classifier(tmp_path / "student-best", labels)
    assert weights_hash(ours) == weights_hash(student) and not ours.training
    theirs, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "student-best", output_loading_info=True
    )
    assert not any(report.values()) and same(theirs.eval(), student)
    logits = observe(student, encoding, want("logits"), False).logits
    assert logits.shape == (3, labels)
    torch.testing.assert_close(
        theirs(encoding.input_ids, encoding.attention_mask, encoding.token_type_ids).logits, logits
    )
    assert load_tokenizer(tmp_path / "student-best")("a dog")["input_ids"] == [2, 5, 6, 3]


def test_saving_replaces_and_leaves_nothing_else(tiny, tmp_path):
    for seed in (0, 1):
        save_student(tiny(seed=seed), None, tmp_path / "runs" / "s")
    assert weights_hash(load_classifier(tmp_path / "runs" / "s")) == weights_hash(tiny(seed=1))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["s"]


def test_a_save_that_fails_keeps_the_old_one(tiny, tmp_path):
    class Refusing:
        def save_pretrained(self, folder):
            raise OSError("no space left")

    save_student(tiny(), None, tmp_path / "s")
    with pytest.raises(OSError, match="no space"):
        save_student(tiny(seed=1), Refusing(), tmp_path / "s")
    assert weights_hash(load_classifier(tmp_path / "s")) == weights_hash(tiny())
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_tied_parameters_are_saved_as_copies(tiny, tmp_path):
    model = tiny()
    model.bert.encoder.layer[1].output.dense.weight = model.bert.encoder.layer[0].output.dense.weight
    save_student(model, None, tmp_path / "s")
    assert same(load_classifier(tmp_path / "s"), model)


def test_other_label_counts_and_broken_folders_are_told(tiny, tmp_path):
    save_student(tiny(), None, tmp_path / "s")
    with pytest.raises(UserError, match="3 outputs, 2 are needed"):
        load_classifier(tmp_path / "s", 2)
    weights = tmp_path / "s" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CorruptError, match="cannot be read"):
        load_classifier(tmp_path / "s")
    weights.unlink()
    with pytest.raises(CorruptError, match="holds no weights"):
        load_classifier(tmp_path / "s")
    with pytest.raises(CorruptError, match="no config"):
        load_classifier(tmp_path / "nowhere")


@pytest.mark.parametrize("pad", [0, 1, 3])
def test_a_student_filled_from_a_roberta_reads_its_positions_from_behind_the_padding_id(pad):
    """Whatever id the padding has: the copied layers then give transformers' own states, in float32."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24,
        max_position_embeddings=20 + pad + 1, type_vocab_size=1, pad_token_id=pad, bos_token_id=4, eos_token_id=5,
        num_labels=2, initializer_range=0.5, attn_implementation="eager",
    )  # fmt: skip
    source = RobertaForSequenceClassification(config).eval()
    base = size_of(config)
    assert (base.first_position, base.longest, base.pad) == (pad + 1, 20, pad)
    spec = StudentSpec(layers=2, init="teacher", init_layers="first")
    size = student_size(spec, base, 2)
    assert size.positions == 20 and size.pad == pad
    student = build_student(size, 2, spec, source, seed=0).eval()
    assert student.config.pad_token_id == pad
    ids = torch.tensor([[6, 7, 8, 9, 10], [11, 12, 13, pad, pad]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with torch.no_grad():
        theirs = source.roberta(ids, attention_mask=mask).last_hidden_state
        mine = student.bert(ids, attention_mask=mask, token_type_ids=torch.zeros_like(ids)).last_hidden_state
    assert torch.allclose(theirs[mask == 1], mine[mask == 1], atol=1e-5)


@pytest.mark.parametrize("change", ["another part", "another size"])
def test_a_model_of_another_form_is_not_saved_as_a_plain_one(tiny, tmp_path, change):
    """transformers would load the folder with new weights where names or sizes do not fit, and say nothing."""
    save_student(tiny(), None, tmp_path / "student")
    before = (tmp_path / "student" / "model.safetensors").read_bytes()
    model = tiny(seed=1)
    dense = model.bert.encoder.layer[0].output.dense
    factors = torch.nn.Sequential(torch.nn.Linear(24, 4, bias=False), torch.nn.Linear(4, 16))
    model.bert.encoder.layer[0].output.dense = factors if change == "another part" else torch.nn.Linear(24, 8)
    assert dense.weight.shape == (16, 24)
    with pytest.raises(UserError, match=r"no plain BertForSequenceClassification.*layer\.0\.output\.dense"):
        save_student(model, None, tmp_path / "student")
    assert (tmp_path / "student" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
