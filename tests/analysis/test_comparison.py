"""One set of runs, one set of numbers: what counts, how it groups, and that every surface says the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from kdcore import report
from kdcore.analysis.comparison import Comparison, compare, counting, over_fine_tuning
from kdcore.cli import app
from kdcore.events import RunFailed, RunStarted
from kdcore.runs import example
from kdcore.runs.demo import demo_runs
from kdcore.store import Store
from tests.analysis.conftest import HERE
from tests.helpers.store_factory import TEACHER, run_config

ELSEWHERE = HERE | {"hardware": "Xeon (64 cores)"}
NEWER = HERE | {"kdcore": "0.3.0"}
Finish = Callable[..., str]
CELLS = re.compile(r"<tr><th scope=\"row\">([^<]*)</th><td>([^<]*)</td><td>([^<]*)</td>")


def train(**changes: Any) -> dict[str, Any]:
    return {"train": {"epochs": 1, "max_length": 32, "seed": 0} | changes}


def one(store: Store, runs: list[str] | None = None, baseline: str | None = None) -> Comparison:
    frame = store.runs(include_archived=True)
    chosen = frame if runs is None else frame[frame["id"].isin(runs)]
    (comparison,) = compare(store, chosen, baseline)
    return comparison


def row(comparison: Comparison, label: str) -> pd.Series:
    return comparison.summary().set_index("label").loc[label]


# --- groups and doubles --------------------------------------------------------------------------------------------


def test_names_and_neutral_settings_make_no_groups(store: Store, finish: Finish) -> None:
    finish(run_config("kd", name="trial seed 0"), 0.80)
    finish(run_config("kd", name="trial seed 1", **train(seed=1, log_every=5)), 0.82)
    finish(run_config("kd", name="trial seed 2", **train(seed=2, device="cpu")), 0.84)
    comparison = one(store)
    assert comparison.labels == {comparison.baseline: "KD, 2 x 32"}
    assert row(comparison, "KD, 2 x 32")[["n", "seeds"]].tolist() == [3, "0, 1, 2"]
    assert comparison.table()["dev score"].tolist() == ["82.0 ± 2.0 (N=3)"]


def test_a_seed_that_ran_twice_is_one_observation_and_the_newest_counts(store: Store, finish: Finish) -> None:
    old, new, other = (finish(run_config("kd", seed), score) for seed, score in ((0, 0.5), (0, 0.7), (1, 0.9)))
    comparison = one(store)
    assert set(comparison.finished["id"]) == {new, other}
    assert row(comparison, "KD, 2 x 32")[["n", "mean"]].tolist() == [2, pytest.approx(0.8)]
    assert comparison.repeats() == [f"KD, 2 x 32, seed 0: {new} counts; {old} is older and does not"]


@pytest.mark.parametrize("facts", [ELSEWHERE, NEWER])
def test_the_usual_version_and_machine_comes_before_the_newest(store: Store, finish: Finish, facts: Any) -> None:
    here = [finish(run_config(method, seed), 0.7) for method in ("fine-tune", "kd") for seed in range(2)]
    finish(run_config("kd", 0), 0.9, facts)
    comparison = one(store)
    assert set(comparison.finished["id"]) == set(here)
    assert "ran on another version or machine than most" in comparison.repeats()[0]


def test_a_failed_or_running_run_never_stands_for_a_finished_one(store: Store, finish: Finish) -> None:
    done = finish(run_config("kd", 0), 0.7)
    failed = store.add_run(run_config("kd", 0))
    store.claim("test", "cpu", failed)
    store.record(failed, [RunStarted(HERE), RunFailed("broke", "mend it", "")])
    running = store.add_run(run_config("kd", 1))
    comparison = one(store)
    assert list(comparison.finished["id"]) == [done] and set(comparison.runs["id"]) == {done, running}
    assert row(comparison, "KD, 2 x 32")[["n", "unfinished"]].tolist() == [1, 1]


def test_a_pair_is_of_one_version_and_machine(store: Store, finish: Finish) -> None:
    for seed in range(3):
        finish(run_config("fine-tune", seed), 0.70)
        finish(run_config("kd", seed), 0.75, ELSEWHERE if seed == 2 else HERE)
    comparison = one(store)
    assert row(comparison, "KD, 2 x 32")[["n", "gap_n"]].tolist() == [3, 2]
    assert comparison.answers()[0][1].verdict.seeds == (0, 1)
    assert comparison.unpaired() == [
        "KD, 2 x 32: seed 2 ran on another version or machine than the baseline's, so no difference counts them"
    ]


def test_other_runs_of_the_store_are_offered_and_never_counted(store: Store, finish: Finish) -> None:
    chosen = [finish(run_config(method, 0), 0.7) for method in ("fine-tune", "kd")]
    more = [finish(run_config("kd", seed), 0.9) for seed in (1, 2)]
    finish(run_config("kd", 0), 0.1)  # a seed that is there already is not offered
    finish(run_config("kd", 3), None)  # nor one without a score
    comparison = one(store, chosen)
    assert row(comparison, "KD, 2 x 32")["mean"] == 0.7
    assert sorted(comparison.more(store.runs())["id"]) == sorted(more)


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans(), st.sampled_from("ab")), min_size=1))
def test_of_each_group_and_seed_one_run_counts(rows: list[tuple[int, int, bool, str]]) -> None:
    frame = pd.DataFrame(
        [
            {"group": group, "seed": seed, "state": "done" if done else "failed", "score": 0.5 if done else np.nan,
             "version": "1", "machine": machine, "rows": "", "created": at}
            for at, (group, seed, done, machine) in enumerate(rows)
        ]
    )  # fmt: skip
    counted = frame[counting(frame)]
    assert not counted.duplicated(["group", "seed"]).any()
    assert len(counted) == len(frame.drop_duplicates(["group", "seed"]))
    finished = frame[frame["state"] == "done"].drop_duplicates(["group", "seed"])
    assert (counted["state"] == "done").sum() == len(finished), "a finished run counts wherever there is one"


# --- what else differs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "topic"),
    [
        (train(epochs=2), "steps"),
        (train(lr=0.1), "training"),
        ({"student": {"layers": 4, "width": 32, "heads": 2, "init": "random"}}, "size"),
        (train(max_train_rows=99), "data"),
        ({"data": {"label_noise": 0.2}}, "data"),
    ],
)
def test_what_else_differs_is_said_and_no_verdict_given(store: Store, finish: Finish, changes: Any, topic: str) -> None:
    for seed in range(6):
        settings = {**changes, "train": changes.get("train", train()["train"]) | {"seed": seed}}
        finish(run_config("fine-tune", seed), 0.5 + 0.001 * seed)
        finish(run_config("kd", **settings), 0.9)
    comparison = one(store)
    ((label, answer),) = comparison.answers()
    assert list(comparison.also_differs()[label]) == [topic] == comparison.table()["also differs in"].tolist()[1:]
    assert answer.verdict is None and answer.headline == "Not the method alone." and topic in answer.sentence


SMALL = {"name": "small", "source": "pocket", "where": "small"}


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([TEACHER], [SMALL], "large against small"),
        ([TEACHER], [TEACHER, SMALL], "large against large, small"),
        ([TEACHER], [TEACHER | {"name": "big"}], None),
        ([TEACHER], [TEACHER | {"where": "small"}], "large ("),
    ],
)
def test_other_teachers_are_not_the_method(
    store: Store, finish: Finish, first: Any, second: Any, words: str | None
) -> None:
    for seed in range(6):
        finish(run_config("kd", seed, teachers=first), 0.5 + 0.001 * seed)
        finish(run_config("skd", seed, teachers=second), 0.9)
    ((_, answer),) = one(store).answers()
    if words is None:
        assert answer.headline == "Yes.", "what a machine calls a teacher does not matter"
    else:
        assert answer.verdict is None and "teachers: " in answer.sentence and words in answer.sentence


def test_a_teacher_that_training_alone_names_teaches_nothing(store: Store, finish: Finish) -> None:
    """It gives its vocabulary; that the other asks more teachers is what the other's method is."""
    for seed in range(6):
        finish(run_config("fine-tune", seed, teachers=[TEACHER]), 0.5 + 0.001 * seed)
        finish(run_config("skd", seed, teachers=[TEACHER, SMALL]), 0.9)
    ((_, answer),) = one(store).answers()
    assert answer.headline == "Yes."


def test_another_base_is_not_the_method(store: Store, finish: Finish) -> None:
    teacher = {"name": "big", "source": "package", "where": "minilm", "fine_tune": {}}
    for seed in range(6):
        finish(run_config("fine-tune", seed, base=teacher | {"where": "bert-tiny"}), 0.5)
        finish(run_config("kd", seed, teachers=[teacher]), 0.9)
    ((_, answer),) = one(store).answers()
    assert answer.verdict is None and "package:minilm against package:bert-tiny" in answer.sentence


def test_a_verdict_names_what_all_seeds_share(store: Store, finish: Finish) -> None:
    for seed in range(6):
        finish(run_config("fine-tune", seed), 0.5 + 0.001 * seed)
        finish(run_config("skd", seed, teachers=[TEACHER, SMALL]), 0.9)
    ((_, answer),) = one(store).answers()
    assert answer.sentence.endswith("with these teachers.")


def test_equal_protocols_say_nothing_of_it(store: Store, finish: Finish) -> None:
    for method in ("fine-tune", "kd"):
        finish(run_config(method), 0.5)
    assert one(store).also_differs() == {} and "also differs in" not in one(store).table()


# --- what the names stood for --------------------------------------------------------------------------------------


def seen(rows: str, weights: str = "w") -> dict[str, Any]:
    return HERE | {"data_fingerprint": rows, "teachers": {"large": {"content": weights}}}


def test_other_rows_under_one_name_are_another_group_and_no_pair(store: Store, finish: Finish) -> None:
    for seed in range(6):
        finish(run_config("fine-tune", seed), 0.5 + 0.001 * seed, seen("r1"))
        finish(run_config("kd", seed), 0.6, seen("r1"))
        finish(run_config("kd", seed), 0.9, seen("r2"))
    comparison = one(store)
    assert len(comparison.labels) == 3 and comparison.summary()["n"].tolist() == [6, 6, 6]
    answers = dict(comparison.answers())
    refused = [answer for answer in answers.values() if "other rows" in answer.sentence]
    assert len(refused) == 1 and refused[0].verdict is None
    assert sorted(comparison.summary()["gap_n"].tolist()) == [0, 0, 6], "runs on other rows are in no difference"


def test_other_weights_under_one_name_are_another_group(store: Store, finish: Finish) -> None:
    finish(run_config("kd", 0), 0.6, seen("r", "w1"))
    finish(run_config("kd", 1), 0.9, seen("r", "w2"))
    comparison = one(store)
    assert len(comparison.labels) == 2
    (label,) = comparison.also_differs()
    assert comparison.also_differs()[label] == {"weights": "other weights of teacher large under the same name"}


def test_a_run_that_has_not_said_its_rows_joins_the_others(store: Store, finish: Finish) -> None:
    """Queued runs, and those of version 0.1.0."""
    finish(run_config("kd", 0), 0.6, seen("r1"))
    finish(run_config("kd", 1), 0.6)
    store.add_run(run_config("kd", 2))
    assert len(one(store).labels) == 1


# --- one answer everywhere -----------------------------------------------------------------------------------------


@pytest.fixture
def mixed(store: Store, finish: Finish) -> list[str]:
    """Named seeds, a seed twice, neutral settings that differ, unequal steps, a failed run, and the example's and the
    demo's run of one seed."""
    runs = []
    for seed in range(6):
        runs.append(finish(run_config("fine-tune", seed, name=f"trial seed {seed}"), 0.70 + 0.01 * seed))
        extra = {1: {"log_every": 5}, 2: {"device": "cpu"}}.get(seed, {})
        runs.append(finish(run_config("kd", **train(seed=seed, **extra)), 0.75 + 0.012 * seed))
        runs.append(finish(run_config("pkd", **train(seed=seed, epochs=2)), 0.80))
    runs.append(finish(run_config("kd", 0), 0.60, ELSEWHERE))
    runs.append(finish(run_config("kd", 3), 0.787))
    failed = store.add_run(run_config("skd", 0))
    store.claim("test", "cpu", failed)
    store.record(failed, [RunStarted(HERE), RunFailed("broke", "mend it", "")])
    return [*runs, failed]


def surfaces(store: Store, ids: list[str], visit: Any) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Surface -> label -> (seeds counted, mean, gap, verdict), as each of them shows it."""
    page = visit("compare", runs=",".join(ids))
    assert not page.exception and not page.error
    table = next(frame.value for frame in page.dataframe if "Δ to baseline" in frame.value)
    html = report.html(store, ids)
    shown = json.loads(CliRunner().invoke(app, ["compare", *ids, "--json"]).stdout)
    cells = {r["label"]: r for r in shown["groups"]}
    verdicts = dict(re.findall(r'<span class="quiet">(.*?) against .*?<strong>(.*?)</strong>', html))
    spoken = {label: next((s for s in shown["verdicts"] if f", {label} against" in s), "") for label in cells}
    return {
        "page": {r["method and student"]: (r["dev score"], r["Δ to baseline"]) for r in table.to_dict("records")},
        "report": {
            label: (score, gap)
            for label, score, gap in re.findall(
                r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td><td>([^<]*)</td>', html
            )
            if label in cells and (gap == "baseline" or "N=" in gap)
        },
        "command": {label: (_mean(r, "mean", "std", "n"), _gap(r)) for label, r in cells.items()},
        "verdicts": {
            label: (verdicts.get(label), verdicts.get(label) is None or verdicts[label] in spoken[label])
            for label in cells
        },
    }


def _mean(values: dict[str, Any], mean: str, std: str, n: str, sign: bool = False) -> str:
    from kdcore.analysis.groups import format_mean

    numbers = [float("nan") if values[key] is None else 100 * values[key] for key in (mean, std)]
    return format_mean(*numbers, values[n], sign=sign)


def _gap(values: dict[str, Any]) -> str:
    return "baseline" if values["baseline"] else _mean(values, "gap", "gap_std", "gap_n", sign=True)


def test_page_report_and_command_line_say_the_same(store: Store, mixed: list[str], visit: Any) -> None:
    ids = store.runs()["id"].tolist()
    done = [run for run in ids if store.get(run).state == "done"]
    shown = surfaces(store, done, visit)
    assert shown["page"] == shown["report"] == shown["command"] and len(shown["page"]) == 3
    assert shown["page"]["KD, 2 x 32"][0].endswith("(N=6)")
    assert shown["verdicts"]["KD, 2 x 32"][0] == "Yes." and all(agrees for _, agrees in shown["verdicts"].values())
    assert shown["verdicts"]["Patient KD, 2 x 32"][0] == "Not the method alone."
    gains = over_fine_tuning(store.runs()).groupby(store.runs()["id"]).first()
    comparison = one(store, done)
    for label in ("KD, 2 x 32",):
        counted = comparison.finished[comparison.finished["label"] == label]["id"]
        assert np.isclose(gains[list(counted)].mean(), row(comparison, label)["gap"])


def test_a_failed_run_is_listed_and_counts_nowhere(store: Store, mixed: list[str], visit: Any) -> None:
    page = visit("compare", runs=",".join(mixed))
    table = next(frame.value for frame in page.dataframe if "Δ to baseline" in frame.value)
    table = table.set_index("method and student")
    failed = next(label for label in table.index if label.startswith("S"))
    assert table.loc[failed, "dev score"] == "–" and table.loc[failed, "unfinished"] == 1
    assert report.html(store, mixed).count(failed) >= 1


def test_the_example_and_a_demo_of_the_same_seed_are_one_observation(store: Store, finish: Finish, visit: Any) -> None:
    ids = example.open_study(store)
    before = {label: r["n"] for label, r in one(store, ids).summary().set_index("label").iterrows()}
    twins = [config for config in (store.get(run).config for run in ids) if config.train.seed == 0]
    again = [finish(config.model_copy(update={"name": ""}), 0.5) for config in twins]
    after = one(store, [*ids, *again])
    assert {label: r["n"] for label, r in after.summary().set_index("label").iterrows()} == before
    assert not set(after.finished["id"]) & set(again) and len(after.repeats()) == len(again)
    shown = surfaces(store, [*ids, *again], visit)
    assert shown["page"] == shown["report"] == shown["command"]
    assert demo_runs()[0].task.startswith("pocket-")


# --- verdicts ------------------------------------------------------------------------------------------------------


def test_six_paired_seeds_that_agree_make_a_winner_with_its_test_named(store: Store, finish: Finish) -> None:
    for seed in range(6):  # gaps 2.0, 2.2, ..., 3.0 points: mean 2.5, standard error 0.374 / sqrt(6), t(5) = 2.571
        finish(run_config("fine-tune", seed), 0.50 + 0.01 * seed)
        finish(run_config("kd", seed), 0.52 + 0.012 * seed)
    ((_, answer),) = one(store).answers()
    assert answer.headline == "Yes."
    assert answer.sentence == (
        "KD, 2 x 32 is better than Fine-tuning alone, 2 x 32 by 2.5 points (95% interval +2.1 to +2.9), with this "
        "teacher."
    )
    assert answer.basis == "seeds 0, 1, 2, 3, 4, 5; scores only; paired t-test over seeds; p < 0.001"


def test_seeds_that_disagree_or_are_few_make_no_winner(store: Store, finish: Finish) -> None:
    for seed, (first, second) in enumerate([(0.5, 0.6), (0.6, 0.5), (0.5, 0.6), (0.6, 0.5), (0.5, 0.6)]):
        finish(run_config("kd", seed), first)
        finish(run_config("fine-tune", seed), second)
    finish(run_config("kd", 7), 0.9)  # no pair
    ((_, answer),) = one(store).answers()
    assert answer.headline == "Not enough seeds." and "5 paired seeds, a verdict needs 6" in answer.sentence
    finish(run_config("fine-tune", 7), 0.7)
    ((_, answer),) = one(store).answers()
    assert answer.headline == "Not shown." and "no winner between" in answer.sentence


# --- the gain in lists ---------------------------------------------------------------------------------------------


def test_gain_over_fine_tuning_is_taken_within_protocol_and_pair() -> None:
    rows = [
        ("fine-tune", "a", 0, 0.70, "1"),
        ("fine-tune", "a", 1, 0.60, "1"),
        ("fine-tune", "a", 1, 0.64, "1"),  # older: the list is newest first
        ("kd", "a", 0, 0.73, "1"),
        ("kd", "a", 1, 0.60, "1"),
        ("kd", "a", 2, 0.90, "1"),  # no fine-tuning of this seed
        ("kd", "a", 0, 0.90, "2"),  # nor of this version
        ("kd", "b", 0, 0.90, "1"),  # nor of this training
        ("pkd", "a", 0, np.nan, "1"),  # not finished
    ]
    runs = pd.DataFrame(rows, columns=["method", "protocol", "seed", "score", "version"])
    runs = runs.assign(machine="m", rows="", state="done", created=range(len(runs), 0, -1))
    gains = over_fine_tuning(runs)
    assert np.allclose(gains, [np.nan] * 3 + [0.03, 0.0] + [np.nan] * 4, equal_nan=True)
    assert over_fine_tuning(runs[runs["method"] == "kd"]).isna().all()
    assert over_fine_tuning(runs.iloc[:0]).empty
