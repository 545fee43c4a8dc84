"""Live: one run while it trains and after, and the queue."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import pandas as pd
import streamlit as st

from kdcore.analysis.teacher_scores import teacher_scores
from kdcore.errors import UserError
from kdcore.figures import curves, layer_pair
from kdcore.figures import method_logs as figures
from kdcore.figures.template import Figure
from kdcore.paths import run_dir
from kdcore.store import ACTIVE, RunRow, Store
from pages.parts.common import cards, loss_equation, shell, student_download
from pages.parts.common.plot import Drawn, drawn
from pages.parts.common.read_only import action
from pages.parts.common.run_picker import active, one_run, the_store
from pages.parts.common.text import (
    duration,
    hundredfold,
    listed,
    metric_title,
    one_line,
    plain,
    sentence,
    task_of,
    task_title,
)
from pages.parts.live import queue
from pages.parts.live.point_cache import Followed, follow, life

T = TypeVar("T")
LOG_LINES = 25
LOOK_SECONDS = 1.0
ENOUGH_MOMENTS = 3  # the teacher's file and two of the student's: a line needs two points
DISTANCES = ("mse", "cka")  # the second where widths differ, so that the first is not defined
SMOOTHING = 0.8  # one batch of a few dozen rows says little; its raw value stays visible
NUMBERS = ["stage", "step", "epoch", "seconds", "kind", "name", "value"]
HOW = (
    "Each point is the {kind} value of one training batch at a logged step: a mean over its rows, in float32. "
    "Smoothing is an exponential average, corrected at its start, over the raw points."
)
RESUMABLE = ("stopped", "failed", "interrupted", "cancelled")
STATE_LOOKS = {
    "queued": ("blue", ":material/schedule:"),
    **dict.fromkeys(ACTIVE, ("primary", ":material/play_circle:")),
    "done": ("green", ":material/check_circle:"),
    "stopped": ("gray", ":material/stop_circle:"),
    "failed": ("red", ":material/error:"),
    "interrupted": ("orange", ":material/power_off:"),
    "cancelled": ("gray", ":material/cancel:"),
}


def main() -> None:
    cards.title("Live", "One run: how far it is, what it minimises, how well it does.")
    store = the_store()
    runs = store.runs(include_archived=True)
    if runs.empty:
        cards.empty(
            "**Nothing is running**, and nothing has run yet. Start the one-minute demo, or launch a run.",
            "start",
            "Go to Start",
        )
        return
    run = one_run(runs, "Run", "live_run", prefer=(*ACTIVE, "queued"))
    if run is None:
        return
    row = store.get(run)
    st.fragment(_watch, run_every=LOOK_SECONDS if _followed_now(row) else None)(run, _phase(row))
    st.divider()
    queue.queue()


def _followed_now(row: RunRow) -> bool:
    """Only an active run needs a clock, and only while somebody wants it: a finished page stands still."""
    place = st.container()  # kept when the switch goes, or what stands below it would be drawn twice
    return active(row) and place.toggle(
        "Follow while it trains", value=True, key="live_follow", persist_state="session"
    )


def _phase(row: RunRow) -> str:
    """What the rest of the page says of the run's state; scoring in between is no other state."""
    return "running" if row.state == "evaluating" else row.state


def _watch(run: str, phase: str) -> None:
    store = the_store()
    row = store.get(run)
    if _phase(row) != phase:  # list box, strip and queue tell it too
        st.rerun()
    _head(store, row)
    with st.container(key="live_progress"):
        _progress(store, row)
    seen = follow(store, row)
    if not seen.points:
        cards.empty(_before_first_step(row))
    else:
        st.subheader("Loss", anchor=False)
        with cards.guarded("The loss cannot be written as an equation"):
            loss_equation.show(seen.latest())
            if not row.broken and not row.config.probes.gradient_share_every:
                st.caption("Gradient shares are not sampled in this run (setting *probes.gradient_share_every*).")
        _curves(seen, row)
        with cards.guarded("The method's read-outs cannot be shown"):
            _notes(seen, row)
    _scores(store, row)
    with cards.guarded("The layer distances cannot be shown"):
        _distances(store, row)
    with cards.guarded("The log cannot be shown"):
        _log(run)


def _head(store: Store, row: RunRow) -> None:
    color, icon = STATE_LOOKS.get(row.state, ("gray", ":material/help:"))
    with st.container(horizontal=True, vertical_alignment="center", key="live_head"):
        st.markdown(f"### {plain(row.name, 100)}")
        st.badge(row.state, color=color, icon=icon)  # type: ignore[arg-type]
        cards.badges(row.task, row.facts.get("partial"))
    teachers = "" if row.broken else ", ".join(plain(teacher.name) for teacher in row.config.teachers)
    said = [plain(task_title(row.task)), plain(row.method)]
    said += [f"teachers: {teachers}" if teachers else "no teacher"]
    said += [f"seed {row.config.train.seed}"] if not row.broken else []
    said += [plain(row.facts["hardware"])] if row.facts.get("hardware") else []
    said += [f"id {plain(row.id)}"]
    st.caption(" · ".join(said))
    if row.reason:
        show = st.error if row.state == "failed" else st.info
        show(f"**{plain(sentence(row.reason), 500)}** {plain(sentence(row.remedy), 500)}", icon=":material/info:")
        if row.detail:
            with st.expander("Last lines of the error"):
                st.code(row.detail[-4000:], language=None)
    if not row.active:
        student_download.student(store, row.id, "live_student")
    if row.state in RESUMABLE and not row.broken:
        action(
            "Resume",
            key="live_resume",
            icon=":material/resume:",
            on_click=queue.change,
            args=("requeue", row.id),
            help="Goes on from its last checkpoint, at the end of the queue",
        )


def _progress(store: Store, row: RunRow) -> None:
    said = row.progress
    step, steps = int(said.get("step") or 0), int(said.get("steps") or 0)
    if row.state == "queued":
        st.info("In the queue. It starts when the device is free.", icon=":material/schedule:")
    elif row.active:
        what, done, total = said.get("what") or "", said.get("done") or 0, said.get("total") or 0
        if what:
            share = min(1.0, done / total) if total else 0.0
            st.progress(share, text=f"{plain(what, 80)}: {done} of {total}" if total else plain(what, 80))
        else:
            words = f"Step {step} of {steps}" if steps else "Getting ready: data and teachers"
            st.progress(min(1.0, step / steps) if steps else 0.0, text=words)
    numbers = [
        ("Step", f"{step} / {steps}" if steps else "–"),
        ("Time left" if row.active else "Time", duration(said.get("eta_s")) if row.active else _taken(row)),
        ("Rows per second", f"{said['examples_per_second']:.0f}" if said.get("examples_per_second") else "–"),
        ("Device", _device(row)),
    ]
    with st.container(horizontal=True, key="live_numbers"):
        for label, value in numbers:
            st.metric(label, value, border=True, width="stretch")
    if words := foretold(row):
        st.caption(words)
    _stop(store, row)


def foretold(row: RunRow) -> str:
    """What was predicted before the start, and how that held."""
    guess = row.facts.get("predicted")
    seconds = guess.get("seconds") if isinstance(guess, dict) else None
    if not isinstance(seconds, int | float) or seconds <= 0:
        return ""
    took = row.summary.get("seconds")
    words = f"Predicted before the start: {duration(seconds)}"
    if row.state != "done" or not isinstance(took, int | float):
        return f"{words}."
    if row.facts.get("resumed_at"):
        return f"{words}. It was resumed, so its last part took {duration(took)}."
    off = took / seconds - 1
    honest = "as predicted" if abs(off) < 0.05 else f"{abs(off):.0%} {'longer' if off > 0 else 'less'}"
    return f"{words}; took {duration(took)} ({honest})."


def _device(row: RunRow) -> str:
    device, precision = row.facts.get("device"), row.facts.get("precision")
    return f"{one_line(device, 20)}, {one_line(precision, 10)}" if device else "–"


def _taken(row: RunRow) -> str:
    seconds = row.summary.get("seconds")
    return duration(seconds if isinstance(seconds, int | float) else None)


def _stop(store: Store, row: RunRow) -> None:
    if not row.active:
        return
    asked = store.stop_requested(row.id)
    if asked is None:
        action("Stop and keep the student", key="live_stop", icon=":material/stop:", on_click=_ask, args=(row.id, True))
    elif asked == "keep":
        st.warning("Stopping after this step; the student is saved.", icon=":material/hourglass:")
        action(
            "Discard the student instead",
            key="live_discard",
            icon=":material/delete:",
            on_click=_ask,
            args=(row.id, False),
        )
    else:
        st.warning("Stopping after this step; the student is not kept.", icon=":material/hourglass:")


def _ask(run: str, keep: bool) -> None:
    try:
        the_store().request_stop(run, keep=keep)
    except UserError as error:  # it ended in this very moment
        st.toast(plain(error.problem))


def _before_first_step(row: RunRow) -> str:
    if row.state == "queued":
        return "The curves begin with the first step."
    if row.active:
        return "Getting ready: data, teachers and what they say. The curves begin with the first step."
    return "This run ended before its first logged step."


def _curves(seen: Followed, row: RunRow) -> None:
    first, second = st.columns(2, vertical_alignment="bottom")
    smoothing = first.slider(
        "Smoothing",
        0.0,
        0.99,
        SMOOTHING,
        0.01,
        key="live_smoothing",
        persist_state="session",
        help="Exponential average, corrected at its start; raw values stay faint behind",
    )
    log = second.toggle("Logarithmic loss axis", key="live_log", persist_state="session")
    dark = cards.dark()
    caption = f"{plain(row.name, 60)}, training batches, one seed, smoothing {smoothing:g}, raw values faint."
    kinds: dict[curves.Kind, str] = {
        "weighted": "**Weighted terms and their sum** (what is minimised)",
        "raw": "**Raw terms** (each in its own unit)",
    }
    for (kind, title), place in zip(kinds.items(), st.columns(2), strict=True):
        with place:
            st.markdown(title)
            lines = partial(curves.term_lines, kind=kind, smoothing=smoothing, log=log, dark=dark)
            figure = partial(curves.terms_figure, kind=kind, log=log, dark=dark)
            cards.figure(
                partial(_followed, f"live_{kind}", seen, lines, figure, (smoothing, log, dark)),
                f"live_{kind}",
                caption,
                partial(_numbers, row.id, [kind, "loss"] if kind == "weighted" else [kind]),
                follows=f"{row.id} {log}",
                how=HOW.format(kind=kind),
            )


def _followed(
    key: str,
    seen: Followed,
    lines: Callable[[curves.Series], list[curves.Line]],
    figure: Callable[[list[curves.Line]], Figure],
    options: Hashable,
) -> Drawn:
    """The plot of these lines: its figure is made where the lines look different, else only their points are new."""

    def now() -> Drawn:
        found = lines(seen.series())
        looks = tuple(line.look for line in found)
        empty = _kept(f"{key} figure", (looks, options), lambda: drawn(figure([curves.bare(look) for look in looks])))
        return empty.with_points((line.x, line.y) for line in found)

    return _kept(key, (seen.life, seen.version, options), now)


def _kept(key: str, made_from: Hashable, make: Callable[[], T]) -> T:
    """What was made last time, for as long as what it was made from is the same."""
    held = st.session_state.setdefault("live_kept", {})
    if key not in held or held[key][0] != made_from:
        held[key] = (made_from, make())
    return cast(T, held[key][1])


def _numbers(run: str, kinds: list[str], names: Collection[str] = ()) -> pd.DataFrame:
    """All logged values of these kinds."""
    metrics = the_store().metrics([run], kinds=kinds)
    return metrics.loc[metrics["name"].isin(names), NUMBERS] if names else metrics[NUMBERS]


def _notes(seen: Followed, row: RunRow) -> None:
    """What the method says beside its losses: a plot where it changes, a line of words where it does not."""
    dark = cards.dark()
    said = {name: points.value for (kind, name), points in seen.points.items() if kind == figures.NOTE}
    for family, names in figures.families(said).items():
        numbers = partial(_numbers, row.id, [figures.NOTE], names)
        title = plain(family.replace("_", " ")).capitalize()
        if family == figures.DRAWS:
            st.subheader("Teacher draws", anchor=False)
            lines, figure = partial(figures.draw_lines, dark=dark), partial(figures.draws, dark=dark)
            cards.figure(
                partial(_followed, "live_draws", seen, lines, figure, dark),
                "live_draws",
                "Which teacher taught, as a share of the steps so far; dotted: the chance each was given.",
                data=numbers,
                follows=row.id,
                how="Counted at every step of the student that is kept; draws of pilot students are left out.",
            )
        elif any(len(set(said[name])) > 1 for name in names):
            st.subheader(title, anchor=False)
            lines = partial(figures.reading_lines, family=family, dark=dark)
            figure = partial(figures.readings, family=family, dark=dark)
            key = f"live_note_{family}"
            cards.figure(partial(_followed, key, seen, lines, figure, dark), key, data=numbers, follows=row.id)
        else:
            values = (f"{plain(name.partition('/')[2] or name)} {said[name][-1]:.3g}" for name in names)
            st.caption(f"{title}: {listed(values, 12)}.")


def _scores(store: Store, row: RunRow) -> None:
    measured = (life(row), store.evaluated(row.id))
    evaluations = _kept("live_evaluations", measured, lambda: store.evaluations([row.id]))
    if evaluations.empty:
        return
    st.subheader("Scores", anchor=False)
    dark, majority = cards.dark(), row.facts.get("majority")
    metric, rows, best = _kept("live_best", measured, lambda: _in_words(row.task, evaluations))
    cards.figure(
        lambda: _kept(
            "live_scores",
            (measured, majority, dark),
            lambda: drawn(_scores_figure(evaluations, metric, majority, dark)),
        ),
        "live_scores",
        f"One seed; dev split of up to {rows} rows is only reported, decisions use select.",
        data=evaluations,
        follows=row.id,
        how="The student is scored in eval mode on whole splits: *select* is a seeded part of the training rows that "
        "every decision rests on, the dev split is only reported.",
    )
    for words in best:
        st.markdown(words)


def _in_words(task: str, evaluations: pd.DataFrame) -> tuple[str, int, list[str]]:
    """The metric that is drawn, the rows of the largest split, and what the student that `select` chose scores."""
    metric = _main_metric(task, evaluations)
    best = evaluations[(evaluations["which"] == "best") & (evaluations["metric"] == metric)]
    said = [
        f"Student chosen by *select*: {metric_title(metric)} **{hundredfold(score['value'])}** "
        f"({curves.split_title(score['split'])}, {int(score['rows'])} rows, one seed)."
        for _, score in best[best["split"] != "select"].iterrows()
    ]
    return metric, int(evaluations["rows"].max()), said


def _main_metric(task: str, evaluations: pd.DataFrame) -> str:
    """The task's metric, or the first that was measured."""
    known, measured = task_of(task), list(dict.fromkeys(evaluations["metric"]))
    return known.main_metric if known and known.main_metric in measured else str(measured[0])


def _scores_figure(evaluations: pd.DataFrame, metric: str, majority: float | None, dark: bool) -> Figure:
    students = evaluations[evaluations["which"].isin(["last", "best"])]
    others = teacher_scores(evaluations, metric)
    teachers = dict(zip(others["teacher"], others["value"], strict=True))
    return curves.scores(students, metric, metric_title(metric), teachers, majority, dark)


def _distances(store: Store, row: RunRow) -> None:
    """How near the student's layers are to their teacher layers, at the moments kept so far."""
    moments = len(list((run_dir(row.id) / "probes").glob("snapshots/*.safetensors")))
    if moments < ENOUGH_MOMENTS:
        return
    from pages.parts.layers import teacher_picker  # reads tensors, which takes seconds to import

    found = _kept("live_course", (life(row), moments), lambda: teacher_picker.of_run(store, row.id))
    teacher = next(iter(found.teachers()), None)
    if teacher is None:
        return
    measure = next(one for one in DISTANCES if found.defined(teacher, one))
    lines = found.lines(teacher, measure, found.pairs(teacher).items())
    if not lines:
        return
    st.subheader("Layer distances", anchor=False)
    matches = "the pairs that the method matches" if found.layer_map(teacher) else "pairs evenly spread"
    dark = cards.dark()
    cards.figure(
        lambda: _kept(
            "live_distances",
            (life(row), moments, dark),
            lambda: drawn(layer_pair.course(lines, measure, {}, dark)),
        ),
        "live_distances",
        f"Student ↔ teacher {plain(teacher)}, {matches}, at the moments kept so far. All layers: page Layers.",
        data=lambda: layer_pair.points(lines, measure),
        follows=row.id,
        how=f"Over {found.tokens[found.words(teacher)[0]]:,} tokens of dev rows, the same ones at every moment.",
    )


def _log(run: str) -> None:
    path = run_dir(run) / "log.txt"
    with st.expander("Log", icon=":material/article:"):
        lines = _tail(path)
        st.code("\n".join(lines) if lines else "Nothing logged yet.", language=None)


def _tail(path: Path) -> list[str]:
    """The last lines of a log, reading no more than its end."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 16_384))
        return file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]


shell.show(main)
