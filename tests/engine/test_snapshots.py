"""Moments kept while training: what they hold, what they cost, and that the training does not notice them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from kdcore.config import ProbeConfig
from kdcore.engine import final_metrics, results
from kdcore.engine.checkpoint import newest
from kdcore.events import Evaluated, Probed, StageStarted, StepDone
from kdcore.models.observe import observe
from kdcore.probes import distances, snapshots
from kdcore.probes.attention import head_divergences
from kdcore.probes.distances import layer_distances
from kdcore.records import ALL_LAYERS, Encoding
from tests.helpers import kill_process
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import StopAt, run, same

WATCHED = ProbeConfig(fidelity=False, latency=False, distances=True)
TIMES = ("seconds", "examples_per_second")


@pytest.fixture(autouse=True)
def without_the_last_reading(monkeypatch):
    """The distances at the end are another probe's."""
    monkeypatch.setattr(final_metrics, "_distances", lambda *_: iter(()))


def watched(method, teachers=(), **changes):
    return run(method, teachers, probes=WATCHED, **changes)


def kept(done):
    found = snapshots.read(done.folder)
    assert found is not None
    return found


def model_of(done, which="last"):
    return results.student(done.folder, which)[0]


def encoding_of(done, tokens):
    ids = torch.tensor([world.tokenizer().convert_tokens_to_ids(list(tokens))])
    return Encoding(ids, torch.ones_like(ids), torch.zeros_like(ids))


def timeless(events):
    steps = [dataclasses.replace(event, **dict.fromkeys(TIMES, 0.0)) for event in world.of(StepDone, events)]
    return steps + world.of(Evaluated, events)


CASES = {
    "fine-tune": (run("fine-tune", evaluate_every=4), 0),
    "kd": (run("kd", accumulate=2, evaluate_every=4), 1),
    "pkd in the machine's precision": (run("pkd", precision="auto"), 1),
    "skd, ranked by pilots": (run("skd", options={"sampling": "student-rank"}, epochs=1), 2),
    "pea-kd": (run("pea-kd"), 1),
    "tinybert": (run("tinybert"), 1),
}


@pytest.mark.parametrize("case", CASES)
def test_the_training_does_not_notice_them(trained, three_teachers, case):
    setting, count = CASES[case]
    setting = setting.model_copy(update={"teachers": three_teachers[:count]})
    plain = trained(setting)
    seen = trained(setting.model_copy(update={"probes": WATCHED}))
    assert len(kept(seen).steps) > 2 and snapshots.read(plain.folder) is None
    for which in ("last", "best"):
        assert same(seen.weights(which), plain.weights(which)), which
    assert timeless(seen.events) == timeless(plain.events)


def test_moments_are_the_start_the_end_and_evenly_between(trained, one_teacher):
    done = trained(watched("kd", one_teacher, max_steps=20, checkpoint_every=100))
    found = kept(done)
    assert found.steps == (0, 3, 6, 9, 11, 14, 17, 20)
    said = done.of(Probed)
    assert [event.name for event in said] == ["snapshots"] * 8 and [event.step for event in said] == list(found.steps)
    assert said[-1].data["steps"] == list(found.steps) and said[-1].data["seconds"] > 0
    assert said[-1].data["bytes"] == sum(file.stat().st_size for file in found.folder.iterdir())
    assert found.teachers == ("t0",) and found.split == "validation" and len(found.rows) == snapshots.ROWS
    assert all(tokens[0] == "[CLS]" and tokens[-1] == "[SEP]" for tokens in found.rows)
    assert {file.suffix for file in found.folder.iterdir()} == {".json", ".safetensors"}, "none needs pickle"


def test_a_short_training_keeps_each_of_its_steps_once(trained):
    assert kept(trained(watched("fine-tune", max_steps=3))).steps == (0, 1, 2, 3)


def test_what_is_kept_is_what_the_models_say(trained, three_teachers):
    """The first moment is the new student's, the last is the trained student's, each number as the model gives it."""
    teachers = three_teachers[:2]
    done = trained(watched("kd", teachers))
    found = kept(done)
    loaded = results.teachers(done.folder)
    for row, tokens in enumerate(found.rows):
        encoding = encoding_of(done, tokens)
        seen = observe(model_of(done), encoding, {"attention": ALL_LAYERS}, grad=False).attention
        maps = found.student(found.steps[-1], row)
        assert maps.tokens == list(tokens)
        np.testing.assert_allclose(maps.maps, np.stack([seen[i][0] for i in sorted(seen)]), atol=6e-4)
        for name, (model, _) in loaded.items():
            theirs = observe(model, encoding, {"attention": ALL_LAYERS}, grad=False).attention
            np.testing.assert_allclose(
                found.teacher(name, row).maps, np.stack([theirs[i][0] for i in sorted(theirs)]), atol=6e-4
            )
    first, last = (found.student(step, 0).maps for step in (found.steps[0], found.steps[-1]))
    assert np.abs(first - last).max() > 0.01, "the student has learned"
    matrices = found.distances(found.steps[-1])
    assert set(matrices) == {"t0", "t1"} and matrices["t0"]["cka"].shape == (3, 3)
    assert not np.array_equal(matrices["t0"]["cka"], matrices["t1"]["cka"])


def test_the_distances_are_those_of_the_rows_that_are_compared(trained, one_teacher):
    done = trained(watched("kd", one_teacher))
    found = kept(done)
    data = world.data_of()
    rows = data.splits["validation"].texts[0]
    coded = world.tokenizer()(list(rows), padding=True, return_tensors="pt")
    assert int(coded["attention_mask"].sum()) == found.compared_tokens <= distances.SAMPLE_TOKENS
    encoding = Encoding(coded["input_ids"], coded["attention_mask"], torch.zeros_like(coded["input_ids"]))
    ((teacher, _),) = results.teachers(done.folder).values()
    states = [observe(m, encoding, {"hidden": ALL_LAYERS}, grad=False).hidden for m in (teacher, model_of(done))]
    expected = layer_distances(states[0], states[1], encoding.attention_mask)
    seen = found.distances(found.steps[-1])["t0"]
    assert np.isnan(seen["cls"][0]).all() and np.isfinite(seen["cls"][1:, 1:]).all(), "[CLS] is alike in all embeddings"
    for measure, matrix in ((name, matrix) for name, matrix in seen.items() if name != "cls"):
        np.testing.assert_allclose(matrix, getattr(expected, measure), rtol=1e-3, atol=1e-4)


def test_the_last_moment_and_the_end_agree_where_the_weights_do(trained, one_teacher, monkeypatch):
    monkeypatch.undo()
    done = trained(watched("kd", one_teacher, evaluate_every=10**6))
    assert same(done.weights("last"), done.weights("best"))
    (final,) = [event.data for event in done.of(Probed) if event.name == "distances"]
    found = kept(done)
    for measure, matrix in found.distances(found.steps[-1])["t0"].items():
        np.testing.assert_allclose(matrix, np.array(final[measure], dtype=float), rtol=1e-6)
    assert final["tokens"] == found.compared_tokens


def test_a_moment_without_the_measure_of_cls_alone_is_read(trained, one_teacher):
    found = kept(trained(watched("kd", one_teacher, max_steps=3)))
    file = found.folder / f"{found.steps[-1]:08d}.safetensors"
    tensors = {name: tensor for name, tensor in load_file(file).items() if not name.startswith("cls.")}
    save_file(tensors, file)
    assert set(found.distances(found.steps[-1])["t0"]) == {"cka", "cosine", "mse"}


def test_a_student_that_is_its_teacher_is_at_no_distance_anywhere(trained, one_teacher):
    same_size = world.STUDENT.model_copy(update={"init": "teacher"})
    found = kept(trained(watched("kd", one_teacher, student=same_size)))
    start = found.distances(0)["t0"]
    np.testing.assert_allclose(np.diag(start["cka"]), 1.0, atol=1e-6)
    np.testing.assert_allclose(np.diag(start["cosine"]), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.diag(start["mse"]), 0.0, atol=1e-6)
    for row in range(len(found.rows)):
        teacher, student = found.teacher("t0", row).maps, found.student(0, row).maps
        assert np.array_equal(teacher, student)
        assert np.einsum("abab->ab", head_divergences(teacher, student)).max() == 0.0


def test_a_student_alone_keeps_its_attention_and_no_distances(trained):
    found = kept(trained(watched("fine-tune")))
    assert found.teachers == () and found.distances(found.steps[0]) == {} and found.compared_tokens == 0
    assert found.student(0, 0).maps.shape[:2] == (2, 2)


def test_pilots_and_assistants_are_left_out(trained, three_teachers, shelf):
    ranked = trained(watched("skd", three_teachers[:2], options={"sampling": "student-rank"}, epochs=1))
    assert kept(ranked).steps[0] == 12 and kept(ranked).steps[-1] == 18  # two pilots of six steps come first
    assisted = trained(watched("takd", [world.teacher(shelf, "deepest", layers=4)]))
    stages = assisted.of(StageStarted)
    assert len(stages) == 2 and kept(assisted).steps[0] == stages[1].first_step > 0


def test_an_early_stop_keeps_its_end(trained, monkeypatch):
    from kdcore.engine import loop

    monkeypatch.setattr(loop, "scores", lambda *_: {"accuracy": 0.5})
    done = trained(watched("fine-tune", epochs=6, early_stop=2))
    last = done.of(StepDone)[-1].step
    assert last < 36 and kept(done).steps[-1] == last


def test_a_resumed_training_keeps_each_moment_once(trained, one_teacher, tmp_path):
    setting = watched("kd", one_teacher, checkpoint_every=3)
    whole = trained(setting)
    stopped = trained(setting, tmp_path / "stopped", StopAt(7))
    before = kept(stopped).steps
    assert before == tuple(step for step in kept(whole).steps if step <= 7)
    times = {step: (stopped.folder / "probes" / "snapshots" / f"{step:08d}.safetensors").stat() for step in before}
    on = trained(setting, stopped.folder)
    assert same(on.weights(), whole.weights())
    again = [event.step for event in on.of(Probed)]
    assert kept(on).steps == kept(whole).steps == (*before, *again)
    for step, stat in times.items():
        now = (on.folder / "probes" / "snapshots" / f"{step:08d}.safetensors").stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns), "it was written twice"
    for step in kept(whole).steps:
        assert np.array_equal(kept(on).student(step, 1).maps, kept(whole).student(step, 1).maps)


def test_a_killed_training_forgets_what_came_after_its_checkpoint(trained, tmp_path):
    setting = watched("fine-tune", checkpoint_every=5)
    whole, folder = trained(setting), tmp_path / "killed"
    moment = next(i for i, e in enumerate(whole.events, 1) if isinstance(e, StepDone) and e.step == 9)
    assert (
        kill_process.in_a_process(kill_process.train_disturbed, setting.model_dump_json(), folder, None, moment) == -9
    )
    assert newest(folder / "checkpoint").name.endswith("5") and max(snapshots.read(folder).steps) > 5
    on = trained(setting, folder)
    assert min(event.step for event in on.of(Probed)) > 5
    assert same(on.weights(), whole.weights()) and kept(on).steps == kept(whole).steps


def test_a_discard_leaves_none(trained, one_teacher):
    done = trained(watched("kd", one_teacher), control=StopAt(8, "discard"))
    assert not (done.folder / "probes").exists()
