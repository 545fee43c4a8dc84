"""A student with a small vocabulary of its own, from its settings to its folder."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from kdcore import paths
from kdcore.config import ProbeConfig, StudentSpec
from kdcore.data.splits import TaskData
from kdcore.engine import own_vocabulary, preflight
from kdcore.engine.own_vocabulary import own_tokenizer, source_words, unknown_share
from kdcore.engine.plan import Plan
from kdcore.engine.results import predictions, student
from kdcore.events import Probed, RunStarted
from kdcore.identity import config_hash, protocol_key
from kdcore.models.count import parameters
from kdcore.models.students import build_student, load_classifier
from kdcore.probes.predict_text import predict_logits
from tests.helpers import model_families
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run

PIECES = 64
SMALL = StudentSpec(layers=2, width=16, heads=2, intermediate=32, init="random", vocabulary=PIECES)


def test_its_own_tokenizer_scores_it(trained, one_teacher):
    """What the run kept as its answers is what its folder gives for the sentences: no teacher's tokenizer is used."""
    done = trained(run("kd", one_teacher, student=SMALL, probes=ProbeConfig(latency=False)))
    model, tokenizer = student(done.folder)
    assert model.config.vocab_size == len(tokenizer) != len(world.VOCABULARY)
    kept = predictions(done.folder)["validation", "student"]
    texts = world.data_of().splits["validation"].texts[0]
    again = np.stack([predict_logits(model, tokenizer, text, max_length=32) for text in texts])
    assert np.allclose(kept["logits"], again, atol=1e-4)
    (found,) = [event.data for event in done.of(Probed) if event.name == "distances"]
    assert np.isfinite(np.array(found["cka"], float)).all()


def test_the_vocabulary_is_kept_once_and_read_again(monkeypatch):
    first = own_tokenizer(world.data_of(), PIECES)
    (file,) = paths.cache_subdir("vocabularies").glob("*.json")
    with monkeypatch.context() as patch:
        patch.setattr("kdcore.engine.own_vocabulary.train_vocabulary", lambda *a: pytest.fail("learned again"))
        assert own_tokenizer(world.data_of(), PIECES).get_vocab() == first.get_vocab()
    file.write_text("[1, 2")
    assert own_tokenizer(world.data_of(), PIECES).get_vocab() == first.get_vocab(), "a damaged file is made anew"
    other: TaskData = world.data_of(world.PARAPHRASE)
    own_tokenizer(other, PIECES)
    assert len(list(paths.cache_subdir("vocabularies").glob("*.json"))) == 2


def test_the_student_is_timed_on_its_own_tokens_and_the_teacher_on_its(trained, one_teacher, monkeypatch):
    """Of one and the same dev row; letters for words make the student's longer."""
    letters = sorted(set("".join(world.VOCABULARY[5:])))
    pieces = (*world.VOCABULARY[:5], *letters, *(f"##{letter}" for letter in letters))
    monkeypatch.setattr(own_vocabulary, "train_vocabulary", lambda *_: pieces)
    done = trained(run("kd", one_teacher, student=SMALL, probes=ProbeConfig(distances=False), max_steps=2))
    texts = world.data_of().splits["validation"].texts[0]
    tokens = {
        name: max(8, round(np.mean([min(32, len(words(text)["input_ids"])) for text in texts])))
        for name, words in (("student", student(done.folder)[1]), ("t0", world.tokenizer()))
    }
    assert tokens["student"] > tokens["t0"]
    (latency,) = [event.data for event in done.of(Probed) if event.name == "latency"]
    assert {record["name"]: record["tokens"] for record in latency["records"]} == tokens
    assert {record["words"] for record in latency["records"]} == {round(np.mean([len(t.split()) for t in texts]))}
    (started,) = done.of(RunStarted)
    assert started.facts["row"]["tokens"] == tokens


def test_parameters_fall_by_the_words_that_are_gone(one_teacher):
    own, base = (Plan(run("kd", one_teacher, student=spec)) for spec in (SMALL, world.STUDENT))
    words = len(world.VOCABULARY) - len(own.tokenizer)
    fewer = parameters(base.student_size).total - parameters(own.student_size).total
    assert words and fewer == words * 16


def test_words_start_as_the_source_reads_them(one_teacher, shelf):
    """A piece that the source has is that piece; another starts with the mean of those it is cut into."""
    spec = StudentSpec(layers=2, init="teacher", vocabulary=PIECES)
    draft = Plan(run("kd", one_teacher, student=spec))
    source = load_classifier(one_teacher[0].where)
    model = build_student(draft.student_size, 2, spec, source, 0, words=draft.source_words)
    ours, theirs = (each.get_input_embeddings().weight for each in (model, source))
    own, words = draft.tokenizer.get_vocab(), world.tokenizer()
    shared = [token for token in own if token in words.get_vocab()]
    assert {"[CLS]", "good"} <= set(shared)
    for token in shared:
        assert torch.equal(ours[own[token]], theirs[words.convert_tokens_to_ids(token)]), token
    assert torch.equal(
        model.bert.encoder.layer[1].output.dense.weight, source.bert.encoder.layer[1].output.dense.weight
    )


def test_words_of_a_byte_level_source_are_the_mean_of_their_pieces():
    own, source = own_tokenizer(world.data_of(), PIECES), model_families.tokenizer("roberta")
    words = source_words(own, source)
    ids = own.get_vocab()
    assert words[ids["[CLS]"]] == [source.cls_token_id] and words[ids["[PAD]"]] == [source.pad_token_id]
    assert words[ids["good"]] == source(" good", add_special_tokens=False)["input_ids"]
    assert all(words) and max(map(max, words)) < len(source)


def test_a_byte_level_source_fills_a_student_that_reads_pairs(trained, shelf):
    """RoBERTa has one token type, and a BERT tokenizer marks the second sentence by another."""
    teacher = [model_families.teacher(shelf, "roberta")]
    spec = StudentSpec(layers=2, init="teacher", vocabulary=PIECES)
    done = trained(run("kd", teacher, student=spec, task=world.PARAPHRASE, max_steps=3))
    model, tokenizer = student(done.folder)
    coded = tokenizer("the film was good", "a song", return_tensors="pt")
    assert coded["token_type_ids"].max() == 1 and model.config.type_vocab_size == 2
    assert model.config.pad_token_id == tokenizer.pad_token_id == 0
    assert torch.isfinite(model(**coded).logits).all()


def test_the_mean_of_several_pieces(one_teacher):
    spec = StudentSpec(layers=2, init="teacher", vocabulary=PIECES)
    draft = Plan(run("kd", one_teacher, student=spec))
    source = load_classifier(one_teacher[0].where)
    words = [[5, 7, 9] for _ in draft.source_words]
    model = build_student(draft.student_size, 2, spec, source, 0, words=words)
    mean = source.get_input_embeddings().weight[[5, 7, 9]].mean(0)
    assert torch.allclose(model.get_input_embeddings().weight[11], mean, atol=1e-6)


def test_earlier_runs_are_still_the_same(one_teacher):
    """A run without a vocabulary of its own is told from one that has it, and not from one kept before there was."""
    plain, own = run("kd", one_teacher), run("kd", one_teacher, student=SMALL)
    assert "vocabulary" in plain.model_dump()["student"] and config_hash(plain) != config_hash(own)
    assert protocol_key(plain) != protocol_key(own)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValidationError, match="not from a checkpoint"):
        StudentSpec(vocabulary=PIECES, init="checkpoint", checkpoint="/somewhere")
    with pytest.raises(ValidationError, match="greater than or equal to 64"):
        StudentSpec(vocabulary=10)


def test_pre_flight_tells_its_words_and_refuses_methods_of_tokens(one_teacher):
    lines = preflight.check(Plan(run("kd", one_teacher, student=SMALL))).lines
    (said,) = [line for line in lines if line.field == "student.vocabulary"]
    assert "subword tokens of its own" in said.text and "% of the tokens of the texts as [UNK]" in said.text
    (block,) = preflight.check(Plan(run("minilm", one_teacher, student=SMALL))).blocks
    assert block.field == "teachers.t0" and "MiniLM" in block.text and "kd" in block.remedy


WORDS = ["the", "zoo", "ß", "unheard"]


def test_unknown_tokens_are_counted_over_training_and_dev_texts():
    """By hand, of sentences of four words of which the tokenizer knows one."""
    data = world.data_of()
    texts = {name: ([" ".join(WORDS)] * len(split),) for name, split in data.splits.items()}
    splits = {name: dataclasses.replace(split, texts=texts[name]) for name, split in data.splits.items()}
    assert unknown_share(dataclasses.replace(data, splits=splits), world.tokenizer()) == 3 / 4
    assert unknown_share(data, world.tokenizer()) == 0


def test_a_student_that_cannot_read_the_texts_is_told_of_before_and_while_it_learns(trained, one_teacher, monkeypatch):
    monkeypatch.setattr(own_vocabulary, "train_vocabulary", lambda *_: (*world.VOCABULARY[:5], "the", "a"))
    setting = run("kd", one_teacher, student=SMALL, max_steps=2)
    (said,) = [line for line in preflight.check(Plan(setting)).lines if line.field == "student.vocabulary"]
    assert said.level == "warn" and "of the tokens of the texts as [UNK]" in said.text
    assert said.remedy == "raise student.vocabulary"
    (started,) = trained(setting).of(RunStarted)
    assert f"{said.text}; {said.remedy}" in started.facts["warnings"]


def test_without_a_teacher_it_needs_no_base(trained):
    done = trained(run("fine-tune", student=SMALL, max_steps=4))
    assert student(done.folder)[0].config.vocab_size == len(student(done.folder)[1])


def test_a_run_that_was_killed_ends_with_the_same_bits(trained, one_teacher):
    setting = run("kd", one_teacher, student=SMALL)
    whole = trained(setting)
    folder = whole.folder.with_name("stopped")
    trained(setting, folder, world.StopAt(7, "leave"))
    again = trained(setting, folder)
    assert all(torch.equal(again.weights()[name], value) for name, value in whole.weights().items())
