"""Environment variables that the program reads."""

from __future__ import annotations

import os

import pandas as pd
import streamlit as st

from pages.parts.common.text import one_line

VARIABLES = {
    "KD_CACHE_DIR": "Where everything is written; by default the folder cache beside the program",
    "KD_GLUE_DIR": "A folder of GLUE: one sub-folder per task, parquet or the official TSV",
    "KD_DATABASE_URL": "A database other than SQLite in the cache, such as PostgreSQL",
    "KD_REMOTE": "Where computers without a common disk share teachers, their answers and runs, such as s3://bucket/kd",
    "KD_TEACHER_CACHE_GB": "Disk for teachers' outputs in GB; by default 4",
    "KD_WORKER": "off: this dashboard trains nothing; `kdcore work` does, here or elsewhere",
    "KD_READ_ONLY": "1: runs can be looked at, not started, changed or deleted",
    "HF_HOME": "The Hugging Face cache that is searched for models and data",
    "HF_HUB_OFFLINE": "1: the Hugging Face libraries never use the network",
    "OMP_NUM_THREADS": "Threads of torch on the processor",
    "CUDA_VISIBLE_DEVICES": "Which GPUs may be used; empty: none",
}
"""Environment variable -> what it decides."""

PUBLIC = (
    "KD_TEACHER_CACHE_GB",
    "KD_WORKER",
    "KD_READ_ONLY",
    "HF_HUB_OFFLINE",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
)
"""Those whose value is shown. Folders and URLs may contain a person's name or a password."""


def show() -> None:
    st.subheader("Environment", anchor=False)
    table = pd.DataFrame(
        [(name, _value(name), meaning) for name, meaning in VARIABLES.items()], columns=["variable", "now", "meaning"]
    )
    st.dataframe(table, hide_index=True, key="system_environment", alt="Environment variables", height="content")


def _value(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        return "not set"
    return one_line(value, 40) if name in PUBLIC else "set"
