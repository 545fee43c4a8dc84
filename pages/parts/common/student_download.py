"""The download of a student: the folder that `kdcore export` writes, as one file."""

from __future__ import annotations

from functools import partial

import streamlit as st

from kdcore.errors import UserError
from kdcore.export.folder import student_zip
from kdcore.runs.export import student_folder
from kdcore.store import Store


def student(store: Store, run: str, key: str) -> None:
    """A download of the run's best student, where it kept one. The file is made on the click."""
    try:
        folder = student_folder(store, run)
    except UserError:
        return
    megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    st.download_button(
        "Download the student",
        partial(student_zip, store, run),
        f"{run}.zip",
        "application/zip",
        key=key,
        icon=":material/download:",
        on_click="ignore",
        help=f"{megabytes:.1f} MB: weights (best by select), tokenizer and model card. Unpack it and open the folder "
        "with transformers: `pipeline('text-classification', FOLDER, truncation=True)`.",
    )
