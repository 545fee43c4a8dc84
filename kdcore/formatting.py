"""Numbers, names and settings as text, for pages, reports, lists and files. Nothing here reads or writes markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kdcore.config import RunConfig
from kdcore.tasks import METRICS, TASKS

_BREAKS = re.compile(r"[\r\n\t\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]+")


def one_line(text: object, longest: int = 80) -> str:
    """Text for places that read no markup (tables, list boxes): one line, not too long."""
    words = _BREAKS.sub(" ", str(text)).strip()
    return words if len(words) <= longest else f"{words[: longest - 1]}…"


def sentence(text: object) -> str:
    """Words of ours as a sentence: a capital first, a full stop last."""
    words = str(text).strip()
    if not words:
        return ""
    return f"{words[0].upper()}{words[1:]}{'' if words[-1] in '.!?' else '.'}"


_LAYERS = {"first": "first", "last": "last", "skip": "spread"}


def start_text(student: Mapping[str, Any]) -> str:
    """Where a student's weights come from, of its settings.

    >>> start_text({"init": "random", "init_layers": "first"}), start_text({"init": "teacher", "init_layers": "skip"})
    ('random start', 'spread layers of the teacher')
    """
    init, layers = student.get("init"), student.get("init_layers")
    if init == "random":
        return "random start"
    if isinstance(layers, list | tuple):
        chosen = f"layers {', '.join(map(str, layers))}"
    else:
        chosen = f"{_LAYERS.get(str(layers), layers)} layers"
    return f"{chosen} of the {init}"


def data_text(data: Mapping[str, Any], taught: bool = True) -> str:
    """What is wrong with a run's training data, of its settings; empty where nothing is.

    taught: whether the run has teachers, so that it matters what they learned from.

    >>> data_text({"label_fraction": 0.1, "label_noise": 0.2, "noise_kind": "uniform", "imbalance": 1.0})
    '10 % of the labels, 20 % of the labels wrong (uniform), teachers on the same'
    """
    parts = []
    if (imbalance := data.get("imbalance", 1)) < 1:
        parts.append(f"rarest class {100 * imbalance:g} % of the most frequent")
    if (fraction := data.get("label_fraction", 1)) < 1:
        parts.append(f"{100 * fraction:g} % of the labels")
    if noise := data.get("label_noise", 0):
        parts.append(f"{100 * noise:g} % of the labels wrong ({data.get('noise_kind', 'uniform')})")
    if parts and taught:
        parts.append("teachers on clean rows" if data.get("teacher_data") == "clean" else "teachers on the same")
    if data.get("unlabelled") == "leave out":
        parts.append("rows without a label left out")
    return ", ".join(parts)


def duration(seconds: float | None) -> str:
    """Seconds for people: `4 s`, `2 min 10 s`, `1 h 05 min`; a dash where unknown."""
    if seconds is None or seconds != seconds:
        return "–"
    whole = round(seconds)
    if whole < 1:
        return "< 1 s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float | None) -> str:
    """Bytes for people, in powers of 1024."""
    if count is None or count != count:
        return "–"
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def amount(count: float | None) -> str:
    """A large count: `4.4 M`, `12.3 k`."""
    if count is None or count != count:
        return "–"
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f}"


def hundredfold(score: float | None, digits: int = 1) -> str:
    """A stored fraction as GLUE shows it, times 100."""
    return "–" if score is None or score != score else f"{100 * score:.{digits}f}"


def task_title(key: str) -> str:
    """A task's name on the screen, of an own table that of its file; an unknown key stays itself.

    >>> task_title("mrpc"), task_title("own:films.csv:1a2b3c"), task_title("own")
    ('MRPC', 'films.csv', 'Own data')
    """
    if key.startswith(OWN):
        return one_line(task_name(key).removeprefix(OWN), 40)
    return TASKS[key].title if key in TASKS else ("Own data" if key == "own" else one_line(key, 40))


OWN = "own:"


def task_name(key: str) -> str:
    """A task's key for the command line; of an own table without the digits that tell two tables of one name apart.

    >>> task_name("mrpc"), task_name("own:films.csv:1a2b3c")
    ('mrpc', 'own:films.csv')
    """
    return key.rsplit(":", 1)[0] if key.startswith(OWN) else key


def metric_title(metric: str) -> str:
    return METRICS.get(metric, one_line(metric, 40))


def metric_label(metric: str, classes: Sequence[str]) -> str:
    """A metric's key for the command line; of F1 also whose it is.

    classes: names in the order of their numbers; empty where they are not known.

    >>> metric_label("f1", ["fake", "real"]), metric_label("f1", ["a", "b", "c"]), metric_label("accuracy", ["a", "b"])
    ("f1 (of the class 'real')", 'f1 (mean over 3 classes)', 'accuracy')
    """
    if metric != "f1" or not classes:
        return metric
    if len(classes) == 2:
        return f"f1 (of the class {one_line(classes[1], 40)!r})"
    return f"f1 (mean over {len(classes)} classes)"


def listed(words: Iterable[str], limit: int = 4) -> str:
    """`a, b and 3 more`."""
    everything = list(words)
    shown = ", ".join(everything[:limit])
    return shown if len(everything) <= limit else f"{shown} and {len(everything) - limit} more"


def options_label(run: RunConfig) -> str:
    """The method's settings in a list's cell: "temperature=4, alpha=0.5"."""
    return ", ".join(f"{name}={value}" for name, value in sorted(run.options.items()))


def option_text(value: object) -> str:
    """A setting's value for people.

    >>> option_text(500.0), option_text(False), option_text(""), option_text(0.05)
    ('500', 'off', 'none', '0.05')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value in (None, "") else str(value)


def student_label(run: RunConfig) -> str:
    """The student in a list's cell: "3 layers", "4 x 128", "3 layers, 4,928 subword tokens"."""
    student = run.student
    label = f"{student.layers} x {student.width}" if student.width else f"{student.layers} layers"
    label = label if student.form == "plain" else f"{label}, {student.form}"
    return f"{label}, {subword_tokens(student.vocabulary)}" if student.vocabulary else label


def subword_tokens(count: int) -> str:
    """The size of a vocabulary for people.

    >>> subword_tokens(4928)
    '4,928 subword tokens'
    """
    return f"{count:,} subword tokens"


def init_label(run: RunConfig) -> str:
    """Where the student's weights come from: "base/first", "teacher/skip", "teacher/2,4", "random"."""
    student = run.student
    if student.init == "random":
        return "random"
    layers = student.init_layers
    return f"{student.init}/{layers if isinstance(layers, str) else ','.join(map(str, layers))}"
