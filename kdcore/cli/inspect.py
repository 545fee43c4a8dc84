"""Commands that look: methods, tasks, teachers, runs, show, compare, robustness."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdcore.cli.console import console, percent, plain, print_json, records, table
from kdcore.cli.method_files import MethodFiles
from kdcore.errors import UserError
from kdcore.formatting import metric_label, task_name
from kdcore.paths import cache_subdir, run_dir
from kdcore.tasks import TASKS

if TYPE_CHECKING:
    from kdcore.analysis.comparison import Comparison
    from kdcore.store import Store

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    for command in (methods, presets, tasks, teachers, runs, show, compare, robustness):
        app.command()(command)


def methods(
    key: Annotated[str | None, typer.Argument(help="A method: print all about it.")] = None,
    family: Annotated[str | None, typer.Option(help="Only methods of this family.")] = None,
    as_json: Json = False,
    method_file: MethodFiles = None,
) -> None:
    """List the distillation methods by family, or explain one with its options."""
    if key is None:
        list_methods(family, as_json)
        return
    from inspect import getdoc

    from kdcore.fields import describe_all
    from kdcore.methods import find_method
    from kdcore.methods.catalog import source_of
    from kdcore.runs.recipes import presets_of

    method = find_method(key)
    if as_json:
        print_json(_method_facts(method.key))
        return
    source = source_of(key)
    origin = f", from outside: {source.origin}, version {source.version}" if source else ""
    typer.echo(f"{method.title} ({method.key}){plain(origin)}\n\n{getdoc(method)}\n")
    typer.echo("".join(f"{paper.reference}\n" for paper in method.papers) or "no paper\n")
    fields = describe_all(method.Config)
    options = ((field.name, field.default_text, field.allowed, field.description) for field in fields)
    table("options (--option name=value)", ("name", "default", "allowed", "what it does"), options)
    if names := presets_of(key):
        typer.echo(f"recipes of the paper (distil --preset, see `presets`): {', '.join(names)}")


def list_methods(family: str | None, as_json: bool) -> None:
    """A table a family, or all as JSON.

    Raises:
        UserError: no such family.
    """
    from kdcore.methods import METHODS, problems, refresh
    from kdcore.methods.catalog import FAMILIES, catalog

    if family is not None and family not in FAMILIES:
        raise UserError("family", f"no family {family[:60]!r}", f"choose one of {', '.join(FAMILIES)}")
    refresh()
    for problem in problems():
        typer.echo(f"left out: {plain(problem)}", err=True)
    chosen = [info for key, info in catalog().items() if key in METHODS and family in (None, info.family)]
    if as_json:
        print_json([_method_facts(info.key) for info in chosen])
        return
    for name, words in FAMILIES.items():
        rows = [
            (i.key, i.title, f"from {i.source.origin}" if i.source else i.cite, _teachers_taken(i.key), i.idea)
            for i in chosen
            if i.family == name
        ]
        if rows or name == family:
            table(f"{name}: {words}", ("method", "title", "paper", "teachers", "idea"), rows)


def presets(key: Annotated[str | None, typer.Argument(help="A recipe: print all about it.")] = None) -> None:
    """List the papers' own recipes, or show one as settings."""
    import yaml

    from kdcore.runs import recipes

    if key is None:
        rows = ((name, preset.method, preset.title, preset.source) for name, preset in recipes.presets().items())
        table("", ("recipe", "method", "title", "source"), rows)
        return
    preset = recipes.find_preset(key)
    settings = preset.model_dump(include={"method", "options", "student", "train"}, mode="json")
    typer.echo(f"{preset.title}\n\n{yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)}")
    tasks = ((task, recipes.settings_text(part.model_dump())) for task, part in preset.tasks.items())
    table("on a task", ("task", "what differs"), tasks)
    print_recipe(key)


def print_recipe(key: str) -> None:
    """Where a recipe comes from, and how far it can be trusted."""
    from kdcore.runs.recipes import find_preset

    preset = find_preset(key)
    typer.echo(f"recipe {key}: {preset.source}\n  teacher of the paper: {preset.teacher}")
    for note in preset.departs:
        typer.echo(f"  note: {note}")
    for note in preset.unverified:
        typer.echo(f"  unverified: {note}")


def tasks() -> None:
    """List the tasks and whether their data is here."""
    from kdcore.data import availability
    from kdcore.tasks import TASKS

    rows = []
    for key, available in availability().items():
        task = TASKS[key]
        rows.append(
            (key, task.title, task.kind, task.main_metric, task.train_rows, available.source or available.remedy)
        )
    table("", ("task", "title", "kind", "metric", "rows", "data"), rows)
    typer.echo("own: your own table (CSV, TSV, TXT, JSON, JSONL, Parquet); see `distil --file`")


def teachers(
    look_up: Annotated[
        str | None, typer.Option(help="Fetch this model from the hub: org/name. Uses the network.")
    ] = None,
) -> None:
    """List the teachers that are here: the pocket ladder, installed packages, those fine-tuned before."""
    if look_up is not None:
        from kdcore.models.sources import download

        folder = download(look_up)
        typer.echo(f"{look_up} is here now: {folder}\nuse it with --teacher name=hub:{look_up}")
        return
    from kdcore.data.pocket.ladder import LADDER
    from kdcore.models.sources import installed_packages

    rows: list[tuple[Any, ...]] = [
        (
            f"pocket:{name}",
            f"{rung.layers} layers, {rung.width} wide",
            "made on first use, for pocket tasks (synthetic)",
        )
        for name, rung in LADDER.items()
    ]
    rows += [(f"package:{name}", "pretrained base", str(path)) for name, path in installed_packages().items()]
    rows += [(f"folder:{folder}", _kept_teacher(folder), "trained here before") for folder in _kept_teachers()]
    table("", ("--teacher NAME=", "what", "where from"), rows)


def runs(
    state: Annotated[list[str] | None, typer.Option(help="Only runs in this state; may be given again.")] = None,
    sweep: Annotated[str | None, typer.Option(help="Only runs of this sweep.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Archived runs too.")] = False,
    recover: Annotated[
        bool, typer.Option("--recover", help="First list runs again whose folders are here and that are not listed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the runs, newest first."""
    from kdcore.store import STATES, open_store

    unknown = [word for word in state or () if word not in STATES]
    if unknown:
        raise UserError("--state", f"no state {unknown[0]!r}", f"states are {', '.join(STATES)}")
    store = open_store()
    store.mark_interrupted()
    if recover:
        from kdcore.runs.recover import recover as list_again

        listed, refused = list_again(store)
        typer.echo(f"listed again: {', '.join(listed) or 'none'}", err=as_json)
        for sentence in refused:
            typer.echo(f"left out: {plain(sentence)}", err=True)
    frame = store.runs(state, include_archived=all_, sweep=sweep)
    if as_json:
        print_json(records(frame))
        return
    if frame.empty:
        typer.echo("no runs")
        return
    rows = (
        (r.id, "" if str(r.name) == str(r.id) else r.name, r.state, plain(task_name(str(r.task))), r.method,
         r.student, r.init, r.seed, percent(r.score), r.metric,
         _share(r.progress) if r.state == "running" else plain(r.reason))
        for r in frame.itertuples()
    )  # fmt: skip
    columns = ("run", "name", "state", "task", "method", "student", "init", "seed", "score", "metric", "")
    table("", columns, rows)


def show(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    log: Annotated[int, typer.Option(min=0, help="Print so many last lines of the log.")] = 0,
    as_json: Json = False,
) -> None:
    """Show one run: settings, state, scores, cost."""
    from kdcore.store import open_store

    store = open_store()
    store.mark_interrupted()
    row = store.get(run)
    scores = store.evaluations(run)
    settings = json.loads(row.config.model_dump_json(exclude_defaults=True)) if not row.broken else None
    about = {
        "id": row.id, "name": row.name, "state": row.state, "reason": row.reason, "remedy": row.remedy,
        "note": row.note, "tags": row.tags, "device": row.device, "settings": settings, "facts": row.facts,
        "summary": row.summary, "progress": row.progress,
    }  # fmt: skip
    if as_json:
        print_json(about | {"evaluations": records(scores), "detail": row.detail})
        return
    for key in ("id", "name", "state", "reason", "remedy", "note", "tags", "device"):
        if about[key]:
            typer.echo(f"{key:9}{plain(about[key])}")
    for warning in row.facts.get("warnings") or ():
        typer.echo(f"warning  {plain(warning)}")
    typer.echo(f"settings {json.dumps(settings)}")
    last = scores.groupby(["split", "which", "metric"], sort=False).last().reset_index()
    classes = row.facts.get("classes") or (TASKS[row.task].labels if row.task in TASKS else ())
    rows = (
        (r.split, r.which, plain(metric_label(str(r.metric), classes)), percent(r.value), r.rows)
        for r in last.itertuples()
    )
    table("", ("split", "model", "metric", "value", "rows"), rows)
    if row.detail:
        typer.echo(row.detail)
    if log:
        typer.echo("\n".join(_last_lines(run_dir(run) / "log.txt", log)))


def compare(
    run: Annotated[
        list[str] | None, typer.Argument(help="Ids of the runs to compare; none: all finished ones.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    sweep: Annotated[str | None, typer.Option(help="Only this sweep.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The run that the others are set against; by default training alone.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare finished runs: mean and spread over seeds, and whether a difference is shown."""
    from kdcore.analysis.comparison import compare as compare_runs
    from kdcore.store import open_store

    store = open_store()
    frame = store.runs(["done"], include_archived=bool(run), sweep=sweep)
    for run_id in run or ():
        if run_id not in set(frame.id):
            raise UserError("run", f"{plain(run_id)} is not a finished run", "`runs --state done` lists them")
    frame = frame[frame.id.isin(run)] if run else frame
    frame = frame[(frame.task == task) | frame.task.str.startswith(f"{task}:")] if task else frame
    if frame.empty:
        raise UserError("runs", "there is no finished run to compare", "train one with `distil` or `demo`")
    if baseline is not None and baseline not in set(frame.id):
        raise UserError("--baseline", f"{plain(baseline)} is not among the runs", "name one of the compared runs")
    comparisons = compare_runs(store, frame, baseline)
    if as_json:
        print_json(
            {
                "groups": [record for comparison in comparisons for record in _records(store, comparison)],
                "verdicts": [sentence for comparison in comparisons for sentence in _sentences(comparison)],
            }
        )
        return
    print_comparisons(store, comparisons)


def robustness(
    run: Annotated[list[str], typer.Argument(help="Ids of finished runs.")],
    again: Annotated[bool, typer.Option("--again", help="Measure again what is known.")] = False,
) -> None:
    """Score kept students and their teachers on damaged dev sentences, and on embeddings moved against each.

    Words get typos, are dropped, or change places with their neighbour.
    """
    from kdcore.runs.robustness import PROBE, measure_runs, unmeasured
    from kdcore.store import open_store

    store = open_store()
    rows = [store.get(each) for each in run]
    todo = run if again else unmeasured(store, run)
    problems = measure_runs(store, todo)
    from kdcore.probes.robustness import EMBEDDINGS, SEVERITIES, STEPS

    found = [(row.id, model, kind, *(percent(record["score"]) for record in records))
             for row in rows
             for model, kinds in store.probes(row.id).get(PROBE, {}).get("models", {}).items()
             for kind, records in kinds.items()]  # fmt: skip
    about = ("run", "model", "damage")
    words = [line for line in found if line[2] != EMBEDDINGS]
    table("", (*about, *(f"{severity:.0%} of the words" for severity in SEVERITIES)), words)
    if moved := [line for line in found if line[2] == EMBEDDINGS]:
        table("", (*about, *(f"{step:.0%} of their RMS" for step in STEPS)), moved)
    for each, error in problems.items():
        raise UserError(error.field, f"{each}: {error.problem}", error.remedy)
    if lost := [row.id for row in rows if PROBE not in store.probes(row.id)]:
        raise UserError("run", f"{lost[0]} kept no student on this disk", "choose a run that is done here")


def print_comparisons(store: Store, comparisons: Sequence[Comparison]) -> None:
    """The table of each task's comparison, and a sentence for each group against the baseline."""
    tuned = any(comparison.options for comparison in comparisons)
    rows = (
        (plain(task_name(r["task"])), r["label"], *([r["options"]] if tuned else []), r["metric"], r["n"],
         percent(r["mean"]), percent(r["std"]),
         "baseline" if r["baseline"] else percent(r["gap"], sign=True), r["gap_n"] if not r["baseline"] else "",
         r["differs"], plain(r["latency_ms"]), r["parameters"], plain(r["seconds"]))
        for comparison in comparisons for r in _records(store, comparison)
    )  # fmt: skip
    options = ("options",) if tuned else ()
    columns = ("task", "method and student", *options, "metric", "seeds", "mean", "std", "gap", "pairs",
               "also differs in", "ms", "parameters", "seconds")  # fmt: skip
    table("", columns, rows)
    for comparison in comparisons:
        for sentence in _sentences(comparison):
            console().print(sentence)


def _records(store: Store, comparison: Comparison) -> list[dict[str, Any]]:
    """The rows of the summary, with task and metric."""
    from kdcore.analysis.latency import group_latencies

    rows = comparison.summary().assign(task=comparison.task, metric=comparison.metric)
    rows["latency_ms"] = rows["group"].map(group_latencies(store, comparison.finished))
    return records(rows.assign(baseline=rows["group"] == comparison.baseline))


def _sentences(comparison: Comparison) -> Iterator[str]:
    """The verdict on each group against the baseline, and what the numbers do not count."""
    baseline = comparison.labels[comparison.baseline]
    task = plain(task_name(comparison.task))
    for label, answer in comparison.answers():
        basis = f" ({answer.basis})" if answer.basis else ""
        yield f"{task}, {label} against {baseline}: {answer.headline} {answer.sentence}{basis}"
    for note in [*comparison.repeats(), *comparison.unpaired()]:
        yield f"{task}, {note}."


def _method_facts(key: str) -> dict[str, Any]:
    """What is known of a method, as JSON."""
    from dataclasses import asdict

    from kdcore.methods import find_method
    from kdcore.methods.catalog import catalog

    info, method = catalog()[key], find_method(key)
    return {
        "key": key, "title": info.title, "family": info.family, "idea": info.idea,
        "papers": [asdict(paper) for paper in info.papers], "teachers": list(method.teachers),
        "source": info.source and {"origin": info.source.origin, "sha256": info.sha256},
        "tasks": sorted(method.kinds), "other_tasks": list(method.other_tasks), "domains": method.domains,
        "defaults": method.Config().model_dump(mode="json"),
    }  # fmt: skip


def _teachers_taken(key: str) -> str:
    from kdcore.methods import find_method

    fewest, most = find_method(key).teachers
    return str(fewest) if fewest == most else f"{fewest} to {most}"


def _share(value: Any) -> str:
    return "" if value is None or value != value else f"{100 * value:.0f} %"


def _kept_teachers() -> list[Path]:
    return sorted(folder for folder in cache_subdir("teachers").iterdir() if (folder / "teacher.json").is_file())


def _kept_teacher(folder: Path) -> str:
    try:
        facts = json.loads((folder / "teacher.json").read_text())
        return plain(facts.get("words", ""))
    except (OSError, ValueError, AttributeError):
        return "damaged; delete this folder"


def _last_lines(path: Path, count: int) -> list[str]:
    if not path.is_file():
        return ["(no log)"]
    from collections import deque

    with path.open(encoding="utf-8", errors="replace") as file:
        return [plain(line.rstrip("\n")) for line in deque(file, maxlen=count)]
