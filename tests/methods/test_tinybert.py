"""TinyBERT: the card's invariants. Of 8, no row is added here: altered batches stand in the place of originals."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from kdcore.errors import UserError
from kdcore.layer_map import single
from kdcore.losses.attention import score_mse
from kdcore.losses.hidden import token_mse
from kdcore.methods import METHODS, resolve
from kdcore.models.count import parameters
from kdcore.models.word_neighbours import STOP_WORDS
from kdcore.records import Batch, Encoding, ModelSize, Outputs
from tests.helpers import masked_lm_folder
from tests.methods.contract import MASKED_LM, Contract
from tests.methods.test_contract import Bench

CONTRACT = Contract(
    variants=(
        {"layers": (1, 2), "hidden_weight": 0.0, "intermediate_share": 0.8},
        {"attention_weight": 0.0, "embedding_weight": 0.0},
        {"embedding_weight": 0.0, "hidden_weight": 0.0, "attention_weight": 2.0},
        {"intermediate_share": 0.0},
        {"attention_loss": "probabilities", "layers": "random", "layers_seed": 3},
        {"augment": "word-neighbours"},
    ),
    trained=(
        {"layers": "last", "projection": "per-layer", "score_target": "teacher", "temperature": 2.0},
        {"attention_loss": "kl", "layers": "mean"},
        {"augment": "masked-lm", "masked_lm": MASKED_LM},
    ),
)

STATES = ("embedding", "hidden")


def layer_map(shape, student: int, teacher: int, layers: object = "spread", **options: object) -> dict[int, int]:
    method, config = resolve("tinybert", {"layers": layers, **options})
    return single(method.layer_map(config, shape(student), shape(teacher)))


def changed(said: Outputs, **tensors: object) -> Outputs:
    """The same outputs with some tensors in place of their own."""
    return Outputs({name: tensors.get(name, getattr(said, name)) for name in said.names()}, said.mask)


def values(made, step) -> dict[str, float]:
    return {name: term.value.item() for name, term in made.stage(step.stage).terms(step).items()}


def loss(made, step) -> float:
    terms = made.stage(step.stage).terms(step).values()
    return sum(term.value.item() * term.weight for term in terms)


def bench(options: dict[str, object] | None = None, kind: str = "classification", equal: bool = False) -> Bench:
    return Bench(("tinybert", options or {}, kind, 1), equal=equal)


# --- layers (2) -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("teacher", "student", "layers", "expected"),
    [
        (12, 4, "uniform", [0, 3, 6, 9, 12]),
        (12, 6, "uniform", [0, 2, 4, 6, 8, 10, 12]),
        (12, 4, "last", [0, 9, 10, 11, 12]),
        (12, 4, "first", [0, 1, 2, 3, 4]),
        (12, 4, "spread", [0, 3, 6, 9, 12]),
        (4, 3, "spread", [0, 1, 3, 4]),
        (2, 4, "spread", [0, 1, 1, 2, 2]),
        (6, 2, (6, 1), [0, 6, 1]),
        (6, 2, "2, 4", [0, 2, 4]),
        (6, 1, "5", [0, 5]),
    ],
)
def test_layer_map(shape, teacher, student, layers, expected):
    assert layer_map(shape, student, teacher, layers) == dict(enumerate(expected))


def test_layer_map_holds_what_has_a_weight(shape):
    assert layer_map(shape, 2, 4, embedding_weight=0) == {1: 2, 2: 4}
    assert layer_map(shape, 2, 4, hidden_weight=0) == layer_map(shape, 2, 4, attention_weight=0) == {0: 0, 1: 2, 2: 4}
    assert layer_map(shape, 2, 4, hidden_weight=0, attention_weight=0) == {0: 0}
    assert layer_map(shape, 2, 4, intermediate_share=0) == {}


def test_impossible_maps_are_refused(shape):
    with pytest.raises(UserError, match=r"options\.layers.*not whole.*choose spread"):
        layer_map(shape, 3, 4, "uniform")
    with pytest.raises(UserError, match=r"options\.layers.*lists 3.*student of 2 layers"):
        layer_map(shape, 2, 6, (1, 2, 3))
    with pytest.raises(UserError, match=r"\[9\]"):
        layer_map(shape, 2, 6, (2, 9))
    with pytest.raises(UserError, match=r"options\.layers.*layer 0"):
        layer_map(shape, 2, 6, (0, 6))
    with pytest.raises(UserError, match="no deeper"):
        layer_map(shape, 8, 6, "last")
    with pytest.raises(UserError, match=r"options\.layers"):
        resolve("tinybert", {"layers": "middle"})


# --- the losses, written from the equations -------------------------------------------------------------------------


def expected_intermediate(step, layers: dict[int, int], project) -> dict[str, float]:
    """By loops over rows and tokens; `project(place, state)` is W x + b."""
    found = {"embedding": 0.0, "hidden": 0.0, "attention": 0.0}
    lengths = step.student.mask.sum(-1).tolist()
    for place, (m, n) in enumerate(layers.items()):
        for row, length in enumerate(lengths):
            apart = 0.0
            for token in range(length):
                ours = project(place, step.student.hidden[m].detach()[row, token])
                apart += float((ours - step.teacher.hidden[n][row, token]).square().mean()) / length
            found["embedding" if m == 0 else "hidden"] += apart / len(lengths)
            if m:
                ours, theirs = (z[row, :, :length, :length] for z in (step.student.scores[m], step.teacher.scores[n]))
                heads = [float((a.detach() - b).square().sum()) / length**2 for a, b in zip(ours, theirs, strict=True)]
                found["attention"] += sum(heads) / len(heads) / len(lengths)
    return found


@pytest.mark.parametrize("projection", ["shared", "per-layer"])
@pytest.mark.parametrize("width", [8, 12])
def test_intermediate_stage_equals_the_equations(world, shape, width, projection):
    options = {"projection": projection, "embedding_weight": 0.5, "hidden_weight": 2.0, "attention_weight": 3.0}
    made = world("tinybert", options, teachers={"big": shape(6, width=width)})
    made.method.double()
    linear = made.method.projection
    with torch.no_grad():  # as if it had been trained
        for parameter in linear.parameters():
            parameter += torch.randn(parameter.shape, generator=made.rng)
    step = made.step("intermediate")

    def project(place: int, state: torch.Tensor) -> torch.Tensor:
        own = place if projection == "per-layer" else 0
        return linear.weight[own].T.detach() @ state + linear.bias[own, 0].detach()

    expected = expected_intermediate(step, {0: 0, 1: 2, 2: 4, 3: 6}, project)
    assert values(made, step) == pytest.approx(expected, rel=1e-10)
    total = 0.5 * expected["embedding"] + 2 * expected["hidden"] + 3 * expected["attention"]
    assert loss(made, step) == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_predict_stage_equals_the_equation(world, temperature):
    made = world("tinybert", {"temperature": temperature})
    step = made.step("predict")
    total = 0.0
    for s, t in zip(step.student.logits.detach(), step.teacher.logits, strict=True):
        p, q = (t / temperature).softmax(0), (s / temperature).softmax(0)
        total += temperature**2 * float((p * (p / q).log()).sum()) / len(step.batch)
    assert values(made, step) == {"soft": pytest.approx(total, rel=1e-10)}
    assert loss(made, step) == pytest.approx(total, rel=1e-10)


def test_scores_are_learned_from_gold_as_the_authors_do_or_from_the_teacher(world):
    gold = world("tinybert", regression=True)
    step = gold.step("predict")
    apart = step.student.logits.detach()[:, 0] - step.batch.labels
    assert values(gold, step) == {"hard": pytest.approx(float(apart.square().mean()), rel=1e-10)}
    assert gold.stage("predict").needs.teacher == {}
    made = world("tinybert", {"score_target": "teacher"}, regression=True)
    step = made.step("predict")
    apart = step.student.logits.detach() - step.teacher.logits
    assert values(made, step) == {"soft": pytest.approx(float(apart.square().mean()), rel=1e-10)}
    classes = world("tinybert", {"score_target": "gold"})
    assert set(values(classes, classes.step("predict"))) == {"soft"}


def test_soft_targets_are_the_published_cross_entropy_but_for_the_teachers_entropy_and_c(world, replaced):
    """5: its least value is the teacher's entropy / C, reached at s = t + const; and the conversion in `departs`."""
    made = world("tinybert")
    step = made.step("predict")

    def published(logits: torch.Tensor) -> torch.Tensor:
        return -(step.teacher.logits.softmax(-1) * logits.log_softmax(-1)).mean()

    ours, theirs = (torch.autograd.grad(value, step.student.logits)[0] for value in
                    (made.loss(step), published(step.student.logits)))  # fmt: skip
    torch.testing.assert_close(ours, made.classes * theirs)
    entropy = -(step.teacher.logits.softmax(-1) * step.teacher.logits.log_softmax(-1)).sum(-1).mean()
    for constant in (0.0, 7.0):
        moved = changed(step.student, logits=step.teacher.logits + constant)
        assert values(made, replaced(step, students={"student": moved}))["soft"] == pytest.approx(0.0, abs=1e-12)
        assert published(step.teacher.logits + constant).item() == pytest.approx(entropy.item() / made.classes)
    assert published(step.student.logits) > entropy / made.classes


# --- what a term depends on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("projection", ["shared", "per-layer"])
def test_equal_models_have_no_loss(world, shape, replaced, projection):
    """1: W starts as the identity and b as 0 where widths are equal."""
    made = world("tinybert", {"projection": projection}, teachers={"big": shape(3)})
    step = made.step("intermediate")
    made.method.double()
    assert values(made, replaced(step, teachers={"big": step.student})) == {"embedding": 0, "hidden": 0, "attention": 0}
    assert all(value > 0.1 for value in values(made, step).values())


def test_scores_are_compared_before_the_softmax(world, replaced):
    """3: a constant added to a token's scores leaves its attention as it is."""
    made = world("tinybert")
    made.method.double()
    step = made.step("intermediate")
    scores = {m: z.detach().clone() for m, z in step.student.scores.items()}
    scores[2][:, :, 0] += 5.0
    moved = values(made, replaced(step, students={"student": changed(step.student, scores=scores)}))
    before = values(made, step)
    assert moved["attention"] != pytest.approx(before["attention"], rel=1e-3)
    assert [moved[name] for name in STATES] == [before[name] for name in STATES]


@pytest.mark.parametrize("fill", [-1e4, -1e9])
def test_what_stands_at_padding_changes_nothing(world, replaced, fill):
    """4, and the same of states: however a mask was written into the scores."""
    made = world("tinybert")
    made.method.double()
    step = made.step("intermediate")
    padding = step.student.mask == 0
    pairs = padding[:, None, :, None] | padding[:, None, None, :]

    def filled(said: Outputs) -> Outputs:
        hidden = {m: h.masked_fill(padding[..., None], fill) for m, h in said.hidden.items()}
        return changed(said, hidden=hidden, scores={m: z.masked_fill(pairs, fill) for m, z in said.scores.items()})

    other = replaced(step, students={"student": filled(step.student)}, teachers={"big": filled(step.teacher)})
    assert values(made, other) == pytest.approx(values(made, step), rel=1e-12)


def test_heads_must_be_as_many_unless_attention_is_not_compared(world, shape):
    """9."""
    teachers = {"big": replace(shape(6), heads=4)}
    with pytest.raises(UserError, match=r"student\.heads.*2 heads.*4 of teacher big.*give the student 4.*or set"):
        world("tinybert", teachers=teachers)
    for options in ({"attention_weight": 0.0}, {"intermediate_share": 0.0}):
        made = world("tinybert", options, teachers=teachers)
        made.method.double()
        assert "attention" not in values(made, made.step(made.method.stages()[0].name))


def test_a_weight_of_zero_reads_nothing_and_leaves_the_rest_as_it_is(world):
    whole = world("tinybert")
    whole.method.double()
    step = whole.step("intermediate")
    everything = {"embedding": {"hidden": (0,)}, "hidden": {"hidden": (1, 2, 3)}, "attention": {"scores": (1, 2, 3)}}
    for alone, wanted in everything.items():
        made = world("tinybert", {f"{name}_weight": 0.0 for name in everything if name != alone})
        made.method.double()
        assert made.stage("intermediate").needs.student == wanted
        assert (made.method.projection is None) == (alone == "attention")
        assert values(made, step) == {alone: values(whole, step)[alone]}
    nothing = world("tinybert", {f"{name}_weight": 0.0 for name in everything})
    assert [stage.name for stage in nothing.method.stages()] == ["predict"] and nothing.method.projection is None


def test_reads_each_layer_once(world, shape):
    made = world("tinybert", {"layers": (6, 2, 6)})
    needs = made.stage("intermediate").needs
    assert needs.student == {"hidden": (0, 1, 2, 3), "scores": (1, 2, 3)}
    assert needs.teacher == {"hidden": (0, 2, 6), "scores": (2, 6)}
    made.method.double()
    assert set(values(made, made.step("intermediate"))) == {"embedding", "hidden", "attention"}


# --- projections (1, 6, 7) ------------------------------------------------------------------------------------------


def test_projections_keep_the_scale_of_states_where_widths_differ(world, shape):
    made = world(
        "tinybert", {"projection": "per-layer"}, student=shape(3, width=64), teachers={"b": shape(6, width=96)}
    )
    linear = made.method.projection
    assert linear.weight.shape == (4, 64, 96) and not linear.bias.any()
    states = torch.randn(4, 32, 5, 64, generator=torch.Generator().manual_seed(1))
    assert linear(states).shape == (4, 32, 5, 96)
    assert linear(states).std().item() == pytest.approx(1.0, abs=0.05)


def test_projections_follow_the_seed_alone(world, shape):
    def weight(seed: int) -> torch.Tensor:
        made = world("tinybert", teachers={"big": shape(6, width=12)})
        return type(made.method)(made.method.config, replace(made.setup, seed=seed)).projection.weight

    before = torch.get_rng_state()
    assert torch.equal(weight(3), weight(3)) and not torch.equal(weight(3), weight(4))
    assert torch.equal(torch.get_rng_state(), before)


def reached(module: torch.nn.Module) -> set[str]:
    """Parameters whose gradient is not zero."""
    return {name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_each_stage_trains_its_own_parts():
    """6: the first neither pooler nor classifier, the second no projection."""
    made = bench()
    student = made.students["student"]
    first, second = made.ready()
    made.loss(first, made.batch()).backward()
    untouched = {name for name, _ in student.named_parameters()} - reached(student)
    top = {name for name in untouched if ".pooler." in name or name.startswith("classifier.")}
    assert untouched == top and len(top) == 4
    assert reached(made.method) == {"projection.weight", "projection.bias"}
    assert first.trains("method") and not second.trains("method")
    student.zero_grad()
    made.method.zero_grad()
    made.loss(second, made.batch()).backward()
    assert top <= reached(student) and not reached(made.method)


def test_projections_are_no_part_of_the_student():
    """7: what is exported is a plain BERT; that of the paper has 14.35 M parameters."""
    made = bench()
    assert list(made.students) == ["student"]
    shape = made.setup.student
    assert made.method.deployed(made.config, shape, {}) == shape
    assert sum(p.numel() for p in made.students["student"].parameters()) == parameters(replace(shape, labels=3)).total
    assert parameters(ModelSize(4, 312, 12, 1200)).total / 1e6 == pytest.approx(14.35, abs=0.005)


# --- stages (10) ----------------------------------------------------------------------------------------------------


def test_the_second_stage_goes_on_from_the_first(world):
    first, second = world("tinybert").method.stages()
    assert (first.name, first.share, first.schedule, first.judge) == ("intermediate", 0.5, "constant", "loss")
    assert (second.name, second.share, second.schedule, second.judge) == ("predict", 0.5, "linear", "score")
    assert second.start == "last"
    shares = [stage.share for stage in world("tinybert", {"intermediate_share": 0.8}).method.stages()]
    assert shares == pytest.approx([0.8, 0.2])
    alone = world("tinybert", {"intermediate_share": 0.0}).method.stages()
    assert [(stage.name, stage.share) for stage in alone] == [("predict", 1.0)]


def test_takes_exactly_one_teacher():
    assert METHODS["tinybert"].teachers == (1, 1)


# --- altered rows (8) -----------------------------------------------------------------------------------------------

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "not", "!", "12", "##s",
              "film", "movie", "plot", "good", "fine", "bad"]  # fmt: skip
FREE = 10
"""Ids from here on are words that may be replaced."""
AUGMENT = {"augment": "word-neighbours", "augment_words": 3}


class Answers:
    def word_embeddings(self, teacher: str) -> torch.Tensor:
        assert teacher == "big"
        return torch.randn(len(VOCABULARY), 6, generator=torch.Generator().manual_seed(0))

    def vocabulary(self) -> list[str]:
        return VOCABULARY


def rows(batch: int) -> Batch:
    """Four rows of eight tokens: [CLS], six of the vocabulary, [SEP]."""
    generator = torch.Generator().manual_seed(batch)
    middle = torch.randint(5, len(VOCABULARY), (4, 6), generator=generator)
    ids = torch.cat([torch.full((4, 1), 2), middle, torch.full((4, 1), 3)], dim=1)
    return Batch(4 * batch + torch.arange(4), torch.arange(4) % 2, {"": Encoding(ids, torch.ones_like(ids), ids * 0)})


def streamed(world, options: dict[str, object], count: int = 8, stage: str = "intermediate", **known: object) -> list:
    made = world("tinybert", {**AUGMENT, **options}, **known)
    made.method.before_stage(stage, Answers())
    return list(made.method.stream(map(rows, range(count))))


def ids(batches: list[Batch]) -> torch.Tensor:
    return torch.stack([batch.encoding.input_ids for batch in batches])


def originals(count: int = 8) -> torch.Tensor:
    return ids([rows(number) for number in range(count)])


def test_without_augmentation_batches_pass_as_they_are(world):
    made = world("tinybert")
    made.method.before_stage("intermediate", Answers())
    batches = [rows(0), rows(1)]
    assert list(made.method.stream(batches)) == batches


@pytest.mark.parametrize("copies", [1, 3])
def test_originals_and_altered_batches_take_turns(world, copies):
    got = ids(streamed(world, {"augment_copies": copies, "augment_chance": 1.0}))
    altered = (got != originals()).flatten(1).any(1).tolist()
    assert altered == [number % (copies + 1) > 0 for number in range(8)]


def test_altered_rows_keep_label_and_size_and_get_ids_that_bypass_the_cache(world):
    for number, batch in enumerate(streamed(world, {"augment_chance": 0.2})):
        same = (batch.encoding.input_ids == rows(number).encoding.input_ids).all(-1)
        assert torch.equal(torch.where(batch.ids < 0, -1 - batch.ids, batch.ids), rows(number).ids)
        assert torch.equal(batch.ids >= 0, same)  # a row that drew no other word is the row it was
        assert torch.equal(batch.labels, rows(number).labels)
        assert torch.equal(batch.encoding.attention_mask, rows(number).encoding.attention_mask)


def test_stop_words_signs_and_pieces_are_never_altered(world):
    got, before = ids(streamed(world, {"augment_chance": 1.0}, count=40)), originals(40)
    kept = torch.tensor([token in STOP_WORDS or not token.isalpha() for token in VOCABULARY])
    assert kept.tolist() == [number < FREE for number in range(len(VOCABULARY))]
    assert torch.equal(got[kept[before]], before[kept[before]])
    assert (got[got != before] >= FREE).all() and (got != before).any()


def test_chance_zero_gives_the_originals(world):
    got = streamed(world, {"augment_chance": 0.0})
    assert torch.equal(ids(got), originals())
    assert all(torch.equal(batch.ids, rows(number).ids) for number, batch in enumerate(got))


def test_same_seed_same_rows(world):
    assert torch.equal(ids(streamed(world, {})), ids(streamed(world, {})))
    made = world("tinybert", AUGMENT)
    other = type(made.method)(made.method.config, replace(made.setup, seed=1))
    other.before_stage("intermediate", Answers())
    assert not torch.equal(ids(list(other.stream(map(rows, range(8))))), ids(streamed(world, {})))


def test_a_row_is_altered_anew_each_time(world):
    made = world("tinybert", {**AUGMENT, "augment_chance": 1.0})
    made.method.before_stage("intermediate", Answers())
    _, first, _, second = made.method.stream([rows(0)] * 4)
    assert not torch.equal(first.encoding.input_ids, second.encoding.input_ids)


def train(made, stage: str, batches: Iterator[Batch]) -> list[Batch]:
    """What a stage's steps were given, as the engine asks for it."""
    made.method.before_stage(stage, Answers())
    seen = []
    for batch in made.method.stream(batches):
        seen.append(batch)
        made.method.after_step(None)
    return seen


@pytest.mark.parametrize("stopped", range(1, 8))
def test_a_resumed_run_is_given_the_same_rows(world, stopped):
    """Stopped after any step, in either stage: what was drawn follows from the steps done, which the history keeps."""
    options = {**AUGMENT, "augment_copies": 2, "augment_chance": 0.5}
    whole = world("tinybert", options)
    expected = train(whole, "intermediate", map(rows, range(5))) + train(whole, "predict", map(rows, range(5, 8)))
    begun, resumed = world("tinybert", options), world("tinybert", options)
    got = train(begun, "intermediate", map(rows, range(min(stopped, 5))))
    got += train(begun, "predict", map(rows, range(5, stopped)))
    resumed.method.restore_history(begun.method.history())
    got += train(resumed, "intermediate", map(rows, range(stopped, 5)))
    got += train(resumed, "predict", map(rows, range(max(stopped, 5), 8)))
    assert torch.equal(ids(got), ids(expected))
    assert torch.equal(torch.stack([b.ids for b in got]), torch.stack([b.ids for b in expected]))


def test_no_altered_row_meets_a_gold_score(world):
    made = world("tinybert", {**AUGMENT, "augment_chance": 1.0}, regression=True)
    assert (ids(train(made, "intermediate", map(rows, range(8)))) != originals()).any()
    assert torch.equal(ids(train(made, "predict", map(rows, range(8)))), originals())
    taught = streamed(world, {"score_target": "teacher", "augment_chance": 1.0}, stage="predict", regression=True)
    assert (ids(taught) != originals()).any()


def test_a_teacher_whose_pieces_do_not_mark_words_is_refused(world, shape):
    teachers = {"big": replace(shape(6), model_type="roberta")}
    with pytest.raises(UserError, match=r"options\.augment.*big"):
        world("tinybert", AUGMENT, teachers=teachers)
    world("tinybert", teachers=teachers)


def test_words_say_that_neighbours_are_not_the_papers():
    field = METHODS["tinybert"].Config.model_fields["augment"]
    assert "not the paper" in field.description and field.default == "none"
    assert "is not the paper's way" in METHODS["tinybert"].__doc__
    config = METHODS["tinybert"].Config()
    assert (config.augment_chance, config.augment_words, config.temperature) == (0.4, 15, 1.0)


# --- rows altered by a masked language model ------------------------------------------------------------------------


@pytest.fixture
def proposing(tmp_path, shape) -> dict[str, object]:
    """Options, and shapes of the vocabulary above."""
    source = masked_lm_folder.write(tmp_path / "lm", VOCABULARY)
    known = replace(shape(3), vocabulary=len(VOCABULARY))
    options = {"augment": "masked-lm", "masked_lm": source, "augment_words": 3}
    return {"options": options, "student": known, "teachers": {"big": replace(shape(6), vocabulary=len(VOCABULARY))}}


def asked(world, proposing, **options: object):
    sizes = {name: proposing[name] for name in ("student", "teachers")}
    return world("tinybert", {**proposing["options"], **options}, **sizes)


def test_a_masked_language_model_alters_words_alone(world, proposing):
    made = asked(world, proposing, augment_chance=1.0)
    seen = train(made, "intermediate", map(rows, range(40)))
    assert (ids(seen)[::2] == originals(40)[::2]).all()
    kept = {token for number, token in enumerate(VOCABULARY) if number < FREE}
    for number, batch in enumerate(seen[1::2]):
        before, after = rows(2 * number + 1).encoding.input_ids, batch.encoding.input_ids
        for old, new in zip(before.tolist(), after.tolist(), strict=True):
            pieces = VOCABULARY.index("##s") in old
            assert pieces or [t for t in old if VOCABULARY[t] in kept] == [
                o for o, n in zip(old, new, strict=True) if VOCABULARY[o] in kept and o == n
            ]
        same = (before == after).all(-1)
        assert torch.equal(batch.ids >= 0, same) and not same.all()


@pytest.mark.parametrize("stopped", [1, 2, 4, 5, 6])
def test_a_resumed_run_is_given_the_same_proposals(world, proposing, stopped):
    def made():
        return asked(world, proposing, augment_chance=0.5)

    whole, begun, resumed = made(), made(), made()
    expected = train(whole, "intermediate", map(rows, range(5))) + train(whole, "predict", map(rows, range(5, 8)))
    got = train(begun, "intermediate", map(rows, range(min(stopped, 5))))
    got += train(begun, "predict", map(rows, range(5, stopped)))
    resumed.method.restore_history(begun.method.history())
    got += train(resumed, "intermediate", map(rows, range(stopped, 5)))
    got += train(resumed, "predict", map(rows, range(max(stopped, 5), 8)))
    assert torch.equal(ids(got), ids(expected)) and (ids(got) != originals()).any()


def test_the_masked_language_model_is_no_part_of_the_method(world, proposing):
    made, plain = asked(world, proposing), world("tinybert")
    train(made, "intermediate", [rows(0), rows(1)])
    assert set(made.method.state_dict()) == set(plain.method.state_dict()) == {"projection.weight", "projection.bias"}


def test_a_masked_language_model_must_be_named_and_fit(world, proposing, tmp_path):
    with pytest.raises(UserError, match=r"options\.masked_lm.*no masked language model is named"):
        asked(world, proposing, masked_lm="")
    with pytest.raises(UserError, match=r"options\.masked_lm.*is not a folder"):
        asked(world, proposing, masked_lm="folder:/nowhere")
    other = masked_lm_folder.write(tmp_path / "other", VOCABULARY[::-1])
    made = asked(world, proposing, masked_lm=other)
    with pytest.raises(UserError, match=r"options\.masked_lm.*differs from the student's"):
        made.method.before_stage("intermediate", Answers())
    assert world("tinybert", {"masked_lm": "folder:/nowhere"})  # not asked for, not looked for


# --- other losses of attention, other maps ----------------------------------------------------------------------------


def attention(made, step) -> torch.Tensor:
    return made.stage("intermediate").terms(step)["attention"].value


def test_defaults_compute_what_they_did_bit_for_bit(world):
    """The terms as they were before attention_loss and the maps of several layers: one stack, raw scores."""
    made = world("tinybert")
    made.method.double()
    step = made.step("intermediate")
    student, teacher, mask = step.student, step.teacher, step.teacher.mask
    ours = torch.stack([student.hidden[m] for m in (0, 1, 2, 3)])
    theirs = torch.stack([teacher.hidden[n] for n in (0, 2, 4, 6)])
    apart = token_mse(made.method.projection(ours), theirs, mask)
    scores = score_mse([student.scores[m] for m in (1, 2, 3)], [teacher.scores[n] for n in (2, 4, 6)], mask)
    terms = made.stage("intermediate").terms(step)
    assert torch.equal(terms["embedding"].value, apart[:1].sum()) and torch.equal(
        terms["hidden"].value, apart[1:].sum()
    )
    assert torch.equal(terms["attention"].value, scores)


@pytest.mark.parametrize("kind", ["probabilities", "kl"])
@pytest.mark.parametrize("layers", ["spread", "mean"])
def test_attention_of_probabilities_equals_the_equation(world, kind, layers):
    made = world("tinybert", {"attention_loss": kind, "layers": layers, "hidden_weight": 0.0, "embedding_weight": 0.0})
    step = made.step("intermediate")
    targets = {1: (2,), 2: (4,), 3: (6,)} if layers == "spread" else {1: (1, 2), 2: (3, 4), 3: (5, 6)}
    total = 0.0
    for row, length in enumerate(step.student.mask.sum(-1).tolist()):
        for m, several in targets.items():
            for head in range(2):
                for i in range(length):
                    for j in range(length):
                        p = sum(step.teacher.attention[n][row, head, i, j].item() for n in several) / len(several)
                        q = step.student.attention[m][row, head, i, j].item()
                        each = (p - q) ** 2 / length if kind == "probabilities" else p * math.log(p / q)
                        total += each / (6 * 2 * length)
    assert attention(made, step).item() == pytest.approx(total, rel=1e-10)


def test_states_of_a_mean_map_equal_the_equation(world):
    made = world("tinybert", {"layers": "mean", "attention_weight": 0.0})
    made.method.double()
    step = made.step("intermediate")
    assert step.teacher.hidden.keys() == {0, 1, 2, 3, 4, 5, 6}
    total = 0.0
    for row, length in enumerate(step.student.mask.sum(-1).tolist()):
        for m, several in {1: (1, 2), 2: (3, 4), 3: (5, 6)}.items():
            for at in range(length):
                target = sum(step.teacher.hidden[n][row, at] for n in several) / 2
                total += (step.student.hidden[m][row, at].detach() - target).square().mean().item() / length / 6
    assert values(made, step)["hidden"] == pytest.approx(total, rel=1e-10)


def test_a_mean_of_attention_is_still_a_distribution(world):
    made = world("tinybert", {"layers": "mean", "attention_loss": "kl"})
    step = made.step("intermediate")
    mixed = (step.teacher.attention[1] + step.teacher.attention[2]) / 2
    torch.testing.assert_close(mixed.sum(-1), torch.ones_like(mixed.sum(-1)))


def test_only_the_divergence_ignores_a_constant_on_all_scores_of_a_token(world):
    """softmax(Z + c) = softmax(Z), while the squared difference of scores sees c."""
    found = {}
    for kind in ("scores", "kl"):
        case = Bench(("tinybert", {"attention_loss": kind}, "classification", 1))
        stage = next(iter(case.ready()))
        before = stage.terms(case.step(stage, case.batch()))["attention"].value.item()
        with torch.no_grad():
            # a constant on each query's scores: keys moved along one direction, the same for all tokens
            for layer in case.students["student"].bert.encoder.layer:
                layer.attention.self.key.bias.add_(1.0)
        found[kind] = (before, stage.terms(case.step(stage, case.batch()))["attention"].value.item())
    assert found["scores"][1] != pytest.approx(found["scores"][0], rel=1e-2)
    # the first layer's attention is as it was, and so is what follows from it
    assert found["kl"][1] == pytest.approx(found["kl"][0], rel=1e-4)


def test_equal_depths_have_one_map_whatever_its_rule(shape):
    for depth in (2, 5):
        expected = {0: (0,), **{m: (m,) for m in range(1, depth + 1)}}
        for layers in ("mean", "random", "uniform", "spread"):
            method, config = resolve("tinybert", {"layers": layers, "layers_seed": depth})
            assert method.layer_map(config, shape(depth), shape(depth)) == expected


def test_a_random_map_follows_from_its_seed(shape):
    maps = [layer_map(shape, 3, 12, "random", layers_seed=seed) for seed in range(12)]
    assert maps[0] == layer_map(shape, 3, 12, "random", layers_seed=0)
    assert len({tuple(each.values()) for each in maps}) > 6
    with pytest.raises(UserError, match="no deeper"):
        layer_map(shape, 8, 6, "random")


def test_weights_scale_their_terms_and_leave_out_what_weighs_nothing(world):
    options = {"attention_loss": "kl", "layers": "mean", "embedding_weight": 0.5, "hidden_weight": 2.0}
    one = world("tinybert", {**options, "attention_weight": 1.5})
    threefold = world("tinybert", {**options, "embedding_weight": 1.5, "hidden_weight": 6.0, "attention_weight": 4.5})
    step = one.step("intermediate")
    for made in (one, threefold):
        made.method.double()
    assert loss(threefold, step) == pytest.approx(3 * loss(one, step), rel=1e-12)
    without = world("tinybert", {**options, "hidden_weight": 0.0, "embedding_weight": 0.0})
    assert not list(without.method.parameters()) and set(without.stage("intermediate").needs.student) == {"attention"}
