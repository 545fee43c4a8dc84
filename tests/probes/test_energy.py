"""Joules through zeus's interface, and what is said where there is no counter."""

from __future__ import annotations

import pytest
import torch

from kdcore.models.sizes import bert_config
from kdcore.models.weights import build_classifier
from kdcore.probes import energy, latency
from kdcore.probes.energy import open_meter
from kdcore.records import ModelSize
from tests.helpers import zeus_double
from tests.helpers.zeus_double import Counters, ZeusCPUInitError, ZeusCPUNoPermissionError

CPU = torch.device("cpu")


def _opened(counters: Counters, device: torch.device = CPU) -> energy.Meter:
    meter = open_meter(device)
    assert not isinstance(meter, str), meter
    return meter


def test_a_processors_energy_is_of_its_packages_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = Counters(cpus={0: 100.0, 1: 50.0}, dram={0: 10.0})
    zeus_double.install(monkeypatch, counters)

    def work() -> None:
        counters.cpus = {0: 103.0, 1: 52.0}
        counters.dram = {0: 10.5}

    assert _opened(counters).joules(work) == 5.5


def test_a_gpus_energy_is_of_that_board_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = Counters(cpus={0: 100.0}, gpus={0: 7.0, 1: 1.0})
    zeus_double.install(monkeypatch, counters)

    def work() -> None:
        counters.cpus, counters.gpus = {0: 999.0}, {0: 888.0, 1: 4.0}

    assert _opened(counters, torch.device("cuda", 1)).joules(work) == 3.0


def test_work_that_fails_leaves_no_window_open(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = Counters(cpus={0: 0.0})
    zeus_double.install(monkeypatch, counters)
    meter = _opened(counters)

    def fail() -> None:
        raise ValueError("out of memory")

    with pytest.raises(ValueError, match="out of memory"):
        meter.joules(fail)
    assert meter.joules(lambda: None) == 0.0
    assert counters.windows == ["cancelled", "counted"]


@pytest.mark.parametrize(
    ("counters", "device", "reason"),
    [
        (Counters(cpus=ZeusCPUInitError("RAPL unavailable")), "cpu", "virtual machines"),
        (Counters(cpus={}), "cpu", "virtual machines"),
        (Counters(cpus=ZeusCPUNoPermissionError("root")), "cpu", "by root only"),
        (Counters(cpus={0: 1.0}), "cuda:0", "the GPU's driver gives none"),
    ],
)
def test_where_no_counter_can_be_read_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch, counters: Counters, device: str, reason: str
) -> None:
    zeus_double.install(monkeypatch, counters)
    said = open_meter(torch.device(device))
    assert isinstance(said, str) and said.startswith("no energy counter here: ") and reason in said


def test_without_the_package_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    zeus_double.uninstall(monkeypatch)
    assert (
        open_meter(CPU)
        == "no energy counter here: the package zeus is not installed (pip install -r requirements-energy.txt)"
    )


class Steady:
    """Counts so many joules a pass over the model whose energy is asked for."""

    def __init__(self, model: torch.nn.Module, joules: list[float]) -> None:
        self.passes, self.given = 0, iter(joules)
        model.register_forward_hook(self._pass)

    def _pass(self, *_: object) -> None:
        self.passes += 1

    def joules(self, work: zeus_double.Work) -> float:
        self.passes = 0
        work()
        return next(self.given) * self.passes


@pytest.fixture
def student() -> torch.nn.Module:
    return build_classifier(bert_config(ModelSize(1, 16, 2, 24, 30, 16, 2), 2, None), {}, 0)[0]


def test_millijoules_a_row_are_the_median_of_windows(monkeypatch: pytest.MonkeyPatch, student: torch.nn.Module) -> None:
    monkeypatch.setattr(latency, "ENERGY_SECONDS", 0.01)
    meter = Steady(student, [0.008, 0.9, 0.004])
    (record,) = latency.measure({"s": student}, batch_sizes=(4,), tokens=4, repeats=1, warmup=0, meter=meter)
    assert record.energy_mj == pytest.approx(1000 * 0.008 / 4) and record.energy_note == ""


def test_models_take_turns_in_front_of_the_meter(monkeypatch: pytest.MonkeyPatch, student: torch.nn.Module) -> None:
    monkeypatch.setattr(latency, "ENERGY_SECONDS", 0.0)
    order: list[int] = []
    monkeypatch.setattr(latency, "answer", lambda _, inputs, __: order.append(len(inputs["input_ids"])))

    class Free:
        def joules(self, work: zeus_double.Work) -> float:
            work()
            return 1.0

    latency.measure({"s": student}, batch_sizes=(1, 2), tokens=4, repeats=1, warmup=0, meter=Free())
    assert order == [1, 2, 2, 1, 1, 2], "another one goes first each turn; at least one pass"


def test_a_probe_without_a_counter_says_why(student: torch.nn.Module) -> None:
    found = latency.measure({"s": student}, batch_sizes=(1,), tokens=4, repeats=1, warmup=0, meter=energy.NO_RAPL)
    assert [(r.energy_mj, r.energy_note) for r in found] == [(None, energy.NO_RAPL)]
