"""A search: what exceeds the bound is not trained, what falls behind ends early, and nothing is trained twice."""

import sys
import threading

import numpy as np
import pytest

from kdcore.engine import own_vocabulary
from kdcore.errors import UserError
from kdcore.identity import config_hash
from kdcore.models.count import parameters, row_length
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from kdcore.runs.work import work
from kdcore.runs.worker import Worker
from kdcore.search import record, scores, study
from kdcore.search.candidates import Space
from kdcore.search.question import template
from kdcore.search.result import SearchResult
from kdcore.search.search import TrialRun, search
from kdcore.search.tune import Tuning, tune
from tests.helpers import tiny_task
from tests.search.conftest import Script

ANY = {"parameters": 1e9}


def by_size(run):
    """A deeper or wider student scores more."""
    return 0.5 + 0.1 * run.student.layers + (0 if run.student.width else 0.05)


def weights(asked, size):
    space = Space(asked(ANY))
    return parameters(space.deployed(space.default("kd", size))).total


def test_what_exceeds_the_bound_is_never_trained_and_named(store, asked, script):
    script.score = by_size
    limit = weights(asked, "1 layer")
    found = search(store, asked({"parameters": limit}), script)
    assert {(run.student.layers, run.student.width) for run in script.trained} == {(1, None), (1, 8)}
    assert found.too_dear == {"2 layers": "parameters"}
    result = SearchResult(store, found)
    assert result.chosen["size"] == "1 layer"
    assert "Never trained, since they exceed the bound: 2 layers." in result.sentences()


def test_sizes_of_one_depth_and_width_are_told_apart(asked):
    narrow = {"layers": 1, "width": 8}
    sizes = Space(asked(ANY, sizes=[narrow | {"heads": 2}, narrow | {"heads": 4}, narrow | {"heads": 2}])).sizes
    assert {label: size["heads"] for label, size in sizes.items()} == {
        "1 x 8, 2 heads, 32 intermediate": 2, "1 x 8, 4 heads, 32 intermediate": 4,
    }  # fmt: skip


def test_no_label_stands_for_two_sizes(asked):
    listed = [
        "one-layer", {"layers": 1}, {"layers": 1, "width": 16}, {"layers": 1, "width": 16, "intermediate": 64},
        {"layers": 1, "intermediate": 64}, {"layers": 1, "heads": 1}, {"layers": 1, "form": "kronecker-8"},
        {"layers": 1, "width": 16, "form": "kronecker-8"}, {"layers": 1, "width": 8, "heads": 2},
        {"layers": 1, "width": 8, "heads": 1}, {"layers": 1, "width": 8, "heads": 2, "vocabulary": 100}, {"layers": 2},
    ]  # fmt: skip
    space = Space(asked(ANY, sizes=listed))
    made = [space.plan(template(space.question.run, "kd", {"init": "teacher"} | one)).student_size
            for one in (*space.sizes.values(), *(one for one in listed if isinstance(one, dict)))]  # fmt: skip
    labelled, every = made[: len(space.sizes)], set(made)
    assert len(set(labelled)) == len(labelled) and set(labelled) == every, list(space.sizes)


def test_vocabularies_are_sizes_of_their_own(asked):
    sizes = Space(asked(ANY, sizes=[narrow_with(100), narrow_with(300), narrow_with(100)])).sizes
    assert [size["vocabulary"] for size in sizes.values()] == [100, 300]
    assert all(f"{size['vocabulary']} subword tokens" in label for label, size in sizes.items())


def narrow_with(pieces):
    return {"layers": 1, "width": 8, "heads": 2, "vocabulary": pieces}


def test_the_last_seed_must_be_one_that_a_run_takes(store, asked, script):
    run = asked(ANY).run
    run = run | {"train": run["train"] | {"seed": 2**31 - 2}}
    assert Space(asked(ANY, run=run, seeds=2)).run.train.seed == 2**31 - 2
    with pytest.raises(UserError, match=rf"^seeds: the last of 3 seeds would be {2**31} "):
        search(store, asked(ANY, run=run, seeds=3), script)
    assert not script.trained


def test_the_largest_seed_is_searched_and_tuned_with(store, asked, script):
    question = asked(ANY)
    run = question.run | {"train": question.run["train"] | {"seed": 2**31 - 1}}
    search(store, asked(ANY, run=run, trials=4, sizes=[{"layers": 1}]), script)
    tuned = run | {"student": {"layers": 2, "init": "teacher"}}
    tune(store, Tuning(name="options", run=tuned, methods=("kd",), trials=3, seeds=(2**31 - 1,)), script)
    assert len(script.trained) == 4 + 3 and {run.train.seed for run in script.trained} == {2**31 - 1}


def test_with_a_share_the_cheapest_that_has_it_is_recommended(store, asked, script):
    script.score = by_size  # 1 x 8: 0.6, 1 layer: 0.65, 2 layers: 0.75
    found = search(store, asked({"share": 0.8, "least": "parameters"}), script)
    assert SearchResult(store, found).chosen["size"] == "1 layer"  # 0.8 x 0.8 = 0.64
    script.teacher = 1.0
    found = search(store, asked({"share": 0.99, "least": "parameters"}, name="more"), script)
    result = SearchResult(store, found)
    assert result.chosen["size"] == "2 layers"
    assert any("less than the 99 % asked for" in words for words in result.sentences())


def test_a_run_of_the_same_settings_is_not_trained_again(store, asked, script):
    question = asked(ANY)
    space = Space(question)
    there = store.add_run(space.run_of(space.default("kd", "2 layers")))
    store.record(there, list(script(store.get(there).config, None, _Never())))
    script.trained.clear()
    found = search(store, question, script)
    assert {run.student.layers for run in script.trained} == {1} and len(script.trained) == 2
    assert [trial["run"] for trial in found.trials if trial["reused"]] == [there]
    assert scores.seconds(store, found.trials) == 20.0


class _Never:
    def stop_requested(self):
        return None


def test_a_trial_that_falls_behind_ends_early(store, asked, script, monkeypatch):
    script.score = by_size
    script.waits = lambda run: run.student.layers == 1  # until it is stopped: the deeper one came first and is better
    monkeypatch.setattr(study, "WHOLE", 1)
    found = search(store, asked(ANY), script)
    states = {trial["size"]: trial["state"] for trial in found.trials if trial.get("run")}
    assert states == {"2 layers": "complete", "1 layer": "pruned", "1 x 8": "pruned"}
    stopped = store.runs(["stopped"])
    assert len(stopped) == 2 and set(stopped["sweep"]) == {"tiny"}


def test_a_run_that_somebody_else_asked_for_is_never_ended_early(store, asked, script, monkeypatch):
    script.score = by_size
    monkeypatch.setattr(study, "WHOLE", 1)
    space = Space(asked(ANY))
    theirs = store.add_run(space.run_of(space.default("kd", "1 layer")), sweep="another")
    found = search(store, asked(ANY, sizes=[{"layers": 1}, {"layers": 2}]), script)
    assert store.get(theirs).state == "done" and theirs in [trial["run"] for trial in found.trials if trial.get("run")]


def test_a_run_that_was_deleted_is_not_recommended(store, asked, script):
    script.score = by_size
    found = search(store, asked(ANY), script)
    best = found.trials[found.chosen]["run"]
    store.delete(best)
    chosen = scores.best(store, found)
    assert chosen is not None and found.trials[chosen]["run"] != best
    for trial in found.trials:
        if trial.get("run") not in (None, best):
            store.delete(trial["run"])
    assert scores.best(store, found) is None


def test_what_was_tried_is_not_said_to_be_left_out(store, asked, script):
    found = search(store, asked(ANY), script)
    pair = f"{found.trials[0]['method']} on {found.trials[0]['size']}"
    found.refused[pair] = "no room on disk for a moment"
    found.trials.append(found.trials[0] | {"run": None, "state": "fail", "why": record.NO_TIME, "number": 99})
    assert not any(pair in words for words in SearchResult(store, found)._left_out())


def test_the_first_trials_are_trained_to_their_ends(store, asked, script):
    script.score = by_size
    found = search(store, asked(ANY, trials=study.WHOLE), script)
    assert [trial["state"] for trial in found.trials if trial.get("run")] == ["complete"] * study.WHOLE


def test_a_killed_search_goes_on_and_trains_nothing_twice(store, asked, script):
    script.score = by_size
    script.dies = lambda run: run.student.layers == 1
    with pytest.raises(KeyboardInterrupt):
        search(store, asked(ANY), script)
    assert len(script.trained) == 2
    script.dies = lambda run: False
    found = search(store, asked(ANY), script)
    hashes = [config_hash(run) for run in script.trained]
    assert len(hashes) == 4 and len(set(hashes)) == 3  # the run that was under way went on, as a resumed run does
    assert hashes[1] == hashes[2] and len(store.runs()) == 3
    assert [trial["state"] for trial in found.trials if trial.get("run")] == ["complete"] * 3


def test_what_was_ended_early_before_a_kill_is_not_trained_again(store, asked, script, monkeypatch):
    script.score = by_size
    script.waits = lambda run: run.student.layers == 1
    monkeypatch.setattr(study, "WHOLE", 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrialRun, "ends", _killed_where_stopped(TrialRun.ends))
        search(store, asked(ANY), script)
    before = len(script.trained)
    found = search(store, asked(ANY), script)
    assert before == 2 and len(script.trained) == 3
    assert [trial["state"] for trial in found.trials if trial.get("run")] == ["complete", "pruned", "pruned"]


def _killed_where_stopped(ends):
    def end(self, run_id, state):
        if state == "stopped":
            raise KeyboardInterrupt
        ends(self, run_id, state)

    return end


def test_other_workers_of_the_queue_train_a_searchs_runs(store, asked, script):
    script.score = by_size
    other, closing = Script(), threading.Event()
    other.score = by_size
    script.waits = other.waits = lambda run: run.student.layers == 2  # so that both are at work
    worker = Worker(store, "auto", other, closing, can={"auto": 1e12, "cpu": 1e12})
    helper = threading.Thread(target=work, args=(worker,))
    helper.start()
    try:
        found = search(store, asked(ANY, slots=2), script)
    finally:
        closing.set()
        helper.join()
    hashes = [config_hash(run) for run in script.trained + other.trained]
    assert other.trained and len(hashes) == len(set(hashes)) == 3
    assert {trial["state"] for trial in found.trials if trial.get("run")} <= {"complete", "pruned"}


def test_more_minutes_may_be_given_and_nothing_else_may_change(store, asked, script):
    found = search(store, asked(ANY, trials=1), script)
    assert len(script.trained) == 1 and "1 trials were asked for" in found.ended
    assert "Not tried, for lack of time" in " ".join(SearchResult(store, found).sentences())
    search(store, asked(ANY, trials=2), script)
    assert len(script.trained) == 2
    with pytest.raises(UserError, match="bound: differs"):
        search(store, asked({"parameters": 1e8}, trials=2), script)


def test_a_search_that_knows_its_sizes_by_other_names_is_not_gone_on_with(store, asked, script):
    question = asked(ANY, sizes=[{"layers": 1}, narrow_with(100)], trials=1)
    found = search(store, question, script)
    found.costs = {name.replace("subword tokens", "words"): cost for name, cost in found.costs.items()}
    record.write(question.name, found)
    with pytest.raises(UserError, match=r"^sizes: .*another version.*'1 x 8, 100 words'.*another name"):
        search(store, question, script)


def test_no_trial_begins_that_the_time_cannot_hold(store, asked, script):
    found = search(store, asked(ANY, minutes=0.001), script)
    assert not script.trained and found.chosen is None
    assert found.ended == "no trial fits into the time that is left"
    words = SearchResult(store, found).sentences()
    assert words[0].startswith("Nothing is recommended") and "Not tried, for lack of time" in words[1]


def test_where_nothing_is_left_to_try_it_is_not_said_to_be_late(store, asked, script):
    found = search(store, asked(ANY, methods=["fine-tune"], trials=None, sizes=[{"layers": 1}]), script)
    assert script.trained and found.ended == "nothing new was proposed"


def test_options_are_searched_once_the_methods_own_were_tried(store, asked, script):
    script.score = lambda run: 1 - abs(run.options["alpha"] - 0.8)
    found = search(store, asked(ANY, trials=8, sizes=[{"layers": 1}]), script)
    alphas = [run.options["alpha"] for run in script.trained]
    assert alphas[0] == 0.5 and len(set(alphas)) == len(alphas) and all(0.1 <= alpha <= 1 for alpha in alphas)
    assert SearchResult(store, found).trials["select"].iloc[0] == max(map(script.score, script.trained))


def test_the_recommended_setting_is_trained_with_other_seeds(store, asked, script):
    script.score = lambda run: by_size(run) + 0.01 * run.train.seed
    found = search(store, asked(ANY, seeds=3), script)
    runs = [store.get(run).config for run in found.seeds]
    assert [run.train.seed for run in runs] == [0, 1, 2] and {run.student.layers for run in runs} == {2}
    words = " ".join(SearchResult(store, found).sentences())
    assert "On select it scores 76.0 ± 1.0 (3 seeds)" in words and "On the dev rows it scores 66.0 ± 1.0" in words


def test_the_front_holds_what_no_cheaper_trial_beats(store, asked, script):
    script.score = lambda run: 0.9 if run.student.width else by_size(run)
    trials = SearchResult(store, search(store, asked(ANY), script)).trials
    assert list(trials.loc[trials["front"], "size"]) == ["1 x 8"]


def test_a_bound_that_nothing_meets_says_how_near_one_comes(store, asked, script):
    with pytest.raises(UserError) as caught:
        search(store, asked({"parameters": 10}), script)
    assert caught.value.field == "bound.parameters" and "1 x 8 comes nearest with" in caught.value.problem
    assert not script.trained and store.runs().empty and not record.searches()


def test_the_engine_trains_what_was_chosen(store, asked):
    """With the real engine, a timed bound, and the student that is kept."""
    bound = {"p95_ms": 1e5, "runtime": "torch-fp32", "threads": 1, "batch": 2, "share": 0.1}
    found = search(store, asked(bound, trials=1, sizes=[{"layers": 1}], seeds=2))
    (cost,) = found.costs.values()
    assert 0 < cost["p50_ms"] <= cost["p95_ms"]
    frame = scores.columns(store, found.seeds)
    assert list(frame["state"]) == ["done", "done"] and found.chosen == 0
    kept = store.get(found.seeds[0])
    assert kept.facts["parameters"] == cost["parameters"]
    assert found.tokens == row_length(kept.facts["mean_tokens"])


@pytest.mark.parametrize("tokens", [None, 16])
def test_a_size_with_words_of_its_own_is_timed_on_its_own_tokens_of_the_same_row(
    store, asked, script, monkeypatch, tokens
):
    """Letters for words make its rows longer."""
    letters = sorted(set("".join(tiny_task.VOCABULARY[5:])))
    pieces = (*tiny_task.VOCABULARY[:5], *letters, *(f"##{letter}" for letter in letters))
    monkeypatch.setattr(own_vocabulary, "train_vocabulary", lambda *_: pieces)
    sizes = [{"layers": 1}, {"layers": 1, "vocabulary": 64}]
    bound = {"p95_ms": 1e5, "runtime": "torch-fp32", "threads": 1, "tokens": tokens}
    question = asked(bound, trials=1, sizes=sizes)
    space = Space(question)
    texts = space._plan({"layers": 1, "init": "random"}).training_rows.texts[0]
    base, own = (np.mean([min(32, len(words(text)["input_ids"])) for text in texts])
                 for words in (tiny_task.tokenizer(), tokenizer_from_vocabulary(pieces)))  # fmt: skip
    assert own > 1.2 * base
    found = search(store, question, script)
    lengths = {name: cost["tokens"] for name, cost in found.costs.items()}
    expected = tokens or max(8, base)
    assert lengths == {"1 layer": round(expected), "1 layer, 64 subword tokens": round(expected * own / base)}
    assert found.tokens == lengths["1 layer"]
    said = " ".join(SearchResult(store, found).sentences())
    longest = lengths["1 layer, 64 subword tokens"]
    assert f"{found.tokens} tokens ({found.tokens} to {longest} in their own vocabularies)" in said


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"bound": {"p95_ms": 5, "runtime": "tflite"}}, "bound.runtime"),
        ({"bound": {}}, "bound"),
        ({"bound": {"p95_ms": 5, "runtime": "torch-fp32", "tokens": 4000}}, "bound.tokens"),
        ({"minutes": 0}, "minutes"),
        ({"methods": ["nope"]}, "method"),
        ({"sizes": ["huge"]}, "sizes[0]"),
        ({"sizes": [{"depth": 3}]}, "run.student.depth"),
        ({"starts": [{"init": "base"}]}, "starts[0].init"),
        ({"run": {"task": "pocket-sentiment"}}, "run.teachers"),
        ({"run": {"task": "pocket-sentiment", "method": "kd"}}, "run.method"),
        ({"name": "A B"}, "name"),
    ],
)
def test_mistakes_name_the_field_and_what_to_do(store, asked, script, change, field):
    from kdcore.search.question import read_question

    with pytest.raises(UserError) as caught:
        search(store, read_question(None, asked(ANY).model_dump(mode="json") | change), script)
    assert caught.value.field == field and caught.value.remedy and not script.trained


def test_packages_that_are_not_installed_are_named(store, asked, script, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"bound.runtime: the package onnx.*kdboard\[onnx\]"):
        search(store, asked({"p95_ms": 5, "runtime": "onnx-int8"}), script)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"optuna is not installed.*kdboard\[search\]"):
        search(store, asked(ANY), script)


def test_two_processes_do_not_search_under_one_name(store, asked, script):
    with record.folder_lock("tiny"), pytest.raises(UserError, match="under way in another process"):
        search(store, asked(ANY), script)


def test_int8_files_are_timed_and_weighed(store, asked):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    from kdcore.search.costs import measure

    size = {"one": tiny_task.SIZE}
    whole, small = (measure(size, asked({"p95_ms": 1e5, "runtime": runtime}).bound, {"one": 8}).of["one"]
                    for runtime in ("onnx-fp32", "onnx-int8"))  # fmt: skip
    assert small.disk_mib < whole.disk_mib and 0 < small.p50_ms <= small.p95_ms
