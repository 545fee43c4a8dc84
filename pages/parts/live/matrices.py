"""What the method reads out for each pair of a student's and a teacher's layer, as heat maps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kdcore.figures import layers
from kdcore.store import RunRow, Store
from pages.parts.common import cards
from pages.parts.common.text import plain


def show(store: Store, row: RunRow) -> None:
    probe: Mapping[str, Any] = store.probes(row.id).get("matrices", {})
    read = probe.get("matrices", {})
    if not read:
        return
    st.subheader("Student layer by teacher layer", anchor=False)
    for (name, values), column in zip(read.items(), st.columns(max(2, len(read))), strict=False):
        with column:
            cards.figure(
                partial(layers.read_out, name, values, cards.dark()),
                f"live_matrix_{name}",
                f"{plain(name.replace('_', ' ')).capitalize()} at step {probe['step']}.",
                data=partial(_table, name, values),
                follows=row.id,
            )


def _table(name: str, values: Any) -> pd.DataFrame:
    """One row a pair of layers."""
    matrix = np.asarray(values, dtype=np.float64)
    rows = [(student + 1, teacher + 1, matrix[student, teacher]) for student, teacher in np.ndindex(*matrix.shape)]
    return pd.DataFrame(rows, columns=["student layer", "teacher layer", name])
