"""Tuning: as many trials of each method, judged on `select`, and tables that say so."""

import pytest

from kdcore.analysis.comparison import compare
from kdcore.errors import UserError
from kdcore.identity import config_hash
from kdcore.search.search import search
from kdcore.search.tune import Tuning, tune, values_of
from kdcore.settings_file import validate


@pytest.fixture
def tuning(asked):
    run = asked({"parameters": 1e9}).run | {"student": {"layers": 2, "init": "teacher"}}

    def make(**fields):
        defaults = {"name": "options", "run": run, "methods": ["kd", "fine-tune"], "trials": 4, "seeds": [0, 1]}
        return validate(Tuning, defaults | fields)

    return make


def peak(run):
    """Best where alpha is 0.8; a method without options scores 0.6."""
    return 0.9 - abs(run.options.get("alpha", 0.5) - 0.8) + 0.01 * run.train.seed


def test_each_method_has_as_many_trials_and_starts_from_its_defaults(store, tuning, script):
    script.score = peak
    found = {one.method: one for one in tune(store, tuning(methods=["kd", "pkd"]), script)}
    assert {name: one.trials for name, one in found.items()} == {"kd": 4, "pkd": 4}
    for name, one in found.items():
        trained = [run for run in script.trained if run.method == name]
        assert trained[0].options["alpha"] == 0.5
        best = max((run for run in trained if run.train.seed == 0), key=peak)
        assert one.options["alpha"] == best.options["alpha"]
        assert [store.get(run).config.train.seed for run in one.seeds] == [0, 1]
    assert len({config_hash(run) for run in script.trained}) == len(script.trained) == 2 * (4 + 1)


def test_tables_say_which_options_were_tuned(store, tuning, script):
    script.score = peak
    found = tune(store, tuning(), script)
    by_method = {one.method: one for one in found}
    assert by_method["fine-tune"].note == "nothing to tune" and by_method["fine-tune"].trials == 1
    frame = store.runs(["done"])
    chosen = frame[frame["id"].isin([run for one in found for run in one.seeds])]
    (comparison,) = compare(store, chosen)
    table = comparison.table().set_index("method and student")["options"]
    assert sorted(table) == ["defaults", "tuned with 4 trials"]
    (alone,) = compare(store, frame[frame["method"] == "fine-tune"])
    assert "options" not in alone.table()


def test_a_tuning_that_was_killed_goes_on(store, tuning, script):
    script.score = peak
    script.dies = lambda run: len(script.trained) == 3
    with pytest.raises(KeyboardInterrupt):
        tune(store, tuning(methods=["kd"]), script)
    script.dies = lambda run: False
    (found,) = tune(store, tuning(methods=["kd"]), script)
    assert found.trials == 4 and len({config_hash(run) for run in script.trained}) == 4 + 1
    before = len(script.trained)
    tune(store, tuning(methods=["kd"]), script)
    assert len(script.trained) == before


def test_a_name_stands_for_one_question(store, tuning, script):
    tune(store, tuning(methods=["kd"]), script)
    shorter = tuning().run | {"train": tuning().run["train"] | {"epochs": 1}}
    with pytest.raises(UserError, match=r"run: differs from what the tuning options"):
        tune(store, tuning(methods=["kd"], run=shorter), script)
    tune(store, tuning(methods=["kd"], seeds=[0, 1, 2]), script)  # further seeds are welcome


def test_a_search_and_a_tuning_do_not_share_a_name(store, asked, tuning, script):
    search(store, asked({"parameters": 1e9}, name="one", trials=1), script)
    tune(store, tuning(methods=["kd"], name="two"), script)
    trained = len(script.trained)
    with pytest.raises(UserError, match=r"^name: one is the name of a search; choose another name"):
        tune(store, tuning(methods=["kd"], name="one"), script)
    with pytest.raises(UserError, match=r"^name: two is the name of a tuning; choose another name"):
        search(store, asked({"parameters": 1e9}, name="two", trials=1), script)
    assert len(script.trained) == trained


def test_a_default_beside_the_choices_is_tried_first(store, tuning, script):
    one = tuning(methods=["kd"], ranges={"kd": {"temperature": [2.0, 3.0, 8.0], "alpha": None}})
    assert values_of(one, "kd")["temperature"].choices == (10.0, 2.0, 3.0, 8.0)
    (found,) = tune(store, one, script)
    assert found.trials == 4 and script.trained[0].options["temperature"] == 10.0


def test_ranges_of_the_file_go_over_the_declared_ones(tuning):
    given = {"pkd": {"beta": [10, 100, "log"], "layers": ["skip", "last"], "temperature": None}}
    values = values_of(tuning(methods=["pkd"], ranges=given), "pkd")
    assert (values["beta"].low, values["beta"].high, values["beta"].log) == (10, 100, True)
    assert values["layers"].choices == ("skip", "last") and "temperature" not in values
    assert values["alpha"].low == 0.1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"methods": ["nope"]}, "method"),
        ({"trials": 1}, "trials"),
        ({"ranges": {"kd": {"beta": [1, 2]}}}, "ranges.kd.beta"),
        ({"ranges": {"kd": {"alpha": [0.5, 3]}}}, "ranges.kd.alpha"),
        ({"ranges": {"kd": {"alpha": [0.9, 0.2]}}}, "ranges.kd.alpha"),
        ({"seeds": [0, -1]}, "run.train.seed"),
        ({"methods": ["wkd"]}, "teachers"),
    ],
)
def test_mistakes_name_the_field(store, tuning, script, change, field):
    with pytest.raises(UserError) as caught:
        tune(store, tuning(**change), script)
    assert caught.value.field == field and caught.value.remedy and not script.trained
