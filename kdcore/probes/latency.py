"""What answering costs: models measured in turn, so that what slows the machine slows all of them alike."""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import psutil
import torch
from torch import nn

from kdcore.models.observe import evaluating
from kdcore.models.sizes import usable_positions
from kdcore.probes import memory
from kdcore.probes.energy import Meter
from kdcore.probes.forward_pass import Inputs, answer, arithmetic, device_of, finish, inputs_for

Precision = Literal["fp32", "bf16", "bf16 weights", "int8"]
"""bf16: float32 weights under autocast, as runs compute. bf16 weights, int8: what the model itself was turned into."""

CONDITION = ("hardware", "precision", "threads", "batch", "words", "tokens")
"""What two latencies of a model share where one takes the other's place."""

_FEWEST = 5
"""Rounds that are measured even where the time is over."""
_SPARE = 0.3
"""Cores' worth of foreign work that a measurement puts up with."""
ENERGY_TURNS, ENERGY_SECONDS = 3, 1.0
"""Windows of each model and batch size in which its energy is counted, and how long one is at least."""

Case = tuple[str, int]
"""Name of a model, batch size."""
Key = TypeVar("Key")


@dataclass(frozen=True)
class Latency:
    """One model at one batch size. Times are milliseconds per batch; per_second counts rows.

    words: of the row's text; alike for models that read the same row. None where all were given one number of tokens.
    tokens: of every row as the model reads it, without padding.
    p10_ms, p90_ms: a tenth of the passes were faster, a tenth slower.
    busy: other work held cores that the measurement needed, or a training ran beside it: not to be trusted.
    session: alike for models that took turns, so that the ratio of their times is one of the models.
    memory: bytes while it answers, see `memory.answering`. disk: bytes of its weights' files. energy_mj: millijoules a
    row. None where not known; energy_note: why energy is not.
    """

    name: str
    batch: int
    tokens: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    per_second: float
    repeats: int
    hardware: str
    precision: str
    threads: int
    load_average: float
    busy: bool
    session: str = ""
    memory: int | None = None
    disk: int | None = None
    energy_mj: float | None = None
    energy_note: str = ""
    words: int | None = None

    def data(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def measure(
    models: Mapping[str, nn.Module],
    *,
    batch_sizes: tuple[int, ...] = (1, 32),
    tokens: int | Mapping[str, int] = 128,
    words: int | None = None,
    repeats: int = 30,
    warmup: int = 3,
    precision: Precision | Mapping[str, Precision] = "fp32",
    seconds: float = 60.0,
    beside: Callable[[], bool] = lambda: False,
    meter: Meter | str = "",
) -> list[Latency]:
    """Times the models, interleaved: each round runs every model at every batch size once. Then counts their memory,
    and their energy where there is a meter.

    Eval mode and `inference_mode`; the random state stays as it is. Models are on the device they are on.

    Args:
        tokens: a realistic row length of the task, such as its mean; of all models, or of each by name, in its own
            tokens. words: of that row's text, where it is one row for all.
        repeats: rounds, fewer where `seconds` are over.
        precision: of all models, or of each by name.
        beside: whether something else is known to be at work, such as a training; asked before and after.
        meter: what counts energy, or why nothing does.

    Raises:
        ValueError: no models, sizes below 1, or rows longer than a model can read.
    """
    lengths = {name: tokens if isinstance(tokens, int) else tokens[name] for name in models}
    _check(models, lengths, min(*batch_sizes, repeats))
    of_model = {name: precision if isinstance(precision, str) else precision[name] for name in models}
    foreign, load, accompanied = foreign_cores(), os.getloadavg()[0], beside()
    session = uuid.uuid4().hex[:8]
    cases = {case: inputs_for(models[case[0]], case[1], lengths[case[0]]) for case in product(models, batch_sizes)}
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(evaluating(model))
        stack.enter_context(torch.inference_mode())
        passes = {case: partial(_time, models[case[0]], inputs, of_model[case[0]]) for case, inputs in cases.items()}
        times = take_turns(passes, repeats, warmup, seconds)
        held = {case: memory.answering(models[case[0]], inputs, of_model[case[0]]) for case, inputs in cases.items()}
        energy = {} if isinstance(meter, str) else _energy(models, cases, of_model, meter)
    busy = accompanied or beside() or is_busy(max(foreign, foreign_cores()), torch.get_num_threads())
    return [
        replace(
            _record(
                name, batch, lengths[name], times[name, batch], device_of(models[name]), of_model[name], load, busy
            ),
            session=session,
            words=words,
            memory=held[name, batch],
            energy_mj=energy.get((name, batch)),
            energy_note=meter if isinstance(meter, str) else "",
        )
        for name, batch in cases
    ]


def _check(models: Mapping[str, nn.Module], lengths: Mapping[str, int], least: int) -> None:
    """Raises ValueError as `measure` does. least: of batch sizes and repeats."""
    if not models or min(least, *lengths.values()) < 1:
        raise ValueError("need a model, and batch sizes, tokens and repeats of at least 1")
    for name, model in models.items():
        if lengths[name] > (most := usable_positions(model.config)):
            raise ValueError(f"{lengths[name]} tokens are more than the {most} {name} can read")


def take_turns(
    passes: Mapping[Key, Callable[[], float]], repeats: int = 30, warmup: int = 3, seconds: float = 60.0
) -> dict[Key, list[float]]:
    """What each pass says it took, of each round that counts; a round makes every pass once, each time in another
    order.

    Args:
        passes: what is timed, by name; gives its seconds. repeats: rounds, fewer where `seconds` are over.
    """
    times: dict[Key, list[float]] = {key: [] for key in passes}
    for turn, counted in enumerate(_rounds(warmup, repeats, time.perf_counter() + seconds)):
        for key in _rotate(list(passes), turn):
            taken = passes[key]()
            if counted:
                times[key].append(taken)
    return times


def is_busy(foreign: float, threads: int) -> bool:
    """Whether other work took cores that a measurement on so many threads needs. foreign: cores in use beside it."""
    return foreign > (os.cpu_count() or 1) - threads + _SPARE


def merge(old: Iterable[Mapping[str, Any]], new: Iterable[Latency]) -> list[dict[str, Any]]:
    """The records of a run that was timed again: the new ones, then those of models and conditions not among them."""
    fresh = [record.data() for record in new]
    known = {_identity(record) for record in fresh}
    return fresh + [dict(record) for record in old if _identity(record) not in known]


def hardware_name(device: torch.device | str = "cpu") -> str:
    """The GPU's or the CPU's name, as the driver or the kernel gives it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(errors="replace").splitlines() if listing.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({os.cpu_count()} cores)"


def _identity(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return record.get("name"), *(record.get(part) for part in CONDITION)


def _energy(
    models: Mapping[str, nn.Module], cases: Mapping[Case, Inputs], precision: Mapping[str, Precision], meter: Meter
) -> dict[Case, float]:
    """Millijoules a row: the median of windows in which a model answers again and again, the models in turn."""
    found: dict[Case, list[float]] = {case: [] for case in cases}
    for turn in range(ENERGY_TURNS):
        for case in _rotate(list(cases), turn):
            passes = 0

            def answer_on(case: Case = case) -> None:
                nonlocal passes
                until = time.perf_counter() + ENERGY_SECONDS
                while not passes or time.perf_counter() < until:
                    answer(models[case[0]], cases[case], precision[case[0]])
                    passes += 1

            joules = meter.joules(answer_on)
            found[case].append(1000 * joules / (passes * case[1]))
    return {case: float(np.median(values)) for case, values in found.items()}


def _rounds(warmup: int, repeats: int, deadline: float) -> Iterator[bool]:
    """False for each warm-up round, then True for each that counts, until the time is over."""
    for _ in range(warmup):
        yield False
    for done in range(repeats):
        if done >= _FEWEST and time.perf_counter() > deadline:
            return
        yield True


def _rotate(cases: list[Key], turn: int) -> list[Key]:
    """Another case goes first each round, so that none always follows the same one."""
    start = turn % len(cases)
    return cases[start:] + cases[:start]


def _time(model: nn.Module, inputs: Inputs, precision: str) -> float:
    """Seconds of one forward pass, the device's work included."""
    device = inputs["input_ids"].device
    with arithmetic(device, precision):
        finish(device)
        start = time.perf_counter()
        model(**inputs)
        finish(device)
        return time.perf_counter() - start


def foreign_cores(look: float = 0.2) -> float:
    """Cores in use while this thread rests for `look` seconds: whatever runs then is not the measurement."""
    before = psutil.cpu_times()
    time.sleep(look)
    after = psutil.cpu_times()
    idle = (after.idle + getattr(after, "iowait", 0.0)) - (before.idle + getattr(before, "iowait", 0.0))
    result: float = max(0.0, (os.cpu_count() or 1) - idle / look)
    return result


def _record(
    name: str,
    batch: int,
    tokens: int,
    times: list[float],
    device: torch.device,
    precision: str,
    load: float,
    busy: bool,
) -> Latency:
    low, median, high = (float(value) for value in np.percentile(np.array(times) * 1000, (10, 50, 90)))
    return Latency(
        name=name,
        batch=batch,
        tokens=tokens,
        median_ms=median,
        p10_ms=low,
        p90_ms=high,
        per_second=1000 * batch / median,
        repeats=len(times),
        hardware=hardware_name(device),
        precision=precision,
        threads=torch.get_num_threads(),
        load_average=load,
        busy=busy,
    )
