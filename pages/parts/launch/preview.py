"""The part of the launch page that stands before the start: sizes, cost, checks and settings."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

import pandas as pd
import streamlit as st
import yaml

from kdcore.analysis.queue_times import queue_turns
from kdcore.config import RunConfig
from kdcore.figures.layers import describe_map, map_figure
from kdcore.layer_map import LayerMap
from pages.parts.common import cached, cards
from pages.parts.common.plot import plot
from pages.parts.common.run_picker import the_store
from pages.parts.common.text import amount, duration, plain, sentence, size
from pages.parts.launch import data_preview, start


def show(run: RunConfig) -> None:
    """Draws what this run would be, and the button that starts it."""
    settings = run.model_dump_json()
    report: Any = None
    with cards.guarded("The checks before the start failed"), st.spinner("Counting"):
        report = cached.preflight(settings)
        if report.forecast is not None:
            _cost(report.forecast)
        _lines(report.lines)
    start.show(run, report)
    with cards.guarded("These settings do not go together"):
        _sizes(cached.plan(settings))
    data_preview.show(run)
    with st.expander("Settings as YAML, and the command"):
        text = yaml.safe_dump(run.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
        st.code(text, language="yaml")
        st.caption("Save it as run.yaml; this command trains the same student:")
        outside = run.method_source and run.method_source.origin.endswith(".py")
        more = f" --method-file {shlex.quote(run.method_source.origin)}" if run.method_source and outside else ""
        st.code(f"python -m kdcore distil --file run.yaml{more}", language="bash")


def _sizes(plan: Any) -> None:
    """Layers, parameters and operations of student and teachers."""
    tokens, deployed = plan.config.train.max_length, plan.deployed_size
    sizes = {"student": plan.student_size}
    if deployed != plan.student_size:
        sizes["student as it runs"] = deployed
    sizes |= plan.teacher_sizes
    reference = cached.cost(deployed, tokens)[2]
    table = {}
    for name, model in sizes.items():
        parameters, words, flops = cached.cost(model, tokens)
        ratio = f"{flops / reference:.1f}×"
        table[name] = [f"{model.layers} × {model.width}", amount(parameters), f"{words:.0%}", amount(flops), ratio]
    names = ["layers × width", "parameters", "in word embeddings", f"FLOPs of {tokens} tokens", "against student"]
    st.dataframe(
        pd.DataFrame(table, index=names), key="launch_sizes", alt="Parameters and operations of student and teachers"
    )
    if plan.teacher_sizes:
        _layer_map(plan.layer_map, deployed.layers, next(iter(plan.teacher_sizes.values())).layers)


def _layer_map(layer_map: LayerMap, student: int, teacher: int) -> None:
    """Which layers are matched, as text and, where any are, as a picture. student, teacher: numbers of layers."""
    text = describe_map(layer_map)
    if layer_map:
        plot(map_figure(student, teacher, layer_map, cards.dark()), key="launch_map", alt=text)
    st.caption(f"{text} Layers count from 1, embeddings are 0.")


def _cost(forecast: Any) -> None:
    left, right = st.columns(2)
    seeds = start.seed_count()
    left.metric("Time" if seeds == 1 else f"Time for {seeds} seeds", duration(start.seconds_of(forecast, seeds)))
    right.metric("Steps", f"{forecast.steps}")
    left.metric("Memory", size(forecast.memory_bytes))
    right.metric("Disk", size(forecast.disk_bytes))
    of_teachers = duration(forecast.teacher_seconds)
    teachers = f" {of_teachers} of it make and ask the teachers." if forecast.teacher_seconds > 1 else ""
    st.caption(f"{_wait()}{plain(sentence(forecast.basis), 400)}{teachers}")


def _wait() -> str:
    """What is trained before this, as a sentence; empty where the device is free."""
    before = list(queue_turns(the_store()).values())
    if not before:
        return ""
    runs = f"{len(before)} run{'s' if len(before) > 1 else ''}"
    known = before[-1].ends == before[-1].ends
    return f"**Starts after {runs}{f', in about {duration(before[-1].ends)}' if known else ''}.** "


def _lines(lines: Iterable[Any]) -> None:
    """Draws the pre-flight lines."""
    for line in lines:
        text = " ".join(plain(sentence(part), 400) for part in (line.text, line.remedy))
        if line.level == "block":
            st.error(f"**{plain(line.field)}**: {text}", icon=":material/block:")
        elif line.level == "warn":
            st.warning(f"**{plain(line.field)}**: {text}", icon=":material/warning:")
    passed = [line for line in lines if line.level == "ok"]
    if passed:
        with st.expander(f"{len(passed)} checks passed", icon=":material/check:"):
            for line in passed:
                st.markdown(f"- **{plain(line.field)}**: {plain(sentence(line.text), 300)}")
