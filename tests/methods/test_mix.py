"""A mixture's terms are those of the methods they are named after, and teachers are drawn as by Stochastic KD.

No paper has it, so there are no equations of its own: each term is a function that the tests of losses hold to a loop
in float64. That whole runs are those of a paper is in tests/engine.
"""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from kdcore.errors import UserError
from kdcore.losses.contrast import relational_angle, relational_distance, similarity_preserving
from kdcore.losses.hidden import attention_transfer, token_mse
from kdcore.methods import resolve
from kdcore.methods.mix import READS
from kdcore.methods.teacher_weights import by_rank
from tests.methods.contract import Contract
from tests.methods.test_contract import Bench

CONTRACT = Contract(
    variants=(
        {"hidden_weight": 0.0, "attention_weight": 1.0, "values_weight": 2.0, "rows_weight": 1.0},
        {"hidden_weight": 0.0},
        {"hidden_weight": 0.0, "similarity_weight": 10.0, "distance_weight": 1.0, "angle_weight": 2.0},
    ),
    trained=(
        {"patience_weight": 100.0, "scores_weight": 0.5, "cosine_weight": 1.0, "choice": "rank", "layers": "last"},
        {"hidden_weight": 0.0, "hint_weight": 1.0, "distance_weight": 1.0},
    ),
)

NOTHING = {f"{name}_weight": 0.0 for name in READS}


def weights(**chosen: float) -> dict[str, object]:
    """Settings with these weights alone."""
    return {**NOTHING, **{f"{name}_weight": weight for name, weight in chosen.items()}}


def values(bench: Bench, stage, padded: int = 3) -> dict[str, float]:
    return {name: term.value.item() for name, term in stage.terms(bench.step(stage, bench.batch(pad=padded))).items()}


OWNERS = {
    "patience": ("pkd", {}, "distil", "patience"),
    "hidden": ("tinybert", {}, "intermediate", "hidden"),
    "scores": ("tinybert", {}, "intermediate", "attention"),
    "cosine": ("distilbert", {}, None, "cosine"),
    "attention": ("minilm", {}, "relations", "attention"),
    "values": ("minilm", {}, "relations", "values"),
    "rows": ("mlkd", {}, "prediction", "sample"),
}


@pytest.mark.parametrize("term", OWNERS)
def test_a_term_is_that_of_the_method_it_is_named_after(term):
    key, options, stage_name, theirs = OWNERS[term]
    owner, mix = (
        Bench((one, chosen, "classification", 1)) for one, chosen in ((key, options), ("mix", weights(**{term: 1.0})))
    )
    stages = {stage.name: stage for stage in owner.ready()}
    expected = values(owner, stages[stage_name] if stage_name else list(stages.values())[-1])[theirs]
    (stage,) = mix.ready()
    assert values(mix, stage)[term] == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("key", "options", "chosen"),
    [
        ("kd", {"alpha": 0.3, "temperature": 4.0}, {"alpha": 0.3, "temperature": 4.0, **NOTHING}),
        ("pkd", {"alpha": 0.3, "temperature": 4.0, "beta": 50.0},
         {"alpha": 0.3, "temperature": 4.0, **weights(patience=50.0)}),
        ("pkd", {"layers": "last", "beta": 50.0}, {"layers": "last", **weights(patience=50.0)}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_with_one_papers_weights_it_is_that_paper(key, options, chosen, kind):
    paper, mix = Bench((key, options, kind, 1)), Bench(("mix", chosen, kind, 1))
    losses = []
    for bench in (paper, mix):
        (stage,) = bench.ready()
        losses.append(bench.train(stage, 5, bench.batch()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-7)


def test_terms_add_up_with_their_weights():
    chosen = {
        "patience": 10.0,
        "hidden": 2.0,
        "scores": 0.5,
        "cosine": 1.0,
        "attention": 3.0,
        "values": 4.0,
        "rows": 5.0,
    }
    bench = Bench(("mix", weights(**chosen), "classification", 1))
    (stage,) = bench.ready()
    terms = stage.terms(bench.step(stage, bench.batch()))
    assert {name: term.weight for name, term in terms.items()} == {"hard": 0.5, "soft": 0.5, **chosen}
    each = {}
    for name in chosen:
        alone = Bench(("mix", weights(**{name: 1.0}), "classification", 1))
        (only,) = alone.ready()
        each[name] = values(alone, only, padded=0)[name]
    assert {name: terms[name].value.item() for name in chosen} == pytest.approx(each, rel=1e-4)


def test_a_term_without_weight_is_not_read():
    for name, tensor in READS.items():
        bench = Bench(("mix", weights(**{name: 1.0}), "classification", 1))
        (stage,) = bench.ready()
        assert set(stage.needs.student) == set(stage.needs.teacher) == {"logits", tensor}
    bench = Bench(("mix", dict(NOTHING), "classification", 1))
    (stage,) = bench.ready()
    assert set(stage.needs.teacher) == {"logits"} and not list(bench.method.parameters())


@pytest.mark.parametrize(
    ("options", "student", "teacher", "expected"),
    [
        (weights(hidden=1.0), 3, 6, {1: (2,), 2: (4,), 3: (6,)}),
        (weights(hidden=1.0) | {"layers": (1, 2, 6)}, 3, 6, {1: (1,), 2: (2,), 3: (6,)}),
        (weights(rows=1.0), 3, 6, {3: (6,)}),
        (dict(NOTHING), 3, 6, {}),
    ],
)
def test_layer_map(shape, options, student, teacher, expected):
    method, config = resolve("mix", options)
    assert method.layer_map(config, shape(student), shape(teacher)) == expected
    assert method.relates_rows(config) is bool(options["rows_weight"])


def test_what_does_not_go_together_is_refused(world, shape):
    wide = {"big": shape(6, width=16)}
    for name in ("patience", "cosine"):
        with pytest.raises(UserError, match=rf"student\.width.*{name}"):
            world("mix", weights(**{name: 1.0}), teachers=wide)
    for name in ("scores", "attention", "values"):
        with pytest.raises(UserError, match=rf"student\.heads.*{name}.*{name}_weight"):
            world("mix", weights(**{name: 1.0}), teachers={"big": replace(shape(6), heads=4)})
    with pytest.raises(UserError, match=r"teachers.*one depth.*a 6, b 4"):
        world("mix", weights(hidden=1.0), teachers={"a": shape(6), "b": shape(4)})
    with pytest.raises(UserError, match=r"student\.layers.*patience"):
        world("mix", weights(patience=1.0), student=shape(1))
    with pytest.raises(UserError, match=r"options\.layers.*not whole"):
        world("mix", weights(hidden=1.0) | {"layers": "uniform"}, student=shape(4))
    world("mix", dict(NOTHING), teachers={"a": shape(6), "b": shape(4, width=16)})


def test_teachers_of_other_widths_have_maps_of_their_own(world, shape):
    made = world("mix", weights(hidden=1.0), teachers={"a": shape(6), "b": shape(6, width=12)})
    made.method.double()
    assert sorted(made.method.projections) == ["12", "8"]
    seen = Counter(name for number in range(1, 30) for name in made.step(number=number).teachers)
    assert set(seen) == {"a", "b"}
    step = made.step()
    assert made.loss(step).requires_grad


SCORES = {"a": 0.5, "b": 0.9, "c": 0.7}


@pytest.mark.parametrize(("choice", "expected"), [("uniform", [1 / 3] * 3), ("rank", by_rank([0.5, 0.9, 0.7]))])
def test_one_teacher_is_drawn_a_step_with_its_chance(world, choice, expected):
    made = world("mix", {**NOTHING, "choice": choice}, teachers=list(SCORES), scores=SCORES)
    assert list(made.method.chances().values()) == pytest.approx(expected)
    before, counts = torch.get_rng_state(), Counter()
    for number in range(1, 601):
        step = made.step(number=number)
        assert len(step.teachers) == 1
        made.method.after_step(step)
        counts.update(list(step.teachers))
    assert torch.equal(torch.get_rng_state(), before)
    assert [counts[name] / 600 for name in SCORES] == pytest.approx(expected, abs=0.07)
    notes = made.method.notes()
    assert [notes[f"draws/{name}"] for name in SCORES] == [counts[name] / 600 for name in SCORES]
    assert [notes[f"chance/{name}"] for name in SCORES] == pytest.approx(expected)
    again = world("mix", {**NOTHING, "choice": choice}, teachers=list(SCORES), scores=SCORES)
    again.method.restore_history(json.loads(json.dumps(made.method.history())))
    assert again.method.notes() == notes


def test_a_rank_without_scores_is_refused_with_a_remedy(world):
    made = world("mix", {"choice": "rank"}, teachers=["a", "b"])
    with pytest.raises(UserError, match=r"options\.choice.*a, b.*uniform"):
        made.method.chances()


def test_it_says_that_it_is_nobodys(world):
    made = world("mix")
    assert made.method.papers == () and made.method.notes() == {}


def test_terms_of_the_comparison_study_are_the_losses_on_their_layers():
    chosen = {"hint": 1.0, "transfer": 1.0, "similarity": 1.0, "distance": 1.0, "angle": 1.0}
    bench = Bench(("mix", weights(**chosen), "classification", 1))
    (stage,) = bench.ready()
    step = bench.step(stage, bench.batch(pad=3))
    student, teacher, mask = step.student, step.teacher, step.teacher.mask
    (first, guide), *_ = bench.method.map.items()
    mapped = [student.hidden[m] for m in bench.method.map], [teacher.hidden[n] for n in bench.method.map.values()]
    last = student.cls[2], teacher.cls[4]
    expected = {
        "hint": token_mse(student.hidden[first], teacher.hidden[guide], mask),  # equal widths: V is the identity
        "transfer": attention_transfer(*mapped, mask),
        "similarity": similarity_preserving(*last),
        "distance": relational_distance(*last),
        "angle": relational_angle(*last),
    }
    got = stage.terms(step)
    assert {name: got[name].value.item() for name in chosen} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=1e-6
    )


def test_a_hint_is_the_middle_layer_and_has_a_projection_of_its_own():
    bench = Bench(("mix", weights(hint=1.0, hidden=1.0), "classification", 1))
    assert bench.method._pairs("hint") == [(1, 2)]
    assert len(list(bench.method.parameters())) == 4


def test_attention_transfer_lives_on_the_gains_of_the_last_layer_norm():
    """A layer ends in a LayerNorm: where its gains are equal, all tokens have one energy, and the term is nearly 0."""
    bench = Bench(("mix", weights(transfer=1.0), "classification", 1))
    (stage,) = bench.ready()
    assert stage.terms(bench.step(stage, bench.batch()))["transfer"].value.item() == pytest.approx(0, abs=1e-3)
    for layer in bench.students["student"].bert.encoder.layer:
        torch.nn.init.normal_(layer.output.LayerNorm.weight, std=3.0, generator=torch.Generator().manual_seed(1))
    assert stage.terms(bench.step(stage, bench.batch()))["transfer"].value.item() > 0.1
