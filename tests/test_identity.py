"""When runs are the same: the same run, the same group, the same protocol, a pair."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcore import identity
from kdcore.analysis.differences import differing_topics
from kdcore.config import ProbeConfig, RunConfig, TrainConfig
from kdcore.store.run_row import task_key

TEACHER = {"name": "big", "source": "package", "where": "minilm", "fine_tune": {}}


def run(**changes: Any) -> RunConfig:
    return RunConfig.model_validate({"task": "mrpc", "method": "kd", "teachers": [TEACHER]} | changes)


neutral = st.fixed_dictionaries(
    {},
    optional={
        "device": st.sampled_from(["auto", "cpu", "cuda"]),
        "threads": st.none() | st.integers(1, 8),
        "log_every": st.integers(1, 50),
        "checkpoint_every": st.integers(1, 500),
        "teacher_cache": st.booleans(),
        "accumulate": st.sampled_from([1, 2, 4]),
        "seed": st.integers(0, 99),
    },
)
telling = st.sampled_from(
    [
        {"lr": 1e-3}, {"epochs": 1.0}, {"max_steps": 9}, {"batch_size": 8}, {"warmup": 0.0}, {"clip": 2.0},
        {"dropout": 0.2}, {"max_length": 64}, {"max_train_rows": 99}, {"select_fraction": 0.2}, {"early_stop": 3},
        {"evaluate_every": 7}, {"precision": "bf16"}, {"bucket": False}, {"weight_decay": 0.5},
    ]
)  # fmt: skip


@settings(deadline=None)  # a busy machine is no fault
@given(train=neutral, name=st.text(max_size=20), probes=st.booleans())
def test_seed_and_neutral_settings_change_neither_group_nor_protocol(train: Any, name: str, probes: bool) -> None:
    other = run(train=train, name=name, probes={"latency": probes})
    assert identity.group_key(other) == identity.group_key(run())
    assert identity.protocol_key(other) == identity.protocol_key(run())


@settings(deadline=None)  # a busy machine is no fault
@given(train=neutral, change=telling)
def test_any_other_training_setting_changes_both(train: Any, change: Any) -> None:
    first, other = run(train=train), run(train=train | change)
    assert identity.group_key(first) != identity.group_key(other)
    assert identity.protocol_key(first) != identity.protocol_key(other)


def test_every_training_setting_is_neutral_or_telling() -> None:
    """A setting that is added must be judged: with its reason, or by its place in the protocol."""
    aside = {name.removeprefix("train.") for name in (*identity.NEUTRAL, identity.SEED) if name.startswith("train.")}
    topics = identity.protocol(run())
    judged = {name for topic in ("data", "steps", "training") for name in topics[topic]} - {"task"}
    assert judged | aside == set(TrainConfig.model_fields) and not judged & aside
    assert all(reason and reason[0].islower() for reason in identity.NEUTRAL.values())
    assert identity.protocol(run(probes=ProbeConfig(latency=False))) == topics


def test_the_same_run_has_all_settings_but_the_name() -> None:
    assert identity.config_hash(run(name="a")) == identity.config_hash(run(name="b"))
    for change in ({"train": {"seed": 1}}, {"train": {"log_every": 5}}, {"probes": {"latency": False}}):
        assert identity.config_hash(run(**change)) != identity.config_hash(run())


@pytest.mark.parametrize(
    ("change", "topic"),
    [
        ({"task": "rte"}, "data"),
        ({"student": {"layers": 4}}, "size"),
        ({"student": {"init_layers": "last"}}, "start"),
        ({"student": {"init": "teacher"}}, "start"),
        ({"train": {"epochs": 9}}, "steps"),
        ({"train": {"lr": 0.1}}, "training"),
    ],
)
def test_what_differs_has_a_topic(change: Any, topic: str) -> None:
    one, other = identity.protocol(run()), identity.protocol(run(**change))
    assert [name for name in one if one[name] != other[name]] == [topic]


def test_a_base_stands_for_the_teacher_it_is_the_base_of() -> None:
    alone = run(method="fine-tune", teachers=[], base=TEACHER)
    assert identity.protocol_key(alone) == identity.protocol_key(run())
    elsewhere = run(method="fine-tune", teachers=[], base=TEACHER | {"where": "other"})
    assert identity.protocol_key(elsewhere) != identity.protocol_key(run())
    explicit = {"layers": 2, "width": 32, "heads": 2, "init": "random"}
    assert identity.protocol_key(run(student=explicit)) == identity.protocol_key(
        run(method="fine-tune", teachers=[], student=explicit)
    )


def test_method_options_and_teachers_make_groups_not_protocols() -> None:
    for change in ({"method": "pkd"}, {"options": {"alpha": 0.1}}, {"teachers": [TEACHER, TEACHER | {"name": "b"}]}):
        assert identity.group_key(run(**change)) != identity.group_key(run())
        assert identity.protocol_key(run(**change)) == identity.protocol_key(run())


def test_another_source_is_another_method_under_the_same_protocol() -> None:
    first, other = ({"origin": "my.py", "version": digit * 12} for digit in "ab")
    runs = [run(method="mine", method_source=source) for source in (None, first, other)]
    assert len({identity.config_hash(one) for one in runs}) == len({identity.group_key(one) for one in runs}) == 3
    assert len({identity.protocol_key(one) for one in runs}) == 1
    moved = run(method="mine", method_source=first | {"origin": "moved.py"})
    assert identity.config_hash(moved) == identity.config_hash(runs[1])
    assert identity.group_key(moved) == identity.group_key(runs[1])


def test_a_shipped_method_is_hashed_as_before_sources_were_told() -> None:
    settings = run().model_dump(mode="json", exclude={"name", "method_source", "data", "also"})
    before = settings | {
        part: {name: value for name, value in settings[part].items() if f"{part}.{name}" not in identity.LATER}
        for part in ("student", "probes")
    }
    assert identity.config_hash(run()) == identity._digest(before)
    assert identity.config_hash(run(probes={"saliency": True})) != identity.config_hash(run())
    essential = identity.essential(run().model_dump(mode="json"))
    assert essential == identity.essential(settings) and "method_source" not in essential


def test_one_task_is_as_before_a_run_could_learn_several() -> None:
    plain, several = run(), run(also=["rte"])
    assert "also" not in identity.essential(plain.model_dump(mode="json"))
    for key in (identity.config_hash, identity.group_key, identity.protocol_key):
        assert key(plain) == key(run(also=[])) != key(several)
    facts = {"data_fingerprint": "r1", "also": {"rte": {"data_fingerprint": "r2", "teachers": {"a": {"content": "w"}}}}}
    other = {**facts, "also": {"rte": {**facts["also"]["rte"], "data_fingerprint": "r3"}}}
    assert identity.model_contents(facts) == {"teacher a on rte": "w"}
    assert identity.content(facts).rows == identity.content(other).rows == "r1"
    assert identity.content(facts).models != identity.content(other).models
    for damaged in (3, ["rte"], {"rte": None}):
        assert identity.content({**facts, "also": damaged}).rows == "r1"
        assert not identity.model_contents({"also": damaged})


def test_an_environment_is_version_and_machine() -> None:
    facts = {"kdcore": "0.1.0", "hardware": "EPYC", "device": "cpu", "threads": 2}
    assert identity.environment(facts) == ("0.1.0", "EPYC cpu")
    assert identity.environment({}) == ("", "")
    chosen = facts | {"precision": "bf16"}
    assert identity.environment(chosen) == ("0.1.0", "EPYC cpu bf16"), "another machine of this name may lack it"
    assert identity.environment(chosen, "bf16") == ("0.1.0", "EPYC cpu"), "a setting is compared as a setting"


def test_content_is_what_the_names_stood_for() -> None:
    facts = {"data_fingerprint": "r1", "teachers": {"big": {"content": "w1"}}, "start_content": "b1"}
    assert identity.model_contents(facts) == {"teacher big": "w1", "start": "b1"}
    assert identity.content(facts) != identity.content({**facts, "start_content": "b2"})
    assert identity.content(facts) != identity.content({**facts, "teachers": {"big": {"content": "w2"}}})
    assert identity.content(facts).rows == "r1" != identity.content({**facts, "data_fingerprint": "r2"}).rows
    assert identity.content({"teachers": {"big": {"words": "of 0.1.0"}}}) == ("", ""), "an old run has not said it"


NOISE = {"label_noise": 0.2}


def test_whole_data_are_as_before_there_were_settings_for_them() -> None:
    kept = run().model_dump(mode="json", exclude={"data"})
    assert identity.essential(run().model_dump(mode="json")) == identity.essential(kept)
    idle = {"noise_kind": "confused", "seed": 3, "teacher_data": "clean"}
    for key in (identity.config_hash, identity.group_key, identity.protocol_key):
        assert key(run(data=idle)) == key(run())
        assert key(run(data=NOISE)) != key(run())
        assert key(run(data=NOISE | {"seed": 1})) != key(run(data=NOISE))


def test_what_the_teachers_learned_from_is_theirs() -> None:
    clean = run(data=NOISE | {"teacher_data": "clean"})
    assert identity.config_hash(clean) != identity.config_hash(run(data=NOISE))
    assert identity.protocol_key(clean) == identity.protocol_key(run(data=NOISE))
    assert identity.teachers(clean) != identity.teachers(run(data=NOISE))
    assert identity.teachers(run(data={"teacher_data": "clean"})) == identity.teachers(run())


def test_rows_without_a_label_are_the_methods_to_use_or_leave() -> None:
    few = {"label_fraction": 0.1}
    left = run(data=few | {"unlabelled": "leave out"})
    assert identity.group_key(left) != identity.group_key(run(data=few))
    assert identity.protocol_key(left) == identity.protocol_key(run(data=few)), "fine-tuning alone pairs with both"
    assert identity.teachers(left) == identity.teachers(run(data=few))
    assert identity.config_hash(run(data={"unlabelled": "use"})) == identity.config_hash(run())


def test_mixtures_are_those_of_before_their_later_terms() -> None:
    before = {"alpha": 0.5, "hidden_weight": 1.0}
    later = before | dict.fromkeys(identity.LATER_OPTIONS["mix"], 0.0)
    for key in (identity.config_hash, identity.group_key):
        assert key(run(method="mix", options=later)) == key(run(method="mix", options=before))
        assert key(run(method="mix", options=later | {"angle_weight": 1.0})) != key(run(method="mix", options=before))
        assert key(run(method="kd", options={"angle_weight": 0.0})) != key(run(method="kd"))


def test_texts_without_a_label_are_other_data_of_the_same_task() -> None:
    own = {"path": "a.csv", "text": "text", "label": "label"}
    plain, more = (run(task="own", own=own | extra) for extra in ({}, {"unlabelled_path": "more.csv"}))
    assert "own.unlabelled_path" not in identity.essential(plain.model_dump(mode="json"))
    assert "unlabelled_path" not in identity.protocol(plain)["data"]["own"]
    for key in (identity.config_hash, identity.group_key, identity.protocol_key):
        assert key(plain) != key(more)
    assert task_key("own", plain.model_dump_json()) == task_key("own", more.model_dump_json())


def test_a_column_of_domains_is_a_matter_of_the_method() -> None:
    own = {"path": "a.csv", "text": "text", "label": "label"}
    plain, told = (run(task="own", own=own | extra) for extra in ({}, {"domain": "where"}))
    assert identity.protocol_key(plain) == identity.protocol_key(told) and differing_topics(plain, told) == {}
    assert identity.config_hash(plain) != identity.config_hash(told)
    assert identity.group_key(plain) != identity.group_key(told)
