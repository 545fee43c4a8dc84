"""Commands that train what waits in the queue: work, farm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from kdcore.cli.console import console, new_app, percent, plain
from kdcore.cli.method_files import MethodFiles
from kdcore.errors import UserError

if TYPE_CHECKING:
    from kdcore.runs.farm import Place
    from kdcore.store import Store

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, or one GPU such as cuda:1.")]


def register(app: typer.Typer) -> None:
    app.command()(work)
    farm = new_app("Several workers at once, until the queue has nothing left for them.")
    farm.callback()(lambda: None)  # with one command alone, its name would not have to be given
    farm.command()(here)
    farm.command()(slurm)
    farm.command()(ray)
    app.add_typer(farm, name="farm")


def work(
    device: Device = "auto",
    runs: Annotated[int | None, typer.Option(min=1, help="End after so many runs.")] = None,
    idle: Annotated[
        float | None, typer.Option(min=0, help="End after so many seconds without a run; 0: when none waits.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.1, help="GiB that a run may be predicted to take; default: all there is.")
    ] = None,
    tied: Annotated[bool, typer.Option("--tied", hidden=True, help="End when standard input ends.")] = False,
    method_file: MethodFiles = None,
) -> None:
    """Train what waits in the queue, without a page. Ctrl-C: checkpoint, back into the queue, end."""
    from kdcore.remote import open_remote
    from kdcore.runs.capability import capability
    from kdcore.runs.work import Closing, close_with_input, signals, take_device
    from kdcore.runs.work import work as train
    from kdcore.runs.worker import Worker
    from kdcore.store import open_store

    take_device(device)
    open_remote()  # an address that cannot be used is said at once
    store, closing = open_store(), Closing()
    can = capability(device, memory and memory * 2**30)
    if tied:
        close_with_input(closing)

    def start(run: str) -> None:
        name = plain(store.get(run).name)
        typer.echo(f"{run} starts" + (f": {name}" if name != run else ""))

    def end(run: str, state: str) -> None:
        row = store.get(run)
        listed = store.runs(include_archived=True).set_index("id").loc[run]
        words = f"{plain(listed.metric)} {percent(listed.score)}" if state in ("done", "stopped") else plain(row.reason)
        typer.echo(f"{run} {state}" + (f": {words}" if words else ""))

    with signals(closing) as came:
        ended = train(Worker(store, device, closing=closing, again=True, can=can), runs, idle, start, end)
    if came:
        console().print("ended on request; what was under way waits in the queue with its checkpoint")
        raise typer.Exit(128 + came[0])
    if not tied:
        _say_left([run for run in store.waiting() if run not in store.waiting(can)])
    if not tied and any(state == "failed" for state in ended.values()):
        raise typer.Exit(1)


def here(
    slots: Annotated[
        int | None, typer.Option(min=1, max=256, help="Workers at once; default: one for each GPU, or two.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    method_file: MethodFiles = None,
) -> None:
    """Train what waits in the queue in several processes of this computer. Ctrl-C: all checkpoint and end."""
    from kdcore.runs.farm import Here

    if device not in ("auto", "cpu", "cuda"):
        raise UserError("--device", f"{device[:40]!r} is no kind of device", "choose auto, cpu or cuda")
    _keep(lambda store: Here(slots, device))


Slots = Annotated[int, typer.Option(min=1, max=1024, help="Jobs at once.")]
Cores = Annotated[int, typer.Option(min=1, help="Processor cores of a job.")]
Gpus = Annotated[int, typer.Option(min=0, max=1, help="GPUs of a job.")]


def slurm(
    slots: Slots = 2,
    cpus: Cores = 1,
    gpus: Gpus = 0,
    memory: Annotated[float | None, typer.Option(min=0.1, help="GiB of a job; default: the cluster's.")] = None,
    minutes: Annotated[int, typer.Option(min=1, help="Minutes of a job; another goes on after it.")] = 240,
    partition: Annotated[str | None, typer.Option(help="The cluster's partition; default: its own default.")] = None,
    cluster: Annotated[str, typer.Option(help="slurm, or local: try it on this computer.")] = "slurm",
    method_file: MethodFiles = None,
) -> None:
    """Train what waits in the queue as jobs of a Slurm cluster (extra `slurm`). Ctrl-C: all end."""
    from kdcore.paths import cache_dir
    from kdcore.runs.cluster import Slurm, check_store

    if cluster not in ("slurm", "local"):
        raise UserError("--cluster", f"{cluster[:40]!r} is no cluster", "choose slurm or local")

    def place(store: Store) -> Place:
        check_store(store, {"--cluster": cluster})
        return Slurm(
            slots, cache_dir() / "slurm", cluster=cluster, cpus=cpus, gpus=gpus, memory=memory, minutes=minutes,
            partition=partition,
        )  # fmt: skip

    _keep(place)


def ray(
    slots: Slots = 2,
    cpus: Cores = 1,
    gpus: Gpus = 0,
    address: Annotated[
        str, typer.Option(help="Of a Ray cluster; auto: the one of this node; local: one that ends with this command.")
    ] = "local",
    method_file: MethodFiles = None,
) -> None:
    """Train what waits in the queue as tasks of a Ray cluster (extra `ray`). Ctrl-C: all end."""
    from kdcore.runs.cluster import LOCAL, Ray, check_store

    def place(store: Store) -> Place:
        check_store(store, {"--address": address})
        if address == LOCAL:
            typer.echo("Ray is started here and listens on 127.0.0.1 alone, until this command ends.")
        return Ray(slots, address=address, cpus=cpus, gpus=gpus)

    _keep(place)


def _keep(place: Callable[[Store], Place]) -> None:
    """Keeps workers at work in the place until the queue is empty or a signal comes, and says what is left."""
    from kdcore.remote import open_remote
    from kdcore.runs.farm import keep
    from kdcore.runs.work import Closing, signals
    from kdcore.store import open_store

    open_remote()
    store, closing = open_store(), Closing()

    def lost(runs: list[str]) -> None:
        typer.echo(f"lost its worker, waits again: {', '.join(runs)}")

    with signals(closing) as came:
        left = keep(store, place(store), closing, lost)
    if came:
        console().print("ended on request; what was under way waits in the queue with its checkpoint")
        raise typer.Exit(128 + came[0])
    _say_left(left)


def _say_left(runs: list[str]) -> None:
    if runs:
        typer.echo(f"{len(runs)} runs wait for a worker with another device or more memory: {', '.join(runs[:5])}")
