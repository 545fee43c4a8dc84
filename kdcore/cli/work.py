"""Commands that train what waits in the queue: work, farm."""

from __future__ import annotations

from typing import Annotated

import typer

from kdcore.cli.console import console, new_app, percent, plain
from kdcore.cli.method_files import MethodFiles
from kdcore.errors import UserError

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, or one GPU such as cuda:1.")]


def register(app: typer.Typer) -> None:
    app.command()(work)
    farm = new_app("Several workers at once, until the queue has nothing left for them.")
    farm.callback()(lambda: None)  # with one command alone, its name would not have to be given
    farm.command()(here)
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
    from kdcore.runs.capability import capability
    from kdcore.runs.work import Closing, close_with_input, signals, take_device
    from kdcore.runs.work import work as train
    from kdcore.runs.worker import Worker
    from kdcore.store import open_store

    take_device(device)
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
    from kdcore.runs.farm import Here, keep
    from kdcore.runs.work import Closing, signals
    from kdcore.store import open_store

    if device not in ("auto", "cpu", "cuda"):
        raise UserError("--device", f"{device[:40]!r} is no kind of device", "choose auto, cpu or cuda")
    store, closing = open_store(), Closing()

    def lost(runs: list[str]) -> None:
        typer.echo(f"lost its worker, waits again: {', '.join(runs)}")

    with signals(closing) as came:
        left = keep(store, Here(slots, device), closing, lost)
    if came:
        console().print("ended on request; what was under way waits in the queue with its checkpoint")
        raise typer.Exit(128 + came[0])
    _say_left(left)


def _say_left(runs: list[str]) -> None:
    if runs:
        typer.echo(f"{len(runs)} runs wait for a worker with another device or more memory: {', '.join(runs[:5])}")
