"""The part of the launch page that stands before the start: sizes, cost, checks, settings, and the button."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
import yaml

from kdcore.config import RunConfig
from kdcore.errors import UserError
from kdcore.figures.layers import map_figure, map_words
from pages.parts.common import cached, cards
from pages.parts.common.plot import plot
from pages.parts.common.run_picker import remember, remember_many, the_store
from pages.parts.common.sidebar import worker
from pages.parts.common.text import amount, duration, plain, sentence, size
from pages.parts.launch import data_preview

MOST_SEEDS = 10
MOST_QUEUED = 200


def show(run: RunConfig) -> None:
    settings = run.model_dump_json()
    with cards.guarded("These settings do not go together"), st.spinner("Counting"):
        _sizes(run, cached.sizes(settings))
    forecast: Any = None
    with cards.guarded("The cost cannot be predicted"):
        forecast = cached.prediction(settings)
        _cost(forecast)
    blocked = True
    with cards.guarded("The checks before the start failed"):
        blocked = _lines(cached.checks(settings))
    data_preview.show(run)
    _start(run, blocked, forecast)
    with st.expander("Settings as YAML, and the command"):
        shown = yaml.safe_dump(run.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
        st.code(shown, language="yaml")
        st.caption("Save it as run.yaml; this command trains the same student:")
        st.code("python -m kdcore distil --file run.yaml", language="bash")


def _sizes(run: RunConfig, sizes: cached.Sizes) -> None:
    tokens = run.train.max_length
    flops = cached.cost(sizes.deployed, tokens)[1]
    rows = [("student", sizes.student, *cached.cost(sizes.student, tokens))]
    if sizes.deployed != sizes.student:
        rows.append(("student as it runs", sizes.deployed, *cached.cost(sizes.deployed, tokens)))
    rows += [(name, one, *cached.cost(one, tokens)) for name, one in sizes.teachers.items()]
    table = {
        name: [f"{one.layers} × {one.width}", amount(count), amount(operations), f"{operations / flops:.1f}×"]
        for name, one, count, operations in rows
    }
    names = ["layers × width", "parameters", f"FLOPs of {tokens} tokens", "against student"]
    st.dataframe(
        pd.DataFrame(table, index=names), key="launch_sizes", alt="Parameters and operations of student and teachers"
    )
    if sizes.teachers:
        _layer_map(sizes)


def _layer_map(sizes: cached.Sizes) -> None:
    """Which layers are matched, in words and, where any are, as a picture."""
    words = map_words(sizes.layer_map)
    if sizes.layer_map:
        teacher = next(iter(sizes.teachers.values()))
        drawn = map_figure(sizes.deployed.layers, teacher.layers, sizes.layer_map, cards.dark())
        plot(drawn, key="launch_map", alt=words)
    st.caption(f"{words} Layers count from 1, embeddings are 0.")


def _cost(found: Any) -> None:
    left, right = st.columns(2)
    left.metric("Time", duration(found.seconds))
    right.metric("Steps", f"{found.steps}")
    left.metric("Memory", size(found.memory_bytes))
    right.metric("Disk", size(found.disk_bytes))
    teachers = (
        f" {duration(found.teacher_seconds)} of it make and ask the teachers." if found.teacher_seconds > 1 else ""
    )
    st.caption(f"A guess: {plain(found.basis, 400)}.{teachers}")


def _lines(lines: list[Any]) -> bool:
    """Draws the pre-flight lines; True where one of them blocks."""
    for line in lines:
        words = " ".join(plain(sentence(said), 400) for said in (line.words, line.remedy))
        if line.level == "block":
            st.error(f"**{plain(line.field)}**: {words}", icon=":material/block:")
        elif line.level == "warn":
            st.warning(f"**{plain(line.field)}**: {words}", icon=":material/warning:")
    fine = [line for line in lines if line.level == "ok"]
    if fine:
        with st.expander(f"{len(fine)} checks passed", icon=":material/check:"):
            for line in fine:
                st.markdown(f"- **{plain(line.field)}**: {plain(sentence(line.words), 300)}")
    return any(line.level == "block" for line in lines)


def _start(run: RunConfig, blocked: bool, forecast: Any) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", key="launch_start"):
        seeds = st.number_input(
            "Seeds",
            1,
            MOST_SEEDS,
            1,
            key="launch.seeds",
            width=110,
            help="Queues the run so often, with seeds counting up from the one in the form",
        )
        pressed = st.button("Start", key="launch_go", type="primary", icon=":material/play_arrow:", disabled=blocked)
    if blocked:
        st.caption("Mend what is marked above first.")
    if not pressed or blocked:
        return
    with cards.guarded("The run could not be queued"):
        _submit(run, min(max(int(seeds), 1), MOST_SEEDS), forecast)


def _submit(run: RunConfig, seeds: int, forecast: Any) -> None:
    check_room(seeds)
    ids = []
    for at in range(seeds):
        name = f"{run.name} seed {run.train.seed + at}" if run.name and seeds > 1 else run.name
        train = run.train.model_copy(update={"seed": run.train.seed + at})
        seeded = run.model_copy(update={"train": train, "name": name[:200]})
        ids.append(worker().submit(seeded, facts=_foretold(forecast, first=at == 0)))
    remember(ids[0])
    remember_many(ids)
    st.switch_page("pages/live.py", query_params={"job": ids[0]})


def check_room(runs: int) -> None:
    """Raises UserError where so many more runs would make the queue too long."""
    if len(the_store().runs(states=["queued"])) + runs > MOST_QUEUED:
        raise UserError("queue", f"more than {MOST_QUEUED} runs would wait", "let some end, or cancel them on Live")


def _foretold(forecast: Any, first: bool) -> dict[str, Any]:
    """What the run will be measured against; later seeds find the teachers made and asked."""
    if forecast is None:
        return {}
    seconds = forecast.seconds - (0 if first else forecast.teacher_seconds)
    return {"predicted": {"seconds": seconds, "basis": forecast.basis}}
