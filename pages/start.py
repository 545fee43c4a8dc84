"""Start: what this is, a demo that runs in a minute, and the last runs."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.runs import example
from kdcore.store import UNFINISHED
from kdcore.tasks import POCKET
from pages.parts.common import cards, shell, shipped_example
from pages.parts.common.keys import JOB, PART, RUNS, TOUR
from pages.parts.common.read_only import action, read_only
from pages.parts.common.run_labels import run_label
from pages.parts.common.run_picker import the_store
from pages.parts.common.selection import remember, remember_many
from pages.parts.common.sidebar import worker
from pages.parts.common.text import hundredfold, metric_title, plain
from pages.parts.start import diagram, tour

LAST_RUNS = 5


def main() -> None:
    text, picture = st.columns([4, 5], gap="medium", vertical_alignment="center")
    with text:
        st.title("KDBoard", anchor=False)
        st.markdown(
            "#### A small student model learns from large teachers. "
            "See what you gain with each distillation method: quality against speed."
        )
    picture.image(diagram.idea(cards.dark()), width="stretch", alt=diagram.DESCRIPTION)
    runs = the_store().runs()
    if not runs.empty:
        with text:
            _link("start", "Take the tour", "explore", {TOUR: "1"})
    elif tour.number() is None:
        tour.overview()
    for cards_row in (
        ((_example, _compare, _learn),) if read_only() else ((_example, _demo, _train), (_compare, _learn))
    ):
        for card, column in zip(cards_row, st.columns(len(cards_row)), strict=True):
            with column.container(border=True, height="stretch"):
                card()
    with cards.guarded("The last runs cannot be shown"):
        st.subheader("Last runs", anchor=False)
        if runs.empty:
            cards.empty("**No runs yet.** Start the demo or launch a run.")
        last = runs.head(LAST_RUNS)
        rows = the_store().rows(list(last["id"]))
        for _, row in last.iterrows():
            _row(row, rows[row["id"]].facts.get("partial"))


def _example() -> None:
    st.markdown("##### A finished example")
    st.markdown(
        "Real runs, already trained: alone, with KD, which does not help here, and with TinyBERT, which does. Three "
        "seeds each, and the runs of six lessons."
    )
    cards.badges(next(iter(POCKET)))
    if ids := example.example_runs(the_store()):
        query = {RUNS: ",".join(ids)}
        _link("compare", "Open the example", "folder_open", query)
    elif action("Open the example", key="start_example", type="primary", icon=":material/folder_open:"):
        with cards.guarded("The example cannot be opened"):
            _open_example()
    about = example.about()
    st.caption(
        f"Recorded with KDBoard {about['kdcore']} on {about['hardware']}, {about['cores']} cores, {about['recorded']}."
    )


def _open_example() -> None:
    ids = shipped_example.open_here(the_store())
    st.switch_page("pages/compare.py", query_params={RUNS: ",".join(ids)})


def _demo() -> None:
    st.markdown("##### One-minute demo")
    st.markdown(
        "One small student learns in three ways: alone, from its teacher's answers (KD), and from its layers, too "
        "(TinyBERT). No GPU needed."
    )
    cards.badges(next(iter(POCKET)))
    if action("Start the demo", key="start_demo", icon=":material/play_arrow:"):
        with cards.guarded("The demo cannot start"):
            _queue_demo()


def _train() -> None:
    st.markdown("##### Train a student")
    st.markdown("Choose task, teachers, size and method. Time and memory are estimated before you press Start.")
    _link("launch", "Launch a run", "rocket_launch")


def _compare() -> None:
    st.markdown("##### Compare methods")
    st.markdown("Curves, final scores over seeds, quality against latency, layer by layer and head by head.")
    _link("compare", "Compare runs", "stacked_line_chart")


def _learn() -> None:
    st.markdown("##### Learn")
    st.markdown("Each method as picture, equation and text; a temperature slider; lessons with questions.")
    _link("learn", "Open the lessons", "school", {PART: "Lessons"})


def _link(page: str, label: str, icon: str, query: dict[str, str] | None = None) -> None:
    with st.container(key=f"link_{icon}"):
        st.page_link(f"pages/{page}.py", label=label, icon=f":material/{icon}:", query_params=query)


def _row(row: pd.Series, partial: str | None) -> None:
    run = row["id"]
    score = row["score"]
    with st.container(horizontal=True, vertical_alignment="center", key=f"last_{run}"):
        st.page_link(
            "pages/live.py", label=plain(run_label(row)), icon=":material/monitoring:", query_params={JOB: run}
        )
        if score == score:
            st.caption(f"{hundredfold(score)} {metric_title(row['metric'])}, dev, one seed", width="content")
        cards.badges(row["task"], partial)


def _queue_demo() -> None:
    from kdcore.runs.demo import demo_runs

    store = the_store()
    waiting = store.runs(states=UNFINISHED)
    if len(waiting) > 20:
        st.warning("More than 20 runs are already waiting; let some finish first.")
        return
    ids = [worker().submit(run) for run in demo_runs()]
    remember_many(ids)
    remember(ids[0])
    st.switch_page("pages/live.py", query_params={JOB: ids[0], RUNS: ",".join(ids)})


shell.show(main)
