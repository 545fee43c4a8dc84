"""Bundles: what goes out comes in, equal; what a stranger made is checked before a byte is written."""

import io
import json
import stat
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sqlalchemy import text

from kdcore.data import load
from kdcore.errors import CorruptError, UserError
from kdcore.events import Evaluated, Probed, RunFinished, RunStarted, StageStarted, StepDone
from kdcore.methods import resolve
from kdcore.models.students import load_classifier
from kdcore.models.tokenizers import load_tokenizer
from kdcore.paths import cache_subdir, run_dir
from kdcore.runs import bundle
from kdcore.runs.export import student_folder
from kdcore.store import open_store, transfer


@pytest.fixture
def finished(store, settings):
    """A run with everything a run can have."""

    def make(seed: int = 0, **changes) -> str:
        run = store.add_run(settings(seed, name="ein Name 🙂", **changes), sweep="s")
        step = StepDone("distil", 1, 2, 0.5, float("nan"), {"hard": 1.5}, {"hard": 0.7}, 1e-3, 10.0, 1.0, 0.5)
        store.record(run, [
            RunStarted({"steps": 2, "parameters": 7}), StageStarted("distil", 0, 1, 2), step,
            Evaluated("end", 2, "validation", "best", {"accuracy": 0.75}, 40), Probed("latency", 2, {"records": []}),
            RunFinished({"seconds": 3.0}),
        ])  # fmt: skip
        store.annotate(run, note="seen", tags=["a", "b"])
        folder = run_dir(run)
        for name in ("student-best", "checkpoint", "predictions", "probes"):
            (folder / name).mkdir(parents=True)
        save_file({"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}, folder / "student-best/model.safetensors")
        (folder / "student-best/config.json").write_text('{"model_type": "bert"}')
        (folder / "checkpoint/large.safetensors").write_bytes(b"x")
        (folder / "probes/latency.json").write_text("{}")
        (folder / "log.txt").write_text("started\n")
        (folder / "stray.sh").write_text("echo no")
        np.savez(folder / "predictions/validation.student.npz", logits=np.ones((3, 2)))
        return run

    return make


@pytest.fixture
def elsewhere(new_database):
    """From here on another machine: a cache and a database of its own."""

    def go():
        new_database("elsewhere")
        return open_store()

    return go


def same(a, b, run, new=None):
    new = new or run
    left, right = a.get(run), b.get(new)
    for name in ("name", "state", "config", "created", "note", "tags", "facts", "summary", "progress", "sweep"):
        assert getattr(left, name) == getattr(right, name), name
    for table in ("metrics", "evaluations"):
        assert getattr(a, table)(run).drop(columns="run").equals(getattr(b, table)(new).drop(columns="run"))
    assert a.probes(run) == b.probes(new)
    columns = ["score", "metric", "parameters", "seconds", "config_hash", "protocol", "method", "student", "seed"]
    left, right = (s.runs().set_index("id").loc[r, columns] for s, r in ((a, run), (b, new)))
    assert left.equals(right)


def test_runs_come_back_as_they_were(store, finished, elsewhere, tmp_path):
    runs = [finished(0), finished(1)]
    bundle.export_runs(store, runs, tmp_path / "two.zip")
    other = elsewhere()
    assert bundle.import_runs(other, tmp_path / "two.zip") == {run: run for run in runs}
    for run in runs:
        same(store, other, run)
        files = {path.relative_to(run_dir(run)).as_posix() for path in run_dir(run).rglob("*") if path.is_file()}
        assert files == {
            "student-best/model.safetensors", "student-best/config.json", "log.txt", "probes/latency.json",
            "predictions/validation.student.npz",
        }  # fmt: skip
        weights = load_file(run_dir(run) / "student-best/model.safetensors")["weight"]
        assert np.array_equal(weights, np.arange(6, dtype=np.float32).reshape(2, 3))
    assert [path.name for path in cache_subdir("runs").iterdir() if path.name.startswith(".")] == []


def test_importing_twice_adds_nothing(store, finished, elsewhere, tmp_path):
    run = finished()
    bundle.export_runs(store, [run, run], tmp_path / "one.zip")
    assert bundle.import_runs(store, tmp_path / "one.zip") == {run: run}
    other = elsewhere()
    for _ in range(2):
        assert bundle.import_runs(other, tmp_path / "one.zip") == {run: run}
    assert len(other.runs()) == 1 and len(store.runs()) == 1


def test_taken_id_gives_a_new_one_and_references_follow(store, finished, elsewhere, tmp_path):
    first = finished(0)
    teacher = {"name": "t", "source": "run", "where": first}
    second = finished(1, teachers=(teacher,))
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET parent = :parent WHERE id = :run"), {"parent": first, "run": second})
    bundle.export_runs(store, [first, second], tmp_path / "b.zip")
    other = elsewhere()
    run_dir(first).mkdir(parents=True)  # a folder of that name, of no run
    (run_dir(first) / "mine.txt").write_text("keep me")
    ids = bundle.import_runs(other, tmp_path / "b.zip")
    assert ids[first] != first and ids[second] == second
    same(store, other, first, ids[first])
    assert (run_dir(first) / "mine.txt").read_text() == "keep me"
    row = other.get(second)
    assert row.parent == ids[first] and row.config.teachers[0].where == ids[first]


def test_id_of_a_different_run_is_not_overwritten(store, finished, elsewhere, settings, tmp_path):
    run = finished()
    bundle.export_runs(store, [run], tmp_path / "b.zip")
    other = elsewhere()
    mine = other.add_run(settings(5))
    with other.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET id = :run WHERE id = :mine"), {"run": run, "mine": mine})
    new = bundle.import_runs(other, tmp_path / "b.zip")[run]
    assert new != run and other.get(run).config.train.seed == 5 and other.get(new).config.train.seed == 0


def test_only_ended_runs_travel(store, settings, tmp_path):
    run = store.add_run(settings())
    with pytest.raises(UserError, match="queued"):
        bundle.export_runs(store, [run], tmp_path / "b.zip")
    with pytest.raises(UserError, match="nope"):
        bundle.export_runs(store, ["nope"], tmp_path / "b.zip")
    assert list(tmp_path.glob("*b.zip*")) == []


def test_export_overwrites_nothing(store, finished, tmp_path):
    target = tmp_path / "b.zip"
    target.write_text("mine")
    with pytest.raises(UserError, match="exists"):
        bundle.export_runs(store, [finished()], target)
    assert target.read_text() == "mine"


# --- strangers -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tampered(store, finished, elsewhere, tmp_path):
    """A good bundle with members replaced or added; returns the other machine's store, the file and the run's id."""
    run = finished()
    bundle.export_runs(store, [run], tmp_path / "good.zip")

    def make(replace=None, add=(), drop=()):
        path = tmp_path / "bad.zip"
        replace = {name.replace("RUN", run): data for name, data in (replace or {}).items()}
        with zipfile.ZipFile(tmp_path / "good.zip") as good, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bad:
            for member in good.infolist():
                if member.filename not in {name.replace("RUN", run) for name in drop}:
                    bad.writestr(member.filename, replace.get(member.filename, good.read(member)))
            for name, data in add:
                if isinstance(name, str):
                    name = name.replace("RUN", run)
                bad.writestr(name, data)
        return elsewhere(), path, run

    return make


def refused(other, path):
    before = sorted(path.name for path in cache_subdir("runs").iterdir())
    with pytest.raises(UserError) as caught:
        bundle.import_runs(other, path)
    assert caught.value.field and caught.value.remedy
    assert other.runs(include_archived=True).empty
    assert sorted(path.name for path in cache_subdir("runs").iterdir()) == before
    return caught.value


@pytest.mark.parametrize("name", [
    "../evil.json", "runs/../../evil.json", "/etc/evil.json", "runs/RUN/files/../../../evil.json",
    "runs/RUN/files/student-best/../../x.json", "C:/evil.json", "runs/RUN/files/student-best/..", "runs\\RUN\\x.json",
    "runs/RUN/files/run.sh", "runs/RUN/files/student-best/model.bin", "runs/RUN/files/student-best/code.py",
    "runs/RUN/files/student-best/pickle.pt", "runs/RUN/files/checkpoint/x.json", "runs/RUN/files/.bashrc",
    "runs/RUN/files/student-best/.hidden.json", "runs/RUN/extra.json", "evil.json", "runs/RUN/files/predictions",
    "runs/A B/run.json", "runs/RUN/files/student-best/a/b/c/d.json",
    "runs/RUN/files/student-best/" + "x" * 200 + ".json",
    "runs/RUN/files/student-best/a\x00b.json", "runs/RUN/FILES/log.txt",
])  # fmt: skip
def test_names_that_lead_out_or_do_not_belong_are_refused(tampered, name, tmp_path):
    refused(*tampered(add=[(name, "{}")])[:2])
    assert not list(tmp_path.parent.rglob("*evil*"))


def member(name, mode=0, flag=0):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.flag_bits = flag
    return info


def test_links_folders_and_doubles_are_refused(tampered):
    _, _, run = tampered()
    inside = f"runs/{run}/files/student-best"
    for info, data in (
        (member(f"{inside}/vocab.txt", stat.S_IFLNK | 0o777), "/etc/passwd"),
        (member(f"{inside}/vocab.txt", stat.S_IFIFO | 0o666), ""),
        (member(f"{inside}/deeper/"), ""),
    ):
        assert "unsafe" in refused(*tampered(add=[(info, data)])[:2]).problem
    with pytest.warns(UserWarning, match="Duplicate"):
        other, path, _ = tampered(add=[(f"{inside}/config.json", "{}")])
    assert "one name" in refused(other, path).problem
    assert "one name" in refused(*tampered(add=[(f"{inside}/CONFIG.json", "{}")])[:2]).problem


def test_file_that_grows_beyond_measure_is_refused(tampered):
    error = refused(*tampered(add=[("runs/RUN/files/student-best/vocab.txt", b"\0" * 30_000_000)])[:2])
    assert "grows" in error.problem


def test_too_large_and_too_many_are_refused(tampered, monkeypatch):
    other, path, _ = tampered()
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "MAX_BYTES", 100)
        assert "unpacks to" in refused(other, path).problem
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "MAX_FILES", 3)
        assert "more than 3" in refused(other, path).problem
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "MAX_JSON", 10)
        assert "larger" in refused(other, path).problem
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "MAX_POINTS", 0)
        assert "too many points" in refused(other, path).problem
    with monkeypatch.context() as patch:
        patch.setattr(bundle.shutil, "disk_usage", lambda path: type("usage", (), {"free": 10})())
        assert "free" in refused(other, path).problem
    assert bundle.import_runs(other, path)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None, True, [1]])
def test_unknown_version_is_refused(tampered, version):
    contents = {"kdboard_bundle": version, "program": "x", "runs": ["a"]}
    error = refused(*tampered({"bundle.json": json.dumps(contents)})[:2])
    assert "version" in error.problem or "bundle.json" in error.problem


@pytest.mark.parametrize("contents", [
    "{", "[]", "null", "\xff", '{"kdboard_bundle": 1}', '{"kdboard_bundle": 1, "runs": []}',
    '{"kdboard_bundle": 1, "runs": ["../../x"]}', '{"kdboard_bundle": 1, "runs": ["nowhere"]}',
    '{"kdboard_bundle": 1, "runs": [1]}', "[" * 100_000,
])  # fmt: skip
def test_damaged_contents_are_refused(tampered, contents):
    refused(*tampered({"bundle.json": contents})[:2])


def table(**columns):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


GOOD = {"stage": ["s"], "step": [1], "kind": ["raw"], "name": ["a"], "epoch": [0.1], "seconds": [1.0], "value": [1.0]}


@pytest.mark.parametrize("replace", [
    {"runs/RUN/run.json": "{"}, {"runs/RUN/run.json": "{}"}, {"runs/RUN/probes.json": "{}x"},
    {"runs/RUN/probes.json": '[{"name": "x"}]'}, {"runs/RUN/probes.json": '[{"name": "x", "step": 1, "data": 3}]'},
    {"runs/RUN/probes.json": "3"}, {"runs/RUN/metrics.parquet": b"PAR1 nonsense PAR1"},
    {"runs/RUN/metrics.parquet": b""}, {"runs/RUN/metrics.parquet": table(x=[1])},
    {"runs/RUN/metrics.parquet": table(**GOOD | {"step": ["one"]})},
    {"runs/RUN/metrics.parquet": table(**GOOD | {"stage": ["x" * 1000]})},
    {"runs/RUN/metrics.parquet": table(**GOOD | {"name": [None]})},
    {"runs/RUN/metrics.parquet": table(**GOOD | {"value": [[1.0]]})},
    {"runs/RUN/metrics.parquet": table(**{name: values * 2 for name, values in GOOD.items()})},
    {"runs/RUN/files/student-best/model.safetensors": b"\xff" * 100},
    {"runs/RUN/files/student-best/model.safetensors": b""},
])  # fmt: skip
def test_damaged_members_are_refused_and_leave_nothing(tampered, replace):
    refused(*tampered(replace)[:2])


@pytest.mark.parametrize(
    ("metric", "value", "taken"),
    [
        ("accuracy", 1e308, False), ("accuracy", -1.5, False), ("accuracy", 1.0, True), ("pearson", -1.0, True),
        ("accuracy", float("nan"), True), ("loss", 40.0, True),
    ],
)  # fmt: skip
def test_scores_that_no_metric_gives_are_refused(tampered, metric, value, taken):
    """One of them would take the scale of every figure that it is in."""
    row = {"stage": ["s"], "step": [1], "split": ["validation"], "which": ["teacher:t"], "metric": [metric],
           "value": [value], "rows": [10]}  # fmt: skip
    other, path, run = tampered({"runs/RUN/evaluations.parquet": table(**row)})
    if taken:
        assert bundle.import_runs(other, path) == {run: run} and len(other.evaluations([run])) == 1
    else:
        assert "outside -1 to 1" in refused(other, path).problem


@pytest.mark.parametrize("change", [
    {"state": "running"}, {"state": "queued"}, {"id": "another"}, {"id": "../x"}, {"worker": "me"}, {"created": "soon"},
    {"config": {"task": "mrpc"}}, {"config": {"task": "mrpc", "method": "kd", "evil": 1}}, {"tags": ["x"] * 1000},
    {"note": "x" * 100_000}, {"facts": [1]}, {"parameters": 1.5},
])  # fmt: skip
def test_run_that_claims_what_it_may_not_is_refused(tampered, tmp_path, change):
    _, path, run = tampered()
    with zipfile.ZipFile(path) as file:
        words = json.loads(file.read(f"runs/{run}/run.json"))
    refused(*tampered({"runs/RUN/run.json": json.dumps(words | change)})[:2])


@pytest.mark.parametrize(
    "drop", ["bundle.json", "runs/RUN/run.json", "runs/RUN/metrics.parquet", "runs/RUN/probes.json"]
)
def test_missing_members_are_named(tampered, drop):
    other, path, run = tampered(drop=[drop])
    assert drop.replace("RUN", run) in refused(other, path).problem


def test_files_that_are_no_zip(store, tmp_path):
    for content in (b"", b"no zip", b"PK\x03\x04" + b"\0" * 50):
        path = tmp_path / "x.zip"
        path.write_bytes(content)
        with pytest.raises(CorruptError, match=r"x\.zip"):
            bundle.import_runs(store, path)
    with pytest.raises(UserError, match="there is no"):
        bundle.import_runs(store, tmp_path / "absent.zip")
    with pytest.raises(UserError):
        bundle.import_runs(store, tmp_path)


def test_every_cut_and_flipped_byte_is_an_error_or_harmless(store, finished, elsewhere, tmp_path):
    run = finished()
    bundle.export_runs(store, [run], tmp_path / "good.zip")
    good = (tmp_path / "good.zip").read_bytes()
    other = elsewhere()
    rng = np.random.default_rng(0)
    bad = tmp_path / "bad.zip"
    for trial in range(120):
        data = bytearray(good)
        if trial % 3 == 0:
            del data[int(rng.integers(len(data))) :]
        else:
            for place in rng.integers(len(data), size=1 + trial % 5):
                data[int(place)] ^= int(rng.integers(1, 256))
        bad.write_bytes(bytes(data))
        try:
            ids = bundle.import_runs(other, bad)
        except UserError:
            assert other.runs().empty
        else:
            for new in ids.values():
                other.delete(new)
        assert list(cache_subdir("runs").iterdir()) == []


def test_wrong_checksum_is_found(tampered, tmp_path):
    other, _, _ = tampered()
    data = bytearray((tmp_path / "good.zip").read_bytes())
    place = data.index(np.arange(6, dtype=np.float32).tobytes())
    data[place + 9] ^= 1  # inside a weight: only the checksum can tell
    (tmp_path / "bad.zip").write_bytes(bytes(data))
    assert "bundle" in refused(other, tmp_path / "bad.zip").problem


def test_bundle_path_may_be_anywhere_that_exists_or_not(store, finished, tmp_path):
    bundle.export_runs(store, [finished()], tmp_path / "deep" / "er" / "b.zip")
    assert Path(tmp_path / "deep" / "er" / "b.zip").is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        bundle.export_runs(store, [finished(1)], tmp_path / "file" / "b.zip")


# --- what 0.1.0 wrote

WRITTEN_BY_0_1_0 = Path(__file__).parents[1] / "v0_1_0" / "bundle.zip"


def test_a_bundle_of_0_1_0_comes_in_whole(store, tmp_path):
    ids = bundle.import_runs(store, WRITTEN_BY_0_1_0)
    assert list(ids) == list(ids.values()) == ["kd-pocket-sentiment-f042f8", "fine-tune-pocket-sentiment-aea330"]
    with zipfile.ZipFile(WRITTEN_BY_0_1_0) as file:
        for run in ids:
            row = store.get(run)
            assert row.state == "done" and not row.broken and row.config.task == "pocket-sentiment"
            resolve(row.config.method, row.config.options)
            expected = pq.read_table(io.BytesIO(file.read(f"runs/{run}/metrics.parquet"))).num_rows
            assert len(store.metrics([run])) == expected > 0
            inside = {name.split("/files/")[1] for name in file.namelist() if name.startswith(f"runs/{run}/files/")}
            folder = run_dir(run)
            assert inside == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert bundle.import_runs(store, WRITTEN_BY_0_1_0) == ids and len(store.runs()) == 2


def test_a_student_of_0_1_0_answers_as_it_did(store):
    bundle.import_runs(store, WRITTEN_BY_0_1_0)
    folder = run_dir("kd-pocket-sentiment-f042f8")
    saved = np.load(folder / "predictions" / "validation.student.npz")
    rows = load("pocket-sentiment").splits["validation"]
    text_of = dict(zip(rows.ids.tolist(), rows.texts[0], strict=True))
    tokenizer, model = load_tokenizer(folder / "student-best"), load_classifier(folder / "student-best").eval()
    with torch.inference_mode():
        for example_id, expected in zip(saved["ids"][:8].tolist(), saved["logits"], strict=False):
            ids = torch.tensor([tokenizer(text_of[example_id])["input_ids"]])
            answer = model(input_ids=ids).logits[0].numpy()
            np.testing.assert_allclose(answer, expected, atol=0.02)  # it was asked in bf16


def test_a_run_of_a_method_from_outside_travels_without_its_file(store, finished, elsewhere, tmp_path):
    from kdcore.methods import METHODS

    source = {"origin": "angle_kd.py", "version": "0123456789ab"}
    run = finished(method="angle-kd", method_source=source)
    bundle.export_runs(store, [run], tmp_path / "bundle.zip")
    there = elsewhere()
    bundle.import_runs(there, tmp_path / "bundle.zip")
    row = there.get(run)
    assert (row.method, row.method_origin) == ("angle-kd", "angle_kd.py") and "angle-kd" not in METHODS
    assert list(there.runs()["method_origin"]) == ["angle_kd.py"]
    assert (student_folder(there, run) / "model.safetensors").is_file()
