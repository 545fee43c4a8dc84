"""A training that is killed at any moment and resumed ends with the weights it would have had, bit for bit."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from kdcore.config import StudentSpec
from kdcore.engine import checkpoint
from kdcore.engine.checkpoint import TrainingState
from kdcore.engine.device import has_fast_bf16
from kdcore.engine.run_files import remove_unfinished
from kdcore.errors import CorruptError
from kdcore.events import Evaluated, Probed, RunFinished, RunStarted, StepDone
from tests.helpers import kill_process
from tests.helpers import tiny_task as world
from tests.helpers.tiny_task import StopAt, run, same


@pytest.fixture
def halted(trained):
    """A run that stopped (keep) after so many steps, so that its folder holds a checkpoint."""
    return lambda setting, steps=7: trained(setting, control=StopAt(steps))


CASES = {
    "fine-tune": (run("fine-tune"), 1),
    "kd": (run("kd", accumulate=2, evaluate_every=4), 1),
    "pkd": (run("pkd", precision="auto"), 1),
    "skd": (run("skd"), 3),
    "skd, ranked by pilots": (run("skd", options={"sampling": "student-rank"}, epochs=1), 2),
    "pea-kd": (run("pea-kd"), 1),
    "tinybert, augmented": (run("tinybert", options={"augment": "word-neighbours", "augment_words": 3}), 1),
    "minilm-v2": (run("minilm-v2"), 1),
    "mlkd": (run("mlkd"), 1),
    "annealing-kd": (run("annealing-kd"), 1),
    "alp-kd, in parts": (run("alp-kd", accumulate=2), 1),
    "bert-emd, in parts": (run("bert-emd", options={"beta": 1.0}, accumulate=2), 1),
    "dynamic-kd": (run("dynamic-kd"), 2),
    "dynamic-kd, drawn rows": (run("dynamic-kd", options={"part": "rows", "selection": "random"}), 1),
    "kronecker-bert": (run("kronecker-bert", student=StudentSpec(layers=2, init="teacher", form="kronecker-8")), 1),
    "mix": (run("mix", options={"patience_weight": 100.0, "choice": "rank"}), 3),
    "rl-kd, in parts": (run("rl-kd", options={"episodes": 4, "reward": "score"}, accumulate=2), 3),
    "gkd, in parts": (run("gkd", accumulate=2, precision="auto"), 1),
    "ad-kd": (run("ad-kd", options={"anneal": True}), 1),
}


@pytest.mark.parametrize("case", CASES)
def test_killed_at_random_moments_ends_the_same_bit_for_bit(trained, three_teachers, tmp_path, case):
    setting, count = CASES[case]
    setting = setting.model_copy(update={"teachers": three_teachers[:count]})
    whole = trained(setting)
    folder, settings, other = tmp_path / "killed", setting.model_dump_json(), Path(three_teachers[0].where)
    steps = [number for number, event in enumerate(whole.events, start=1) if isinstance(event, StepDone)]
    chance = random.Random(case)
    # after the first checkpoint, and again soon after it was resumed
    for moment in (chance.randrange(steps[5], steps[-1]), chance.randrange(1, 8)):
        assert kill_process.in_a_process(kill_process.train_disturbed, settings, folder, other, moment) == -9
        assert checkpoint.newest(folder / "checkpoint") is not None
    assert kill_process.in_a_process(kill_process.train_disturbed, settings, folder, other, None) == 0
    for which in ("last", "best"):
        assert same(world.weights(folder / f"student-{which}"), whole.weights(which)), which


HALTS = {
    "annealing-kd": (run("annealing-kd", evaluate_every=4), 1),
    "alp-kd": (run("alp-kd", options={"view": "overlapping", "tokens": "all"}, evaluate_every=4), 1),
    "bert-emd": (run("bert-emd", options={"beta": 1.0, "masses": "softmax"}, evaluate_every=4), 1),
    "dynamic-kd, teachers": (run("dynamic-kd", evaluate_every=4), 2),
    "dynamic-kd, drawn rows": (run("dynamic-kd", options={"part": "rows", "selection": "random"}, evaluate_every=4), 1),
    "dynamic-kd, supervision": (run("dynamic-kd", options={"part": "supervision"}, evaluate_every=4), 1),
    "mix": (run("mix", options={"patience_weight": 10.0, "choice": "rank"}, evaluate_every=4), 3),
    "rl-kd": (run("rl-kd", options={"episodes": 4}, evaluate_every=4), 2),
    "knowledge-selection": (
        run("knowledge-selection", options={"episodes": 1, "phases": 4}, evaluate_every=4), 1,
    ),
    "peers, with a teacher that learns": (run("peers", options={"teacher": "mutual"}, evaluate_every=4), 1),
    "gkd": (run("gkd", evaluate_every=4), 1),
    "gkd-cls": (run("gkd", options={"variant": "gkd-cls", "dropout": True}, evaluate_every=4), 1),
    "ad-kd": (run("ad-kd", options={"anneal": True, "path_steps": 2}, evaluate_every=4), 1),
    "text-smoothing, in parts": (run("text-smoothing", accumulate=2, evaluate_every=4), 1),
    "simkd": (run("simkd", evaluate_every=4), 1),
    "mixed-vocab": (run("mixed-vocab", evaluate_every=4), 1),
    "backward-kd, in parts": (run("backward-kd", accumulate=2, evaluate_every=4), 1),
    "tinybert, divergence of means": (
        run("tinybert", options={"attention_loss": "kl", "layers": "mean"}, evaluate_every=4), 1,
    ),
    "tinybert, probabilities, drawn layers": (
        run("tinybert", options={"attention_loss": "probabilities", "layers": "random"}, evaluate_every=4), 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HALTS)
def test_stopped_in_the_first_a_middle_and_the_last_step_of_each_stage_nothing_differs(
    trained, three_teachers, tmp_path, case
):
    """Weights, scores, and all that is told of each step and read out at each evaluation."""
    setting, count = HALTS[case]
    setting = setting.model_copy(update={"teachers": three_teachers[:count]})
    whole = trained(setting)
    stages: dict[str, list[int]] = {}
    for event in whole.of(StepDone):
        stages.setdefault(event.stage, []).append(event.step)
    halts = sorted({step for steps in stages.values() for step in (steps[0], steps[len(steps) // 2], steps[-1])})
    assert halts[-1] == whole.of(RunStarted)[0].facts["steps"] and len(halts) == 3 * len(stages)
    parts = [trained(setting, tmp_path / "halted", control=StopAt(halt)) for halt in halts]
    last = trained(setting, tmp_path / "halted")
    for which in ("last", "best"):
        assert same(last.weights(which), whole.weights(which)), which
    assert [said for part in (*parts, last) for said in told(part)] == told(whole)
    ends = [[event.scores for event in done.of(Evaluated) if event.stage == "end"] for done in (last, whole)]
    assert ends[0] == ends[1]


def told(done) -> list[object]:
    """What is said while stages train, in its order, times left out."""
    said: list[object] = []
    for event in done.events:
        if isinstance(event, StepDone):
            said.append((event.step, event.raw, event.weighted, event.lr, event.gradient_norm, event.notes))
        elif isinstance(event, Evaluated) and event.which == "last" and event.stage != "end":
            said.append((event.step, event.split, event.scores))
        elif isinstance(event, Probed) and event.name == "matrices":
            said.append((event.step, event.data))
    return said


def test_the_events_told_again_are_the_same(trained, one_teacher, halted):
    setting = run("kd", one_teacher, checkpoint_every=3)
    whole = trained(setting)
    half = halted(setting, 7)
    place = json.loads((checkpoint.newest(half.folder / "checkpoint") / "place.json").read_text())
    assert place["step"] == 7
    on = trained(setting, half.folder)
    told = {event.step: event.raw for event in on.of(StepDone)}
    expected = {event.step: event.raw for event in whole.of(StepDone) if event.step > 7}
    assert told == expected
    ends = [[e.scores for e in done.of(Evaluated) if e.stage == "end"] for done in (on, whole)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("key", ["alp-kd", "bert-emd"])
def test_what_a_method_reads_out_is_the_same_after_a_resume(trained, one_teacher, halted, key):
    setting = run(key, one_teacher, options={"beta": 1.0}, evaluate_every=4)
    whole = trained(setting)
    on = trained(setting, halted(setting, 7).folder)
    told, expected = ({e.step: e.data for e in done.of(Probed) if e.name == "matrices"} for done in (on, whole))
    assert list(expected)[:2] == [4, 8] and next(iter(told)) == 8
    assert told == {step: data for step, data in expected.items() if step > 7}
    assert told[8]["step"] == 8 and told[8] != expected[4]
    for matrix in told[8]["matrices"].values():
        assert len(matrix) == 2 and {len(row) for row in matrix} == {2}
    kept = json.loads((on.folder / "probes" / "matrices.json").read_text())
    assert kept == list(expected.values())[-1]
    notes = [{e.step: e.notes for e in done.of(StepDone) if e.step > 7} for done in (on, whole)]
    assert notes[0] == notes[1]


@pytest.mark.parametrize("saves", [1, 2, 3])
def test_killed_while_a_checkpoint_is_written(trained, one_teacher, tmp_path, saves):
    """The half-written one is passed over, the one before is still there."""
    setting = run("kd", one_teacher)
    whole, folder = trained(setting), tmp_path / "killed"
    assert kill_process.in_a_process(kill_process.train_and_die_writing, setting.model_dump_json(), folder, saves) == -9
    found = sorted(path.name for path in (folder / "checkpoint").iterdir())
    assert [name for name in found if name.endswith(".partial")] and len(found) == min(saves, 2)
    on = trained(setting, folder)
    assert on.of(RunStarted)[0].facts["resumed_at"] == [0, 5, 10][saves - 1]
    assert same(on.weights(), whole.weights())


def test_killed_after_training_before_its_readings(trained, one_teacher, tmp_path):
    """All stages are done; a resumed run only measures."""
    setting = run("kd", one_teacher)
    whole, folder = trained(setting), tmp_path / "killed"
    events = next(i for i, e in enumerate(whole.events, 1) if isinstance(e, Evaluated) and e.stage == "end")
    assert (
        kill_process.in_a_process(kill_process.train_disturbed, setting.model_dump_json(), folder, None, events) == -9
    )
    on = trained(setting, folder)
    assert not on.of(StepDone) and on.of(RunStarted)[0].facts["resumed_at"] == 12
    assert same(on.weights("last"), whole.weights("last")) and same(on.weights("best"), whole.weights("best"))
    assert on.events[-1].summary["scores"] == whole.events[-1].summary["scores"]


def test_resumed_elsewhere_is_not_called_exact(halted, trained, one_teacher):
    setting = run("kd", one_teacher)
    half = halted(setting)
    more = setting.model_copy(update={"train": setting.train.model_copy(update={"threads": 2})})
    on = trained(more, half.folder)
    assert on.of(RunStarted)[0].facts["exact_resume"] is False
    assert on.of(RunStarted)[0].facts["threads"] == 2


@pytest.mark.skipif(not has_fast_bf16("cpu"), reason="bf16 is refused on a processor without AVX512-BF16 or AMX")
def test_resumed_in_another_precision_is_not_called_exact(halted, trained):
    setting = run("fine-tune")
    half = halted(setting)
    other = setting.model_copy(update={"train": setting.train.model_copy(update={"precision": "bf16"})})
    assert trained(other, half.folder).of(RunStarted)[0].facts["exact_resume"] is False


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_json(path: Path) -> None:
    path.write_text("[1, 2]")


def flip(path: Path) -> None:
    """One bit of the last number, which reads as a number all the same."""
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def other_number(path: Path) -> None:
    changed = path.read_text().replace('"step": 7', '"step": 5').replace('"weight_decay": 0.01', '"weight_decay": 0.0')
    path.write_text(changed)


DAMAGES = [
    ("place.json", other_number),
    ("optimizer-stage.json", other_number),
    ("sums.json", other_json),
    ("module-student.safetensors", flip),
    ("optimizer-stage.safetensors", flip),
    ("sums.json", truncate),
    ("place.json", truncate),
    ("place.json", other_json),
    ("place.json", Path.unlink),
    ("module-student.safetensors", truncate),
    ("module-student.safetensors", Path.unlink),
    ("module-method.safetensors", truncate),
    ("optimizer-stage.safetensors", truncate),
    ("optimizer-stage.json", truncate),
    ("optimizer-stage.json", other_json),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES, ids=lambda x: getattr(x, "__name__", x))
def test_a_damaged_checkpoint_is_named_with_what_to_do(halted, trained, name, damage):
    half = halted(run("fine-tune"))
    damage(checkpoint.newest(half.folder / "checkpoint") / name)
    with pytest.raises(CorruptError) as said:
        trained(half.run, half.folder)
    assert said.value.field == "checkpoint" and "clone" in said.value.remedy
    # nothing was thrown away: the person decides
    assert (half.folder / "student-last").is_dir() and checkpoint.newest(half.folder / "checkpoint")


def test_a_checkpoint_of_another_student_is_refused(halted, trained):
    half = halted(run("fine-tune"))
    wider = run("fine-tune", student=world.STUDENT.model_copy(update={"width": 32}))
    with pytest.raises(CorruptError):
        trained(wider, half.folder)


def test_a_checkpoint_without_checksums_is_read(halted, trained):
    """Those of 0.1.0 have none."""
    half = halted(run("fine-tune"))
    (checkpoint.newest(half.folder / "checkpoint") / "sums.json").unlink()
    assert isinstance(trained(half.run, half.folder).events[-1], RunFinished)


def test_what_a_killed_process_was_writing_goes_and_its_student_comes_back(halted, trained):
    half = halted(run("fine-tune"))
    (half.folder / "student-last").rename(half.folder / ".student-last.0a1b2c3d.old")
    for name in (".student-best.0a1b2c3d.writing", "checkpoint/00-00000009.0a1b2c3d.partial"):
        (half.folder / name).mkdir()
    (half.folder / "probes").mkdir(exist_ok=True)
    (half.folder / "probes" / "00000004.partial").write_bytes(b"half")
    remove_unfinished(half.folder)
    assert (half.folder / "student-last" / "model.safetensors").is_file()
    assert not [path for path in half.folder.rglob("*") if path.suffix in (".old", ".writing", ".partial")]
    assert isinstance(trained(half.run, half.folder).events[-1], RunFinished)


# --- the checkpoint itself ----------------------------------------------------------------------------------------


def stepped(model: nn.Module, steps: int, optimizer: torch.optim.Optimizer | None = None) -> torch.optim.Optimizer:
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for _ in range(steps):
        model(torch.ones(2, 3)).pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def test_weights_and_optimiser_go_on_as_if_nothing_had_been(tmp_path):
    one = small()
    optimizer = stepped(one, 3)
    place = TrainingState(step=3, stage=1, best=0.5, history={"counts": {"a": 2}}, facts={"threads": 1})
    checkpoint.save(tmp_path, place, {"student": one}, {"stage": optimizer})
    stepped(one, 3, optimizer)

    found, two = checkpoint.newest(tmp_path), small(seed=1)
    again = torch.optim.AdamW(two.parameters(), lr=7.0, fused=True)
    checkpoint.restore(found, {"student": two}, {"stage": again})
    assert checkpoint.read_state(found) == place
    assert again.param_groups[0]["lr"] == 0.1
    stepped(two, 3, again)
    assert same(one.state_dict(), two.state_dict())


def test_only_the_newest_stays(tmp_path):
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, TrainingState(step=step), {"student": small()}, {})
    checkpoint.save(tmp_path, TrainingState(step=10, stage=1), {"student": small()}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["01-00000010"]
    assert checkpoint.newest(tmp_path / "nowhere") is None


def test_tied_weights_are_kept_as_copies_and_tied_again(tmp_path):
    tied = small()
    tied[1] = nn.Linear(3, 4)
    tied[1].weight = tied[0].weight
    checkpoint.save(tmp_path, TrainingState(), {"student": tied}, {})
    assert set(load_file(checkpoint.newest(tmp_path) / "module-student.safetensors")) == set(tied.state_dict())
    checkpoint.restore(checkpoint.newest(tmp_path), {"student": tied}, {})
    assert tied[1].weight is tied[0].weight


def test_a_leftover_is_swept_away_by_the_next_checkpoint(tmp_path):
    checkpoint.save(tmp_path, TrainingState(step=5), {"student": small()}, {})
    shutil.copytree(checkpoint.newest(tmp_path), tmp_path / "00-00000007.partial")
    assert checkpoint.newest(tmp_path).name == "00-00000005"
    checkpoint.save(tmp_path, TrainingState(step=7), {"student": small()}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["00-00000007"]


def test_a_failed_write_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, TrainingState(step=5), {"student": small()}, {})

    def full(tensors, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, TrainingState(step=10), {"student": small()}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["00-00000005"]  # and no room is taken by the half one


def test_a_resume_on_other_rows_or_weights_is_refused(trained, halted, one_teacher, tmp_path, monkeypatch):
    """One run cannot be trained half on the rows of yesterday and half on those of today."""
    from dataclasses import replace

    from kdcore.data import pocket
    from kdcore.errors import UserError

    own = tmp_path / "teacher"
    shutil.copytree(one_teacher[0].where, own)
    teacher = one_teacher[0].model_copy(update={"where": str(own)})
    setting = run("kd").model_copy(update={"teachers": (teacher,)})
    stopped = halted(setting)
    assert stopped.of(RunStarted)[0].facts["data_fingerprint"] == world.data(world.TASKS[setting.task]).fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(pocket, "load", lambda task: replace(world.data(task), fingerprint="other"))
        with pytest.raises(UserError, match="rows changed since this run began"):
            trained(setting, stopped.folder)
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"transformers_version": "another"}))
    with pytest.raises(UserError, match=r"teacher .* changed since this run began"):
        trained(setting, stopped.folder)
    (own / "config.json").write_text((Path(one_teacher[0].where) / "config.json").read_text())
    assert trained(setting, stopped.folder).of(RunStarted)[0].facts["resumed_at"] == 7
