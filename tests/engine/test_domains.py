"""A run over several domains: which domain a row is of, who is told, and a meta-teacher that the run makes itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdcore.config import OwnData
from kdcore.engine import ensemble
from kdcore.engine import step as engine_step
from kdcore.engine.estimate import predict
from kdcore.engine.plan import Plan
from kdcore.engine.preflight import check
from kdcore.errors import UserError
from kdcore.events import Progress, RunStarted, StepDone
from tests.engine.test_resume import told
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import StopAt, run, same


@pytest.fixture
def no_domains(monkeypatch):
    """Calling it takes the small world's domains away."""
    from kdcore.data import pocket

    def without(task):
        data = world.data(task)
        splits = {name: replace(split, sources=None) for name, split in data.splits.items()}
        return replace(data, splits=splits, domains=())

    return lambda: monkeypatch.setattr(pocket, "load", without)


OPTIONS = {"meta": 0.5, "imitate": 0.5}


def meta_kd(teacher, options=None, **changes):
    return run("meta-kd", teacher, options=OPTIONS | (options or {}), **changes)


def test_every_batch_says_which_domain_its_rows_are_of(trained, one_teacher, monkeypatch):
    seen = {}
    real = engine_step._observe

    def noted(job, stage, batch, clock):
        seen.update(zip(batch.ids.tolist(), batch.source.tolist(), strict=True))
        return real(job, stage, batch, clock)

    monkeypatch.setattr(engine_step, "_observe", noted)
    trained(meta_kd(one_teacher, accumulate=2))
    del seen[-1]  # `select`, which is judged by the loss
    assert len(seen) == 90 and all(source == row % 2 for row, source in seen.items())


def test_the_meta_teacher_learns_beside_the_runs_steps_and_then_teaches(trained, one_teacher):
    done = trained(meta_kd(one_teacher))
    facts = done.of(RunStarted)[0].facts
    assert (facts["student_steps"], facts["steps"]) == (12, 18)
    terms = {event.stage: set(event.raw) for event in done.of(StepDone)}
    assert terms == {"meta-teacher": {"hard", "corrupt"}, "imitate": {"hidden", "attention"}, "predict": {"soft"}}
    assert done.weights()["classifier.weight"].shape == (2, 16)


@pytest.mark.parametrize("options", [{}, {"domain_weight": 0.5}])
def test_stopped_in_the_first_a_middle_and_the_last_step_of_each_stage_nothing_differs(
    trained, one_teacher, tmp_path, options
):
    setting = meta_kd(one_teacher, options, evaluate_every=4, accumulate=1 + len(options))
    whole = trained(setting)
    stages: dict[str, list[int]] = {}
    for event in whole.of(StepDone):
        stages.setdefault(event.stage, []).append(event.step)
    halts = sorted({step for steps in stages.values() for step in (steps[0], steps[len(steps) // 2], steps[-1])})
    assert len(halts) == 9
    parts = [trained(setting, tmp_path / "halted", control=StopAt(halt)) for halt in halts]
    last = trained(setting, tmp_path / "halted")
    for which in ("last", "best"):
        assert same(last.weights(which), whole.weights(which)), which
    assert [said for part in (*parts, last) for said in told(part)] == told(whole)


def test_it_may_stop_while_it_looks_at_all_rows_and_tells_how_far_it_is(trained, one_teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble, "BATCH", 16)
    setting = meta_kd(one_teacher)
    whole = trained(setting)
    looked = [event for event in whole.of(Progress) if event.what == "states of teacher t0 on the training rows"]
    assert [(event.done, event.total) for event in looked] == [(done, 6) for done in range(1, 7)]

    class WhileLooking:
        asked = 0

        def stop_requested(self):
            self.asked += 1
            return "keep" if self.asked == 4 else None

    stopped = trained(setting, tmp_path / "halted", control=WhileLooking())
    assert not stopped.of(StepDone) and stopped.of(Progress)[-1] in looked[:-1]
    last = trained(setting, tmp_path / "halted")
    assert same(last.weights(), whole.weights())


def test_domains_change_no_other_method(trained, one_teacher, no_domains):
    told_of = trained(run("kd", one_teacher))
    no_domains()
    not_told = trained(run("kd", one_teacher))
    assert same(told_of.weights(), not_told.weights())
    assert told_of.of(RunStarted)[0].facts["data_fingerprint"] == not_told.of(RunStarted)[0].facts["data_fingerprint"]


def test_the_mean_state_of_a_row_leaves_out_the_first_token_and_padding(one_teacher):
    from kdcore.engine.ensemble import Ensemble
    from kdcore.engine.job import encode_rows
    from kdcore.engine.teachers import prepare_teacher
    from tests.engine.test_teacher_cache import drain

    plan = Plan(meta_kd(one_teacher))
    teacher = drain(prepare_teacher(one_teacher[0], plan.data, plan.config.train, plan.compute))
    rows = encode_rows(plan.data, plan.tokenizer, plan.config.train)
    means = drain(Ensemble([teacher], rows.train, rows.identity, plan.compute, True).mean_states("t0", rows.train))
    model = teacher.load()
    for row in (0, 7, 89):
        ids = torch.from_numpy(rows.train.input_ids[rows.train.offsets[row] : rows.train.offsets[row + 1]]).long()
        with torch.no_grad():
            alone = model.bert(ids[None]).last_hidden_state[0, 1:].mean(0)
        torch.testing.assert_close(means[row], alone, rtol=1e-4, atol=1e-5)


def with_domains(told, train, unlabelled=()):
    """A fingerprint as own tables had it when their domains were part of it."""
    return hashlib.sha256(repr((told, list(train), list(unlabelled))).encode()).hexdigest()


def test_a_run_whose_fingerprint_had_the_domains_in_it_goes_on(trained, one_teacher, tmp_path):
    table = tmp_path / "table.csv"

    def write(word):
        lines = [f"{'good' if row % 2 else 'bad'} {word} {row},{row % 2},{'ab'[row % 3 == 0]}" for row in range(60)]
        table.write_text("\n".join(["text,label,where", *lines]))

    write("film")
    own = OwnData(path=str(table), text="text", label="label", domain="where")
    setting = run("fine-tune", base=one_teacher[0], task="own", own=own)
    whole, folder = trained(setting), tmp_path / "halted"
    trained(setting, folder, control=StopAt(3, "leave"))
    content = json.loads((folder / "content.json").read_text())
    domains = ["ab"[int(text.split()[-1]) % 3 == 0] for text in Plan(setting).data.train.texts[0]]
    kept = content | {"rows": with_domains(content["rows"], domains)}
    (folder / "content.json").write_text(json.dumps(kept))
    write("song")
    with pytest.raises(UserError, match="rows changed since this run began"):
        trained(setting, folder)
    write("film")
    last = trained(setting, folder)
    assert last.of(RunStarted)[0].facts["resumed_at"] == 3 and same(last.weights(), whole.weights())
    assert json.loads((folder / "content.json").read_text()) == content


# --- before the start -------------------------------------------------------------------------------------------------


def refused(setting) -> dict[str, str]:
    return {line.field: line.text for line in check(Plan(setting)).blocks}


def test_data_without_domains_are_refused(one_teacher, tmp_path, no_domains):
    no_domains()
    assert refused(meta_kd(one_teacher)) == {
        "task": "Meta-KD learns from several domains, and the training rows are of none"
    }
    table = tmp_path / "table.csv"
    lines = [f"{'good' if row % 2 else 'bad'} film {row},{row % 2},films" for row in range(40)]
    table.write_text("\n".join(["text,label,where", *lines]))
    own = OwnData(path=str(table), text="text", label="label", domain="where")
    said = refused(meta_kd(one_teacher, task="own", own=own))
    assert said["own.domain"] == "Meta-KD learns from several domains, and the training rows are of one"


def test_a_domain_that_no_training_row_is_of_does_not_count(one_teacher, tmp_path):
    """The only mail is held out for `select`, or is not among the rows that `max_train_rows` keeps."""
    counts = {}
    for mail in range(0, 40, 3):
        table = tmp_path / f"table-{mail}.csv"
        words = ((row, "good" if row % 2 else "bad", "mail" if row == mail else "news") for row in range(40))
        table.write_text("\n".join(["text,label,where", *(f"{w} film {n},{n % 2},{place}" for n, w, place in words)]))
        own = OwnData(path=str(table), text="text", label="label", domain="where")
        setting = meta_kd(one_teacher, task="own", own=own, max_train_rows=16)
        counts.setdefault(len(set(Plan(setting).training_rows.sources.tolist())), setting)
    assert set(counts) == {1, 2}
    assert "own.domain" in refused(counts[1]) and "own.domain" not in refused(counts[2])


def test_the_price_counts_the_meta_teacher(one_teacher):
    short, long = (predict(Plan(meta_kd(one_teacher, {"meta": meta}))) for meta in (0.5, 5.0))
    assert (short.steps, long.steps) == (18, 72) and long.seconds > short.seconds


def test_rows_keep_their_domain_where_labels_are_taken_away(one_teacher):
    few = run().data.model_copy(update={"label_fraction": 0.5, "imbalance": 0.5})
    rows = Plan(meta_kd(one_teacher).model_copy(update={"data": few})).rows
    for split in (rows.train, rows.select, rows.train.labelled):
        assert np.array_equal(split.sources, split.ids % 2)
