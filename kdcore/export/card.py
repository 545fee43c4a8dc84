"""The model card of a student, README.md in the format of the Hugging Face hub: what it is, scores, how, limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kdcore.analysis.groups import format_mean, mean_and_std
from kdcore.errors import UserError
from kdcore.export.onnx_check import OnnxCheck
from kdcore.export.record import StudentRecord, hub_models, public_settings, teacher_place
from kdcore.export.runtimes import INT8
from kdcore.formatting import amount, duration, hundredfold, one_line, options_label, task_title
from kdcore.methods.catalog import MethodInfo, catalog

GLUE_ID = "nyu-mll/glue"
PIPELINE = "text-classification"
METRIC_IDS = {
    "accuracy": "accuracy", "f1": "f1", "matthews": "matthews_correlation", "pearson": "pearsonr",
    "spearman": "spearmanr",
}  # fmt: skip
"""Metric -> its name on the hub."""

_MARKS = re.compile(r"([\\`*_\[\]<>#|~$!])")


def model_card(record: StudentRecord, longest: int, onnx: OnnxCheck | None = None, only: str = "") -> str:
    """The card's text: YAML for the hub, then Markdown. What people typed is escaped.

    Args:
        longest: tokens of a row that are read. onnx: what the check of an ONNX file found, where there is one.
        only: name of the ONNX file where the folder has no other weights.

    Raises:
        UserError: the hub's own check of the card finds it wrong.
    """
    from huggingface_hub import ModelCard, ModelCardData

    try:
        data = ModelCardData(**_metadata(record))
        body = "\n".join(_body(record, longest, onnx, only))
        return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))
    except ValueError as error:
        raise UserError("run", f"its model card would not be valid ({str(error)[:200]})", "rename the run") from error


def _metadata(record: StudentRecord) -> dict[str, Any]:
    from huggingface_hub import EvalResult

    task, glue = record.task, record.task.suite == "glue"
    marks = ["synthetic-data"] if task.synthetic else []
    results = [
        EvalResult(
            task_type=PIPELINE, task_name="Text classification", dataset_type=GLUE_ID if glue else task.key,
            dataset_name=f"GLUE {task.title}" if glue else one_line(task.title), dataset_split=split,
            dataset_config=task.key if glue else None, metric_type=METRIC_IDS[metric],
            metric_name=f"{METRIC_IDS[metric]}, {record.which} weights, seed {record.config.train.seed}",
            metric_value=round(value, 6),
        )
        for split, values in record.scores.items() for metric, value in values.items()
    ]  # fmt: skip
    return {
        "language": None if task.suite == "own" else "en",
        "license": "unknown",
        "library_name": "transformers",
        "pipeline_tag": PIPELINE,
        "base_model": hub_models(record.config) or None,
        "datasets": [GLUE_ID] if glue else None,
        "metrics": [METRIC_IDS[metric] for metric in task.metrics],
        "tags": ["knowledge-distillation", "kdboard", _tag(record.config.method), "bert", *marks],
        "model_name": one_line(record.name),
        "eval_results": results or None,
    }


def _tag(method: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", method)


def _body(record: StudentRecord, longest: int, onnx: OnnxCheck | None, only: str) -> Iterator[str]:
    yield f"# {plain(record.name)}\n"
    yield _summary(record)
    yield from _warnings(record)
    yield from _use_of_onnx(record, longest, onnx, only) if onnx and only else _use(record, longest, onnx)
    yield from _scores(record)
    yield from _training(record)
    yield from _limits(record, longest)
    yield from _data(record)


def _summary(record: StudentRecord) -> str:
    size, info = record.facts.get("student", {}), catalog().get(record.config.method)
    parameters = record.facts.get("exported_parameters")
    shape = f" of {size['layers']} layers of width {size['width']}" if "layers" in size else ""
    count = f" ({amount(parameters)} parameters)" if isinstance(parameters, int) else ""
    how = "trained without a teacher" if not record.config.teachers else f"distilled by {_method(record, info)}"
    asks = f" The question: {plain(record.task.about)}" if record.task.about and record.task.suite != "own" else ""
    return f"A BERT classifier{shape}{count} for {plain(_task_name(record))}, {how} with KDBoard.{asks}\n"


def _task_name(record: StudentRecord) -> str:
    task = record.task
    return f"GLUE {task.title}" if task.suite == "glue" else f"the table {task.title}" if task.suite == "own" else (
        task_title(task.key))  # fmt: skip


def _method(record: StudentRecord, info: MethodInfo | None) -> str:
    return f"{plain(info.title)} ({plain(info.cite)})" if info else plain(record.config.method)


def _warnings(record: StudentRecord) -> Iterator[str]:
    if record.task.synthetic:
        yield "> **Synthetic data.** The rows are sentences that a program made: scores say nothing about real text.\n"
    if partial := record.facts.get("partial"):
        yield f"> **Partial data.** {plain(str(partial)[:1].upper() + str(partial)[1:])}.\n"
    if record.state != "done":
        yield f"> **The training did not come to its end**: the run is {plain(record.state)}.\n"


def _form(student: Mapping[str, Any]) -> str:
    """What is not plain in the student, and who can load it; empty where all is."""
    known = "`pip install kdboard` knows the model type `kdboard_bert`, plain transformers refuses it."
    if student.get("pooled_width"):
        return f"A projection stands between the pooler and the classifier, which is the teacher's: {known}\n"
    if student.get("form", "plain") != "plain":
        dense = "`kdcore export --dense` writes a plain BERT that answers the same."
        return f"The matrices are Kronecker products: {known} {dense}\n"
    return ""


def _use(record: StudentRecord, longest: int, onnx: OnnxCheck | None) -> Iterator[str]:
    row = '{"text": "...", "text_pair": "..."}' if len(record.task.columns) == 2 else '"..."'
    form = _form(record.facts.get("student", {}))
    if form:
        yield form
    yield "## Use\n\n```python"
    if form:
        yield "import kdcore.models.forms  # makes the model type known"
    yield "from transformers import pipeline\n"
    yield 'classify = pipeline("text-classification", model="PATH_OR_HUB_ID", truncation=True)'
    yield f"classify({row})\n```\n"
    yield (
        f"`truncation=True` cuts a longer text to the {longest} tokens that the student was trained on; shorter ones "
        "need no argument. "
        + (
            "The answer's `score` is the predicted score itself.\n"
            if record.task.kind == "regression"
            else "The answer's `label` is a class, its `score` the probability.\n"
        )
    )
    if onnx is not None:
        yield from onnx.lines()


def _use_of_onnx(record: StudentRecord, longest: int, onnx: OnnxCheck, file: str) -> Iterator[str]:
    """With ONNX Runtime and the tokenizer alone; checked as a whole by tests/export/test_kept_onnx.py."""
    row = '"...", "..."' if len(record.task.columns) == 2 else '"..."'
    yield "## Use\n\n```python"
    yield "import numpy as np"
    yield "from onnxruntime import InferenceSession"
    yield "from tokenizers import Tokenizer\n"
    yield f'tokenizer, session = Tokenizer.from_file("tokenizer.json"), InferenceSession("{file}")'
    yield f"row = tokenizer.encode({row})"
    yield 'words = {"input_ids": row.ids, "attention_mask": row.attention_mask, "token_type_ids": row.type_ids}'
    yield "inputs = {name: np.array([values], np.int64) for name, values in words.items()}"
    yield 'logits = session.run(["logits"], inputs)[0][0]'
    yield "```\n"
    meaning = "The logit is the predicted score itself." if record.task.kind == "regression" else (
        "The largest logit is the answer; `config.json` names the classes in `id2label`.")  # fmt: skip
    yield f"The tokenizer cuts a longer text to the {longest} tokens that the student was trained on. {meaning}"
    yield "Or `kdcore predict FOLDER rows.csv --to answers.csv`.\n"
    yield from onnx.lines(int8_alone=file == INT8)


def _scores(record: StudentRecord) -> Iterator[str]:
    yield "## Scores\n"
    if not record.scores:
        yield "Not measured: the run did not come to the point where its student is scored.\n"
        return
    chosen = "best on rows held out from training" if record.which == "best" else "last of the training"
    names = list(record.teachers)
    yield f"Times 100, on dev rows that took no part in training; the weights are the {chosen}"
    yield f"(step {record.step}), seed {record.config.train.seed}.\n"
    teachers = "".join(f" teacher {plain(name)} |" for name in names)
    yield f"| split | rows | metric | student |{teachers} blind guess |"
    yield "|---|---|---|---|" + "---|" * (len(names) + 1)
    guesses = record.facts.get("blind_guess", {})
    for split, values in record.scores.items():
        for metric, value in values.items():
            others = [record.teachers[name].get(split, {}).get(metric) for name in names]
            cells = [hundredfold(each) for each in (value, *others, guesses.get(split, {}).get(metric))]
            yield f"| {plain(split)} | {record.rows.get(split, 0):,} | {metric} | {' | '.join(cells)} |"
    yield ""
    if len(record.seeds) > 1:
        spread = format_mean(*mean_and_std([100 * score for score in record.seeds]))
        yield f"Over {len(record.seeds)} seeds of the same settings: {record.task.main_metric} {spread}.\n"
    else:
        yield "One seed: how far another would be off is not known.\n"


def _training(record: StudentRecord) -> Iterator[str]:
    config, facts, info = record.config, record.facts, catalog().get(record.config.method)
    train = config.train
    yield "## How it was trained\n"
    if info is not None:
        yield f"{plain(info.idea)}\n"
        for paper in info.papers:
            yield f"* {plain(paper.reference)}"
        yield ""
    yield "| | |\n|---|---|"
    if config.options:
        options = public_settings(config)["options"]
        yield f"| method's settings | {plain(options_label(config.model_copy(update={'options': options})))} |"
    for spec in config.teachers:
        known = facts.get("teachers", {}).get(spec.name, {})
        count = f", {amount(known['parameters'])} parameters" if "parameters" in known else ""
        tuned = f", fine-tuned here, {spec.fine_tune.epochs:g} epochs" if spec.fine_tune else ""
        yield f"| teacher {plain(spec.name)} | {plain(teacher_place(spec))}{count}{tuned} |"
    yield f"| first weights | {plain(config.student.init)} |"
    length = (
        f"{train.max_steps} steps" if train.max_steps else f"{train.epochs:g} epoch{'s' if train.epochs != 1 else ''}"
    )
    yield f"| length | {length}, batches of {train.batch_size}, AdamW at {train.lr:g}, {train.max_length} tokens |"
    yield f"| rows | {_count(facts.get('rows'))} to train, {_count(facts.get('select_rows'))} held out to choose |"
    yield f"| seed | {train.seed} |"
    where = ", ".join(str(facts[name]) for name in ("hardware", "device", "precision") if facts.get(name))
    yield f"| hardware | {plain(where or 'not known')}; {duration(record.seconds)} in all |"
    named = {"KDBoard": "kdcore", "torch": "torch", "Python": "python"}
    versions = [f"{name} {facts[key]}" for name, key in named.items() if facts.get(key)]
    yield f"| versions | {plain(', '.join(versions) or 'not known')} |"
    yield "\n`kdboard.json` has every setting.\n"


def _limits(record: StudentRecord, longest: int) -> Iterator[str]:
    yield "## Limits\n"
    yield f"* It reads {longest} tokens of a row and knows nothing of what comes after them."
    yield "* Dev scores are those of one task's rows; other texts were not tried, nor was bias of any kind."
    if record.facts.get("precision") == "bf16":
        yield "* Scores were measured in bf16, and these files answer in float32: a row on the edge may change sides."
    if record.task.suite != "own":
        yield "* English only."
    yield ""


def _data(record: StudentRecord) -> Iterator[str]:
    yield "## Data and licences\n"
    if record.task.suite == "glue":
        yield f"Data: GLUE {record.task.title}. Licence of the data: unknown here; see its source."
    elif record.task.synthetic:
        yield f"Data: {record.task.title}, generated by KDBoard."
    else:
        yield f"Data: {plain(record.task.title)}, a table of the person who trained this. Licence of the data: unknown."
    if others := record.config.also:
        titles = ", ".join(plain(task_title(key)) for key in others)
        yield f"It learned from the rows of other tasks too, whose classifiers are not in here: {titles}."
    yield "Licence of these weights: unknown until their author names one; the teachers' licences count, too."


def _count(rows: object) -> str:
    return f"{rows:,}" if isinstance(rows, int) else "–"


def plain(text: object) -> str:
    """Text of a person's as Markdown shows it unchanged, in one line.

    >>> plain("a*b |c|\\n<i>")
    'a\\\\*b \\\\|c\\\\| \\\\<i\\\\>'
    """
    return _MARKS.sub(r"\\\1", one_line(text, 300))
