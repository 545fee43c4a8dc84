"""DistilBERT's loss at fine-tuning, and on masked words before that.

The card's invariant 10 (initial layers) is the student builder's, not a loss's.
"""

import math
from dataclasses import replace

import pytest
import torch

from kdcore.errors import UserError
from kdcore.losses.vocabulary import IGNORE_INDEX
from kdcore.methods import METHODS, resolve
from kdcore.methods.distilbert import HIDDEN_WORDS, TOKENS_AT_ONCE
from kdcore.models.observe import observe
from kdcore.records import Batch, Encoding, Outputs, Step
from tests.helpers import masked_lm_folder
from tests.methods.contract import MASKED_LM, Contract

CONTRACT = Contract(
    variants=({"cosine_weight": 0.0},),
    trained=({"masked_lm": MASKED_LM},),
    not_zero=frozenset({"vocabulary", "words", "states"}),  # of a masked language model, which is not the teacher
)


def hidden(step):
    return step.student.hidden[3].detach(), step.teacher.hidden[6]


def with_states(step, replaced, student=None, teacher=None):
    ours, theirs = step.student, step.teacher
    student = ours.hidden[3] if student is None else student
    teacher = theirs.hidden[6] if teacher is None else teacher
    return replaced(
        step,
        students={"student": type(ours)({"logits": ours.logits, "hidden": {3: student}}, ours.mask)},
        teachers={"big": type(theirs)({"logits": theirs.logits, "hidden": {6: teacher}}, theirs.mask)},
    )


def test_terms_are_kd_and_a_cosine_written_out(world):
    made = world("distilbert", {"alpha": 0.6, "temperature": 3.0, "cosine_weight": 0.25})
    step = made.step()
    (ours, theirs), total = hidden(step), 0.0
    for b, length in enumerate(step.student.mask.sum(1).tolist()):
        cosines = [
            float(ours[b, i] @ theirs[b, i]) / float(ours[b, i].norm() * theirs[b, i].norm()) for i in range(length)
        ]
        total += sum(1 - c for c in cosines) / length
    assert made.terms(step)["cosine"] == pytest.approx(total / len(step.batch), rel=1e-10)
    kd = world("kd", {"alpha": 0.6, "temperature": 3.0})
    expected = kd.loss(step) + 0.25 * total / len(step.batch)
    assert made.loss(step).item() == pytest.approx(expected.item(), rel=1e-10)


def test_reads_the_last_layers_only(world):
    needs = world("distilbert").stage().needs
    assert needs.student == {"logits": (), "hidden": (3,)} and needs.teacher == {"logits": (), "hidden": (6,)}


def test_cosine_is_zero_where_states_are_parallel_and_bounded(world, replaced):
    made = world("distilbert")
    step = made.step()
    parallel = with_states(step, replaced, student=3.0 * step.teacher.hidden[6])
    opposite = with_states(step, replaced, student=-step.teacher.hidden[6])
    assert made.terms(parallel)["cosine"] == pytest.approx(0.0, abs=1e-9)
    assert made.terms(opposite)["cosine"] == pytest.approx(2.0)


def test_scaling_the_students_states_changes_nothing(world, replaced):
    made = world("distilbert")
    step = made.step()
    scaled = with_states(step, replaced, student=0.01 * step.student.hidden[3])
    assert made.loss(scaled).item() == pytest.approx(made.loss(step).item(), rel=1e-9)


def test_states_at_padding_change_nothing(world, replaced):
    made = world("distilbert")
    step = made.step()
    padding = ~step.student.mask.bool()[..., None]
    changed = with_states(
        step,
        replaced,
        student=step.student.hidden[3].masked_fill(padding, 77.0),
        teacher=step.teacher.hidden[6].masked_fill(padding, -5.0),
    )
    assert made.loss(changed).item() == pytest.approx(made.loss(step).item(), rel=1e-12)


def test_without_the_cosine_it_is_kd_and_reads_no_states(world):
    options = {"alpha": 0.4, "temperature": 2.0}
    made = world("distilbert", {**options, "cosine_weight": 0.0})
    assert made.stage().needs.student == {"logits": ()} == made.stage().needs.teacher
    step = made.step()
    assert torch.equal(made.loss(step), world("kd", options).loss(step))


def test_default_weights_are_the_authors_five_to_two_to_one():
    config = resolve("distilbert", {})[1]
    weights = config.alpha, 1 - config.alpha, config.cosine_weight
    assert weights == pytest.approx((5 / 7, 2 / 7, 1 / 7), abs=0.01) and config.temperature == 2.0


def test_widths_that_differ_are_refused_unless_states_are_not_compared(world, shape):
    with pytest.raises(UserError, match=r"student\.width.*8.*16.*big"):
        world("distilbert", teachers={"big": shape(6, width=16)})
    world("distilbert", {"cosine_weight": 0.0}, teachers={"big": shape(6, width=16)})


def test_layer_map_joins_the_last_layers(shape):
    method, config = resolve("distilbert", {})
    assert method.layer_map(config, shape(3), shape(12)) == {3: (12,)}
    assert method.layer_map(resolve("distilbert", {"cosine_weight": 0})[1], shape(3), shape(12)) == {}


# --- the masked stage -----------------------------------------------------------------------------------------------

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(5, 50))]
ALL_TERMS = {"vocabulary", "words", "states"}


class Answers:
    def vocabulary(self) -> list[str]:
        return VOCABULARY


def rows(number: int, count: int = 6, tokens: int = 8) -> Batch:
    """[CLS], words, [SEP]; the last rows have one token of padding."""
    generator = torch.Generator().manual_seed(number)
    ids = torch.randint(5, len(VOCABULARY), (count, tokens), generator=generator)
    ids[:, 0], ids[:, -1] = 2, 3
    mask = torch.ones_like(ids)
    mask[count // 2 :, -1] = 0
    encoding = Encoding(ids * mask, mask, torch.zeros_like(ids))
    return Batch(count * number + torch.arange(count), torch.arange(count) % 3, {"": encoding})


@pytest.fixture
def source(tmp_path) -> str:
    return masked_lm_folder.write(tmp_path / "lm", VOCABULARY, hidden_size=8, intermediate_size=16)


@pytest.fixture
def made(world, source):
    """DistilBERT with a masked stage that is under way."""

    def build(**options: object):
        built = world("distilbert", {"masked_lm": source, **options})
        built.method.before_stage("masked", Answers())
        return built

    return build


def exactly(made) -> None:
    """All of the masked stage in float64."""
    made.method.double()
    made.method._model.to(torch.float64)


def masked_step(made, batch: Batch, dtype: torch.dtype = torch.float64) -> Step:
    """A step of the masked stage with made-up states of the student."""
    shape = (*batch.encoding.input_ids.shape, made.setup.student.width)
    hidden = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype).requires_grad_()
    student = Outputs({"hidden": {3: hidden}}, batch.encoding.attention_mask)
    return Step(
        batch=batch, students={"student": student}, stage="masked", step=1, steps=9, epoch=0.0, rng=made.rng,
        regression=False,
    )  # fmt: skip


def masked_values(made, step: Step) -> dict[str, float]:
    return {name: term.value.item() for name, term in made.method.masked_terms(step).items()}


def streamed(made, count: int = 6) -> list[Batch]:
    return list(made.method.stream(map(rows, range(count))))


def test_without_a_masked_language_model_nothing_is_added(world):
    plain = world("distilbert")
    plain.method.before_stage("distil", Answers())
    batches = [rows(0), rows(1)]
    assert list(plain.method.stream(batches)) == batches
    assert [(stage.name, stage.share) for stage in plain.method.stages()] == [("distil", 1.0)]
    assert not list(plain.method.parameters()) and plain.method.history() == {}
    assert plain.method.head is None and METHODS["distilbert"].Config().masked_lm == ""


def test_the_masked_stage_comes_first_and_leaves_the_other_as_it_is(world, source):
    first, second = world("distilbert", {"masked_lm": source, "masked_share": 0.3}).method.stages()
    assert (first.name, first.share, first.judge, first.start) == ("masked", 0.3, "loss", "last")
    assert (second.name, second.share, second.judge, second.start) == ("distil", 0.7, "score", "last")
    assert first.needs.student == {"hidden": (3,)} and first.needs.teacher == {}
    assert second.needs == world("distilbert").stage().needs
    assert first.trains("method") and not second.trains("method")
    made, plain = world("distilbert", {"masked_lm": source}), world("distilbert")
    assert torch.equal(made.loss(made.step("distil")), plain.loss(plain.step("distil")))


@pytest.mark.parametrize("width", [8, 16])
def test_the_three_terms_equal_the_equations(world, tmp_path, width):
    source = masked_lm_folder.write(tmp_path / "wide", VOCABULARY, hidden_size=width)
    weights = {"vocabulary_weight": 3.0, "words_weight": 0.5, "states_weight": 7.0}
    made = world("distilbert", {"masked_lm": source, "temperature": 3.0, "masked_chance": 0.4, **weights})
    made.method.before_stage("masked", Answers())
    exactly(made)
    (batch,) = streamed(made, 1)
    step, words = masked_step(made, batch), batch.encodings[HIDDEN_WORDS].input_ids
    lm, head, linear = made.method._model, made.method.head, made.method.projection
    theirs, expected = lm.states(batch.encoding), dict.fromkeys(ALL_TERMS, 0.0)
    for row, mask in enumerate(batch.encoding.attention_mask):
        length, asked, each = int(mask.sum()), int((words[row] >= 0).sum()), dict.fromkeys(ALL_TERMS, 0.0)
        for at in range(length):
            ours = step.student.hidden[3].detach()[row, at]
            ours = ours if linear is None else linear.weight.detach() @ ours + linear.bias.detach()
            said, their_said = head(ours, lm.table).detach(), lm.scores(theirs[row, at])
            p, q = ((x / 3.0).softmax(0) for x in (their_said, said))
            each["vocabulary"] += 9.0 * float((p * (p / q).log()).sum()) / length
            each["states"] += 1 - float(ours @ theirs[row, at] / ours.norm() / theirs[row, at].norm())
            if words[row, at] >= 0:
                each["words"] -= math.log(said.softmax(0)[words[row, at]]) / asked
        each["states"] /= length
        expected = {name: value + each[name] / len(batch) for name, value in expected.items()}
    assert masked_values(made, step) == pytest.approx(expected, rel=1e-10)
    loss = sum(term.value.item() * term.weight for term in made.method.masked_terms(step).values())
    assert loss == pytest.approx(3 * expected["vocabulary"] + 0.5 * expected["words"] + 7 * expected["states"])
    assert (linear is None) == (width == 8)


def test_default_weights_of_the_masked_stage_are_the_authors(made):
    built = made()
    terms = built.method.masked_terms(masked_step(built, rows(0), torch.float32))
    assert {name: term.weight for name, term in terms.items()} == {"vocabulary": 5.0, "words": 2.0, "states": 1.0}
    config = built.method.config
    assert (config.temperature, config.masked_chance) == (2.0, 0.15)


def test_a_student_that_is_the_masked_language_model_has_nothing_to_learn_from_it(made, replaced):
    built = made()
    exactly(built)
    (batch,) = streamed(built, 1)
    states = built.method._model.states(batch.encoding)
    same = Outputs({"hidden": {3: states}}, batch.encoding.attention_mask)
    values = masked_values(built, replaced(masked_step(built, batch), students={"student": same}))
    assert values["vocabulary"] == pytest.approx(0, abs=1e-12) and values["states"] == pytest.approx(0, abs=1e-12)
    assert all(value > 0.1 for value in masked_values(built, masked_step(built, batch)).values())


def test_rows_in_parts_give_the_loss_and_the_gradients_of_all_at_once(made, monkeypatch):
    built = made()
    exactly(built)
    (batch,) = streamed(built, 1)
    assert batch.encoding.input_ids.numel() < TOKENS_AT_ONCE
    found = []
    for tokens in (TOKENS_AT_ONCE, 16, 1):
        monkeypatch.setattr("kdcore.methods.distilbert.TOKENS_AT_ONCE", tokens)
        built.method.zero_grad()
        step = masked_step(built, batch)
        sum(term.value * term.weight for term in built.method.masked_terms(step).values()).backward()
        gradients = [step.student.hidden[3].grad, *(p.grad for p in built.method.head.parameters())]
        found.append([torch.tensor(list(masked_values(built, step).values())), *(g.clone() for g in gradients)])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two)


def test_the_head_learns_and_the_masked_language_model_does_not(made):
    built = made()
    lm = built.method._model
    before = {name: tensor.clone() for name, tensor in lm.encoder.state_dict().items()}
    optimiser = torch.optim.AdamW(built.method.parameters(), lr=0.01)
    batches, losses = streamed(built, 1) * 20, []
    for batch in batches:
        step = masked_step(built, batch, torch.float32)
        loss = sum(term.value * term.weight for term in built.method.masked_terms(step).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in lm.encoder.state_dict().items())
    parts = ("bias", "dense.weight", "dense.bias", "layer_norm.weight", "layer_norm.bias")
    assert list(built.method.state_dict()) == [f"head.{name}" for name in parts]  # what a checkpoint holds


def test_states_at_padding_change_no_term(made, replaced):
    built = made()
    exactly(built)
    (batch,) = streamed(built, 1)
    step = masked_step(built, batch)
    padding = (batch.encoding.attention_mask == 0)[..., None]
    filled = Outputs({"hidden": {3: step.student.hidden[3].masked_fill(padding, 7.0)}}, step.student.mask)
    other = masked_values(built, replaced(step, students={"student": filled}))
    assert other == pytest.approx(masked_values(built, step), rel=1e-12)


def test_rows_without_hidden_words_are_judged_by_the_other_terms(made):
    """As those of `select`, which pass no stream."""
    built = made()
    values = masked_values(built, masked_step(built, rows(0), torch.float32))
    assert values["words"] == 0 and values["vocabulary"] > 0 and values["states"] > 0


def test_hidden_words_travel_with_their_batch(made):
    for number, batch in enumerate(streamed(made(masked_chance=0.5))):
        before, words = rows(number), batch.encodings[HIDDEN_WORDS].input_ids
        asked = words != IGNORE_INDEX
        assert asked.any() and torch.equal(words[asked], before.encoding.input_ids[asked])
        assert torch.equal(batch.encoding.input_ids[~asked], before.encoding.input_ids[~asked])
        assert torch.equal(-1 - batch.ids, before.ids) and torch.equal(batch.labels, before.labels)


def ids(batches: list[Batch]) -> torch.Tensor:
    return torch.stack([batch.encoding.input_ids for batch in batches])


def test_the_same_seed_hides_the_same_words_and_each_step_others(made):
    built = made(masked_chance=0.5)
    assert torch.equal(ids(streamed(built)), ids(streamed(made(masked_chance=0.5))))
    other = type(built.method)(built.method.config, replace(built.setup, seed=1))
    other.before_stage("masked", Answers())
    assert not torch.equal(ids(list(other.stream(map(rows, range(6))))), ids(streamed(built)))
    first, second = made(masked_chance=0.5).method.stream([rows(0)] * 2)
    assert not torch.equal(first.encoding.input_ids, second.encoding.input_ids)


@pytest.mark.parametrize("stopped", range(1, 6))
def test_a_resumed_run_hides_the_same_words(made, stopped):
    whole, begun, resumed = made(), made(), made()
    expected, got = ids(streamed(whole, 6)), []
    for batch in begun.method.stream(map(rows, range(stopped))):
        got.append(batch)
        begun.method.after_step(None)
    resumed.method.restore_history(begun.method.history())
    got += resumed.method.stream(map(rows, range(stopped, 6)))
    assert torch.equal(ids(got), expected)
    resumed.method.before_stage("distil", Answers())
    batches = [rows(0)]
    assert list(resumed.method.stream(batches)) == batches and resumed.method._model is None


def test_the_head_starts_as_the_models_own_and_the_projection_from_the_seed(world, tmp_path, shape):
    source = masked_lm_folder.write(tmp_path / "wide", VOCABULARY, hidden_size=64, num_attention_heads=4)
    wide = shape(3, width=96)
    one, two = (world("distilbert", {"masked_lm": source}, student=wide, teachers={"big": wide}) for _ in range(2))
    one.method.before_stage("masked", Answers())
    theirs = one.method._model.head.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in one.method.head.state_dict().items())
    linear = one.method.projection
    assert torch.equal(linear.weight, two.method.projection.weight) and not linear.bias.any()
    states = torch.randn(500, 96, generator=torch.Generator().manual_seed(0))
    assert linear(states).std().item() == pytest.approx(1.0, abs=0.1)
    other = type(one.method)(one.method.config, replace(one.setup, seed=5))
    assert not torch.equal(linear.weight, other.projection.weight)


def test_models_that_do_not_fit_are_refused_before_the_run(world, source, tmp_path):
    with pytest.raises(UserError, match=r"options\.masked_lm.*is not a folder"):
        world("distilbert", {"masked_lm": "folder:/nowhere"})
    small = masked_lm_folder.write(tmp_path / "small", VOCABULARY[:30])
    with pytest.raises(UserError, match=r"options\.masked_lm.*30 tokens.*50"):
        world("distilbert", {"masked_lm": small})
    other = masked_lm_folder.write(tmp_path / "other", VOCABULARY[::-1])
    built = world("distilbert", {"masked_lm": other})
    with pytest.raises(UserError, match=r"options\.masked_lm.*differs from the student's"):
        built.method.before_stage("masked", Answers())


def test_a_distilbert_can_be_the_masked_language_model(world, tmp_path):
    source = masked_lm_folder.write(tmp_path / "lm", VOCABULARY, "distilbert", hidden_size=8)
    made = world("distilbert", {"masked_lm": source})
    made.method.before_stage("masked", Answers())
    exactly(made)
    values = masked_values(made, masked_step(made, rows(0)))
    assert set(values) == ALL_TERMS and all(math.isfinite(value) for value in values.values())


def test_pooler_and_classifier_have_no_gradient_in_the_masked_stage(made, tiny_student):
    built = made()
    (batch,) = streamed(built, 1)
    seen = observe(tiny_student, batch.encoding, {"hidden": (3,)})
    step = replace(masked_step(built, batch), students={"student": seen})
    sum(term.value * term.weight for term in built.method.masked_terms(step).values()).backward()
    reached = {name for name, p in tiny_student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "bert.encoder.layer.2.output.dense.weight" in reached
    assert not {name for name in reached if "pooler" in name or name.startswith("classifier")}


@pytest.fixture
def tiny_student(shape):
    from kdcore.config import StudentSpec
    from kdcore.models.students import build_student

    return build_student(shape(3), 3, StudentSpec(layers=3, init="random"), None, 0, 0.0)
