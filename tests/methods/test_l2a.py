"""L2A-style augmentation: which rows count, what the augmenter and the selector learn from, by the card's equations."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from kdcore.errors import UserError
from kdcore.methods import METHODS
from kdcore.methods.domains import target_domain
from kdcore.methods.l2a import AUGMENTER, DISTIL, EPISODES
from kdcore.models.mixed_words import draws, hide
from kdcore.records import Batch, Encoding, Outputs
from tests.methods.conftest import attention_mask
from tests.methods.contract import Contract
from tests.methods.test_contract import Bench

CONTRACT = Contract(
    variants=({"selection": "none"}, {"threshold": 0.3}),
    trained=({"selection": "all"}, {"episodes": 25, "temperature": 2.0}),
    not_zero=frozenset({"words", "domain"}),
)

TARGET = torch.tensor([True, False, False, True, False, False])
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(45))]


@pytest.fixture
def made(world, shape):
    """With modules that are no identities, in float64; options as given."""

    def make(stage=DISTIL, **options):
        one = world("l2a", options, teachers={"big": shape(3)})
        one.method.double()
        with torch.no_grad():
            for parameter in one.method.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=one.rng, dtype=torch.float64))
        one.method.optimizers = one.method.own_optimizers()
        one.method.build_students(lambda **_: torch.nn.Linear(1, 1))
        one.method.before_stage(stage, SimpleNamespace(vocabulary=lambda: VOCABULARY))
        return one

    return make


def kl(said, row, t):
    p, q = ([math.exp(z / t) / sum(math.exp(other / t) for other in logits) for z in logits] for logits in (said, row))
    return t * t * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def each_row(step, t=1.0):
    pairs = zip(step.teacher.logits.tolist(), step.student.logits.tolist(), strict=True)
    return [kl(teacher, student, t) for teacher, student in pairs]


def push(one, constant):
    """Lets the selector say the same of every row."""
    with torch.no_grad():
        one.method.selector.last.weight.zero_()
        one.method.selector.last.bias.fill_(constant)


# --- which rows count -------------------------------------------------------------------------------------------------


def test_rows_of_the_target_and_altered_ones_have_terms_of_their_own(made):
    one = made(selection="all", temperature=2.0)
    step = one.step(DISTIL)
    each, found = each_row(step, 2.0), one.terms(step)
    assert found["soft"] == pytest.approx((each[0] + each[3]) / 6, rel=1e-10)
    assert found["augmented"] == pytest.approx((each[1] + each[2] + each[4] + each[5]) / 6, rel=1e-10)


def test_without_altered_rows_it_is_kd_on_those_of_the_target(made, world):
    one = made(selection="none")
    step = one.step(DISTIL)
    rows = torch.tensor([0, 3])
    kd = world("kd", {"alpha": 1.0, "temperature": 1.0})
    few = replace(
        step,
        batch=step.batch.rows(rows),
        students={"student": Outputs({"logits": step.student.logits[rows]}, step.student.mask[rows])},
        teachers={"big": Outputs({"logits": step.teacher.logits[rows]}, step.teacher.mask[rows])},
    )
    assert one.loss(step).item() == pytest.approx(kd.loss(few).item() * 2 / 6, rel=1e-10)
    ours, theirs = (torch.autograd.grad(loss, step.student.logits)[0] for loss in (one.loss(step), kd.loss(few)))
    torch.testing.assert_close(ours, theirs * 2 / 6, rtol=1e-10, atol=1e-12)
    assert not ours[~TARGET].any()


@pytest.mark.parametrize("stage", [EPISODES, DISTIL])
@pytest.mark.parametrize(("constant", "selection"), [(-1e3, "none"), (1e3, "all")])
def test_a_selector_that_takes_nothing_or_all_is_the_method_without_one(made, stage, constant, selection):
    one, other = made(), made(selection=selection)
    push(one, constant)
    step = one.step(stage)
    assert one.loss(step).item() == pytest.approx(other.loss(step).item(), rel=1e-12)


def test_in_the_end_rows_count_from_the_threshold_on(made):
    one = made()
    step = one.step(DISTIL)
    chances = one.method.selector(one.method.state(step, torch.tensor(each_row(step)).double())).sigmoid()
    middle = chances[~TARGET].sort().values[2].item()
    for threshold, taken in ((middle - 1e-9, 2), (middle + 1e-9, 1)):
        one.method.config = one.method.config.model_copy(update={"threshold": threshold})
        each, before = each_row(step), one.terms(step)["augmented"]
        best = [row for row in range(6) if not TARGET[row] and chances[row] >= threshold]
        assert len(best) == taken and before == pytest.approx(sum(each[row] for row in best) / 6, rel=1e-10)


def test_draws_follow_from_row_and_step_and_not_from_who_else_is_there(made):
    one = made()
    push(one, 0.0)
    step = one.step(EPISODES)
    each = each_row(step)
    seen = set()
    for number in range(1, 30):
        lots = [rng.random() for rng in draws(0, step.batch.ids, number)]
        expected = sum(e for e, lot, ours in zip(each, lots, TARGET, strict=True) if not ours and lot < 0.5) / 6
        found = one.terms(replace(step, step=number))["augmented"]
        assert found == pytest.approx(expected, rel=1e-10)
        seen.add(found)
    assert len(seen) > 5


def test_what_the_selector_sees(made):
    one = made()
    step = one.step(DISTIL)
    each = each_row(step)
    found = one.method.state(step, torch.tensor(each).double())
    weight, bias = one.method.of_target.weight[0].tolist(), one.method.of_target.bias.item()
    lengths = attention_mask().sum(1).tolist()
    for row in range(6):
        exp = [math.exp(z) for z in step.teacher.logits[row].tolist()]
        p = [value / sum(exp) for value in exp]
        entropy = -sum(q * math.log(q) for q in p) / math.log(3)
        states = step.students[AUGMENTER].hidden[3][row, 1 : lengths[row]].tolist()
        mean = [sum(column) / len(states) for column in zip(*states, strict=True)] if states else [0.0] * 8
        near = 1 / (1 + math.exp(-sum(w * x for w, x in zip(weight, mean, strict=True)) - bias))
        assert found[row].tolist() == pytest.approx([*p, entropy, each[row], near], rel=1e-6, abs=1e-9)
    assert not found.requires_grad


# --- what is learned --------------------------------------------------------------------------------------------------


def learned(one, step):
    """Raw values of the augmenter's terms."""
    return {name: term.value.item() for name, term in one.method.learn_words(step).items()}


def test_the_augmenter_learns_hidden_words_of_the_target_and_to_know_its_rows(made):
    one = made(AUGMENTER, masked_share=0.4)
    ids = torch.randint(5, 50, attention_mask().shape, generator=torch.Generator().manual_seed(1))
    ids[:, 0] = 2
    ids = ids * attention_mask()
    rows = one.batch()
    one.batch = lambda: Batch(
        rows.ids, rows.labels, {"": Encoding(ids, attention_mask(), torch.zeros_like(ids))}, source=rows.source
    )
    step = one.step(AUGMENTER)
    found = learned(one, step)
    words = torch.where((ids > 4), torch.arange(5).expand_as(ids), -1)
    where = hide(words, 0.4, draws(0, rows.ids, 1))
    assert where[3].any() and where[~TARGET].any()
    model, head = one.models[AUGMENTER], one.method.head
    table = model.bert.embeddings.word_embeddings.weight
    total = 0.0
    for row in TARGET.nonzero()[:, 0].tolist():
        length = int(attention_mask()[row].sum())
        shown = torch.where(where[row], 4, ids[row])[:length]
        hidden = model.bert(shown[None]).last_hidden_state[0]
        g = torch.nn.functional.gelu(hidden @ head.dense.weight.T + head.dense.bias)
        g = (g - g.mean(-1, keepdim=True)) / (g.var(-1, unbiased=False, keepdim=True) + 1e-12).sqrt()
        scores = (g * head.layer_norm.weight + head.layer_norm.bias) @ table.T + head.bias
        asked = where[row, :length].nonzero()[:, 0].tolist()
        losses = [-scores[place].log_softmax(-1)[ids[row, place]].item() for place in asked]
        total += sum(losses) / max(1, len(losses)) / 6
    assert found["words"] == pytest.approx(total, rel=1e-6)
    domain = 0.0
    near = one.method.state(replace(one.step(DISTIL), students={**one.step(DISTIL).students, **step.students}),
                            torch.zeros(6).double())[:, -1]  # fmt: skip
    for chance, ours in zip(near.tolist(), TARGET.tolist(), strict=True):
        domain -= math.log(chance if ours else 1 - chance) / 6
    assert found["domain"] == pytest.approx(domain, rel=1e-6)


def test_rows_of_other_domains_bring_no_words(made):
    one = made(AUGMENTER)
    step = one.step(AUGMENTER)
    others = replace(step, batch=replace(step.batch, source=torch.ones(6).long()))
    assert learned(one, others)["words"] == 0.0 < learned(one, others)["domain"]


def test_selector_and_student_exchange_no_gradient(made):
    one = made()
    step = one.step(EPISODES)
    one.loss(step).backward()
    assert step.student.logits.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in one.method.parameters())
    (part,) = one.method._new
    lots = [rng.random() for rng in draws(0, step.batch.ids, 1)]
    state = one.method.state(step, torch.tensor(each_row(step)).double())
    drawn = torch.tensor(lots).double() < one.method.selector(state).sigmoid()
    torch.testing.assert_close(part.score, one.method.selector.score(state[~TARGET], drawn[~TARGET].double()))
    assert (int(part.chosen), int(part.rows)) == (int(drawn[~TARGET].sum()), 4)


def episode(one, stage, losses):
    """Steps that are an episode each, with these losses on the target's rows of `select`; the domains asked for."""
    asked = []
    for number, loss in enumerate(losses, start=1):
        step = one.step(stage, seed=number, number=number)

        def probe(source=None, loss=loss):
            asked.append(source)
            return {"loss": loss, "accuracy": 0.75, "f1": 0.1}

        one.method.terms(step)
        one.method.after_step(replace(step, probe=probe))
    return asked


def test_the_reward_is_how_the_student_does_on_the_target(made):
    one = made(target="second", episodes=100)
    before = [parameter.detach().clone() for parameter in one.method.selector.parameters()]
    assert episode(one, EPISODES, [1.0, 2.0, 6.0]) == [1, 1, 1]
    notes = one.method.notes()
    assert notes["reward/last episode"] == -6.0 and notes["reward/mean"] == pytest.approx(-3.0)
    of_target = [notes[f"target domain/{name} on held-out rows"] for name in ("loss", "score")]
    assert of_target == [6.0, 0.75]
    after = list(one.method.selector.parameters())
    assert any(not a.equal(b) for a, b in zip(before, after, strict=True))


def test_the_selector_stands_still_in_the_end(made):
    one = made(episodes=100)
    before = [parameter.detach().clone() for parameter in one.method.selector.parameters()]
    assert len(episode(one, DISTIL, [1.0, 2.0, 6.0])) == 3, "the target's rows are looked at all the same"
    assert all(a.equal(b) for a, b in zip(before, one.method.selector.parameters(), strict=True))
    assert "reward/mean" not in one.method.notes()


def test_episodes_share_the_steps(made):
    one = made(episodes=8)
    assert len(episode(one, EPISODES, [1.0] * 100)) == 8
    assert [stage.probes for stage in one.method.stages()] == [0, 8, 8]


def test_a_batch_in_parts_is_one_step_of_an_episode(made):
    one = made(episodes=1)
    step = one.step(EPISODES)
    one.method.terms(step)
    one.method.terms(step)
    scores = [part.score for part in one.method._new]
    with torch.no_grad():
        one.method.terms(step)
    assert len(one.method._new) == 2, "a judgement is no step"
    one.method.after_step(step)
    torch.testing.assert_close(one.method.selector.gradient, sum(scores))
    assert int(one.method.selector.rows) == 8 and one.method.history() == {"steps": 1}


# --- altered rows, with a real teacher --------------------------------------------------------------------------------


def streamed(stage, begin=0, count=6, **options):
    bench = Bench(("l2a", options, "classification", 1))
    for each in bench.ready():
        if each.name == stage:
            break
    batch = bench.batch()
    bench.method.restore_history({"steps": begin})
    return batch, list(bench.method.stream(replace(batch, ids=batch.ids + 6 * n) for n in range(begin, count)))


def test_only_rows_of_other_domains_are_altered_and_lose_their_kept_answer():
    before, batches = streamed(DISTIL, masked_share=0.5)
    altered = torch.zeros(6, dtype=torch.bool)
    for number, batch in enumerate(batches):
        changed = (batch.encoding.input_ids != before.encoding.input_ids).any(-1)
        assert (batch.ids < 0).equal(changed)
        assert torch.where(changed, -1 - batch.ids, batch.ids).equal(before.ids + 6 * number)
        for name in ("labels", "source"):
            assert getattr(batch, name).equal(getattr(before, name))
        assert batch.encoding.attention_mask.equal(before.encoding.attention_mask)
        altered |= changed
    ours = before.source == 0
    assert not altered[ours].any() and altered[~ours].all()


def test_where_the_run_goes_on_rows_are_altered_as_they_would_have_been():
    whole, rest = streamed(DISTIL)[1], streamed(DISTIL, begin=2)[1]
    assert all(a.encoding.input_ids.equal(b.encoding.input_ids) for a, b in zip(whole[2:], rest, strict=True))
    assert not whole[0].encoding.input_ids.equal(whole[1].encoding.input_ids)


@pytest.mark.parametrize(
    ("stage", "options"),
    [(AUGMENTER, {}), (DISTIL, {"selection": "none"}), (DISTIL, {"rounds": 0}), (DISTIL, {"masked_share": 0.0})],
)
def test_rows_that_stay_as_they_are(stage, options):
    before, batches = streamed(stage, **options)
    for batch in batches:
        assert batch.encoding.input_ids.equal(before.encoding.input_ids) and (batch.ids >= 0).all()


def test_new_weights_for_the_student_leave_the_augmenter_as_it_has_learned():
    bench = Bench(("l2a", {}, "classification", 1))
    (augmenter,) = bench.method._copy
    assert augmenter is bench.students[AUGMENTER]
    start = augmenter.bert.embeddings.word_embeddings.weight.detach().clone()
    for stage in bench.ready():
        if stage.name == AUGMENTER:
            bench.train(stage, 3, bench.batch())
            learned = augmenter.bert.embeddings.word_embeddings.weight.detach().clone()
    assert bench.method._copy == (augmenter,) and not learned.equal(start)
    assert augmenter.bert.embeddings.word_embeddings.weight.equal(learned)


# --- the target -------------------------------------------------------------------------------------------------------


def test_the_target_is_named_or_has_the_fewest_rows(made):
    setup = replace(made().setup, domain_rows=((50, 5), (9, 1), (20, 0)))
    assert [target_domain(name, setup, True) for name in ("", "first", "second")] == [1, 0, 1]
    assert target_domain("third", setup, False) == 2
    few = replace(setup, domain_rows=((50, 5), (9, 0), (0, 0)))
    assert [target_domain("", few, rewarded) for rewarded in (True, False)] == [0, 1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fourth", "no domain 'fourth'.*first, second, third"),
        ("second", "no row of second is held out in `select`.*selection to all"),
        ("third", "no row of third is there to learn from"),
    ],
)
def test_a_target_without_rows_is_refused(made, name, said):
    setup = replace(made().setup, domain_rows=((50, 5), (9, 0), (0, 0)))
    with pytest.raises(UserError, match=rf"options\.target.*{said}"):
        target_domain(name, setup, True)


def test_words_narrower_than_the_layers_are_refused(world, shape):
    narrow = replace(shape(3), embedding_width=4)
    with pytest.raises(UserError, match=r"teachers\.big.*narrower.*selection to none"):
        world("l2a", teachers={"big": narrow})
    assert len(world("l2a", {"selection": "none"}, teachers={"big": narrow}).method.stages()) == 1


def test_what_it_is_for():
    method = METHODS["l2a"]
    assert method.kinds == {"classification"} and method.domains and method.teachers == (1, 1)
    assert method.uses_unlabelled(method.Config()), "no label is learned from"
    assert [method.pilots(method.Config(selection=each), 1) for each in ("learned", "all", "none")] == [1.5, 0.5, 0.0]
    parts = {"choice of rows": {"selection": "all"}, "altered rows": {"selection": "none"}}
    assert method.ablations(method.Config(), "classification") == parts
    assert method.ablations(method.Config(selection="none"), "classification") == {}
