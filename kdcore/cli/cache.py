"""Commands on what the program keeps on disk: `cache list`, `cache gc`, `cache pull`, `cache push`."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from kdcore.cli.console import new_app, table
from kdcore.errors import UserError
from kdcore.paths import cache_dir


def register(app: typer.Typer) -> None:
    cache = new_app("What the program keeps on disk.")
    cache.command("list")(list_)
    cache.command("gc")(gc)
    cache.command("pull")(pull)
    cache.command("push")(push)
    app.add_typer(cache, name="cache")


def list_() -> None:
    """List the folders of the cache with their sizes."""
    from kdcore.runs.cleanup import cache_entries

    rows = ((entry.name, entry.entries, f"{entry.size / 2**20:.1f}", entry.contents) for entry in cache_entries())
    table(str(cache_dir()), ("name", "entries", "MiB", "what"), rows)


def gc(
    limit_gb: Annotated[float | None, typer.Option(min=0, help="Teacher outputs may take this much.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    unlisted: Annotated[bool, typer.Option("--unlisted", help="Students that no run lists, too.")] = False,
) -> None:
    """Remove what no run needs: checkpoints of finished runs, folders of deleted ones, old teacher outputs."""
    from kdcore.runs.cleanup import find_garbage, free_outputs, remove
    from kdcore.runs.recover import unlisted_folders as unlisted_folders
    from kdcore.store import open_store

    if limit_gb is not None and not math.isfinite(limit_gb):
        raise UserError("--limit-gb", f"{limit_gb} is not a size", "give gigabytes, such as 4")
    store = open_store()
    spared = [] if unlisted else unlisted_folders(store)
    garbage = list(find_garbage(store, unlisted))
    if spared:
        typer.echo(
            f"keeping {len(spared)} run folders with students or checkpoints that this database does not list "
            f"({', '.join(folder.name for folder in spared[:5])}); `kdcore runs --recover` lists them again, "
            "`kdcore cache gc --unlisted` removes them"
        )
    for item in garbage:
        typer.echo(f"{'would remove' if dry_run else 'removing'} {item.reason} ({item.size / 2**20:.1f} MiB)")
    freed = sum(item.size for item in garbage) if dry_run else remove(garbage)
    if limit_gb is not None and not dry_run:
        freed += free_outputs(int(limit_gb * 2**30))
    typer.echo(f"{'would free' if dry_run else 'freed'} {freed / 2**20:.1f} MiB")


Runs = Annotated[list[str], typer.Argument(help="Ids of runs.")]


def pull(runs: Runs) -> None:
    """Fetch folders of runs that other computers pushed to KD_REMOTE, to look at their students here."""
    from kdcore.remote import open_remote
    from kdcore.runs.remote_runs import fetch_run
    from kdcore.store import open_store

    if open_remote() is None:
        raise UserError("KD_REMOTE", "is not set", "set it to where the runs were pushed, such as s3://bucket/kdboard")
    for run in runs:
        if open_store().get(run).active:
            raise UserError("run", f"{run} is being trained", "pull it when it has ended")
        typer.echo(f"{run}: fetched" if fetch_run(run) else f"{run}: nothing newer is there")


def push(runs: Runs) -> None:
    """Push folders of runs to KD_REMOTE, where that failed at their end."""
    from kdcore.runs.remote_runs import push_by_hand
    from kdcore.store import open_store

    for run in runs:
        row = open_store().get(run)
        if row.active:
            raise UserError("run", f"{run} is being trained", "its worker pushes it")
        push_by_hand(run, row.claim_number)
        typer.echo(f"{run}: pushed")
