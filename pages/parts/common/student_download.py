"""The download of a student: the Hugging Face folder that a run kept, as one file."""

from __future__ import annotations

from functools import partial

import streamlit as st

from kdcore.errors import UserError
from kdcore.runs.export import student_folder, student_zip
from kdcore.store import Store


def kept(store: Store, run: str) -> bool:
    """Whether the run's best student is on this disk."""
    try:
        return bool(student_folder(store, run))
    except UserError:
        return False


def student(store: Store, run: str, key: str, label: str = "Download the student") -> None:
    """A download of the run's best student, where it kept one. The file is made on the click."""
    if not kept(store, run):
        return
    folder = student_folder(store, run)
    megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    st.download_button(
        label,
        partial(student_zip, store, run),
        f"{run}.zip",
        "application/zip",
        key=key,
        icon=":material/download:",
        on_click="ignore",
        help=f"{megabytes:.1f} MB: weights, settings and tokenizer, best by select. Unpack it and open it with "
        "transformers' `AutoModelForSequenceClassification.from_pretrained`.",
    )
