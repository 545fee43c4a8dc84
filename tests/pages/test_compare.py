"""Compare: distances to a baseline, the verdict, where the gain comes from; and the small parts behind the pages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kdcore.analysis.significance import compare, describe
from kdcore.events import Evaluated, Probed, RunFinished, RunStarted
from pages.parts.common import first_choice, queue_runs
from pages.parts.common.plot import Click, read_click
from pages.parts.compare import race, significance
from tests.helpers.store_factory import add, run_config, words

ROOT = Path(__file__).resolve().parents[2]


def _mean(table: pd.DataFrame, label: str) -> float:
    return float(table.set_index("label")["mean"][label])


# --- clicks --------------------------------------------------------------------------------------------------------


def test_a_click_is_read_from_what_the_browser_sent() -> None:
    cell = {"curve": 0, "name": "", "point": None, "row": 2, "column": 5, "x": 5, "y": 2, "value": 0.25, "custom": []}
    assert read_click(cell) == Click(0, "", None, 2, 5, 5, 2, 0.25, ())
    point = {"curve": 1, "name": "KD", "point": 3, "x": 1.5, "y": 90.0, "custom": [3, "group"]}
    assert read_click(point) == Click(1, "KD", 3, None, None, 1.5, 90.0, None, (3, "group"))


@pytest.mark.parametrize("raw", [None, "click", 3, []])
def test_nonsense_is_no_click(raw: object) -> None:
    assert read_click(raw) is None


def test_wrong_types_in_a_click_do_no_harm() -> None:
    click = read_click({"curve": "x", "row": "2", "column": True, "value": "high", "custom": "a"})
    assert click == Click(0, "", None, None, None, None, None, None, ())


# --- seeds and verdicts --------------------------------------------------------------------------------------------


def test_seeds_that_one_side_has_come_first() -> None:
    assert significance.seeds_to_run(({0, 1, 2}, {0, 1})) == [2, 3, 4, 5]
    assert significance.seeds_to_run((set(), set())) == [0, 1, 2, 3, 4, 5]
    assert significance.seeds_to_run(({7, 8}, {7, 8})) == [0, 1, 2, 3]
    assert significance.seeds_to_run((set(range(6)), set(range(9)))) == []


def test_the_answer_describe() -> None:
    better = compare({seed: 0.80 + 0.002 * seed for seed in range(6)}, dict.fromkeys(range(6), 0.78))
    sentence = "KD is better than alone by 2.5 points (95% interval +2.1 to +2.9)."
    assert describe(better, "KD", "alone") == ("Yes.", sentence)
    worse = compare(dict.fromkeys(range(6), 0.78), {seed: 0.80 + 0.002 * seed for seed in range(6)})
    assert describe(worse, "alone", "KD") == ("Yes.", sentence)
    chance = compare({seed: 0.8 + 0.1 * (-1) ** seed for seed in range(6)}, dict.fromkeys(range(6), 0.79))
    assert describe(chance, "KD", "alone")[0] == "Not shown."
    few = compare({0: 0.9, 1: 0.8}, {0: 0.5, 1: 0.6})
    headline, said = describe(few, "KD", "alone")
    assert headline == "Not enough seeds." and "2 paired seeds, a verdict needs 6" in said and "KD is ahead" in said
    assert "the two score the same" in describe(compare({0: 0.5}, {0: 0.5}), "KD", "alone")[1]


def test_a_seeded_copy_changes_seed_and_name_only() -> None:
    run = run_config("kd", 3)
    copy = queue_runs.with_seed(run, 8)
    assert copy.name == "kd seed 8" and copy.train.seed == 8
    assert copy.model_copy(update={"name": run.name, "train": run.train}) == run
    assert queue_runs.with_seed(run.model_copy(update={"name": "mine"}), 8).name == "mine"


def test_too_few_seeds_offer_the_missing_ones(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config(method, seed)) for method in ("fine-tune", "kd") for seed in range(2)]
    made.append(add(store, run_config("kd", 2)))
    app = visit("compare", runs=",".join(made))
    assert not app.exception and "Not enough seeds" in words(app)
    button = app.button(key="verdict_queue")
    assert "(7 runs)" in button.label
    button.click().run()
    assert not app.exception
    waiting = store.runs(states=["queued"])
    assert sorted(zip(waiting["method"], waiting["seed"], strict=True)) == [
        *(("fine-tune", seed) for seed in (2, 3, 4, 5)),
        *(("kd", seed) for seed in (3, 4, 5)),
    ]
    assert len(app.query_params["runs"].split(",")) == 12, "what was queued joins the comparison"
    again = visit("compare", runs=",".join(made))
    again.button(key="verdict_queue").click().run()
    assert len(store.runs(states=["queued"])) == 7, "nothing is queued twice"


def test_six_paired_seeds_give_a_verdict(store: Any, visit: Callable[..., Any]) -> None:
    made = [
        add(store, run_config(method, seed), score=score + 0.002 * seed)
        for method, score in (("fine-tune", 0.70), ("kd", 0.75))
        for seed in range(6)
    ]
    said = words(visit("compare", runs=",".join(made))).replace("\\", "")
    assert "**Yes.** KD, 2 x 32 is better than Fine-tuning alone, 2 x 32 by 5.0 points" in said
    assert "paired t-test over seeds" in said and "scores only" in said


def test_kept_predictions_count_the_rows_too(store: Any, visit: Callable[..., Any], tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    labels = chance.integers(0, 2, 300)
    made = []
    for method, skill in (("fine-tune", 0.6), ("kd", 0.9)):
        for seed in range(6):
            right = chance.random(300) < skill
            logits = np.eye(2)[np.where(right, labels, 1 - labels)]
            run = add(store, run_config(method, seed), score=float(right.mean()))
            folder = tmp_path / "runs" / run / "predictions"
            folder.mkdir(parents=True)
            np.savez(folder / "validation.student.npz", logits=logits, labels=labels, ids=np.arange(300))
            made.append(run)
    said = words(visit("compare", runs=",".join(made)))
    assert "300 dev rows" in said and "Dorfman" in said and "**Yes.**" in said


def test_different_students_do_not_pair(store: Any, visit: Callable[..., Any]) -> None:
    wide = {"layers": 2, "width": 64, "heads": 2, "init": "random"}
    made = [add(store, run_config("fine-tune")), add(store, run_config("kd", student=wide))]
    assert "so the gap is not the method" in words(visit("compare", runs=",".join(made)))


def test_read_only_offers_nothing_to_queue(
    store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [add(store, run_config(method)) for method in ("fine-tune", "skd")]
    monkeypatch.setenv("KD_READ_ONLY", "1")
    app = visit("compare", runs=",".join(made))
    assert not app.exception and "Not enough seeds" in words(app) and "Not in this comparison" in words(app)
    assert not [button for button in app.button if button.label.startswith("Queue")]


# --- distances -----------------------------------------------------------------------------------------------------


def test_the_table_shows_paired_differences(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config("fine-tune", seed), score=0.5 + 0.1 * seed) for seed in range(2)]
    made += [add(store, run_config("kd", seed), score=0.52 + 0.1 * seed) for seed in range(3)]
    table = visit("compare", runs=",".join(made)).dataframe[0].value.set_index("method and student")
    assert table.loc["KD, 2 x 32", "Δ to baseline"] == "+2.0 ± 0.0 (N=2)"
    assert table.loc["Fine-tuning alone, 2 x 32", "Δ to baseline"] == "baseline"


def test_training_time_is_the_loop_alone(store: Any, visit: Callable[..., Any]) -> None:
    run = store.add_run(run_config("kd"))
    store.claim("test", "cpu", run)
    parts = {"total": 50.0, "teachers": 40.0, "training": 8.0, "readings": 2.0}
    scored = Evaluated("distil", 1, "validation", "best", {"accuracy": 0.7}, 100)
    store.record(run, [RunStarted({}), scored, RunFinished({"seconds": 50.0, "seconds_by_part": parts})])
    older = add(store, run_config("fine-tune"))
    table = visit("compare", runs=f"{run},{older}").dataframe[0].value.set_index("method and student")
    assert table.loc["KD, 2 x 32", "training (s)"] == "8 (N=1)"
    assert table.loc["Fine-tuning alone, 2 x 32", "training (s)"] == "–", "its parts were not kept"


# --- the answer, and the parts of the page -------------------------------------------------------------------------


def test_the_answer_comes_first(store: Any, visit: Callable[..., Any]) -> None:
    made = [
        add(store, run_config(method, seed), score=score)
        for method, score in (("fine-tune", 0.70), ("kd", 0.75), ("pkd", 0.72))
        for seed in range(2)
    ]
    app = visit("compare", runs=",".join(made))
    first = next(one.value for one in app.main.markdown if "ahead" in one.value).replace("\\", "")
    assert "**KD, 2 x 32 is ahead of Fine-tuning alone, 2 x 32 by 5.0 points (2 paired seeds).**" in first
    assert "takes 6 paired seeds" in first


@pytest.mark.parametrize(
    ("tab", "key"),
    [("Scores", "verdict_first"), ("Curves", "what"), ("Race", "race_first")],
)
def test_the_open_part_is_in_the_address(tab: str, key: str, store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config(method)) for method in ("fine-tune", "kd")]
    app = visit("compare", runs=",".join(made), tab=tab)
    keys = {"verdict_first", "what", "race_first"} & {box.key for box in app.selectbox}
    assert not app.exception and keys == {key}
    app.segmented_control(key="compare_tab").set_value("Settings").run()
    assert app.query_params["tab"] == "Settings" and not app.exception


@pytest.mark.parametrize(
    ("name", "value", "tab"), [("race", "a,b", "Race"), ("sm", "0.5", "Curves"), ("x", "epoch", "Curves")]
)
def test_a_link_of_before_opens_the_part_it_is_about(
    name: str, value: str, tab: str, store: Any, visit: Callable[..., Any]
) -> None:
    made = [add(store, run_config(method)) for method in ("fine-tune", "kd")]
    app = visit("compare", runs=",".join(made), **{name: value})
    assert app.segmented_control(key="compare_tab").value == tab


# --- where the gain comes from -------------------------------------------------------------------------------------


def test_a_missing_step_is_one_click_away(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config(method, seed)) for method in ("fine-tune", "skd") for seed in range(2)]
    app = visit("compare", runs=",".join(made))
    assert "Not in this comparison: **the teacher" in words(app)
    app.button(key="gains_queue_1").click().run()
    assert not app.exception
    waiting = store.runs(states=["queued"])
    assert sorted(waiting["seed"]) == [0, 1] and set(waiting["method"]) == {"kd"}


# --- race and report -----------------------------------------------------------------------------------------------


def test_two_runs_race_and_the_outcome_is_said(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config(method, seed)) for method in ("fine-tune", "kd") for seed in range(2)]
    app = visit("compare", runs=",".join(made), tab="Race")
    assert not app.exception and not app.error
    first, second = (app.selectbox(key=key) for key in ("race_first", "race_second"))
    seeds = {run: int(seed) for run, seed in zip(store.runs()["id"], store.runs()["seed"], strict=True)}
    assert first.value in made[2:] and second.value in made[:2] and seeds[first.value] == seeds[second.value]
    app.selectbox(key="race_second").set_value(first.value).run()
    assert not app.exception and "Choose two different runs" in words(app)
    assert "Choose two runs that have been trained" in words(visit("compare", runs=made[0], tab="Race"))


def test_the_race_is_kept_in_the_address(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config(method, seed)) for method in ("fine-tune", "kd") for seed in range(2)]
    app = visit("compare", runs=",".join(made), race=f"{made[1]},{made[0]}")
    assert [app.selectbox(key=key).value for key in race.KEYS] == [made[1], made[0]]
    app.selectbox(key="race_first").set_value(made[3]).run()
    assert app.query_params["race"] == f"{made[3]},{made[0]}"
    app = visit("compare", runs=",".join(made), race="../../x,kd")
    assert not app.exception and not app.error and "race" not in app.query_params
    assert app.selectbox(key="race_first").value in made[2:]


def test_the_questions_pair_is_kept_in_the_address(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config(method)) for method in ("fine-tune", "kd", "pkd")]
    labels = {"verdict_first": "KD, 2 x 32", "verdict_second": "Patient KD, 2 x 32", "gains_of": "KD, 2 x 32"}
    app = visit("compare", runs=",".join(made), **labels)
    assert not app.exception and not app.error
    for key, label in labels.items():
        assert app.selectbox(key=key).format_func(app.selectbox(key=key).value) == label, key


def test_clocks_of_different_machines_are_not_compared(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config("fine-tune")), add(store, run_config("kd"), end="running")]
    store.record(made[1], [RunStarted({"device": "cuda", "threads": 1, "precision": "fp32"})])
    said = words(visit("compare", runs=",".join(made), tab="Race", clock="Training time (s)"))
    assert "Timings are not comparable" in said and "device cuda and cpu" in said


def test_the_report_is_put_together_only_when_asked_for(
    store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdcore import report

    def never(*_: Any) -> str:
        raise AssertionError("the report was made before anybody asked for it")

    made = [add(store, run_config(method)) for method in ("fine-tune", "kd")]
    monkeypatch.setattr(report, "html", never)
    app = visit("compare", runs=",".join(made), tab="Report")
    assert not app.exception and not app.error
    assert "Report (HTML)" in [button.label for button in app.get("download_button")]


def test_axes_smoothing_and_band_are_kept_in_the_address(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config("kd", seed)) for seed in range(3)]
    address = {"x": "Training rows seen", "band": "± standard error", "logx": "true", "logy": "true", "sm": "0.5"}
    app = visit("compare", runs=",".join(made), what="Loss (weighted sum)", **address)
    assert not app.exception and not app.error
    assert app.segmented_control(key="x").value == "examples" and app.selectbox(key="band").value == "sem"
    assert app.toggle(key="logx").value and app.toggle(key="logy").value and app.slider(key="sm").value == 0.5


def test_any_logged_quantity_can_be_on_the_horizontal_axis(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config(method, seed)) for method in ("fine-tune", "kd") for seed in range(2)]
    runs = ",".join(made)
    app = visit("compare", runs=runs, x="Another quantity", against="Gradient norm, before clipping")
    assert not app.exception and not app.error
    assert app.segmented_control(key="compare_tab").value == "Curves" and app.selectbox(key="against").value == (
        "gradient_norm.gradient_norm"
    )
    app.session_state["compare_pairs-numbers"] = True
    app.run()
    (numbers,) = (frame.value for frame in app.dataframe if "gradient_norm.gradient_norm" in frame.value)
    assert len(numbers) == 4 * 3, "a row at each evaluation"
    assert numbers[numbers["seed"] == 0]["step"].tolist() == [20, 40, 60] * 2
    app.selectbox(key="against").set_value("lr.lr").run()
    assert not app.exception and not app.error
    assert "4 runs, each from its first step" in words(app)


def test_the_interval_is_offered_with_what_it_needs(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config("kd", seed)) for seed in range(2)]
    app = visit("compare", runs=",".join(made), band="95% interval (t)")
    assert not app.exception and app.selectbox(key="band").value == "ci"
    assert "95% interval of the mean (t). It needs two seeds" in words(app)


def test_tokens_are_an_axis_where_a_run_said_how_long_its_rows_are(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config("kd", seed)) for seed in range(2)]
    app = visit("compare", runs=",".join(made), tab="Curves")
    assert "Training tokens seen" not in app.segmented_control(key="x").options
    store.record(made[0], [RunStarted({"mean_tokens": 10.0})])
    app = visit("compare", runs=",".join(made), tab="Curves", x="Training tokens seen")
    app.session_state["compare_curves-numbers"] = True
    app.run()
    assert not app.exception and not app.error
    (numbers,) = (frame.value for frame in app.dataframe if "tokens" in frame.value)
    assert numbers["tokens"].tolist() == [20 * 32 * 10, 40 * 32 * 10, 60 * 32 * 10]


def test_numbers_name_the_command_that_draws_them_again(store: Any, visit: Callable[..., Any]) -> None:
    runs = [add(store, run_config(method)) for method in ("kd", "fine-tune")]
    app = visit("compare", runs=",".join(runs), tab="Curves")
    app.session_state["compare_curves-numbers"] = True
    app.run()
    assert f"python -m kdcore report {' '.join(runs)} -o report.html" in [code.value for code in app.code]


# --- how light the page is -----------------------------------------------------------------------------------------


def test_compare_needs_no_torch_to_draw(store: Any, tmp_path: Path) -> None:
    """Neither to import its parts nor for its first paint; in an interpreter of its own."""
    made = [add(store, run_config(method, seed)) for method in ("fine-tune", "kd") for seed in range(2)]
    code = f"""
import sys
import pages.parts.compare.ablation, pages.parts.compare.curves, pages.parts.compare.race, pages.parts.compare.report
import pages.parts.compare.scope, pages.parts.compare.scores, pages.parts.compare.settings
import pages.parts.compare.significance
assert "torch" not in sys.modules, "imported with the parts"
from streamlit.testing.v1 import AppTest
app = AppTest.from_file({str(ROOT / "app.py")!r}, default_timeout=120).run()
app.query_params["runs"] = {",".join(made)!r}
app.switch_page("pages/compare.py").run()
assert not app.exception and not app.error, (app.exception, app.error)
assert [frame for frame in app.dataframe if "Δ to baseline" in frame.value], "nothing was drawn"
assert "torch" not in sys.modules, "the first paint loads torch"
"""
    settings = os.environ | {"KD_CACHE_DIR": str(tmp_path), "KD_READ_ONLY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_first_visit_compares_runs_of_one_protocol(store: Any, visit: Callable[..., Any]) -> None:
    made = [add(store, run_config(method, seed)) for method in ("fine-tune", "kd") for seed in range(2)]
    add(store, run_config("kd", train={"epochs": 3, "seed": 0, "max_length": 32}))
    app = visit("compare")
    assert set(app.multiselect(key="compare_runs").value) == set(made)


def test_the_first_visit_takes_whole_groups_the_best_beside_training_alone(store: Any) -> None:
    methods = {"fine-tune": 0.5, "skd": 0.9, "kd": 0.6, "distilbert": 0.8, "pkd": 0.7}
    made = {m: [add(store, run_config(m, seed), score=score) for seed in range(3)] for m, score in methods.items()}
    add(store, run_config("kd", 3), score=0.6, end="stopped")
    wanted = {run for method in ("fine-tune", "skd", "distilbert", "pkd") for run in made[method]}
    assert set(first_choice.suggestion(store.runs())) == wanted


def test_how_closely_students_follow_is_read_on_demand(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"))
    store.record(run, [Probed("fidelity", 9, {"large": {"validation": {"agreement": 0.875, "kl": 0.5}}})])
    app = visit("compare", runs=run)
    app.session_state["compare_fidelity"] = True
    app.run()
    assert not app.exception and not app.error
    (table,) = (frame.value for frame in app.dataframe if "same label" in frame.value)
    assert table["same label"].tolist() == [0.875] and "None of these runs has it" in words(app)
    words_of = {"large": {"spearman": 0.5, "cosine": 0.25, "rows": 64}}
    store.record(run, [Probed("saliency", 9, {"split": "validation", "teachers": words_of})])
    app = visit("compare", runs=run)
    app.session_state["compare_fidelity"] = True
    app.run()
    (table,) = (frame.value for frame in app.dataframe if "same label" in frame.value)
    assert table["saliency loyalty (rank)"].tolist() == [0.5] and "None of these runs has it" not in words(app)
