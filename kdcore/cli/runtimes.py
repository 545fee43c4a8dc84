"""A command that measures: runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdcore.cli.console import console, plain, print_json, records, table
from kdcore.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("model", "runtime", "score", "batch", "length", "tokens", "threads", "p50_ms", "p95_ms", "per_second",
           "disk_mib", "memory_mib")  # fmt: skip


def register(app: typer.Typer) -> None:
    app.command()(runtimes)


def runtimes(
    run: Annotated[list[str], typer.Argument(help="Ids of finished runs.")],
    again: Annotated[bool, typer.Option("--again", help="Measure also what was measured before.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Measure student and teacher as deployed: each runtime's own score, latency, size and memory, and what int8 does
    to the answers. It takes minutes a run; what was measured is kept and only shown."""
    import pandas as pd

    from kdcore.analysis.comparison import compare
    from kdcore.analysis.runtime_table import int8_table, runtime_table, survivals, unmeasured
    from kdcore.store import open_store

    store = open_store()
    frame = store.runs(["done"], include_archived=True)
    for run_id in run:
        if run_id not in set(frame.id):
            raise UserError("run", f"{plain(run_id)} is not a finished run", "`runs --state done` lists them")
    chosen = frame[frame.id.isin(run)]
    new = run if again else [one for one in run if one in unmeasured(store, chosen.assign(group=chosen["id"]))]
    _measure(store, chosen, new)
    counted = pd.concat([comparison.finished for comparison in compare(store, chosen)])
    found, pairs = runtime_table(store, counted), int8_table(store, counted)
    if as_json:
        print_json({"runtimes": records(found), "int8": records(pairs)})
        return
    for threads, part in found.groupby("threads"):
        rows = (tuple(row[name] for name in COLUMNS) for row in part.to_dict("records"))
        table(f"{plain(part['hardware'].iloc[0])}, {threads} thread{'' if threads == 1 else 's'}", COLUMNS, rows)
    if found["busy"].any():
        typer.echo("Other work used the machine meanwhile: do not rely on the times, measure --again when it is quiet.")
    for one in survivals(pairs):
        console().print(plain(one.sentence()))


def _measure(store: Any, runs: pd.DataFrame, wanted: list[str]) -> None:
    from kdcore.engine.measure_process import OwnProcess
    from kdcore.runs.remeasure import measured, order_of

    with OwnProcess("kdcore.export.runtime_costs") as process:
        for run_id in wanted:
            order = order_of(store, runs[runs["id"] == run_id].iloc[0])
            for event in measured(store, order, process):
                typer.echo(f"{run_id}: {plain(event.what)} ({event.done + 1} of {event.total})", err=True)
