"""Memory, device and versions."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.common.text import size


def show() -> None:
    from kdcore.engine import machine

    st.subheader("Device and versions", anchor=False)
    memory, gpu = machine.memory(), machine.gpu_memory()
    with st.container(horizontal=True, key="system_memory"):
        st.metric("Memory free", f"{size(memory.free)} of {size(memory.total)}", border=True, width="stretch")
        st.metric("This program", size(machine.own_memory()), border=True, width="stretch")
        if gpu is not None:
            st.metric("GPU memory free", f"{size(gpu.free)} of {size(gpu.total)}", border=True, width="stretch")
    facts = {"device": machine.device(), "versions": machine.versions()}
    for column, (name, values) in zip(st.columns(2), facts.items(), strict=True):
        table = pd.DataFrame(list(values.items()), columns=[name, ""])
        column.dataframe(table, hide_index=True, key=f"system_{name}", alt=name.capitalize(), height="content")
