"""The downloads of a student: the folder that `kdcore export` writes, as one file, and its ONNX files."""

from __future__ import annotations

from functools import partial

import streamlit as st

from kdcore.errors import UserError
from kdcore.export.folder import student_zip
from kdcore.runs.export import student_folder
from kdcore.store import Store
from pages.parts.common import onnx_download


def kept(store: Store, run: str) -> bool:
    """Whether the run's best student is on this disk."""
    try:
        return bool(student_folder(store, run))
    except UserError:
        return False


def student(store: Store, run: str, key: str, label: str = "Download the student") -> None:
    """Downloads of the run's best student, where it kept one: the folder, packed on the click, and ONNX files."""
    if not kept(store, run):
        return
    folder = student_folder(store, run)
    megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    st.download_button(
        label,
        partial(packed, store, run),
        f"{run}.zip",
        "application/zip",
        key=key,
        icon=":material/download:",
        on_click="ignore",
        help=f"{megabytes:.1f} MB: weights (best by select), tokenizer and model card. Unpack it and open the folder "
        "with transformers: `pipeline('text-classification', FOLDER, truncation=True)`.",
    )
    onnx_download.show(store, run, key)


def packed(store: Store, run: str) -> bytes:
    """The student as a zip file, or one with the reason why it cannot be published."""
    return onnx_download.or_reason(run, partial(student_zip, store, run))
