"""Tuning: as many trials of each method over the values that its settings declare, judged on `select`, then the seeds.

Methods that are compared at their defaults are compared at what somebody else's task asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import Field, field_validator

from kdcore.config import RunConfig, Settings
from kdcore.engine import preflight
from kdcore.engine.plan import Plan
from kdcore.errors import UserError
from kdcore.events import Event
from kdcore.fields import Range, ranges
from kdcore.identity import config_hash
from kdcore.methods import find_method
from kdcore.runs.complete import complete
from kdcore.search import record as records
from kdcore.search import scores
from kdcore.search.study import Study, Trial, first_new, optuna
from kdcore.search.training import Training
from kdcore.settings_file import merge, validate
from kdcore.store import Store

if TYPE_CHECKING:
    from kdcore.runs.worker import Train


class Values(Settings):
    """Values to try of one setting: `choices`, or low to high, by factors where log."""

    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False


class Tuning(Settings):
    """The file's schema. run: settings of all runs, without method and options. ranges: method -> option -> values,
    over those that the method declares; null: this option stays at its default."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,59}$")
    run: dict[str, Any]
    methods: tuple[str, ...] = Field(min_length=1)
    trials: int = Field(10, ge=2, le=1000, description="of each method, its defaults the first")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="of the best setting; the first is the trials'")
    ranges: dict[str, dict[str, Values | None]] = Field(default_factory=dict)
    slots: int = Field(1, ge=1, le=256, description="runs under way at once")

    @field_validator("ranges", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """`[10, 1000, log]` and `[a, b, c]` spelled out."""
        if not isinstance(value, Mapping):
            return value
        return {method: {name: _spelled_out(values) for name, values in of.items()} if isinstance(of, Mapping) else of
                for method, of in value.items()}  # fmt: skip


@dataclass(frozen=True)
class TuningOutcome:
    """What the tuning of one method came to. trials: that were trained. run: of the best on `select`; None where none
    came to its end. seeds: runs of its setting."""

    method: str
    trials: int
    options: dict[str, Any]
    run: str | None
    seeds: tuple[str, ...]
    note: str = ""


def tune(
    store: Store,
    tuning: Tuning,
    train: Train | None = None,
    say: Callable[[str], None] = lambda words: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> list[TuningOutcome]:
    """Tunes each method, or goes on where an earlier tuning of this name ended.

    train: in place of the engine, for tests.

    Raises:
        UserError: a package is not installed, a field has no meaning, or the tuning is under way elsewhere.
    """
    optuna()
    for name in tuning.methods:  # all are checked before any is trained
        _check(tuning, name)
    with records.folder_lock(tuning.name, records.TUNING) as folder:
        _ask_the_same(tuning, folder)
        return [_of_method(store, tuning, method, folder, train, say, on_event) for method in tuning.methods]


def values_of(tuning: Tuning, method: str) -> dict[str, Range]:
    """Option -> the values that are tried: those of the file over those that the method declares.

    Raises:
        UserError: the method has no such option, or does not take a value of the range.
    """
    config, given = find_method(method).Config, tuning.ranges.get(method, {})
    found = ranges(config)
    for name, values in given.items():
        if name not in config.model_fields:
            known = ", ".join(config.model_fields) or "none"
            raise UserError(f"ranges.{method}.{name}", "is no option of this method", f"its options are {known}")
        found.pop(name, None)
        if values is not None:
            found[name] = _range(config, method, name, values)
    return found


def _range(config: Any, method: str, name: str, values: Values) -> Range:
    whole, default = config.model_fields[name].annotation is int, config.model_fields[name].get_default()
    choices = values.choices if not values.choices or default in values.choices else (default, *values.choices)
    found = Range(choices, values.low, values.high, values.log, whole)
    ends = values.choices or (int(values.low), int(values.high)) if whole else values.choices or (
        values.low, values.high)  # fmt: skip
    for value in ends:
        validate(config, {name: value}, f"ranges.{method}")
    if not values.choices and (values.low >= values.high or (values.log and values.low <= 0)):
        raise UserError(
            f"ranges.{method}.{name}", f"{values.low:g} to {values.high:g} is no range",
            "give low below high, and above 0 where log",
        )  # fmt: skip
    if default is None and not choices:
        raise UserError(f"ranges.{method}.{name}", "it has no default to try first", "list the values, or leave it out")
    return found


def _ask_the_same(tuning: Tuning, folder: Path) -> None:
    """Keeps what is asked under this name; raises UserError where it is not what was asked before."""
    file, free = folder / records.TUNING, {"trials", "slots", "methods", "seeds"}
    asked = json.loads(json.dumps(tuning.model_dump(mode="json", exclude=free) | {"first seed": tuning.seeds[0]}))
    if not file.exists():
        file.write_text(json.dumps(asked, indent=1), encoding="utf-8")
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    if other := [name for name in asked if asked[name] != before.get(name)]:
        raise UserError(
            other[0], f"differs from what the tuning {tuning.name} was asked before",
            "choose another name; methods, trials, slots and further seeds may change",
        )  # fmt: skip


def _check(tuning: Tuning, method: str) -> None:
    """Raises UserError where the method with its defaults cannot be trained here, or ranges or seeds are wrong."""
    values_of(tuning, method)
    for seed in tuning.seeds:
        _run(tuning, method, {}, seed)
    report = preflight.check(Plan(_run(tuning, method, {})))
    if report.blocks:
        line = report.blocks[0]
        raise UserError(line.field, f"{method}: {line.text}", line.remedy)


def _run(tuning: Tuning, method: str, options: Mapping[str, Any], seed: int | None = None) -> RunConfig:
    for name in ("method", "options", "method_source"):
        if name in tuning.run:
            raise UserError(f"run.{name}", "is what is tuned", "leave it out; see methods and ranges")
    chosen = {"method": method, "train": {"seed": tuning.seeds[0] if seed is None else seed}}
    return complete(validate(RunConfig, merge(tuning.run, chosen), "run"), options)


def _of_method(
    store: Store, tuning: Tuning, method: str, folder: Path, train: Train | None, say: Callable[[str], None],
    on_event: Callable[[Event], None],
) -> TuningOutcome:  # fmt: skip
    going = MethodTuning(store, tuning, method, Study(folder, method, tuning.seeds[0]))
    training = Training(
        store, tuning.name, going.propose, tuning.slots, train, lambda run, _: say(f"{method}: {run}"), on_event
    )
    training.go()
    seeds = going.choose()
    training.propose = lambda: next(seeds, None)
    training.go()
    return going.outcome()


@dataclass
class MethodTuning:
    """The tuning of one method under way."""

    store: Store
    tuning: Tuning
    method: str
    study: Study
    _left: list[Trial] = field(default_factory=list)
    _best: dict[str, Any] | None = None
    _runs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = values_of(self.tuning, self.method)
        for trial in self.study.running():
            if "hash" in trial.noted:
                self._left.append(trial)
            else:  # the process was killed before it was put into the queue
                trial.end()
        self.known = {str(facts["hash"]) for facts in self.study.facts() if "hash" in facts}
        defaults = _run(self.tuning, self.method, {}).options
        self.study.enqueue({name: defaults[name] for name in self.values})

    def propose(self) -> TuningRun | None:
        """The next trial; None where there are enough, or nothing new is left."""
        if self._left:
            trial = self._left.pop(0)
            return TuningRun(self, trial, _run(self.tuning, self.method, trial.noted["options"]))
        found: TuningRun | None = first_new(self._ask)
        return found

    def _ask(self) -> TuningRun | None:
        if len(self._begun()) >= (self.tuning.trials if self.values else 1):
            return None
        trial = self.study.ask()
        options = {name: trial.value(name, values) for name, values in self.values.items()}
        trial.note(options=options)
        try:
            run = _run(self.tuning, self.method, options)
            report = preflight.check(Plan(run))
            why = report.blocks[0].text if report.blocks else ""
        except UserError as error:
            why = str(error)
        if why or config_hash(run) in self.known:
            trial.note(why=why or "was tried before")
            trial.end()
            return None
        trial.note(hash=config_hash(run))
        self.known.add(config_hash(run))
        return TuningRun(self, trial, run)

    def _begun(self) -> list[dict[str, Any]]:
        """Trials that were begun; one that failed counts, or a method that always fails would never end."""
        return [facts for facts in self.study.facts() if "hash" in facts]

    def choose(self) -> Iterator[BestSettingRun]:
        """The runs of the best setting, and what is kept with them."""
        done = [facts for facts in self._begun() if facts["state"] == "complete"]
        score = {facts["run"]: scores.select_score(self.store, facts["run"]) or 0.0 for facts in done}
        self._best = max(done, key=lambda facts: (score[facts["run"]], -facts["number"]), default=None)
        if self._best is None:
            return iter(())
        facts = {"tuned": {"trials": len(done), "study": self.tuning.name}} if self.values else {}
        return iter([
            BestSettingRun(self, _run(self.tuning, self.method, self._best["options"], seed), facts)
            for seed in self.tuning.seeds
        ])  # fmt: skip

    def keep(self, run: str) -> None:
        """Takes a run of the best setting in."""
        self._runs.append(run)

    def outcome(self) -> TuningOutcome:
        trials = sum(facts["state"] == "complete" for facts in self._begun())
        best = self._best or {"options": {}, "run": None}
        note = "nothing to tune" if not self.values else ""
        if self.values and trials < self.tuning.trials:
            failed = len(self._begun()) - trials
            note = f"{failed} trials failed" if failed else f"{trials} settings were all there are"
        return TuningOutcome(self.method, trials, best["options"], best["run"], tuple(self._runs), note)


@dataclass
class TuningRun:
    """A trial, as `Training` takes it. It is never ended early: each method has as much training as the others."""

    tuning: MethodTuning
    trial: Trial
    run: RunConfig
    facts: dict[str, Any] = field(default_factory=dict)

    def starts(self, run_id: str, state: str) -> None:
        self.trial.note(run=run_id)

    def falls_behind(self, evaluations: pd.DataFrame) -> bool:
        return False

    def ends(self, run_id: str, state: str) -> None:
        self.trial.end(scores.select_score(self.tuning.store, run_id) if state == "done" else None)


@dataclass
class BestSettingRun:
    """The best setting with one seed, as `Training` takes it."""

    tuning: MethodTuning
    run: RunConfig
    facts: dict[str, Any]

    def starts(self, run_id: str, state: str) -> None:
        self.tuning.store.add_facts(run_id, self.facts)
        self.tuning.keep(run_id)

    def falls_behind(self, evaluations: pd.DataFrame) -> bool:
        return False

    def ends(self, run_id: str, state: str) -> None:
        return


def _spelled_out(values: Any) -> Any:
    if not isinstance(values, list):
        return values
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == 2 and values[2:] in ([], ["log"]):
        return {"low": values[0], "high": values[1], "log": values[2:] == ["log"]}
    return {"choices": values}
