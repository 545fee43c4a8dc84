"""When are two runs the same? The only place that answers: for lists, comparisons, sweeps, reports and lessons.

Four questions, from the strictest to the loosest:

* the same run: `config_hash`, equal settings but for the name a person gave. A sweep skips such a run.
* the same group: `group_key`, the same student but for chance. Its runs differ in the seed and in `NEUTRAL` settings.
* the same protocol: `protocol_key`, what a fair comparison of two methods holds fixed (data, size, start, training).
* a pair: `environment`, one version on one machine; only such runs of one seed share data order, weights and rounding.

Settings name rows and models by their place. Whether what stood there was the same is told by `content`: runs of one
group that saw other rows, or other weights, are set apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from kdcore.config import RunConfig, TeacherSpec

NEUTRAL: dict[str, str] = {
    "name": "what a person calls the run",
    "probes": "measured beside the training, from which it draws nothing at random",
    "method_source.origin": "what the method's file is called; its source counts",
    "train.device": "where the work is done; a pair of runs is taken within one machine",
    "train.threads": "how many cores share the work; sums are rounded in another order",
    "train.log_every": "which steps are written down",
    "train.checkpoint_every": "how often an interruption can be resumed from",
    "train.teacher_cache": "a frozen teacher gives the same outputs, stored or computed again",
    "train.accumulate": "a batch in parts has the gradient of the whole; only rounding and dropout masks differ",
}
"""Setting -> why two runs that differ in it are repeats of one another."""

LATER: dict[str, object] = {
    "also": [],
    "student.form": "plain",
    "student.vocabulary": None,
    "probes.saliency": False,
    "own.unlabelled_path": None,
    "own.domain": None,
}
"""Setting that came when runs had been kept without it -> what it was in them; so did the data's (`damage_of`)."""

LATER_OPTIONS: dict[str, dict[str, object]] = {
    "mix": {f"{term}_weight": 0.0 for term in ("hint", "transfer", "similarity", "distance", "angle")},
}
"""Method -> its options that came when runs had been kept without them -> what they were in those."""

SEED = "train.seed"

_ABSENT = object()
_DAMAGE = {"label_fraction": 1.0, "label_noise": 0.0, "imbalance": 1.0}
"""Settings of the data that change rows or labels -> what they are where nothing is wrong."""


class Environment(NamedTuple):
    """What else a repeatable number depends on. Empty where a run has not said it (not started, or an old one)."""

    version: str
    machine: str


class Content(NamedTuple):
    """What the settings' names stood for. Empty where a run has not said it: not started, or of version 0.1.0."""

    rows: str
    models: str


def config_hash(config: RunConfig) -> str:
    """The same run: sha256 over everything that defines the student; its name and the method file's name do not.

    Nor do `LATER` settings at the value that runs before them had: a sweep still finds those runs.
    """
    exclude: dict[str, Any] = {"name": True, "method_source": {"origin"} if config.method_source else True}
    return _digest(_as_before(config.model_dump(mode="json", exclude=exclude)))


def _as_before(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings less the later ones that are as they were before, and of the data what changes something."""
    told = dict(settings)
    for path, before in LATER.items():
        told = _less(told, path, before)
    if later := LATER_OPTIONS.get(told.get("method", "")):
        options = told.get("options", {}).items()
        told["options"] = {name: value for name, value in options if later.get(name, _ABSENT) != value}
    damage = damage_of(told.pop("data", {}))
    return told | ({"data": damage} if damage else {})


def _less(settings: Mapping[str, Any], path: str, before: object) -> dict[str, Any]:
    """Nested settings without the one at this path, where it is what it was before."""
    name, _, rest = path.partition(".")
    told, value = dict(settings), settings.get(name, _ABSENT)
    if rest and isinstance(value, Mapping):
        told[name] = _less(value, rest, before)
    elif not rest and value == before:
        del told[name]
    return told


def damage_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the data that change something; empty where nothing is wrong with the rows.

    Rows without a label can also come with an own table, so leaving them out always counts.

    >>> damage_of({"label_noise": 0.2, "noise_kind": "uniform", "seed": 1, "teacher_data": "same"})
    {'label_noise': 0.2, 'noise_kind': 'uniform', 'seed': 1}
    """
    damage = {name: data[name] for name, clean in _DAMAGE.items() if data.get(name, clean) != clean}
    left = {"unlabelled": "leave out"} if data.get("unlabelled") == "leave out" else {}
    if not damage:
        return left
    kind = {"noise_kind": data["noise_kind"]} if "label_noise" in damage else {}
    clean_teachers = {"teacher_data": "clean"} if data.get("teacher_data") == "clean" else {}
    return damage | kind | {"seed": data["seed"]} | clean_teachers | left


def group_key(config: RunConfig) -> str:
    """The same student but for the seed: 10 hex digits.

    >>> from kdcore.config import RunConfig
    >>> first = RunConfig(task="mrpc", method="kd", name="first")
    >>> again = RunConfig(task="mrpc", method="kd", train={"seed": 1, "log_every": 5})
    >>> group_key(first) == group_key(again)
    True
    """
    return _digest(essential(config.model_dump(mode="json")))[:10]


def protocol_key(config: RunConfig) -> str:
    """Equal where nothing but method, teachers and seed differs: same data, size, start and training. 12 hex digits."""
    return _digest([content for _, content in sorted(protocol(config).items())])[:12]


def essential(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The flat settings that make a student what it is: all but the seed and `NEUTRAL` ones.

    A shipped method has no source to tell, a plain student no form, and whole data no damage.
    """
    settings = _as_before(settings)
    aside = (SEED, *NEUTRAL, *([] if settings.get("method_source") else ["method_source"]))
    parts = tuple(f"{name}." for name in aside)
    return {key: value for key, value in flatten(settings).items() if key not in aside and not key.startswith(parts)}


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `train.lr` -> value; lists of settings get an index: `teachers[0].where`."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        elif isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            for index, item in enumerate(value):
                flat.update(flatten(item, f"{name}[{index}]."))
        else:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat


def protocol(config: RunConfig) -> dict[str, dict[str, Any]]:
    """What a fair comparison holds fixed, by topic: data, size, start, length (steps) and training; flat settings.

    >>> sorted(protocol(RunConfig(task="mrpc", method="kd")))
    ['data', 'size', 'start', 'steps', 'training']
    """
    train = essential({"train": config.train.model_dump(mode="json")})
    names = {"data": _DATA, "steps": _STEPS}
    topics = {topic: {key: train.pop(f"train.{key}") for key in keys} for topic, keys in names.items()}
    read = config.own and config.own.model_dump(mode="json", exclude={"domain"})  # a matter of the method
    own = _as_before({"own": read})["own"]
    size = config.student.model_dump(mode="json", include={"layers", "width", "heads", "intermediate"})
    if config.student.form != "plain":
        size["form"] = config.student.form
    if config.student.vocabulary:
        size["vocabulary"] = config.student.vocabulary
    if config.student.width is None or config.student.heads is None:
        size["as"] = _model(_reference(config))
    damage = damage_of(config.data.model_dump(mode="json"))
    damage.pop("teacher_data", None)  # a matter of the teachers
    damage.pop("unlabelled", None)  # a matter of the method: fine-tuning alone never reads such rows
    also = {"also": list(config.also)} if config.also else {}
    return {
        "data": {"task": config.task, **topics["data"]} | also | ({"own": own} if own else {}) | damage,
        "size": size,
        "start": _start(config),
        "steps": topics["steps"],
        "training": {key.removeprefix("train."): value for key, value in train.items()},
    }


_DATA = ("max_length", "max_train_rows", "select_fraction")
_STEPS = ("epochs", "max_steps", "batch_size", "early_stop")


def teachers(config: RunConfig) -> dict[str, str]:
    """Name -> who teaches, as `source:where` and how it was made here; without what only this machine calls it.

    >>> teachers(RunConfig(task="mrpc", method="fine-tune"))
    {}
    """
    clean = damage_of(config.data.model_dump(mode="json")).get("teacher_data")
    rows = {"rows": clean} if clean else {}
    settings = ((spec.name, spec.model_dump(mode="json", exclude={"name"})) for spec in config.teachers)
    return {name: json.dumps(values | rows, sort_keys=True) for name, values in settings}


def base(config: RunConfig) -> str | None:
    """Whose tokenizer and vocabulary a student has; None where the task's own (pocket tasks), or where it is not said.

    >>> base(RunConfig(task="mrpc", method="fine-tune")) is None
    True
    """
    spec = _reference(config)
    return None if spec is None or spec.source == "pocket" else _model(spec)


def _start(config: RunConfig) -> dict[str, Any]:
    """Where the student's weights come from. The base of a run without a teacher is that of another's teacher."""
    student = config.student
    start: dict[str, Any] = {"init": student.init}
    if student.init == "random":
        return start
    start["init_layers"] = student.model_dump(mode="json")["init_layers"]
    if student.init == "checkpoint":
        return start | {"from": student.checkpoint}
    if student.init == "base":
        return start | {"from": _model(_reference(config))}
    teacher = config.teachers[0] if config.teachers else None
    return start | {"from": teacher and teacher.model_dump(mode="json", exclude={"name"})}


def _reference(config: RunConfig) -> TeacherSpec | None:
    """Whose base fills what the student's settings leave open."""
    return config.base or (config.teachers[0] if config.teachers else None)


def _model(spec: TeacherSpec | None) -> str | None:
    return f"{spec.source}:{spec.where}" if spec else None


def environment(facts: Mapping[str, Any], precision: str = "auto") -> Environment:
    """Version and machine of a run, from its facts; with the precision that the machine chose where it was left to it.

    Two machines of one name may differ in that: a virtual one may hide its processor's bf16.

    Args:
        precision: the run's setting.
    """
    version = str(facts.get("kdcore") or "")
    names = ("hardware", "device", "precision") if precision == "auto" else ("hardware", "device")
    return Environment(version, " ".join(str(facts[key]) for key in names if facts.get(key)))


def content(facts: Mapping[str, Any]) -> Content:
    """Fingerprint of the rows of a run's own task, and a digest of what else it learned from, from its facts.

    That is its teachers' and its start's weights, the rows of other tasks, and which domain a row of its table is of.
    """
    rows = str(facts.get("data_fingerprint") or "")
    models = model_contents(facts) | {f"rows of {key}": told for key, told in other_rows(facts).items()}
    if domains := facts.get("domain_fingerprint"):
        models["domains"] = str(domains)
    return Content(rows, _digest(models)[:12] if rows and models else "")


def other_rows(facts: Mapping[str, Any]) -> dict[str, str]:
    """Key of another task of the run -> fingerprint of its rows, from its facts."""
    return {key: str(task.get("data_fingerprint") or "") for key, task in _other_tasks(facts).items()}


def _other_tasks(facts: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    also = facts.get("also")
    return {key: task for key, task in also.items() if isinstance(task, Mapping)} if isinstance(also, Mapping) else {}


def model_contents(facts: Mapping[str, Any]) -> dict[str, str]:
    """`teacher NAME`, `teacher NAME on TASK` or `start` -> hash of its weights, or of the recipe that makes them."""
    known = _teacher_contents(facts)
    for key, task in _other_tasks(facts).items():
        known |= {f"{name} on {key}": content for name, content in _teacher_contents(task).items()}
    return known | ({"start": str(facts["start_content"])} if facts.get("start_content") else {})


def _teacher_contents(facts: Mapping[str, Any]) -> dict[str, str]:
    teachers = facts.get("teachers")
    return {
        f"teacher {name}": str(teacher["content"])
        for name, teacher in (teachers.items() if isinstance(teachers, Mapping) else ())
        if isinstance(teacher, Mapping) and teacher.get("content")
    }


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
