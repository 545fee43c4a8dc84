"""Mixed-vocabulary training: the invariants of its card, and its losses by a slow reference in float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdcore.config import StudentSpec
from kdcore.data.encode import collate, encode
from kdcore.data.splits import make_split
from kdcore.engine.optimizer import NO_DECAY
from kdcore.errors import UserError
from kdcore.events import StageStarted, StepDone
from kdcore.methods.contract_bench import Bench
from kdcore.methods.mixed_vocab import MixedVocabulary
from kdcore.methods.mixed_vocab import encode as encoder_states
from kdcore.models.mixed_words import draws, hide, mix, targets, with_words
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from kdcore.tasks import TASKS
from tests.engine.conftest import Trained
from tests.helpers import tiny_task as world
from tests.methods.contract import Contract

CONTRACT = Contract(
    variants=({"student_share": 1.0}, {"alpha": 1.0}),
    trained=({"mixed_share": 0.0}, {"masked_share": 0.0, "masked_chance": 0.5}),
    not_zero=frozenset({"teacher_words", "student_words", "masked"}),
)

TEXTS = ["the film was good and the plot is dull", "a song", "two very old actor film"]
LETTERS = sorted(set("".join(TEXTS)) - {" "})
SMALL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "the", "##lm")


@pytest.fixture(scope="module")
def readings():
    """The same rows by the large tokenizer, whose words are whole, and by one of letters."""
    split = make_split(TASKS[world.SENTIMENT], "train", (TEXTS,), np.zeros(3, np.int64))
    rows = encode(split, tokenizer_from_vocabulary(SMALL), 64, {"large": world.tokenizer()})
    encodings = collate(rows, np.arange(3)).encodings
    return encodings["large"], encodings[""]


def text_of(readings, chance: float, seed: int = 0, longest: int = 64):
    return mix(*readings, chance, draws(seed, torch.arange(3), 1), longest)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_a_mixed_text_join_back_whatever_the_coins(readings, seed):
    text = text_of(readings, 0.5, seed)
    large, small = world.tokenizer(), tokenizer_from_vocabulary(SMALL)
    for row, sentence in enumerate(TEXTS):
        said = {}
        for token, of_small, word in zip(text.ids[row], text.small[row], text.words[row], strict=True):
            if word >= 0:
                piece = (small if of_small else large).convert_ids_to_tokens(int(token))
                said[int(word)] = said.get(int(word), "") + piece.removeprefix("##")
        assert [said[word] for word in sorted(said)] == sentence.split()
    assert text.ids[text.small].max() < len(SMALL) and text.ids[~text.small].max() < len(world.VOCABULARY)


def test_all_pieces_of_a_word_are_of_one_vocabulary_and_special_tokens_the_teachers(readings):
    text = text_of(readings, 0.5)
    for row in range(3):
        for word in range(int(text.words[row].max()) + 1):
            assert len(set(text.small[row][text.words[row] == word].tolist())) == 1
    assert not text.small[text.words == -1].any()


def test_the_share_of_words_is_the_chance(readings):
    words = sum(len(sentence.split()) for sentence in TEXTS)
    cut = sum(_cut_words(text_of(readings, 0.3, seed)) for seed in range(200))
    assert abs(cut / (200 * words) - 0.3) < 4 * (0.21 / (200 * words)) ** 0.5


def _cut_words(text) -> int:
    """How many words of all rows the small vocabulary cut."""
    return sum(len(words[small].unique()) for words, small in zip(text.words, text.small, strict=True))


def test_a_row_that_grows_too_long_is_cut(readings):
    assert text_of(readings, 1.0, longest=7).ids.shape[1] == 7


def test_at_least_one_piece_of_a_row_is_hidden_and_no_special_one(readings):
    text = text_of(readings, 0.5)
    where = hide(text.words, 1e-9, draws(0, torch.arange(3), 1))
    assert where.sum(1).tolist() == [1, 1, 1]
    assert hide(text.words, 1.0, draws(0, torch.arange(3), 1)).equal(text.words >= 0)


def test_a_row_is_drawn_alike_in_any_batch(readings):
    one = mix(*(each.rows(torch.tensor([1])) for each in readings), 0.5, draws(3, torch.tensor([1]), 7), 64)
    all_rows = mix(*readings, 0.5, draws(3, torch.arange(3), 7), 64)
    assert one.ids[0].tolist() == all_rows.ids[1, : one.ids.shape[1]].tolist()


# --- with models ------------------------------------------------------------------------------------------------------


class Mixed:
    """The bench's method, student and batch as two readings of which the small one has other ids."""

    def __init__(self, **options) -> None:
        self.bench = Bench(("mixed-vocab", {"masked_chance": 0.4, **options}, "classification", 1))
        self.method: MixedVocabulary = self.bench.method
        self.stage = next(self.bench.ready())

    def terms(self):
        return self.stage.terms(self.bench.step(self.stage, self.bench.batch()))

    def gradients(self):
        """Of the student's words and of the teacher's copy's, after one mixed step."""
        for module in (self.method, self.bench.students["student"]):
            module.zero_grad()
        sum(term.value * term.weight for term in self.terms().values()).backward()
        student = self.bench.students["student"].get_input_embeddings().weight.grad
        return student, self.method.copy.get_input_embeddings().weight.grad


def transformed(question, state):
    """A linear, GELU and LayerNorm, as BERT has before it looks for a word."""
    norm = question.layer_norm
    return F.layer_norm(F.gelu(question.dense(state)), state.shape, norm.weight, norm.bias, norm.eps)


def test_without_student_words_its_table_gets_no_gradient():
    case = Mixed()
    case.method.config = case.method.config.model_copy(update={"student_share": 0.0})  # no setting of a run
    student, teacher = case.gradients()
    assert student is None or not student.abs().any()
    assert teacher.abs().sum() > 0


def test_with_student_words_alone_the_teachers_table_gets_none():
    """The bench's rows have no special tokens, which are always the teacher's."""
    student, teacher = Mixed(student_share=1.0).gradients()
    assert student.abs().sum() > 0
    assert teacher is None or not teacher.abs().any()


def test_one_table_under_two_names_reads_a_text_as_the_teacher_does():
    """Equal vocabularies, W = I, b = 0 and E_s = E_t: the mixed text has the states of the plain one."""
    case = Mixed(student_share=0.5)
    table = case.method.copy.get_input_embeddings().weight
    case.bench.students["student"].get_input_embeddings().weight.data.copy_(table.data)
    step = case.bench.step(case.stage, case.bench.batch())
    encoding = with_words(step.batch.encoding, range(5))
    text = mix(encoding, encoding, 0.5, draws(0, step.batch.ids, 1), 32)
    assert text.small.any() and not text.small.all()
    nothing = torch.zeros_like(text.small)
    model = case.bench.teachers["t0"]
    inputs = {"attention_mask": encoding.attention_mask, "token_type_ids": encoding.token_type_ids}
    plain = model.bert(input_ids=encoding.input_ids, **inputs).last_hidden_state
    real = encoding.attention_mask.bool()
    torch.testing.assert_close(case.method.states(step, text, nothing)[real], plain[real], rtol=1e-5, atol=1e-5)


def test_the_mixed_loss_is_that_of_the_card():
    """By loops in float64: each hidden piece counts in the output of its word's vocabulary and in no other."""
    case = Mixed(student_share=0.5)
    step = case.bench.step(case.stage, case.bench.batch())
    found = case.stage.terms(step)
    method, student = copy.deepcopy(case.method).double(), copy.deepcopy(case.bench.students["student"]).double()
    encoding = with_words(step.batch.encoding, range(5))
    rngs = draws(case.bench.setup.seed, step.batch.ids, 1)
    text = mix(encoding, encoding, 0.5, rngs, 32)
    where = hide(text.words, 0.4, rngs)
    theirs, ours = method.copy.get_input_embeddings().weight, student.get_input_embeddings().weight
    inputs = torch.zeros(*text.ids.shape, theirs.shape[1], dtype=torch.float64)
    for row in range(len(text.ids)):
        for place in range(text.ids.shape[1]):
            token = 4 if where[row, place] else int(text.ids[row, place])
            small = text.small[row, place]
            inputs[row, place] = method.affine.weight @ ours[token] + method.affine.bias if small else theirs[token]
    states = encoder_states(method.copy, inputs, text)
    sums = {True: 0.0, False: 0.0}
    for row in range(len(text.ids)):
        places = torch.where(where[row])[0].tolist()
        for place in places:
            small = bool(text.small[row, place])
            question = method.ask_mixed if small else method.ask_teacher
            state = transformed(question, states[row, place])
            table = ours @ method.affine.weight.T + method.affine.bias if small else theirs
            scores = table @ state + question.bias
            sums[small] -= float(scores.log_softmax(0)[text.ids[row, place]].detach()) / len(places) / len(text.ids)
    assert found["student_words"].value.item() == pytest.approx(sums[True], rel=1e-5)
    assert found["teacher_words"].value.item() == pytest.approx(sums[False], rel=1e-5)
    assert min(sums.values()) > 0.1, "both vocabularies are asked"


def test_the_masked_loss_is_that_of_the_card():
    case = Mixed()
    stage = next(stage for stage in case.bench.ready() if stage.name == "masked")
    step = case.bench.step(stage, case.bench.batch())
    found = stage.terms(step)["masked"].value.item()
    method, student = copy.deepcopy(case.method).double(), copy.deepcopy(case.bench.students["student"]).double()
    ids, mask = step.batch.encoding.input_ids, step.batch.encoding.attention_mask
    words = torch.where(mask.bool(), 0, -1)
    where = hide(words, 0.4, draws(case.bench.setup.seed, step.batch.ids, 1))
    states = student.bert(input_ids=torch.where(where, 4, ids), attention_mask=mask).last_hidden_state
    question, table = method.ask_student, student.get_input_embeddings().weight
    total = 0.0
    for row in range(len(ids)):
        for place in torch.where(where[row])[0].tolist():
            state = transformed(question, states[row, place])
            scores = table @ state + question.bias
            total -= float(scores.log_softmax(0)[ids[row, place]].detach()) / int(where[row].sum()) / len(ids)
    assert found == pytest.approx(total, rel=1e-5)


def test_what_is_asked_is_asked_once(readings):
    text = text_of(readings, 0.5)
    where = hide(text.words, 0.5, draws(0, torch.arange(3), 1))
    large, small = targets(text.ids, where & ~text.small) >= 0, targets(text.ids, where & text.small) >= 0
    assert not (large & small).any() and (large | small).equal(where)


# --- in a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_world(monkeypatch):
    from kdcore.data import pocket

    monkeypatch.setattr(pocket, "load", world.data)


def setting(tmp_path, **changes):
    teacher = world.teacher(tmp_path, "t", seed=10)
    spec = StudentSpec(layers=2, width=8, heads=2, intermediate=16, init="random", vocabulary=64)
    return world.run("mixed-vocab", [teacher], student=spec, evaluate_every=4, **changes)


@pytest.mark.usefixtures("small_world")
def test_a_student_of_few_words_is_trained_and_resumes_exactly(tmp_path):
    """Another width and vocabulary than the teacher's, stopped inside each stage."""
    run = setting(tmp_path)
    whole = Trained(run, tmp_path / "whole")
    assert [event.stage for event in whole.of(StageStarted)] == ["mixed", "masked", "distil"]
    folder = tmp_path / "halted"
    for halt in (2, 6, 10):
        Trained(run, folder, world.StopAt(halt, "leave"))
    again = Trained(run, folder)
    assert all(torch.equal(again.weights()[name], value) for name, value in whole.weights().items())
    assert {"teacher_words", "student_words"} == whole.of(StepDone)[0].raw.keys()


@pytest.mark.usefixtures("small_world")
def test_without_its_stages_it_is_kd(tmp_path):
    options = {"mixed_share": 0.0, "masked_share": 0.0}
    ours = Trained(setting(tmp_path).model_copy(update={"options": options}), tmp_path / "ours")
    kd = setting(tmp_path).model_copy(update={"method": "kd", "options": {"temperature": 2.0}})
    theirs = Trained(kd, tmp_path / "kd")
    losses = [[event.loss for event in done.of(StepDone)] for done in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_what_it_can_do_without_is_gone_then():
    for part, off in MixedVocabulary.ablations(MixedVocabulary.Config(), "classification").items():
        bench = Bench(("mixed-vocab", off, "classification", 1))
        stages = {stage.name: stage.terms(bench.step(stage, bench.batch())) for stage in bench.ready()}
        weights = {name: float(term.weight) for terms in stages.values() for name, term in terms.items()}
        left = {f"stage {name}" for name in stages} | {name for name, weight in weights.items() if weight}
        assert part not in left and left >= {"stage distil"}, part


def test_stages_that_leave_the_task_nothing_are_refused():
    with pytest.raises(UserError, match="leave the task no steps"):
        Bench(("mixed-vocab", {"mixed_share": 0.6, "masked_share": 0.5}, "classification", 1))


def test_what_normalises_is_not_decayed():
    norms = [name for name, module in Mixed().method.named_modules() if isinstance(module, torch.nn.LayerNorm)]
    assert norms and all(f"{name}.weight".endswith(NO_DECAY) for name in norms)
