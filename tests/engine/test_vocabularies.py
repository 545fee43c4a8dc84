"""Teachers that cut a text into other tokens than the student: each reads the rows by its own tokenizer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from kdcore.config import ProbeConfig, StudentSpec
from kdcore.data import encode
from kdcore.data.splits import IDS_PER_SPLIT
from kdcore.engine import preflight
from kdcore.engine.plan import Plan
from kdcore.engine.plan_checks import check_vocabularies
from kdcore.engine.results import predictions
from kdcore.errors import UserError
from kdcore.events import Probed, StepDone
from kdcore.methods import METHODS
from kdcore.probes import snapshots
from kdcore.probes.attention import by_words
from kdcore.tensors import ROW_LEVEL
from tests.helpers import masked_lm_folder, model_families
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run

EVERYTHING = ProbeConfig(latency=False, saliency=True)


@pytest.fixture
def ensemble(shelf, one_teacher):
    """A BERT, whose tokenizer the student has, and one teacher of each other family."""
    return [*one_teacher, *(model_families.teacher(shelf, family) for family in model_families.FAMILIES)]


def test_four_families_teach_one_student(trained, ensemble):
    """Their kept answers are those that transformers gives for their own tokens."""
    done = trained(run("wkd", ensemble, probes=EVERYTHING))
    for (split, name), kept in predictions(done.folder).items():
        if split != "validation" or name == "student":
            continue
        spec = next(spec for spec in ensemble if spec.name == name)
        words = AutoTokenizer.from_pretrained(spec.where)
        model = AutoModelForSequenceClassification.from_pretrained(spec.where)
        texts = list(world.data_of().splits[split].texts[0])
        inputs = words(texts, padding=True, return_tensors="pt", truncation=True, max_length=32)
        with torch.no_grad():
            expected = model.eval()(**inputs).logits.numpy()
        error, spread = np.abs(kept["logits"] - expected).max(), np.ptp(expected, axis=0).min()
        assert error < spread / 1000, name


def test_what_is_measured_between_them_is_over_words(trained, ensemble):
    """Layers are compared over the words that both read, so nothing is undefined; words' weights are not compared."""
    done = trained(run("wkd", ensemble, probes=EVERYTHING, max_steps=3))
    found = {event.name: event.data for event in done.of(Probed)}
    for teacher in (found["distances"], *found["distances"]["others"].values()):
        cka = np.array(teacher["cka"], float)
        assert cka.shape == (3, 3) and np.isfinite(cka).all() and cka.max() <= 1 + 1e-6, teacher["teacher"]
    assert list(found["saliency"]["teachers"]) == ["t0"]
    kept = snapshots.read(done.folder)
    text = world.data_of().splits[kept.split].texts[0][kept.ids[0] % IDS_PER_SPLIT]
    for name in ("t0", *model_families.FAMILIES):
        words = world.tokenizer() if name == "t0" else model_families.tokenizer(name)
        seen = kept.teacher(name, 0)
        assert seen.tokens == words(text, truncation=True, max_length=32).tokens()
        assert seen.maps.shape[-1] == len(seen.tokens)
        shared = by_words(seen, kept.student(kept.steps[0], 0))[0].tokens  # the teacher's tokens may be cut earlier
        assert len(shared) > 3 and shared == text.split()[: len(shared)]


def test_where_a_tokenizer_tells_no_words_layers_are_compared_by_their_first_token(trained, ensemble, monkeypatch):
    encode_rows = encode._encode
    monkeypatch.setattr(encode, "_encode", lambda *rows: replace(encode_rows(*rows), words=None))
    done = trained(run("wkd", ensemble[:2], probes=ProbeConfig(latency=False), max_steps=3))
    kept = snapshots.read(done.folder)
    found = kept.distances(kept.steps[-1])
    other = model_families.FAMILIES[0]
    assert np.isnan(found[other]["cka"]).all() and np.isnan(found[other]["mse"]).all()
    assert np.isfinite(found[other]["cls"][1:, 1:]).all() and np.isfinite(found["t0"]["cka"]).all()
    assert kept.teacher(other, 0).words is None and by_words(kept.teacher(other, 0), kept.student(0, 0)) is None


@pytest.mark.parametrize("key", METHODS)
def test_a_method_learns_whole_rows_of_another_family_or_refuses(shelf, one_teacher, key):
    """Whoever compares tokens says so before a run, with method, teacher and remedy."""
    method = METHODS[key]
    fewest, most = method.takes(method.Config())
    if not most:
        pytest.skip("it takes no teacher")
    other = model_families.teacher(shelf, "roberta", layers=4)
    both = [*world.teachers(shelf, max(fewest - 1, 0)), other]
    options = {"together": 0.0} if key == "mt-bert" else {}  # together its teachers are of one kind
    draft = Plan(run(key, both, options, base=one_teacher[0], max_steps=20))
    if error := refusal(lambda: draft.stages):  # it looks for words in the teacher's table
        assert "teacher roberta" in error.problem and "other words" in error.problem and error.remedy
        return
    asked = [stage.needs for stage in draft.stages if "roberta" in stage.asks(draft.teacher_sizes)]
    reads = any(set(needs.of_teacher("roberta")) - ROW_LEVEL or "teacher" in needs.rerun for needs in asked)
    error = refusal(lambda: check_vocabularies(draft))
    assert error or not reads
    if error:
        assert error.field == "teachers.roberta" and "kd" in error.remedy
        assert method.title in error.problem and "teacher roberta" in error.problem


UNALTERED = {
    "l2a": {"selection": "none"},
    "distilbert": {"cosine_weight": 0.0},
    "tinybert": {"embedding_weight": 0.0, "hidden_weight": 0.0, "attention_weight": 0.0},
}


@pytest.mark.parametrize("key", UNALTERED)
def test_a_method_that_can_alter_rows_and_does_not_takes_any_teacher(trained, shelf, one_teacher, key):
    roberta = model_families.teacher(shelf, "roberta")
    setting = run(key, [roberta], UNALTERED[key], base=one_teacher[0], max_steps=3)
    assert not preflight.check(Plan(setting)).blocks
    done = trained(setting)
    assert all(event.raw["soft"] > 0 for event in done.of(StepDone)), "it learns from the teacher's answers"


@pytest.mark.parametrize(
    ("key", "options"), [("l2a", {"selection": "all"}), ("tinybert", {"augment": "masked-lm"} | UNALTERED["tinybert"])]
)
def test_altered_rows_are_of_the_students_tokens_alone(shelf, one_teacher, tmp_path, key, options):
    model = {"masked_lm": masked_lm_folder.write(tmp_path / "lm", world.VOCABULARY)} if key == "tinybert" else {}
    setting = run(key, [model_families.teacher(shelf, "roberta")], options | model, base=one_teacher[0])
    error = refusal(lambda: check_vocabularies(Plan(setting)))
    assert error and error.field == "teachers.roberta"
    assert ("copy of teacher" if key == "l2a" else "rows whose tokens it alters") in error.problem


def test_a_stream_that_does_not_say_that_it_alters_rows_ends_with_a_reason(trained, shelf, one_teacher, monkeypatch):
    def stream(self, batches):
        return (replace(batch, encodings={"": batch.encoding}) for batch in batches)

    monkeypatch.setattr(METHODS["kd"], "stream", stream)
    setting = run("kd", [model_families.teacher(shelf, "roberta")], base=one_teacher[0])
    with pytest.raises(UserError, match=r"teachers.roberta.*`live`"):
        trained(setting)


def refusal(do) -> UserError | None:
    try:
        do()
    except UserError as error:
        return error
    return None


def test_an_ensemble_of_two_families_resumes_exactly(trained, shelf, one_teacher):
    both = [*one_teacher, model_families.teacher(shelf, "roberta")]
    whole = trained(run("wkd", both))
    folder = whole.folder.with_name("stopped")
    trained(run("wkd", both), folder, world.StopAt(7, "leave"))
    again = trained(run("wkd", both), folder)
    assert all(torch.equal(again.weights()[name], value) for name, value in whole.weights().items())


def test_a_source_of_other_words_cannot_fill_the_student(shelf, one_teacher):
    teachers = [model_families.teacher(shelf, "electra")]
    setting = run("kd", teachers, base=one_teacher[0], student=StudentSpec(layers=2, init="teacher"))
    (line,) = [line for line in preflight.check(Plan(setting)).blocks if line.field == "student.init"]
    assert "electra cuts a text into other tokens" in line.text


def test_where_kept_outputs_are_off_each_teacher_reads_its_own_tokens(trained, shelf, one_teacher):
    """The same terms in each step, whether answers are kept or made anew."""
    both = [*one_teacher, model_families.teacher(shelf, "mpnet")]
    kept, live = (trained(run("wkd", both, teacher_cache=cached)) for cached in (True, False))
    terms = [[event.raw["soft"] for event in done.of(StepDone)] for done in (kept, live)]
    assert np.allclose(*terms, atol=1e-5)
