"""What teachers said is kept by example: true, complete, bounded, and found again only where it holds."""

from __future__ import annotations

import copy
import dataclasses
import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from kdcore import paths
from kdcore.data.encode import collate, encode
from kdcore.engine import teacher_cache
from kdcore.engine.device import Compute, has_fast_bf16
from kdcore.engine.ensemble import Ensemble
from kdcore.engine.job import encode_rows
from kdcore.engine.pins import pinned
from kdcore.engine.teacher_cache import TeacherCache, bytes_in_use, entry_folder, make_room, tensors_of
from kdcore.engine.teachers import prepare_teacher
from kdcore.errors import UserError
from kdcore.events import Progress, RunFinished, StepDone
from kdcore.models.observe import observe
from kdcore.records import ALL_LAYERS, Batch, Needs, want
from tests.helpers import kill_process
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import run, same

CPU = Compute(torch.device("cpu"), "fp32")
EVERYTHING = want("logits", cls=ALL_LAYERS, hidden=(0, 2))
CLOSE = {"logits": 1e-5, "cls": 2e-3, "hidden": 2e-3}
"""Largest difference of a stored value: float32 batches differ in their last digits, float16 keeps 11 bits."""


def drain(generator):
    """Runs a generator to its end; returns what it returns."""
    while True:
        try:
            next(generator)
        except StopIteration as ended:
            return ended.value


@pytest.fixture(scope="module")
def rows():
    return encode(world.data_of().train, world.tokenizer(), 32)


@pytest.fixture(scope="module")
def model():
    return world.model(seed=10).eval()


@pytest.fixture
def cache(rows):
    """A cache object over the rows; `who` names the entry."""

    def make(who: str = "a", wanted=EVERYTHING) -> TeacherCache:
        return TeacherCache({"teacher": who}, rows, tensors_of(wanted, world.SIZE))

    return make


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".values", ".present")}


def test_rows_are_found_by_id_in_any_order_and_company(cache, rows, model):
    kept = cache()
    drain(kept.fill(model, CPU, "filling"))
    order = np.random.default_rng(0).permutation(len(rows))[:40]
    for chosen in (order, order[::-1], order[:1], np.repeat(order[:2], 2)):
        batch = collate(rows, chosen)
        said = kept.read(batch.ids, batch.encoding, torch.device("cpu"))
        assert torch.equal(said.mask, batch.encoding.attention_mask)
        for place, row in enumerate(chosen):
            alone = observe(model, collate(rows, row[None]).encoding, EVERYTHING, grad=False)
            length = rows.lengths[row]
            close(said.logits[place], alone.logits[0], "logits")
            for layer in (0, 1, 2):
                close(said.cls[layer][place], alone.cls[layer][0], "cls")
            for layer in (0, 2):
                close(said.hidden[layer][place, :length], alone.hidden[layer][0, :length], "hidden")
                assert not said.hidden[layer][place, length:].any()
    assert said.logits.dtype == said.cls[0].dtype == said.hidden[0].dtype == torch.float32


def close(one: torch.Tensor, two: torch.Tensor, name: str) -> None:
    torch.testing.assert_close(one, two, rtol=CLOSE[name], atol=CLOSE[name])
    assert one.abs().sum() > 0


def test_examples_that_are_not_there_are_an_error(cache, rows, model):
    kept = cache()
    drain(kept.fill(model, CPU, "filling"))
    encoding = collate(rows, np.array([0, 1])).encoding
    for ids in ([0, 10**9], [-1, 3], [len(rows), 0]):
        with pytest.raises(KeyError, match="not in the teacher cache"):
            kept.read(torch.tensor(ids), encoding, torch.device("cpu"))


def test_who_fills_does_not_matter(cache, model, rows):
    """Half by one object, the rest by another: the same bytes as in one go."""
    whole, half = cache("whole"), cache("half")
    drain(whole.fill(model, CPU, "filling"))
    filling = half.fill(model, CPU, "filling")
    next(filling)
    filling.close()
    missing = half.missing()
    assert 0 < missing.sum() < len(rows)
    rest = cache("half")
    assert np.array_equal(rest.missing(), missing)
    drain(rest.fill(model, CPU, "filling"))
    assert (rest.hits, rest.misses) == (len(rows) - missing.sum(), missing.sum())
    assert files(whole.folder) == files(half.folder) and not rest.missing().any()


def test_rows_that_went_missing_are_filled_as_they_were(cache, model):
    kept = cache()
    drain(kept.fill(model, CPU, "filling"))
    before = files(kept.folder)
    for tensor in kept.tensors[:2]:
        kept._present[tensor][[3, 50, 77]] = 0
    again = cache()
    assert again.missing().sum() == 3
    drain(again.fill(model, CPU, "filling"))
    assert files(kept.folder) == before


def test_more_tensors_are_added_to_those_that_are_there(cache, model, rows):
    """One method stores logits, the next also wants states: the logits stay, and nothing reads as there before."""
    first = cache(wanted=want("logits"))
    drain(first.fill(model, CPU, "filling"))
    logits = first.logits()
    more = cache(wanted=want("logits", cls=(1,)))
    assert more.missing().all()
    drain(more.fill(model, CPU, "filling"))
    assert not more.missing().any() and np.array_equal(more.logits(), logits)
    assert not cache(wanted=want(cls=(1,))).missing().any() and cache(wanted=want(cls=(2,))).missing().all()


def test_a_row_reads_as_there_only_after_its_values_are_written(cache, model):
    kept = cache()
    order = []

    class Spy(np.memmap):
        """Notes when it is written to."""

        def __setitem__(self, place, value) -> None:
            order.append(self.word)
            super().__setitem__(place, value)

    def spy(array, word: str) -> Spy:
        spied = array.view(Spy)
        spied.word = word
        return spied

    tensor = kept.tensors[-1]
    kept._values[tensor] = spy(kept._values[tensor], "values")
    kept._sums[tensor] = spy(kept._sums[tensor], "sums")
    kept._present[tensor] = spy(kept._present[tensor], "present")
    drain(kept.fill(model, CPU, "filling"))
    assert order and order == ["values", "sums", "present"] * (len(order) // 3)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, grow, empty, Path.unlink])
@pytest.mark.parametrize("name", ["logits.values", "logits.present", "cls-1.values"])
def test_damaged_files_start_anew(cache, model, damage, name):
    kept = cache()
    drain(kept.fill(model, CPU, "filling"))
    before = files(kept.folder)
    damage(kept.folder / name)
    again = cache()
    assert again.missing().all(), "rows of a damaged file must not read as there"
    drain(again.fill(model, CPU, "filling"))
    assert files(kept.folder) == before


@pytest.mark.parametrize("name", ["logits.values", "cls-1.values", "hidden-2.values"])
def test_one_flipped_bit_is_noticed_and_made_anew(cache, model, rows, name):
    kept = cache()
    drain(kept.fill(model, CPU, "filling"))
    before = files(kept.folder)
    content = bytearray((kept.folder / name).read_bytes())
    content[len(content) // 2] ^= 4
    (kept.folder / name).write_bytes(content)
    again = cache()
    assert again.damaged == again.missing().sum() == 1
    drain(again.fill(model, CPU, "filling"))
    assert files(kept.folder) == before and cache().damaged == 0


def test_zeros_in_place_of_values_are_noticed(cache, model, rows):
    kept = cache()
    drain(kept.fill(model, CPU, "filling"))
    for name in ("logits.values", "logits.sums"):
        (kept.folder / name).write_bytes(bytes((kept.folder / name).stat().st_size))
    assert cache().missing().all()


@pytest.mark.parametrize("tensor", ["logits", "cls-1", "hidden-2"])
def test_damage_that_leaves_the_sum_of_the_numbers_is_noticed(cache, rows, model, tensor):
    kept = cache()
    drain(kept.fill(model, CPU, "filling"))
    before = files(kept.folder)
    start, stop = (rows.offsets[7:9] if tensor.startswith("hidden") else np.array([7, 8])).tolist()
    values = np.frombuffer(before[f"{tensor}.values"], np.uint8).copy()
    vector = len(values) // (rows.offsets[-1] if tensor.startswith("hidden") else len(rows))
    row = values[start * vector : stop * vector].view(np.uint32)
    row[:] = row[::-1].copy()
    assert values.tobytes() != before[f"{tensor}.values"]
    (kept.folder / f"{tensor}.values").write_bytes(values.tobytes())
    again = cache()
    assert np.flatnonzero(again.missing()).tolist() == [7]
    drain(again.fill(model, CPU, "filling"))
    assert files(kept.folder) == before


def test_rows_that_changed_places_with_their_sums_are_noticed(cache, model):
    kept = cache("places", want("logits"))
    drain(kept.fill(model, CPU, "filling"))
    for suffix, kind in ((".values", np.float32), (".sums", np.uint32)):
        array = np.fromfile(kept.folder / f"logits{suffix}", kind).reshape(100, -1)
        array[[3, 8]] = array[[8, 3]]
        array.tofile(kept.folder / f"logits{suffix}")
    assert np.flatnonzero(cache("places", want("logits")).missing()).tolist() == [3, 8]


def test_an_entry_without_checksums_is_taken_as_it_is(cache, model, rows):
    """Those of 0.1.0 have none."""
    kept = cache()
    drain(kept.fill(model, CPU, "filling"))
    for path in kept.folder.glob("*.sums"):
        path.unlink()
    assert not cache().missing().any() and not cache().missing().any()


def test_a_run_says_that_kept_outputs_were_damaged(trained, one_teacher, own_cache):
    whole = trained(run("kd", one_teacher))
    for path in own_cache.glob("outputs/*/logits.values"):
        path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    again = trained(run("kd", one_teacher))
    damaged = [event.what for event in again.events if isinstance(event, Progress) and "damaged" in event.what]
    assert damaged and next(e for e in again.events if isinstance(e, RunFinished)).summary["cache"]["damaged"] >= 1
    assert same(whole.weights(), again.weights())


def test_room_on_disk_is_taken_before_values_are_written(cache):
    """A page that finds no room later would kill the process; so the file has all its blocks from the start."""
    for path in cache().folder.glob("*.values"):
        assert path.stat().st_blocks * 512 >= path.stat().st_size > 0


def test_a_full_disk_is_said_and_forgotten_when_there_is_room(cache, monkeypatch, model):
    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError) as said:
            cache()
        assert said.value.errno == errno.ENOSPC
    kept = cache()
    assert kept.missing().all()
    drain(kept.fill(model, CPU, "filling"))


def test_one_that_opens_slowly_does_not_wipe_what_another_fills(cache, model, monkeypatch):
    """Both find no files; the first is held up just before it makes them."""
    inside, filled = threading.Event(), threading.Event()

    def slow(path: Path, mode: str):
        if threading.current_thread() is first and not inside.is_set():
            inside.set()
            filled.wait(1.0)  # in vain, where the second rightly waits for the first
        return open(path, mode)

    monkeypatch.setattr(teacher_cache, "open", slow, raising=False)
    first = threading.Thread(target=cache, args=("shared", want("logits")))
    first.start()
    inside.wait()
    second = cache("shared", want("logits"))
    drain(second.fill(model, CPU, "filling"))
    filled.set()
    first.join()
    after = cache("shared", want("logits"))
    assert not after.missing().any() and after.logits().all(), "rows that read as there hold zeros"


def test_several_that_open_and_fill_one_entry_at_once_agree(cache, model, rows):
    whole = cache("whole")
    drain(whole.fill(model, CPU, "filling"))
    failures = []

    def fill() -> None:
        try:
            drain(cache("shared").fill(copy.deepcopy(model), CPU, "filling"))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=fill) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and not cache("shared").missing().any()
    assert files(cache("shared").folder) == files(whole.folder)


def test_a_killed_fill_leaves_nothing_that_reads_as_true(trained, one_teacher, tmp_path):
    setting = run("pkd", one_teacher, epochs=1)
    whole = trained(setting, tmp_path / "whole")
    filled = {path: path.read_bytes() for path in paths.cache_subdir("outputs").glob("*/*.values")}
    teacher_cache.shutil.rmtree(paths.cache_subdir("outputs"))
    folder = tmp_path / "killed"
    # dev and `select` take one write each, the training rows come in two batches of two tensors: die in the last
    assert kill_process.in_a_process(kill_process.train_and_die_filling, setting.model_dump_json(), folder, 6) == -9
    found = {path: path.read_bytes() for path in paths.cache_subdir("outputs").glob("*/*.values")}
    assert found.keys() == filled.keys() and found != filled, "killed too late: nothing was missing"
    present = {path: path.with_suffix(".present").read_bytes() for path in found}
    assert any(0 in bits for bits in present.values()) and any(1 in bits for bits in present.values())
    for path, bits in present.items():
        size = len(found[path]) // len(bits)
        for row in range(len(bits)):
            if bits[row]:
                piece = slice(row * size, (row + 1) * size)
                assert found[path][piece] == filled[path][piece] != b"\0" * size
    assert same(trained(setting, folder).weights(), whole.weights())


# --- who may read what --------------------------------------------------------------------------------------------


def ensemble(spec, key=world.SENTIMENT, where=CPU, cached=True, **train) -> tuple[Ensemble, dict]:
    data = world.data_of(key)
    settings = run("kd", [spec], **train).train
    teacher = drain(prepare_teacher(spec, data, settings, where))
    rows = encode_rows(data, world.tokenizer(), settings)
    return Ensemble([teacher], rows.train, rows.identity, where, cached), {"train": rows.train, **rows.splits}


def entries() -> set[str]:
    return {path.name for path in paths.cache_subdir("outputs").iterdir() if path.is_dir()}


def fill(spec, **settings) -> set[str]:
    """The entries that a training with these settings opens."""
    before = entries()
    taught, _ = ensemble(spec, **settings)
    with taught.open():
        drain(taught.ready(Needs(teacher=want("logits")), [spec.name]))
    return entries() - before


def test_an_entry_serves_the_same_question_only(one_teacher, shelf):
    (spec,) = one_teacher
    assert len(fill(spec)) == 1
    assert fill(spec) == set()
    assert fill(spec, seed=5, batch_size=8, lr=0.5) == set(), "the student's settings are not the teacher's"
    assert len(fill(world.teacher(shelf, "other-weights", seed=77))) == 1
    assert len(fill(spec, max_length=16)) == 1
    assert len(fill(spec, max_train_rows=32)) == 1
    assert len(fill(spec, key=world.PARAPHRASE)) == 1
    if has_fast_bf16("cpu"):
        assert len(fill(spec, where=Compute(torch.device("cpu"), "bf16"))) == 1


def test_other_ids_under_other_rows(rows):
    """Another tokenizer gives the same texts other ids; a subset has other rows."""
    other = dataclasses.replace(rows, input_ids=rows.input_ids[::-1].copy())
    renamed = dataclasses.replace(rows, ids=rows.ids + 1)
    identity = {"teacher": "a"}
    assert len({entry_folder(identity, each) for each in (rows, other, renamed)}) == 3


def test_a_teacher_renamed_or_moved_is_the_same_teacher(one_teacher, tmp_path):
    (spec,) = one_teacher
    fill(spec)
    teacher_cache.shutil.copytree(spec.where, tmp_path / "moved")
    moved = spec.model_copy(update={"name": "moved", "where": str(tmp_path / "moved")})
    assert fill(moved) == set()


def test_augmented_rows_bypass_the_cache(one_teacher):
    (spec,) = one_teacher
    taught, rows = ensemble(spec)
    with taught.open():
        drain(taught.ready(Needs(teacher=want("logits")), ["t0"]))
        real = collate(rows["train"], np.array([4, 9]))
        new = Batch(torch.tensor([-1, -2]), real.labels, collate(rows["train"], np.array([30, 31])).encodings)
        mixed = Batch(torch.tensor([int(real.ids[0]), -2]), real.labels, new.encodings)
        live = observe(taught.teachers["t0"].load(), new.encoding, want("logits"), grad=False).logits
        for batch in (new, mixed):
            torch.testing.assert_close(taught.answer("t0", batch, None).logits, live)
        assert not torch.allclose(taught.answer("t0", real, None).logits, live)


@pytest.mark.parametrize("cached", [True, False])
def test_answers_for_some_rows_come_in_their_order_and_without_a_graph(one_teacher, cached):
    taught, rows = ensemble(one_teacher[0], cached=cached)
    with taught.open():
        drain(taught.ready(Needs(teacher=want("logits", cls=(1,))), ["t0"]))
        batch = collate(rows["train"], np.arange(6))
        whole, some = taught.answer("t0", batch, None), taught.answer("t0", batch, torch.tensor([5, 2]))
        torch.testing.assert_close(some.logits, whole.logits[[5, 2]])
        torch.testing.assert_close(some.cls[1], whole.cls[1][[5, 2]])
        assert not some.logits.requires_grad and not whole.cls[1].requires_grad
    assert not any(p.requires_grad for p in taught.teachers["t0"].load().parameters())


@pytest.mark.parametrize("wanted", [want("logits"), {}], ids=["logits", "nothing"])
def test_once_all_is_kept_no_teacher_stays_in_memory(one_teacher, wanted):
    """Nor where the method asks none, though its dev scores were taken."""
    taught, rows = ensemble(one_teacher[0])
    with taught.open():
        drain(taught.logits("t0", rows["validation"], "dev"))
        assert taught._models
        drain(taught.ready(Needs(teacher=wanted), ["t0"]))
        assert not taught._models


@pytest.mark.parametrize(
    ("method", "options"), [("kd", {"temperature": 2.0}), ("pkd", {"beta": 10.0}), ("distilbert", {}), ("skd", {})]
)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_cached_training_is_live_training(trained, one_teacher, method, options, dropout):
    """Seed 1: with some (2) a gradient so near zero that float16 turns its sign moves a single weight by a step."""
    ends = []
    changes = {"dropout": dropout, "max_steps": 8, "lr": 1e-3, "seed": 1}
    for cached in (True, False):
        done = trained(run(method, one_teacher, options, teacher_cache=cached, **changes))
        ends.append(done.weights())
        served = done.of(RunFinished)[0].summary["cache"]
        assert served["misses"] == (90 if cached else 0) and bool(served["live"]) == (not cached)
    assert not same(*ends) or method in ("kd", "skd")
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=1e-2, atol=2e-4)


def test_the_second_run_finds_everything(trained, one_teacher, monkeypatch):
    first = trained(run("kd", one_teacher, epochs=1))
    monkeypatch.setattr(TeacherCache, "fill", lambda *a: pytest.fail("filled again"))
    second = trained(run("kd", one_teacher, {"temperature": 3.0}, epochs=1))
    assert first.of(RunFinished)[0].summary["cache"]["misses"] == 90
    assert second.of(RunFinished)[0].summary["cache"] == {
        "hits": 90, "misses": 0, "live": 0, "damaged": 0, "seconds": 0.0, "bytes": bytes_in_use(),
    }  # fmt: skip


# --- bounds -------------------------------------------------------------------------------------------------------


def entry(name: str, size: int, age: float, pin: str | None = None) -> Path:
    folder = paths.cache_subdir("outputs") / name
    folder.mkdir()
    (folder / "logits.values").write_bytes(b"x" * size)
    if pin:
        (folder / pin).touch()
    os.utime(folder, (1e9 - age, 1e9 - age))
    return folder


@pytest.fixture
def budget(monkeypatch):
    return lambda size: monkeypatch.setenv("KD_TEACHER_CACHE_GB", str(size / 2**30))


def test_the_least_recently_used_goes_first(budget):
    budget(1000)
    old, middle, new = (entry(name, 300, age) for name, age in (("old", 30), ("middle", 20), ("new", 10)))
    assert make_room(90, set()) and old.exists()
    assert make_room(200, set()) and not old.exists() and middle.exists() and new.exists()
    with pinned(middle):
        pass  # being used makes it the newest
    assert make_room(500, set()) and middle.exists() and not new.exists()


def test_more_than_the_budget_never_fits(budget):
    budget(1000)
    kept = entry("kept", 300, 1)
    assert not make_room(1001, set())
    assert not kept.exists()  # room was made in vain; what is needed again is filled again
    assert bytes_in_use() == 0


def test_what_is_in_use_stays(budget):
    budget(1000)
    mine = entry("mine", 500, 99)
    dropped = entry("dropped", 300, 1)
    left = entry("left", 100, 98, pin="pin-0a1b2c3d4e5f-7-7-0a1b2c3d")
    os.utime(left / "pin-0a1b2c3d4e5f-7-7-0a1b2c3d", (1e9, 1e9))  # of another computer, not touched for long
    os.utime(left, (1e9 - 98, 1e9 - 98))
    held = entry("held", 100, 97)
    with pinned(mine):
        assert make_room(400, {held})
        assert mine.exists() and held.exists()
        assert not left.exists() and not dropped.exists()
        assert not make_room(401, {held})
    assert not list(mine.glob("pin-*"))


def test_two_uses_in_one_process_pin_apart(budget):
    budget(1000)
    shared = entry("shared", 500, 1)
    with pinned(shared):
        with pinned(shared):
            pass
        assert not make_room(600, set()) and shared.exists()


def test_without_room_the_teacher_is_asked_each_time(trained, one_teacher, budget):
    setting = run("kd", one_teacher, max_steps=4, dropout=0.0, precision="fp32", log_every=1)
    kept = trained(setting)
    teacher_cache.shutil.rmtree(paths.cache_subdir("outputs"))
    budget(100)
    live = trained(setting)
    assert live.of(RunFinished)[0].summary["cache"]["misses"] == 0
    losses = [[step.raw["soft"] for step in one.of(StepDone)] for one in (kept, live)]
    assert len(losses[0]) == 4 and len(set(losses[0])) == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)  # padding differs: so do last bits


@pytest.mark.parametrize("text", ["lots", "", "nan", "inf"])
def test_a_budget_that_is_no_number_is_named(monkeypatch, text):
    monkeypatch.setenv("KD_TEACHER_CACHE_GB", text)
    with pytest.raises(UserError, match="KD_TEACHER_CACHE_GB"):
        teacher_cache.budget()


def test_entries_that_vanish_meanwhile_do_no_harm(budget, monkeypatch):
    """Another process may drop an entry or a pin between two looks at it."""
    budget(1000)
    entry("one", 300, 1)
    gone = entry("gone", 300, 2)
    sizes = teacher_cache._size

    def vanishing(folder: Path) -> int:
        if folder == gone:
            teacher_cache.shutil.rmtree(gone, ignore_errors=True)
        return sizes(folder)

    monkeypatch.setattr(teacher_cache, "_size", vanishing)
    assert bytes_in_use() == 300 and make_room(100, set())


def test_what_is_not_stored():
    assert tensors_of(want("logits", attention=(1,)), world.SIZE) is None
    assert [tensor.file for tensor in tensors_of(EVERYTHING, world.SIZE)] == [
        "cls-0.values", "cls-1.values", "cls-2.values", "hidden-0.values", "hidden-2.values", "logits.values",
    ]  # fmt: skip
