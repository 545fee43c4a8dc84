"""Meta-KD: how typical a row is, how far the meta-teacher is trusted, and the three stages by their equations."""

import math
from dataclasses import replace

import pytest
import torch

from kdcore.errors import UserError
from kdcore.events import Progress
from kdcore.methods import METHODS
from kdcore.methods.meta_kd import META, typicality
from kdcore.records import Outputs
from tests.methods.contract import Contract

CONTRACT = Contract(
    variants=({"corruption_weight": 0.0}, {"imitate": 0.0}, {"imitate": 1.0}),
    trained=({"domain_weight": 0.5},),
    not_zero=frozenset({"corrupt", "domain"}),
)

IDS = torch.arange(6)


class Rows:
    """What the engine tells of the training rows: those of the batch, and others of their domains."""

    def __init__(self, made) -> None:
        generator = torch.Generator().manual_seed(4)
        self.states = 1 + torch.randn(12, 8, generator=generator, dtype=torch.float64)
        self.order = torch.randperm(12, generator=generator)
        self.domain = torch.arange(12) % 3

    def ids(self):
        return torch.arange(12)[self.order]

    def sources(self):
        return self.domain[self.order]

    def mean_states(self, teacher):
        assert teacher == "big"
        yield Progress("states", 1, 1)
        return self.states[self.order]


@pytest.fixture
def made(world):
    """With modules that are no identities, in float64, and its rows weighed; options as given."""

    def make(**options):
        one = world("meta-kd", options)
        one.method.double()
        with torch.no_grad():
            for parameter in one.method.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=one.rng, dtype=torch.float64))
        one.rows = Rows(one)
        assert list(one.method.before_stage(META, one.rows)) == [Progress("states", 1, 1)]
        return one

    return make


def cos(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def mean(vectors):
    return [sum(values) / len(vectors) for values in zip(*vectors, strict=True)]


def slow_typicality(states, domains):
    """Row by row, from centroids made one number at a time."""
    centroid = {d: mean([s for s, of in zip(states, domains, strict=True) if of == d]) for d in set(domains)}
    return [
        max(0.0, (cos(e, centroid[d]) + cos(e, mean([c for other, c in centroid.items() if other != d]))) / 2)
        for e, d in zip(states, domains, strict=True)
    ]


def typical(one):
    return slow_typicality(one.rows.states.tolist(), one.rows.domain.tolist())[:6]


def log_softmax(row):
    top = math.log(sum(math.exp(z) for z in row))
    return [z - top for z in row]


def content(states, mask):
    """Mean of each row's tokens but the first; zeros where there is no other."""
    rows = []
    for row, real in zip(states.tolist(), mask.tolist(), strict=True):
        tokens = [token for token, valid in zip(row, real, strict=True) if valid][1:]
        rows.append(mean(tokens) if tokens else [0.0] * len(row[0]))
    return rows


def through(linear, row):
    rows = zip(linear.weight.tolist(), linear.bias.tolist(), strict=True)
    return [sum(w * x for w, x in zip(weight, row, strict=True)) + bias for weight, bias in rows]


# --- rows -------------------------------------------------------------------------------------------------------------


def test_how_typical_a_row_is(made):
    one = made()
    states, domains = one.rows.states, one.rows.domain
    expected = slow_typicality(states.tolist(), domains.tolist())
    assert typicality(states, domains).tolist() == pytest.approx(expected, rel=1e-12)
    assert typicality(states, domains + 5).tolist() == pytest.approx(expected), "numbers of domains are names"
    assert one.method._typical_of(one.step(META)).tolist() == pytest.approx(expected[:6], rel=1e-12)
    assert all(0 <= t <= 1 for t in expected)


def test_a_row_on_both_centroids_is_wholly_typical_and_its_opposite_not_at_all():
    states = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0], [5.0, 0.0]])
    domains = torch.tensor([0, 0, 1, 2])
    assert typicality(states, domains).tolist() == pytest.approx([1.0] * 4)
    apart = typicality(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([0, 1]))
    assert apart.tolist() == pytest.approx([0.0, 0.0])


def test_a_row_that_lies_against_all_domains_weighs_nothing():
    states = torch.tensor([[1.0, 0.2], [1.0, -0.2], [1.0, 0.1], [-0.5, 0.0]])
    weights = typicality(states, torch.tensor([0, 0, 1, 1]))
    assert weights[3] == 0 and (weights[:3] > 0.9).all(), "a negative weight would unlearn the row, without end"


def test_one_domain_has_no_others():
    with pytest.raises(ValueError, match="one domain"):
        typicality(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64))


def test_a_row_outside_the_training_data_is_as_typical_as_the_mean(made):
    one = made()
    step = one.step(META)
    outside = replace(step, batch=replace(step.batch, ids=torch.full((6,), -1)))
    every = slow_typicality(one.rows.states.tolist(), one.rows.domain.tolist())
    assert one.method._typical_of(outside).tolist() == pytest.approx([sum(every) / 12] * 6)


@pytest.mark.parametrize(("right", "expected"), [(1.0, 0.5), (0.5, 0.4378), (0.0, 0.2689)])
def test_the_teacher_is_trusted_where_it_is_right(made, right, expected):
    one = made()
    one.method._typical = torch.zeros(12, dtype=torch.float64)
    step = one.step("imitate")
    chances = torch.full((6, 3), (1 - right) / 2, dtype=torch.float64)
    chances[IDS, step.batch.labels] = right
    said = changed(step.teacher, logits=chances.clamp(min=1e-30).log())
    assert one.method.expertise(replace(step, teachers={META: said})).tolist() == pytest.approx(
        [expected] * 6, abs=5e-5
    )
    one.method._typical += 1.0
    doubled = one.method.expertise(replace(step, teachers={META: said}))
    assert doubled.tolist() == pytest.approx([2 * expected] * 6, abs=1e-4) and not doubled.requires_grad


def changed(outputs, **tensors):
    return Outputs({name: getattr(outputs, name) for name in outputs.names()} | tensors, outputs.mask)


# --- the meta-teacher -------------------------------------------------------------------------------------------------


def test_the_meta_teacher_learns_most_from_typical_rows_and_to_say_nothing_of_the_domain(made):
    one = made(corruption_weight=0.3)
    step = one.step(META)
    one.rng.manual_seed(8)
    order = torch.randperm(6, generator=one.rng).tolist()
    domains = step.batch.source.tolist()
    shuffled = [domains[place] for place in order]
    assert sorted(shuffled) == sorted(domains) and shuffled != domains
    said, t = step.students[META], typical(one)
    hard = [
        -log_softmax(row)[label] for row, label in zip(said.logits.tolist(), step.batch.labels.tolist(), strict=True)
    ]
    known, corrupt = one.method.of_teacher, []
    for row, d, other in zip(content(said.hidden[6], said.mask), domains, shuffled, strict=True):
        state = through(known.dense, [v + c for v, c in zip(known.vectors[d].tolist(), row, strict=True)])
        corrupt.append(-log_softmax(through(known.classifier, [math.tanh(x) for x in state]))[other])
    one.rng.manual_seed(8)
    terms = one.method.learn(step)
    assert terms["hard"].value.item() == pytest.approx(sum(a * b for a, b in zip(t, hard, strict=True)) / 6, rel=1e-10)
    expected = sum(a * b for a, b in zip(t, corrupt, strict=True)) / 6
    assert terms["corrupt"].value.item() == pytest.approx(expected, rel=1e-10)
    assert (terms["hard"].weight, terms["corrupt"].weight) == (1.0, 0.3)


def test_of_rows_that_are_all_typical_it_is_plain_fine_tuning(made):
    one = made(corruption_weight=0.0)
    one.method._typical = torch.ones(12, dtype=torch.float64)
    step = one.step(META)
    terms = one.method.learn(step)
    expected = torch.nn.functional.cross_entropy(step.students[META].logits, step.batch.labels)
    assert list(terms) == ["hard"] and terms["hard"].value.item() == pytest.approx(expected.item(), rel=1e-12)


# --- the student ------------------------------------------------------------------------------------------------------


def test_states_and_scores_are_matched_row_by_row(made):
    one = made(domain_weight=0.4)
    step = one.step("imitate")
    assert one.method.map == {0: 0, 1: 2, 2: 4, 3: 6}
    ours, theirs, lengths = step.student, step.teacher, step.student.mask.sum(1).tolist()
    sums = {"hidden": 0.0, "attention": 0.0, "domain": 0.0}
    contents = content(ours.hidden[3], ours.mask), content(theirs.hidden[6], theirs.mask)
    for row, (t, n) in enumerate(zip(typical(one), lengths, strict=True)):
        label = int(step.batch.labels[row])
        right = math.exp(log_softmax(theirs.logits[row].tolist())[label])
        g = (1 + t) / (1 + math.exp((1 - right) ** 2))
        for j, k in one.method.map.items():
            for token in range(n):
                mapped = through(one.method.project, ours.hidden[j][row, token].tolist())
                pairs = zip(mapped, theirs.hidden[k][row, token].tolist(), strict=True)
                sums["hidden"] += g * sum((a - b) ** 2 for a, b in pairs) / 8 / n / 6
            if j:
                apart = (ours.scores[j] - theirs.scores[k])[row, :, :n, :n].square()
                sums["attention"] += g * apart.sum().item() / 2 / n / n / 6
        states = []
        for side, known in ((0, one.method.of_student), (1, one.method.of_teacher)):
            vector = known.vectors[int(step.batch.source[row])].tolist()
            both = zip(vector, contents[side][row], strict=True)
            states.append(through(known.dense, [v + c for v, c in both]))
        mapped = through(one.method.project, states[0])
        sums["domain"] += g * sum((a - b) ** 2 for a, b in zip(mapped, states[1], strict=True)) / 8 / 6
    terms = one.method.imitate(step)
    assert terms.keys() == sums.keys()
    for name, term in terms.items():
        assert term.value.item() == pytest.approx(sums[name], rel=1e-10), name
        assert term.weight == (0.4 if name == "domain" else 1.0)


def test_equal_states_and_scores_have_no_distance(world):
    one = world("meta-kd", teachers={"big": world("kd").setup.student})
    one.method.double()
    list(one.method.before_stage(META, Rows(one)))
    step = one.step("imitate")
    said = changed(step.student, logits=step.teacher.logits)
    terms = one.method.imitate(replace(step, teachers={META: said}))
    assert {name: term.value.item() for name, term in terms.items()} == {"hidden": 0, "attention": 0}


def test_the_second_stage_leaves_the_teacher_and_its_domains_alone(made):
    one = made(domain_weight=0.4)
    terms = one.method.imitate(one.step("imitate"))
    sum(term.value * term.weight for term in terms.values()).backward()
    assert all(p.grad is None for p in one.method.of_teacher.parameters())
    assert one.method.of_student.vectors.grad.any() and one.method.project.weight.grad.any()


def test_the_last_stage_ignores_labels_domains_and_how_typical_rows_are(made):
    one = made(temperature=2.0)
    step = one.step("predict")
    expected = 0.0
    for s, t in zip(step.student.logits.tolist(), step.teacher.logits.tolist(), strict=True):
        p, q = (log_softmax([z / 2 for z in row]) for row in (t, s))
        expected += 4 * sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True)) / 6
    one.method._typical = one.method._typical - 9
    batch = replace(step.batch, labels=step.batch.labels.flip(0), source=None)
    assert one.terms(replace(step, batch=batch)) == {"soft": pytest.approx(expected, rel=1e-10)}


def test_the_stages(made):
    meta, imitate, predict = made().method.stages()
    assert (meta.pilot, meta.ends, meta.adopt, meta.students) == (True, "best", (META,), (META,))
    assert meta.asks(["big"]) == () and imitate.asks(["big"]) == predict.asks(["big"]) == (META,)
    assert (imitate.judge, imitate.labelled, predict.labelled) == ("loss", True, False)
    assert not predict.trains("method") and imitate.share + predict.share == pytest.approx(1)
    assert "logits" not in imitate.needs.student, "the classifier gets no gradient"


def test_what_does_not_fit_is_refused(world, shape):
    with pytest.raises(UserError, match="not whole"):
        world("meta-kd", student=shape(4))
    heads = replace(shape(6), heads=4)
    with pytest.raises(UserError, match="heads"):
        world("meta-kd", teachers={"big": heads})
    assert len(world("meta-kd", {"imitate": 0.0}, student=shape(4), teachers={"big": heads}).method.stages()) == 2
    with pytest.raises(UserError, match="nothing trains"):
        world("meta-kd", {"domain_weight": 0.5, "corruption_weight": 0.0})
    assert METHODS["meta-kd"].domains and METHODS["meta-kd"].kinds == {"classification"}
