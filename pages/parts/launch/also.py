"""The part of the launch form where the other tasks of a run are chosen."""

from __future__ import annotations

import streamlit as st

from kdcore.methods import Method
from kdcore.tasks import TASKS, Task
from pages.parts.common import cached

KEY = "launch.also"


def choose(task: Task, method: type[Method]) -> list[str]:
    """Draws the choice where the method learns several tasks; their keys. It starts with as many as that needs."""
    fewest, most = method.other_tasks
    if not most:
        return []
    keys = others(task)
    before = st.session_state.get(KEY, keys[:fewest])
    st.session_state[KEY] = [key for key in before if key in keys]
    if absent := [TASKS[key].title for key in before if key in TASKS and key not in keys and key != task.key]:
        st.warning(f"Left out, since their data are not here: {', '.join(absent)}.", icon=":material/warning:")
    chosen: list[str] = st.multiselect(
        "Other tasks", keys, key=KEY, persist_state="session", max_selections=most,
        format_func=lambda key: f"{TASKS[key].title} · {TASKS[key].kind}", placeholder="Choose what it also learns",
        help="Each brings its rows, and the teacher is fine-tuned on it too. Only the task above is scored",
    )  # fmt: skip
    return chosen


def others(task: Task) -> list[str]:
    """Keys of the tasks whose data are here, less this one; those of its own suite first."""
    here = cached.tasks_here()
    keys = [key for key in TASKS if key != task.key and here[key].ok]
    return sorted(keys, key=lambda key: TASKS[key].suite != task.suite)
