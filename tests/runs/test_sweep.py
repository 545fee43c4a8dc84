"""A grid: what it expands to, that what is done is not done again, and that three seeds make no winner."""

from pathlib import Path

import pandas as pd
import pytest

from kdcore.errors import UserError
from kdcore.events import RunFinished, RunStarted
from kdcore.runs import sweep
from kdcore.store import config_hash

GRID = """
name: pairs
common: {train: {epochs: 3, batch_size: 16}, student: {layers: 4}}
teachers:
  - {name: big, source: package, where: minilm, fine_tune: {epochs: 2}}
  - {name: small, source: package, where: minilm, layers: 3}
methods:
  - fine-tune
  - kd
  - {method: pkd, label: PKD-Last, options: {layers: last}}
  - {method: kd, label: KD-small, teachers: [small], options: {temperature: 4}}
inits: [{init: base, init_layers: first}, {init: teacher, init_layers: skip}]
tasks: [mrpc, {task: sst2, seeds: [7], students: [{layers: 2}], common: {train: {epochs: 1}}}]
seeds: [0, 1, 2]
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    return path


def cells_of(text: str, tmp_path: Path) -> list[sweep.Cell]:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    return sweep.expand(sweep.read_grid(path))


def test_grid_is_every_combination_with_its_overrides(grid):
    cells = sweep.expand(sweep.read_grid(grid))
    assert len(cells) == 4 * 2 * 3 + 4 * 2 * 1
    mrpc = [cell.run for cell in cells if cell.run.task == "mrpc"]
    sst2 = [cell.run for cell in cells if cell.run.task == "sst2"]
    assert {run.train.seed for run in mrpc} == {0, 1, 2} and {run.train.seed for run in sst2} == {7}
    assert {run.train.epochs for run in mrpc} == {3} and {run.train.epochs for run in sst2} == {1}
    assert {run.train.batch_size for run in mrpc + sst2} == {16}
    assert {run.student.layers for run in mrpc} == {4} and {run.student.layers for run in sst2} == {2}
    assert {(run.student.init, run.student.init_layers) for run in mrpc} == {("base", "first"), ("teacher", "skip")}


def test_methods_get_the_teachers_they_name_or_as_many_as_they_take(grid):
    cells = sweep.expand(sweep.read_grid(grid))
    names = {cell.label: [teacher.name for teacher in cell.run.teachers] for cell in cells}
    assert names == {"fine-tune": ["big", "small"], "kd": ["big", "small"], "PKD-Last": ["big"], "KD-small": ["small"]}


def test_options_are_spelled_out_so_that_equal_runs_have_equal_hashes(tmp_path):
    short = cells_of("{name: a, methods: [pkd], tasks: [mrpc]}", tmp_path)[0]
    long = cells_of("{name: b, methods: [{method: pkd, options: {layers: skip}}], tasks: [mrpc]}", tmp_path)[0]
    assert short.hash == long.hash and short.run.options["layers"] == "skip"
    other = cells_of("{name: b, methods: [{method: pkd, options: {layers: last}}], tasks: [mrpc]}", tmp_path)[0]
    assert other.hash != short.hash


def test_comparisons_come_whole_when_a_sweep_ends_early(grid):
    cells = sweep.expand(sweep.read_grid(grid))
    assert [cell.label for cell in cells[:4]] == ["fine-tune", "kd", "PKD-Last", "KD-small"]
    assert len({(cell.run.task, cell.run.train.seed, cell.run.student.init) for cell in cells[:4]}) == 1


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{methods: [kd], tasks: [mrpc]}", "name"),
        ("{name: A B, methods: [kd], tasks: [mrpc]}", "name"),
        ("{name: a, methods: [], tasks: [mrpc]}", "methods"),
        ("{name: a, methods: [kd]}", "tasks"),
        ("{name: a, methods: [kd], tasks: [mrpc], colour: red}", "colour"),
        ("{name: a, methods: [{label: x}], tasks: [mrpc]}", "methods[0].method"),
        ("{name: a, methods: [kd], tasks: [mrpc], seeds: [x]}", "seeds[0]"),
        ("{name: a, methods: [kd], tasks: [nope]}", "task"),
        ("{name: a, methods: [nope], tasks: [mrpc]}", "methods[0].method"),
        ("{name: a, methods: [kd, {method: kd, options: {temprature: 3}}], tasks: [mrpc]}",
         "methods[1].options.temprature"),
        ("{name: a, methods: [kd], tasks: [mrpc], common: {train: {epochs: -1}}}", "train.epochs"),
        ("{name: a, methods: [kd], tasks: [mrpc], students: [{layers: 0}]}", "student.layers"),
        ("{name: a, methods: [{method: kd, teachers: [ghost]}], tasks: [mrpc]}", "methods[0].teachers"),
        ("{name: a, methods: [kd, kd], tasks: [mrpc]}", "sweep"),
        ("[1, 2]", "settings"),
        ("just words", "settings"),
        ("", "settings"),
        ("{a: [", "file"),
        ("a: &x [1]\nb: *x", "file"),
        ("!!python/object/apply:os.system ['true']", "file"),
        ("[" * 5000, "file"),
    ],
)  # fmt: skip
def test_mistakes_name_the_field(text, field, tmp_path):
    with pytest.raises(UserError) as caught:
        cells_of(text, tmp_path)
    assert field in caught.value.field and caught.value.remedy


def test_files_that_cannot_be_read_say_so(tmp_path):
    for path, content in ((tmp_path / "binary", b"\xff\xfe\x00\x80"), (tmp_path / "huge", b"x" * 1_100_000)):
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            sweep.read_settings(path)
        assert str(path) in caught.value.problem
    with pytest.raises(UserError):
        sweep.read_settings(tmp_path / "absent")
    with pytest.raises(UserError):
        sweep.read_settings(tmp_path)


def test_finished_runs_are_skipped_and_failed_ones_tried_again(store, grid, script):
    cells = sweep.expand(sweep.read_grid(grid))[:6]
    trained: list[str] = []
    fails = {cells[3].hash}

    def train(run, folder, control):
        trained.append(config_hash(run))
        if config_hash(run) in fails:
            raise ValueError("not today")
        yield from script(score=0.6)(run, folder, control)

    ended = sweep.run_here(store, cells, "pairs", train)
    assert [ended[cell.hash] for cell in cells] == ["done", "done", "done", "failed", "done", "done"]
    assert len(trained) == 6
    fails.clear()
    trained.clear()
    assert set(sweep.run_here(store, cells, "pairs", train).values()) == {"done"}
    assert trained == [cells[3].hash]
    assert len(store.runs()) == 6 and set(store.runs().sweep) == {"pairs"}


def test_sweep_that_was_killed_goes_on_where_it_was(store, grid, script):
    cells = sweep.expand(sweep.read_grid(grid))[:4]

    def dies_at_third(index, cell, run_id):
        if index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.run_here(store, cells, "pairs", script(), on_run=dies_at_third)
    assert sorted(sweep.states(store, cells).values()) == ["done", "done", "new", "starting"]
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE runs SET lease_until = 1")
    assert set(sweep.run_here(store, cells, "pairs", script()).values()) == {"done"}
    assert len(store.runs()) == 4


def test_runs_of_another_sweep_with_equal_settings_are_shared(store, grid, script, tmp_path):
    cells = sweep.expand(sweep.read_grid(grid))[:4]
    sweep.run_here(store, cells, "pairs", script())
    again = cells_of(GRID.replace("name: pairs", "name: other"), tmp_path)[:4]
    assert set(sweep.states(store, again).values()) == {"done"}


def test_run_under_another_process_is_left_to_it(store, grid, script):
    cells = sweep.expand(sweep.read_grid(grid))[:2]
    taken, _ = store.ensure(cells[0].run)
    store.claim("elsewhere", "cpu", taken)
    ended = sweep.run_here(store, cells, "pairs", script())
    assert ended == {cells[0].hash: "starting", cells[1].hash: "done"}


def test_queueing_twice_adds_nothing(store, grid):
    cells = sweep.expand(sweep.read_grid(grid))
    ids = sweep.queue(store, cells, "pairs")
    assert sweep.queue(store, cells, "pairs") == ids == sweep.found_ids(store, cells)
    assert len(store.runs()) == len(cells) == len(set(ids))


def test_table_has_mean_deviation_and_count_of_the_seeds(store, grid):
    cells = [cell for cell in sweep.expand(sweep.read_grid(grid)) if cell.run.student.init == "base"]
    scores = {"fine-tune": 0.50, "kd": 0.60, "PKD-Last": 0.70, "KD-small": 0.40}

    def train(run, folder, control):
        from kdcore.events import Evaluated

        yield RunStarted({})
        value = scores[run.name] + 0.01 * run.train.seed
        yield Evaluated("end", 1, "validation", "best", {"accuracy": value}, 10)
        yield RunFinished({"seconds": 2.0})

    sweep.run_here(store, cells, "pairs", train)
    table = sweep.summary(sweep.results(store, cells))
    mrpc = table[table.task == "mrpc"]
    assert list(mrpc.label) == ["PKD-Last", "kd", "fine-tune", "KD-small"]
    assert list(mrpc.n) == [3] * 4
    assert mrpc["mean"].iloc[0] == pytest.approx(0.71) and mrpc["std"].iloc[0] == pytest.approx(0.01)
    sst2 = table[table.task == "sst2"]
    assert list(sst2.n) == [1] * 4 and sst2["std"].isna().all()
    words = sweep.verdicts(sweep.results(store, cells))
    assert len(words) == 2 and all("Not enough seeds" in sentence for sentence in words)
    assert "3 paired seeds" in words[0] and "1 paired seed," in words[1]


def frame(**scores: list[float]) -> pd.DataFrame:
    rows = [
        {"task": "t", "student": "s", "init": "i", "protocol": "p", "label": label, "seed": seed, "score": score,
         "metric": "accuracy", "name": label, "id": f"{label}{seed}", "method": label, "options": "", "teachers": "",
         "config_hash": f"{label}{seed}", "latency_ms": 1.0, "parameters": 5, "seconds": 1.0}
        for label, values in scores.items()
        for seed, score in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_six_paired_seeds_that_agree_make_a_winner_with_its_test_named():
    base = [0.50, 0.51, 0.52, 0.53, 0.54, 0.55]
    better = [value + 0.02 + 0.002 * i for i, value in enumerate(base)]
    # gaps 2.0, 2.2, ..., 3.0 points: mean 2.5, standard error 0.374 / sqrt(6), t(5) = 2.571
    said = sweep.verdicts(frame(b=base, a=better))[0]
    assert said.startswith("t, s, i: Yes. a is better than b by 2.5 points (95% interval +2.1 to +2.9).")
    assert said.endswith("(seeds 0, 1, 2, 3, 4, 5; scores only; paired t-test over seeds; p < 0.001)")
    few = sweep.verdicts(frame(b=base[:5], a=better[:5]))[0]
    assert "Not enough seeds. 5 paired seeds, a verdict needs 6. So far a is ahead by 2.4 points." in few


def test_six_seeds_that_disagree_make_no_winner():
    a, b = [0.5, 0.6, 0.5, 0.6, 0.5, 0.7], [0.6, 0.5, 0.6, 0.5, 0.6, 0.5]
    assert "no winner between a and b" in sweep.verdicts(frame(a=a, b=b))[0]
    assert "no winner" in sweep.verdicts(frame(a=a, b=a))[0]
    assert sweep.verdicts(frame(a=a)) == []


def test_only_seeds_that_both_have_are_paired():
    values = [0.5 + 0.01 * i for i in range(8)]
    one = frame(a=[value + 0.1 for value in values], b=values)
    one = one[~((one.label == "b") & (one.seed < 3))]
    assert "5 paired seeds, a verdict needs 6" in sweep.verdicts(one)[0]


def test_the_command_line_and_the_page_give_one_verdict():
    from kdcore.analysis.comparison import verdict
    from kdcore.analysis.significance import in_words

    runs = frame(b=[0.5, 0.52, 0.49, 0.51, 0.5, 0.53], a=[0.51, 0.5, 0.52, 0.53, 0.51, 0.55])
    page = " ".join(in_words(verdict(runs[runs.label == "a"], runs[runs.label == "b"], "accuracy"), "a", "b"))
    assert page in sweep.verdicts(runs)[0]


def test_labels_tell_apart_what_differs_and_merge_what_does_not():
    runs = frame(kd=[0.5, 0.6])
    runs["options"] = ["temperature=2", "temperature=4"]
    assert sorted(sweep.labelled(runs).label) == ["kd (temperature=2)", "kd (temperature=4)"]
    runs["options"] = ""
    runs["teachers"] = ["big", ""]
    assert sorted(sweep.labelled(runs).label) == ["kd (big)", "kd (none)"]
    runs["teachers"] = "big"
    assert list(sweep.labelled(runs).label) == ["kd", "kd"]
    runs["config_hash"] = "same"
    assert len(sweep.labelled(runs)) == 1


def test_grid_in_the_modules_own_words_is_a_grid(tmp_path):
    text = "\n".join(line[4:] for line in (sweep.__doc__ or "").splitlines() if line.startswith("    "))
    assert len(cells_of(text, tmp_path)) == 2 * 2 * 3 + 2 * 2 * 1
