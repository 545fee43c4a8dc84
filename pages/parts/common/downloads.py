"""The two files of a table: CSV for spreadsheets, JSON with units, seeds and what the numbers are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.common.csv_file import csv_bytes
from pages.parts.common.json_file import json_bytes, with_units


def downloads(
    table: pd.DataFrame | Callable[[], pd.DataFrame],
    label: str,
    name: str,
    key: str,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Two buttons; the files are made on the click.

    Args:
        label: of what is downloaded. name: of the files, without their ending. key: of the buttons, without theirs.
        about: see `json_bytes`.
    """
    said = dict(about or {})

    def read() -> pd.DataFrame:
        return table() if callable(table) else table

    with st.container(horizontal=True):
        st.download_button(
            f"{label} (CSV)", lambda: csv_bytes(with_units(read(), said.get("units", {}))), f"{name}.csv", "text/csv",
            key=f"{key}csv", icon=":material/download:",
        )  # fmt: skip
        st.download_button(
            f"{label} (JSON)", lambda: json_bytes(read(), said), f"{name}.json", "application/json",
            key=f"{key}json", icon=":material/data_object:",
        )  # fmt: skip
