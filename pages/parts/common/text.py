"""Text on the screen. Text that a person typed passes through `plain` before it meets anything that reads Markdown."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from kdcore.formatting import (
    amount,
    duration,
    hundredfold,
    listed,
    metric_title,
    one_line,
    sentence,
    size,
    task_title,
)
from kdcore.process import node as this_node
from kdcore.tasks import TASKS, Task

_LINK = re.compile(r"(?i)(https?:|ftp:|xmpp:|mailto:|www)(?=[/.\w])|(?<=[\w+.\-])(?=@)")
"""Where Markdown would begin a link without any mark: after a scheme or "www", and before the @ of an address."""

_JOINER = "\u2060"
"""Takes no room on the screen, and no link goes on over it."""

_MARKS = re.compile(r"([!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~])")

DAYS_FROM = 36 * 3600
"""Seconds from which a past is told in days."""

MAX_CHARACTERS = 600
"""Of a typed sentence."""

__all__ = [
    "MAX_CHARACTERS",
    "ago", "amount", "duration", "hundredfold", "listed", "metric_title", "one_line", "plain", "sentence", "size",
    "task_of", "task_title", "time_left",
]  # fmt: skip


def plain(text: object, longest: int = 200) -> str:
    """Text that Markdown shows letter by letter: no link, colour, formula, icon, line break or direction change."""
    return _MARKS.sub(r"\\\1", _LINK.sub(rf"\g<0>{_JOINER}", one_line(text, longest)))


def ago(moment: datetime | float | str | None) -> str:
    """How long ago a moment was (a datetime, ISO text or seconds since 1970, UTC)."""
    if moment is None or moment != moment:
        return "–"
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if isinstance(moment, datetime):
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    past = datetime.now(UTC).timestamp() - float(moment)
    if past < 5:
        return "just now"
    days = round(past / 86_400)
    return f"{duration(past)} ago" if past < DAYS_FROM else f"{days} days ago"


def time_left(seconds: float | None) -> str:
    """A forecast for people: `about 2 min 10 s left`, `almost done`; empty where there is none."""
    if seconds is None or seconds != seconds:
        return ""
    return "almost done" if seconds < 1.5 else f"about {duration(seconds)} left"


def task_of(key: str) -> Task | None:
    return TASKS.get(key)


def place(device: str, node: str) -> str:
    """Where a run is trained: its device, and the computer where that is another one than this."""
    return f"{device or '–'} of {node}" if node and node != this_node() else device or "–"
