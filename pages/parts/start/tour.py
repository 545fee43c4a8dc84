"""A tour in five steps, from the finished example to a run of one's own: `?tour=2` is its second step."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from kdcore.paths import run_dir
from kdcore.runs import example
from kdcore.store import Store
from pages.parts.common import cards, shipped_example
from pages.parts.common.keys import JOB, LESSON, RUNS, TOUR
from pages.parts.common.menu import ONE_RUN, PAGES
from pages.parts.common.read_only import action, read_only
from pages.parts.common.run_picker import the_store


@dataclass(frozen=True)
class Step:
    """page: its key. text: what to do or look at there, one sentence."""

    page: str
    title: str
    text: str


STEPS = (
    Step("start", "A finished example", "Open runs that are already trained: nothing to install, nothing to wait for."),
    Step("compare", "Does it help?", "The box on top says which method is ahead, by how much, and how sure that is."),
    Step("layers", "Why: layers", "Bright cells: a student layer that holds what a teacher layer holds. Outlined: "
         "pairs that the method matched."),
    Step("attention", "Why: attention", "Teacher, student and their difference on one sentence: where does each look?"),
    Step("launch", "Your own student", "Choose a method and a size; time and memory are estimated before you start."),
)  # fmt: skip
INSTEAD = Step("learn", "The methods", "Each method as picture, equation and text, from soft targets to attention.")
"""Of the last step where nothing may be started."""


def steps() -> tuple[Step, ...]:
    return (*STEPS[:-1], INSTEAD) if read_only() else STEPS


def number() -> int | None:
    """The step that the address names, from 1, or None. A value that is no step is taken out of the address."""
    typed = st.query_params.get(TOUR)
    if typed is None or LESSON in st.query_params:
        return None
    if not (typed.isdecimal() and len(typed) < 3 and 1 <= int(typed) <= len(steps())):
        del st.query_params[TOUR]
        return None
    return int(typed)


def overview() -> None:
    """All steps, each a link: for a store that holds nothing yet."""
    with st.container(border=True, key="tour_overview"):
        st.markdown("**New here?** Five steps, about three minutes.")
        store = the_store()
        for place, (at, step) in zip(st.columns(len(steps())), enumerate(steps(), start=1), strict=True):
            with place:
                link(store, at, f"{at}. {step.title}")
                st.caption(step.text)


def bar(page: str) -> None:
    """The tour's step, on top of the page. page: key of the one that is shown.

    A page of the tour shows its own step, however a person came there: Streamlit may bring the last page's number along
    where Back is pressed. Elsewhere the step that the address names leads back into the tour.
    """
    at = number()
    if at is None:
        return
    at = next((own for own, step in enumerate(steps(), start=1) if step.page == page), at)
    with cards.guarded("The tour cannot be shown"):
        st.query_params[TOUR] = str(at)  # a link to the page one is on does not change the browser's address
        step, store = steps()[at - 1], the_store()
        with st.container(border=True, key="tour_bar"):
            st.markdown(f":material/explore: **Tour, step {at} of {len(steps())}: {step.title}** {step.text}")
            with st.container(horizontal=True, vertical_alignment="center", gap="small", key="tour_links"):
                if step.page != page:
                    link(store, at, f"Go to {PAGES[step.page][0]}", ":material/subdirectory_arrow_right:")
                _forward(store, at)
                if at > 1:
                    link(store, at - 1, "Previous", ":material/arrow_back:")
                # a link to the page one is on would leave the browser's address as it is
                st.button("Leave the tour", key="tour_leave", icon=":material/close:", type="tertiary", on_click=_leave)


def _forward(store: Store, at: int) -> None:
    """To the next step; from the first one by opening the example, where it is not yet."""
    if at == len(steps()):
        return
    if at == 1 and not example.example_runs(store) and store.runs().empty:
        if action("Open the example and go on", key="tour_example", type="primary", icon=":material/folder_open:"):
            with cards.guarded("The example cannot be opened"):
                ids = shipped_example.open_here(store)
                st.switch_page("pages/compare.py", query_params={TOUR: "2", RUNS: ",".join(ids)})
        return
    link(store, at + 1, f"Next: {steps()[at].title}", ":material/arrow_forward:")


def link(store: Store, at: int, label: str, icon: str | None = None) -> None:
    """A link to a step."""
    page = steps()[at - 1].page
    st.page_link(f"pages/{page}.py", label=label, icon=icon, query_params=_query(store, at), width="content")


def _query(store: Store, at: int) -> dict[str, str]:
    """A step's address: its runs are the chosen ones, else the example's; about one run, the best of them."""
    page, query = steps()[at - 1].page, {TOUR: str(at)}
    asked = [run for run in st.query_params.get(RUNS, "").split(",") if run]
    ids = asked or st.session_state.get(RUNS) or example.example_runs(store)
    if page == "compare" and ids:
        query[RUNS] = ",".join(ids)
    if page in ONE_RUN:
        runs = store.runs()
        best = _best(runs[runs["id"].isin(ids) & (runs["state"] == "done") & (runs["teachers"] != "")])
        query |= {JOB: best} if best else {}
    return query


def _best(runs: pd.DataFrame) -> str | None:
    """Of the method of the best mean score a run whose student is still there, so that it can be looked into."""
    means = runs.groupby("method")["score"].mean().dropna()
    if means.empty:
        return None
    ids = [str(run) for run in runs.loc[runs["method"] == means.idxmax(), "id"]]
    return next((run for run in ids if (run_dir(run) / "student-best").is_dir()), ids[0])


def _leave() -> None:
    st.query_params.pop(TOUR, None)
