"""What a run would be, before it is started: its plan and its pre-flight. Kept for a while, by settings."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st

from kdcore.config import OWN_FILES, OwnData, RunConfig
from kdcore.models import count
from kdcore.records import ModelSize

Stamps = tuple[Any, ...]


def plan(settings: str) -> Any:
    """The `Plan` of the run with these settings (JSON). What it says of itself raises UserError where it cannot be."""
    return _plan(settings, _stamps(json.loads(settings).get("own")))


@st.cache_resource(max_entries=8, ttl=60, show_spinner=False)
def _plan(settings: str, stamps: Stamps) -> Any:
    from kdcore.engine.plan import Plan

    return Plan(RunConfig.model_validate_json(settings), _load)


def preflight(settings: str) -> Any:
    """Pre-flight lines (level, field, text, remedy), and the forecast: seconds, memory, disk, steps and its basis."""
    return _preflight(settings, _stamps(json.loads(settings).get("own")))


@st.cache_data(max_entries=64, ttl=60, show_spinner=False)
def _preflight(settings: str, stamps: Stamps) -> Any:
    from kdcore.engine.preflight import check

    return check(plan(settings))


def rows(task: str, own: str | None) -> Any:
    """The task's rows, as the files are now. own: the settings of a person's own table, as JSON."""
    return _rows(task, own, _stamps(json.loads(own) if own else None))


@st.cache_resource(max_entries=2, show_spinner=False)
def _rows(task: str, own: str | None, stamps: Stamps) -> Any:
    from kdcore.data import load

    return load(task, OwnData.model_validate_json(own) if own else None)


def _stamps(own: Any) -> Stamps:
    """When the files of an own table were written, and their sizes: what is kept is theirs only."""
    stamps = []
    for name in OWN_FILES:
        with suppress(OSError, ValueError, TypeError):
            stat = Path((own or {}).get(name) or "").expanduser().stat()
            stamps.append((stat.st_mtime_ns, stat.st_size))
    return (os.environ.get("KD_GLUE_DIR", ""), *stamps)


def _load(task: str, own: OwnData | None) -> Any:
    return rows(task, own.model_dump_json() if own else None)


@st.cache_data(ttl=20, show_spinner=False)
def tasks_here() -> dict[str, Any]:
    """Task -> whether its rows are on this machine."""
    from kdcore.data import availability

    return availability()


@st.cache_data(ttl=60, show_spinner=False)
def packages() -> list[str]:
    """Installed packages that carry a pretrained model."""
    from kdcore.models.sources import installed_packages

    return list(installed_packages())


def cost(size: ModelSize, tokens: int) -> tuple[int, float, int]:
    """Parameters, their share in the table of words, and operations of one forward pass over one row."""
    weights = count.parameters(size)
    return weights.total, weights.word_share, count.flops(size, tokens)
