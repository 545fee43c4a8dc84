"""Which moments and rows are kept, and that they stay within their room on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from kdcore.data.encode import Encoded
from kdcore.errors import CorruptError
from kdcore.models.sizes import bert_config
from kdcore.models.weights import build_classifier
from kdcore.probes import snapshots
from kdcore.probes.snapshots import MOMENTS, ROWS, Snapshots, moments, plan, size
from kdcore.records import ModelSize

SMALL = ModelSize(layers=2, width=16, heads=4, intermediate=24, vocabulary=20, positions=64)
LARGE = ModelSize(layers=24, width=1024, heads=16, intermediate=4096)


def rows_of(*lengths):
    return Encoded(
        np.arange(sum(lengths), dtype=np.int32) % 20, np.zeros(sum(lengths), np.uint8),
        np.concatenate([[0], np.cumsum(lengths)]), np.zeros(len(lengths), np.int64), 100 + np.arange(len(lengths)),
    )  # fmt: skip


def model(seed=0):
    config = bert_config(SMALL, 2, None)
    config.initializer_range = 0.5
    return build_classifier(config, {}, seed)[0].eval()


def taker(folder, rows, stages, teachers=1):
    sources = {f"t{i}": (SMALL, lambda i=i: model(1 + i)) for i in range(teachers)}
    words = "abcdefghijklmnopqrstuvwxyz"
    spell = lambda ids: [words[i] for i in ids]  # noqa: E731
    return Snapshots(folder, "validation", rows, spell, SMALL, sources, stages, torch.device("cpu"))


def test_moments_of_one_stage():
    assert moments({0: 70}, 8) == [(0, at) for at in range(0, 71, 10)]
    assert moments({0: 2}, 8) == [(0, 0), (0, 1), (0, 2)]
    assert moments({0: 1}, 8) == [(0, 0), (0, 1)]


def test_moments_cross_stages_and_pass_over_others():
    """Stages 1 and 3 of ten and thirty steps: the end of the first is its step 10, not the step 0 of the next."""
    assert moments({1: 10, 3: 30}, 5) == [(1, 0), (1, 10), (3, 10), (3, 20), (3, 30)]
    assert moments({1: 10, 3: 30}, 3) == [(1, 0), (3, 10), (3, 30)]


def test_rows_of_a_readable_length_are_taken_always_the_same():
    lengths = np.array([5, 40, 17, 16, 15, 60, 16, 3])
    assert plan(lengths, SMALL, [SMALL]).rows.tolist() == [3, 6, 2, 4]
    assert plan(lengths, SMALL, [SMALL]).moments == MOMENTS
    assert plan(lengths[:2], SMALL, []).rows.tolist() == [0, 1]


def test_large_models_keep_fewer_rows_then_fewer_moments_then_no_attention():
    at = {length: plan(np.full(9, length), LARGE, [LARGE]) for length in (16, 40, 70, 512)}
    kept = {length: (len(one.rows), one.moments) for length, one in at.items()}
    assert kept[16] == (ROWS, MOMENTS)
    assert kept[40][0] in (1, 2, 3) and kept[40][1] == MOMENTS
    assert kept[70][0] == 1 and 2 <= kept[70][1] < MOMENTS
    assert kept[512] == (0, MOMENTS)
    for length, (rows, count) in kept.items():
        assert size(np.full(rows, length), count, LARGE, [LARGE]) <= snapshots.MAX_BYTES
    deepest = ModelSize(layers=48, width=64, heads=64, intermediate=64)
    assert size(np.empty(0, np.int64), MOMENTS, deepest, [deepest] * 12) < snapshots.MAX_BYTES


@pytest.mark.parametrize("room", [1_000_000, 400_000, 330_000, 310_000])
def test_what_is_on_disk_is_never_more_than_its_room(tmp_path, monkeypatch, room):
    monkeypatch.setattr(snapshots, "MAX_BYTES", room)
    taken = taker(tmp_path, rows_of(*[40] * 12), {0: 80})
    for step in range(81):
        if taken.due(0, step, step, ended=step == 80):
            taken.take(model(), step)
    found = snapshots.read(tmp_path)
    assert found.steps[0] == 0 and found.steps[-1] == 80
    on_disk = snapshots.cost(found.folder)["bytes"]
    assert on_disk == sum(file.stat().st_size for file in found.folder.iterdir()) <= room
    planned = size(np.full(len(found.rows), 40), len(found.steps), SMALL, [SMALL])
    assert planned - on_disk < len(found.steps) * 20_000 + 40_000, "much room is left unused"


def test_the_student_is_left_as_it_was(tmp_path):
    student = model().train()
    student.bert.encoder.layer[0].eval()
    before = [module.training for module in student.modules()]
    state = torch.get_rng_state()
    taker(tmp_path, rows_of(8, 9, 10), {0: 5}, teachers=0).take(student, 0)
    assert [module.training for module in student.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in student.parameters())


def test_rows_say_which_they_are(tmp_path):
    taker(tmp_path, rows_of(30, 6, 16), {0: 5}).take(model(), 0)
    found = snapshots.read(tmp_path)
    assert found.ids == (102, 101, 100) and [len(row) for row in found.rows] == [16, 6, 30]
    assert found.rows[1] == tuple("klmnop") and found.teacher("t0", 1).maps.shape == (2, 4, 6, 6)
    np.testing.assert_allclose(found.student(0, 0).maps.sum(-1), 1.0, atol=2e-3)


def test_begin_forgets_later_moments_or_all(tmp_path):
    first = taker(tmp_path, rows_of(8), {0: 5})
    for step in (0, 2, 5):
        first.take(model(), step)
    taker(tmp_path, rows_of(8), {0: 5}).begin(2)
    assert snapshots.read(tmp_path).steps == (0, 2)
    taker(tmp_path, rows_of(8), {0: 5}).begin(None)
    assert snapshots.read(tmp_path) is None


def test_nothing_kept_is_none_and_damage_is_told(tmp_path):
    assert snapshots.read(tmp_path) is None
    taker(tmp_path, rows_of(8), {0: 5}).take(model(), 0)
    found = snapshots.read(tmp_path)
    file = found.folder / "00000000.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptError, match="does not read"):
        found.student(0, 0)
    file.unlink()
    with pytest.raises(CorruptError):
        found.distances(0)
    file.write_bytes(whole)
    for text in ("[1]", "{", json.dumps({"rows": 3})):
        (found.folder / "rows.json").write_text(text)
        with pytest.raises(CorruptError, match=r"rows\.json"):
            snapshots.read(tmp_path)


def test_they_travel_with_their_run(tmp_path):
    """A bundle takes the files that are named and made as these are."""
    from kdcore.runs.bundle import _belongs

    taker(tmp_path, rows_of(8), {0: 5}).take(model(), 0)
    names = [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(names) == 3 and all(map(_belongs, names))


def test_no_teachers_make_a_file_that_can_be_read(tmp_path: Path) -> None:
    """safetensors writes a header that is not JSON for no tensors with empty metadata; bundles refuse such a file."""
    snapshots._write(tmp_path / "teachers.safetensors", {}, {})
    with safe_open(tmp_path / "teachers.safetensors", framework="np") as tensors:
        assert not list(tensors.keys())
