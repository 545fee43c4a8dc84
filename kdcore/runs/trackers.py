"""A run's history in an experiment tracker: TensorBoard, MLflow, or Weights & Biases offline.

On request (`kdcore export RUN --to-tracker tensorboard`), or while a run goes on, where `KD_TRACKER` names one. Nothing
is sent anywhere, unless MLFLOW_TRACKING_URI names a server.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from kdcore import events
from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.events import Event
from kdcore.extras import extra_package
from kdcore.paths import cache_subdir, user_path

if TYPE_CHECKING:
    from kdcore.store import Store

Kind = Literal["tensorboard", "mlflow", "wandb"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PROJECT = "kdboard"
"""Name of MLflow's experiment and of the project of Weights & Biases."""
SETTING = "KD_TRACKER"

log = logging.getLogger("kdcore.runs.trackers")


class Tracker(Protocol):
    """One run in a tracker."""

    def log(self, values: Mapping[str, float], step: int, at: float) -> None:
        """Takes values of one step. at: when, in seconds since 1970."""

    def close(self, state: str) -> None:
        """The run is over for now: done, stopped, failed or interrupted."""


def open_tracker(kind: str, run_id: str, run: RunConfig, folder: Path | None = None) -> Tracker:
    """A run's tracker. It goes on where an earlier one of this run ended, as far as the package can.

    Args:
        folder: where the tracker keeps its files; by default a folder of its own in the cache. MLflow's default is what
            MLFLOW_TRACKING_URI names, where it names something.

    Raises:
        UserError: no such tracker, or its package is not installed.
    """
    if kind not in KINDS:
        raise UserError("tracker", f"no tracker {kind[:40]!r}", f"choose of {', '.join(KINDS)}")
    home = folder or cache_subdir("trackers") / kind
    if kind == "tensorboard":
        return TensorBoard(run_id, home)
    if kind == "mlflow":
        named = None if folder else os.environ.get("MLFLOW_TRACKING_URI")
        return MLflow(run_id, run, named or f"sqlite:///{_make_folder(home).resolve() / 'mlflow.db'}")
    return WandB(run_id, run, home)


def values_of(event: Event) -> dict[str, float]:
    """What an event has for a tracker: name -> value. Names are `kind/name` of a logged step, or
    `split/model/metric` of scores.

    >>> values_of(events.Evaluated("distil", 3, "select", "last", {"accuracy": 0.5}, 10))
    {'select/last/accuracy': 0.5}
    """
    match event:
        case events.StepDone():
            return {_name(kind, name): value for kind, name, value in event.values()}
        case events.Evaluated():
            return {f"{event.split}/{event.which}/{name}": value for name, value in event.scores.items()}
    return {}


def export_history(store: Store, run_id: str, kind: str, folder: Path | None = None) -> int:
    """Writes all that the store has of a run into a tracker; returns how many values.

    Raises:
        UserError: no such run or tracker, or its package is not installed.
    """
    row = store.get(run_id)
    tracker = open_tracker(kind, run_id, row.config, folder)
    began = row.started or row.created
    points = list(_history(store, run_id))
    for (step, seconds), group in groupby(points, key=lambda point: point[:2]):
        tracker.log({name: value for *_, name, value in group}, step, began + seconds)
    tracker.close(row.state)
    return len(points)


@contextlib.contextmanager
def live(run_id: str, run: RunConfig) -> Iterator[Callable[[Event], None]]:
    """Gives what takes a run's events to the tracker that `KD_TRACKER` names, `mlflow` or `tensorboard:FOLDER`.

    A tracker that fails is left out for the rest of the run, with a line in the log; the run goes on.
    """
    asked = os.environ.get(SETTING, "").strip()
    if not asked:
        yield lambda event: None
        return
    following = _Following()
    with following.cared_for():
        kind, _, place = asked.partition(":")
        following.tracker = open_tracker(kind, run_id, run, user_path(place, SETTING) if place else None)
    try:
        yield following.take
    except Exception:
        following.state = "failed"
        raise
    finally:
        with following.cared_for():
            if following.tracker is not None:
                following.tracker.close(following.state)


class _Following:
    """A tracker that may not fail the run which it follows."""

    def __init__(self) -> None:
        self.tracker: Tracker | None = None
        self.state = "interrupted"

    @contextlib.contextmanager
    def cared_for(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of packages that are not ours
            self.tracker = None
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            log.warning("not tracked: %s: %s", SETTING, reason)

    def take(self, event: Event) -> None:
        match event:
            case events.RunFinished():
                self.state = "done"
            case events.RunStopped():
                self.state = "stopped"
            case events.RunFailed():
                self.state = "failed"
        if self.tracker is not None and (values := values_of(event)):
            with self.cared_for():
                self.tracker.log(values, int(getattr(event, "step", 0)), time.time())


class TensorBoard:
    """Event files in a folder of the run's name, which `tensorboard --logdir` reads."""

    def __init__(self, run_id: str, home: Path) -> None:
        extra_package("tensorboard", "tensorboard", "tracker")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(_make_folder(home) / run_id))

    def log(self, values: Mapping[str, float], step: int, at: float) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, walltime=at)

    def close(self, state: str) -> None:
        self._writer.close()


class MLflow:
    """A run of the experiment `PROJECT`; the same one where the run goes on."""

    STATES = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}

    def __init__(self, run_id: str, run: RunConfig, uri: str) -> None:
        package: Any = extra_package("mlflow", "mlflow", "tracker")
        self._entities = package.entities
        self._client = package.MlflowClient(tracking_uri=uri)
        known = self._client.get_experiment_by_name(PROJECT)
        experiment = known.experiment_id if known else self._client.create_experiment(PROJECT)
        found = self._client.search_runs([experiment], f"tags.kdboard = '{run_id}'", max_results=1)
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        made = self._client.create_run(experiment, tags={"kdboard": run_id}, run_name=run.name or run_id)
        self._run = made.info.run_id
        params = [self._entities.Param(name, str(value)[:500]) for name, value in flat(run).items()]
        for start in range(0, len(params), 100):  # it takes no more at once
            self._client.log_batch(self._run, params=params[start : start + 100])

    def log(self, values: Mapping[str, float], step: int, at: float) -> None:
        metrics = [self._entities.Metric(name, value, int(1000 * at), step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self, state: str) -> None:
        self._client.set_terminated(self._run, self.STATES.get(state, "RUNNING"))


class WandB:
    """An offline run of Weights & Biases; `wandb sync` sends it, where a person wants that."""

    def __init__(self, run_id: str, run: RunConfig, home: Path) -> None:
        package: Any = extra_package("wandb", "wandb", "tracker")
        self._run = package.init(
            project=PROJECT, id=run_id, name=run.name or run_id, dir=str(_make_folder(home)), mode="offline",
            config=flat(run), reinit="create_new",
        )  # fmt: skip
        self._run.define_metric("*", step_metric="step")

    def log(self, values: Mapping[str, float], step: int, at: float) -> None:
        self._run.log({**values, "step": step, "time": at})

    def close(self, state: str) -> None:
        self._run.finish(exit_code=1 if state == "failed" else 0)


def flat(run: RunConfig) -> dict[str, Any]:
    """A run's settings with dotted names, of files and folders the last part alone.

    >>> flat(RunConfig(task="sst2", method="fine-tune"))["train.seed"]
    0
    """
    return dict(_flat(run.model_dump(mode="json"), ""))


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _flat(part, f"{name}.{number}")
    elif isinstance(value, str) and Path(value).is_absolute():
        yield name, Path(value).name
    elif value is not None:
        yield name, value


def _history(store: Store, run_id: str) -> Iterator[tuple[int, float, str, float]]:
    """Step, seconds since the start, name, value; scores at the time of the step that was logged before."""
    points = store.metrics(run_id)
    seconds = points.groupby("step")["seconds"].max()
    for step, at, kind, name, value in points[["step", "seconds", "kind", "name", "value"]].itertuples(index=False):
        yield int(step), float(at), _name(str(kind), str(name)), float(value)
    scores = store.evaluations(run_id)
    for step, split, which, metric, value in scores[["step", "split", "which", "metric", "value"]].itertuples(
        index=False
    ):
        if value == value:
            before = seconds[seconds.index <= step]
            yield int(step), float(before.iloc[-1]) if len(before) else 0.0, f"{split}/{which}/{metric}", float(value)


def _name(kind: str, name: str) -> str:
    """`raw/soft`; `loss` where both are alike."""
    return name if kind == name else f"{kind}/{name}"


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError("--to", f"{folder} cannot be made ({error.strerror})", "name a folder that can") from error
    return folder
