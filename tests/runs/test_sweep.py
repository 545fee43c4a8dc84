"""A grid: what it expands to, that what is done is not done again, and that three seeds make no winner."""

import hashlib
from pathlib import Path

import pytest

from kdcore.analysis.comparison import compare
from kdcore.errors import UserError
from kdcore.events import RunFinished, RunStarted
from kdcore.identity import config_hash
from kdcore.runs import sweep
from kdcore.settings_file import read_settings

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


def test_data_is_an_axis_of_the_grid(tmp_path):
    text = "name: noise\nmethods: [fine-tune]\ntasks: [mrpc]\nseeds: [0, 1]\ndata: [{}, {label_noise: 0.2}]\n"
    cells = cells_of(text + "common: {data: {seed: 4}}", tmp_path)
    assert [(cell.run.train.seed, cell.run.data.label_noise) for cell in cells] == [(0, 0), (0, 0.2), (1, 0), (1, 0.2)]
    assert {cell.run.data.seed for cell in cells} == {4}


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
            read_settings(path)
        assert str(path) in caught.value.problem
    with pytest.raises(UserError):
        read_settings(tmp_path / "absent")
    with pytest.raises(UserError):
        read_settings(tmp_path)


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
    assert sweep.queue(store, cells, "pairs") == ids == sweep.run_ids(store, cells)
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
    assert set(sweep.run_ids(store, cells)) == set(store.runs()["id"]) and len(store.runs()) == len(cells)
    mrpc, sst2 = sorted(compare(store, store.runs(), names=sweep.names(cells)), key=lambda one: one.task)
    table = mrpc.summary()
    assert [label.split(",")[0] for label in table.label] == ["Fine-tuning alone", "PKD-Last", "KD", "KD-small"]
    assert list(table.n) == [3] * 4 and mrpc.labels[mrpc.baseline].startswith("Fine-tuning alone")
    assert table["mean"].iloc[1] == pytest.approx(0.71) and table["std"].iloc[1] == pytest.approx(0.01)
    assert table["gap"].iloc[1] == pytest.approx(0.2) and table["gap_n"].iloc[1] == 3
    assert list(sst2.summary().n) == [1] * 4 and sst2.summary()["std"].isna().all()
    for comparison, count in ((mrpc, "3 paired seeds"), (sst2, "1 paired seed,")):
        assert len(comparison.answers()) == 3
        assert all(answer.headline == "Not enough seeds." for _, answer in comparison.answers())
        assert all(count in answer.sentence for _, answer in comparison.answers())


def test_grid_in_the_modules_own_words_is_a_grid(tmp_path):
    text = "\n".join(line[4:] for line in (sweep.__doc__ or "").splitlines() if line.startswith("    "))
    methods = 2 + 3  # TinyBERT, and twice without a part
    assert len(cells_of(text, tmp_path)) == 2 * (methods * 2 * 3 + methods * 2 * 1)


def test_a_finished_run_on_other_rows_is_not_taken_for_done(store, tmp_path):
    """The table behind a name was replaced: the sweep trains on what is there now, and leaves the old run."""
    from kdcore.data import load

    table = tmp_path / "rows.csv"

    def write(word: str) -> None:
        table.write_text("text,label\n" + "".join(f"{word} {i},{'ab'[i % 2]}\n" for i in range(40)))

    write("first")
    own = f"{{path: {table}, text: text, label: label}}"
    grid = f"{{name: mine, methods: [fine-tune], tasks: [{{task: own, own: {own}}}]}}"
    (tmp_path / "grid.yaml").write_text(grid)
    cells = sweep.expand(sweep.read_grid(tmp_path / "grid.yaml"))

    def train(run, folder, control):
        yield RunStarted({"data_fingerprint": load(run.task, run.own).fingerprint})
        yield RunFinished({"seconds": 1.0})

    sweep.run_here(store, cells, "mine", train)
    assert list(sweep.states(store, cells).values()) == ["done"]
    write("second")
    assert list(sweep.states(store, cells).values()) == ["other rows"]
    sweep.run_here(store, cells, "mine", train)
    assert list(sweep.states(store, cells).values()) == ["done"] and len(store.runs()) == 2


def test_a_finished_run_whose_fingerprint_had_the_domains_in_it_is_done(store, tmp_path):
    from kdcore.data import load

    table = tmp_path / "rows.csv"
    table.write_text("text,label,where\n" + "".join(f"film {i},{'ab'[i % 2]},{'cd'[i % 3 == 0]}\n" for i in range(40)))
    own = f"{{path: {table}, text: text, label: label, domain: where}}"
    (tmp_path / "grid.yaml").write_text(f"{{name: mine, methods: [fine-tune], tasks: [{{task: own, own: {own}}}]}}")
    cells = sweep.expand(sweep.read_grid(tmp_path / "grid.yaml"))

    def train(run, folder, control):
        data = load(run.task, run.own)
        domains = ["cd"[int(text.split()[-1]) % 3 == 0] for text in data.train.texts[0]]
        told = hashlib.sha256(repr((data.fingerprint, domains, [])).encode()).hexdigest()
        yield RunStarted({"data_fingerprint": told})
        yield RunFinished({"seconds": 1.0})

    sweep.run_here(store, cells, "mine", train)
    assert list(sweep.states(store, cells).values()) == ["done"]
