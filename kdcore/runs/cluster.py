"""Workers as jobs of a cluster: each job is one worker that takes runs from the store's queue until none is for it.

Slurm and Ray decide where and when a job begins; which run it trains is decided by the queue alone.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcore.errors import UserError
from kdcore.extras import extra_package
from kdcore.paths import python_path

if TYPE_CHECKING:
    from kdcore.store import Store

ASK_SECONDS = 30.0
"""How often Slurm is asked about jobs that have written no result."""
LOCAL = "local"
"""In place of a cluster: this computer, to try a farm without one."""
_NO_CLUSTER = f"`--cluster {LOCAL}` or `--address {LOCAL}` tries it on this computer; `kdcore farm here` needs neither"
PREEMPTION = getattr(signal, "SIGUSR2", signal.SIGTERM)
"""What submitit has Slurm send before the time of a job is over."""


def train_queue(device: str = "auto", memory: float | None = None, threads: int | None = None) -> int:
    """The job itself: trains what waits until nothing is left for it, or the cluster wants the place back.

    memory: GiB that a run may take. threads: cores of the job.

    Returns the exit code that `kdcore work` has: 0, or 128 and the number of the signal that ended it.
    """
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes that a run starts, too
    import torch

    from kdcore.runs.capability import capability
    from kdcore.runs.work import Closing, signals, work
    from kdcore.runs.worker import Worker
    from kdcore.store import open_store

    if threads:
        torch.set_num_threads(threads)
    closing = Closing()
    can = capability(device, memory and memory * 2**30)
    with signals(closing, PREEMPTION) as came:
        work(Worker(open_store(), device, closing=closing, again=True, can=can), idle=0.0)
    return 128 + came[0] if came else 0


class Slurm:
    """Jobs of a Slurm cluster, submitted by submitit."""

    def __init__(
        self,
        slots: int,
        folder: Path,
        *,
        cluster: str = "slurm",
        cpus: int = 1,
        gpus: int = 0,
        memory: float | None = None,
        minutes: int = 240,
        partition: str | None = None,
    ) -> None:
        """folder: of the jobs' scripts and logs, seen by all nodes. cluster: slurm, or `LOCAL`. minutes: of one job,
        after which another goes on.

        Raises:
            UserError: submitit is not installed, or there is no Slurm here.
        """
        submitit = extra_package("submitit", "slurm", "farm slurm")
        self.slots, self.cpus, self.gpus, self.memory, self._asked = slots, cpus, gpus, memory, 0.0
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        except RuntimeError as error:
            raise UserError("farm slurm", "there is no Slurm here (srun is missing)", _NO_CLUSTER) from error
        own: dict[str, Any] = {"slurm_partition": partition} if partition else {}
        own |= {"mem_gb": memory} if memory else {}
        self._executor.update_parameters(
            name="kdboard",
            timeout_min=minutes,
            cpus_per_task=cpus,
            gpus_per_node=gpus,
            tasks_per_node=1,
            nodes=1,
            **own,
        )

    def start(self) -> Any:
        device = "cuda" if self.gpus else "cpu"
        return self._executor.submit(train_queue, device, self.memory, self.cpus)

    def ended(self, worker: Any) -> int | None:
        asks = time.monotonic() - self._asked >= ASK_SECONDS
        if asks:
            self._asked = time.monotonic()
        if not worker.done(force_check=asks):
            return None
        return 1 if worker.exception() else int(worker.result())

    def leave(self, worker: Any) -> None:
        worker.cancel(check=False)

    kill = leave


class Ray:
    """Tasks of a Ray cluster. What they ask for is what makes a cluster grow that can."""

    def __init__(self, slots: int, *, address: str = LOCAL, cpus: int = 1, gpus: int = 0) -> None:
        """address: of a cluster, "auto" for the one of this node, or `LOCAL`: one that is started here, listens on
        127.0.0.1 alone and ends with this process.

        Raises:
            UserError: ray is not installed, or the cluster cannot be reached.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anyone
        if address == LOCAL:  # on Linux a node's processes listen on all its addresses, but where clusters are off
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        self._ray = extra_package("ray", "ray", "farm ray")
        self.slots, self.gpus = slots, gpus
        try:
            self._ray.init(**_ray_settings(slots, address, cpus, gpus))
        except (ConnectionError, RuntimeError, ValueError) as error:
            words = " ".join(str(error).split())[:200]
            raise UserError("--address", f"no Ray cluster answers there ({words})", _NO_CLUSTER) from error
        # A lost job is not tried again by Ray: the farm starts another, which takes what is first in the queue then.
        self._job = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=1)(train_queue)
        self._arguments = ("cuda" if gpus else "cpu", None, cpus)

    def start(self) -> Any:
        return self._job.remote(*self._arguments)

    def ended(self, worker: Any) -> int | None:
        done, _ = self._ray.wait([worker], timeout=0)
        if not done:
            return None
        try:
            return int(self._ray.get(worker))
        except self._ray.exceptions.RayError:  # killed, cancelled, or its node is gone
            return 1

    def leave(self, worker: Any) -> None:
        self._ray.cancel(worker, force=False)

    def kill(self, worker: Any) -> None:
        self._ray.cancel(worker, force=True)


def _ray_settings(slots: int, address: str, cpus: int, gpus: int) -> dict[str, Any]:
    """Of `ray.init`."""
    handed_on = {name: value for name, value in os.environ.items() if name.startswith(("KD_", "HF_"))}
    settings: dict[str, Any] = {
        "address": address,
        "runtime_env": {"env_vars": handed_on | {"PYTHONPATH": python_path()}},
        "log_to_driver": False,
        "ignore_reinit_error": True,
    }
    if address == LOCAL:
        settings |= {
            "num_cpus": slots * cpus, "num_gpus": slots * gpus, "include_dashboard": False,
            "object_store_memory": 90 * 2**20,
        }  # fmt: skip
    return settings


def check_store(store: Store, place: Mapping[str, str]) -> None:
    """place: option -> value that says where jobs run; `LOCAL` is this computer.

    Raises:
        UserError: jobs would run on other computers, which cannot share a SQLite file.
    """
    if store.engine.dialect.name == "sqlite" and LOCAL not in place.values():
        option = ", ".join(f"{name} {value}" for name, value in place.items())
        raise UserError(
            "KD_DATABASE_URL", f"jobs of {option} run on other computers, and a SQLite file is for one alone",
            "set it to a PostgreSQL database, and KD_CACHE_DIR to a folder that all nodes see (or set KD_REMOTE)",
        )  # fmt: skip
