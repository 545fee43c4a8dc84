"""In what else than the method two runs differ, from their settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdcore import identity
from kdcore.config import RunConfig
from kdcore.formatting import listed, start_text
from kdcore.methods.catalog import catalog


def differing_topics(first: RunConfig, second: RunConfig) -> dict[str, str]:
    """Topic -> in what the two differ: `epochs 1 against 2`.

    Topics are those of `identity.protocol`, and base and teachers where both have some.
    """
    mine, theirs = identity.protocol(first), identity.protocol(second)
    topics = {topic: _against(mine[topic], theirs[topic]) for topic in mine if mine[topic] != theirs[topic]}
    starts = [start_text(config.student.model_dump()) for config in (first, second)]
    if "start" in topics and starts[0] != starts[1]:
        topics["start"] = " against ".join(starts)
    bases = [identity.base(config) for config in (first, second)]
    if all(bases) and bases[0] != bases[1] and "start" not in topics:
        topics["base"] = f"{bases[0]} against {bases[1]}"
    asked = [identity.teachers(config) if _distils(config) else {} for config in (first, second)]
    if all(asked) and sorted(asked[0].values()) != sorted(asked[1].values()):
        topics["teachers"] = " against ".join(_names(ours, others) for ours, others in (asked, asked[::-1]))
    return topics


def _distils(config: RunConfig) -> bool:
    """Whether the run asks its teachers; training alone may name one, whose vocabulary or weights it starts from."""
    info = catalog().get(config.method)
    return info is None or info.family != "none"


def _against(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """`epochs 1 against 2, lr 0.001 against 0.01`."""
    names = [name for name in [*first, *second] if first.get(name) != second.get(name)]
    return listed(
        (f"{name} {_plain(first.get(name))} against {_plain(second.get(name))}" for name in dict.fromkeys(names)), 4
    )


def _names(teachers: Mapping[str, str], others: Mapping[str, str]) -> str:
    """The teachers by name; where a name stands for another one on the other side, with what it is."""
    return listed(
        (f"{name} ({value})" if others.get(name, value) != value else name for name, value in teachers.items()), 4
    )


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items() if part is not None)
    return "none" if value is None else str(value)
