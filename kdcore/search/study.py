"""Optuna: which candidate is tried next, and which trial is ended early. Asked and told; it trains nothing itself.

Its memory is a file in the folder of the search, so a search that was killed knows what it has asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdcore.extras import extra_package
from kdcore.fields import Range

HALVING = 2
"""Of the trials that come to a rung, one of so many goes on (Li et al. 2020, "A System for Massively Parallel
Hyperparameter Tuning": asynchronous successive halving)."""
RUNGS = 8
"""A training has so many parts; trials are compared after a quarter and after a half of them."""
WHOLE = 3
"""So many first trials are trained to their ends, or the second would be judged by the first alone."""
KNOWN_IN_A_ROW = 50
"""Proposals that were all tried before, after which there is nothing new."""


def optuna() -> Any:
    """The package.

    Raises:
        UserError: it is not installed.
    """
    package: Any = extra_package("optuna", "search", "search")
    package.logging.set_verbosity(package.logging.ERROR)
    return package


class Study:
    """Trials of one search, oldest first; a trial is known by its number."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        """Opens the study, or makes it. seed: of what is proposed."""
        package = optuna()
        storage = package.storages.RDBStorage(
            f"sqlite:///{folder / 'study.db'}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
        pruner = package.pruners.SuccessiveHalvingPruner(min_resource=RUNGS // 4, reduction_factor=HALVING)
        self._study = package.create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True, pruner=pruner
        )
        self._study.sampler = package.samplers.TPESampler(seed=seed + len(self._study.trials))
        self._package = package

    def enqueue(self, parameters: Mapping[str, Any]) -> None:
        """Has these values tried, unless they wait already or were tried."""
        failed = self._package.trial.TrialState.FAIL
        asked = [_put_in(one) for one in self._study.get_trials(deepcopy=False) if one.state != failed]
        if dict(parameters) not in asked:
            self._study.enqueue_trial(dict(parameters))

    def ask(self) -> Trial:
        """The next trial."""
        return Trial(self._study.ask(), self)

    def running(self) -> list[Trial]:
        """Trials that were asked for and have not ended: under way when the process was killed."""
        state = self._package.trial.TrialState.RUNNING
        found = self._study.get_trials(deepcopy=False, states=(state,))
        return [Trial(self._package.trial.Trial(self._study, one._trial_id), self) for one in found]

    def facts(self) -> list[dict[str, Any]]:
        """What was noted of each trial, with its number and state: waiting, running, complete, pruned or fail."""
        trials = self._study.get_trials(deepcopy=False)
        return [{"number": one.number, "state": one.state.name.lower(), **_waits_for(one), **one.user_attrs}
                for one in trials]  # fmt: skip

    def tell(self, number: int, value: float | None = None, pruned: bool = False) -> None:
        """Ends a trial: with a value, early, or (neither) as one that says nothing."""
        states = self._package.trial.TrialState
        state = states.COMPLETE if value is not None else states.PRUNED if pruned else states.FAIL
        self._study.tell(number, value, state=state)


class Trial:
    """One trial under way."""

    def __init__(self, trial: Any, study: Study) -> None:
        self._trial, self._study = trial, study
        self.number: int = trial.number

    @property
    def noted(self) -> dict[str, Any]:
        """What was noted of it."""
        return dict(self._trial.user_attrs)

    def note(self, **facts: Any) -> None:
        for name, value in facts.items():
            self._trial.set_user_attr(name, value)

    def choice(self, name: str, options: tuple[str, ...]) -> str:
        """One of these."""
        return str(self._trial.suggest_categorical(name, options))

    def value(self, name: str, values: Range) -> Any:
        """A value of the range."""
        if values.choices:
            return self._trial.suggest_categorical(name, values.choices)
        if values.whole:
            return self._trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
        return self._trial.suggest_float(name, values.low, values.high, log=values.log)

    def falls_behind(self, part: int, value: float) -> bool:
        """Notes what the trial is worth after so many of `RUNGS` parts; whether it should end."""
        if part not in self._trial.storage.get_trial(self._trial._trial_id).intermediate_values:
            self._trial.report(value, part)
        behind = bool(self._trial.should_prune())  # asked of the first ones, too: it notes that they came so far
        return behind and self.number >= WHOLE

    def end(self, value: float | None = None, pruned: bool = False) -> None:
        self._study.tell(self.number, value, pruned)


def _put_in(trial: Any) -> dict[str, Any]:
    """The values that a trial was put in with; none where they were proposed."""
    return dict(trial.system_attrs.get("fixed_params", {}))


def _waits_for(trial: Any) -> dict[str, Any]:
    """Size and method of a trial that waits."""
    values = _put_in(trial)
    return {name: values[name] for name in ("size", "method") if name in values}


def first_new(ask: Callable[[], Any]) -> Any:
    """What `ask` gives once it is not None; None where it was None too often."""
    return next((found for _ in range(KNOWN_IN_A_ROW) if (found := ask()) is not None), None)
