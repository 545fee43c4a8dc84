"""Writes a finished (or partly finished) study as data and as a table.

    python -m bench.report bench/studies/minilm-glue.yaml

makes bench/results/<name>.csv (one row a run, every metric), <name>.json (machine, versions, command) and <name>.md
(mean and standard deviation over seeds; no winner is named from fewer than six paired seeds; what each method costs
beside the student's own steps), a table for each task, state of its training data and precision: scores of two
precisions are no pairs. Runs that an earlier report had and this store has not stay in the table.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from kdcore.formatting import data_text
from kdcore.runs.sweep import Cell, expand, read_grid
from kdcore.store import RunRow, Store, open_store
from kdcore.tasks import METRICS, TASKS

RESULTS = Path(__file__).parent / "results"
SOURCES = {
    "base": "the base's first layers",
    "teacher": "spread layers of the fine-tuned teacher",
    "random": "random",
}
CELL = ["task", "data", "precision", "method", "layers", "heads", "init", "init_layers", "seed"]
Teachers = dict[tuple[str, str, str, str], dict[str, Any]]
"""Task, what is wrong with its rows, precision, teacher -> its scores."""
PRECISIONS = ("bf16", "fp32")
FACTS = ("hardware", "threads", "precision", "torch", "python", "kdcore", "capability")


def main(path: Path) -> None:
    """Reads the store named by KD_CACHE_DIR or KD_DATABASE_URL."""
    grid, store = read_grid(path), open_store()
    cells = expand(grid)
    run_states = store.find([cell.hash for cell in cells])
    rows, teachers, facts = [], {}, {}
    for cell in cells:
        run_id, state = run_states.get(cell.hash, ("", "absent"))
        if state != "done":
            continue
        row = store.get(run_id)
        rows.append(_row(store, cell, row))
        for name, teacher in row.facts["teachers"].items():
            teachers[cell.run.task, _data_text(cell), row.facts["precision"], name] = teacher["scores"]
        facts = {name: row.facts[name] for name in FACTS}
    if not rows:
        raise SystemExit("no run of this study is done in this store")
    RESULTS.mkdir(exist_ok=True)
    frame = _with_earlier(pd.DataFrame(rows), RESULTS / f"{grid.name}.csv")
    teachers = _earlier_teachers(RESULTS / f"{grid.name}.json") | teachers
    frame.to_csv(RESULTS / f"{grid.name}.csv", index=False, float_format="%.6g")
    about = {
        **facts,
        "command": f"python -m kdcore sweep {path.as_posix()}",
        "runs": len(frame),
        "planned": len(cells),
        "teachers": {"/".join(filter(None, key)): scores for key, scores in teachers.items()},
    }
    (RESULTS / f"{grid.name}.json").write_text(json.dumps(about, indent=1) + "\n")
    precisions = " and ".join(frame["precision"].unique())
    heading = f"{len(frame)} of {len(cells)} runs. {facts['hardware']}, {facts['threads']} thread(s), {precisions}, "
    heading += f"torch {facts['torch']}. `{about['command']}`"
    parts = frame.groupby(["task", "data", "precision"], sort=False)
    table = "\n\n".join(_task_table(part, teachers) for _, part in parts)
    (RESULTS / f"{grid.name}.md").write_text(f"# {grid.name}\n\n{heading}\n\n{table}\n")
    print(table)


def _with_earlier(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """With the rows of an earlier report whose cells this store does not hold; in the order of the grid's tasks."""
    if not path.is_file():
        return frame
    words = dict.fromkeys(("data", "heads", "partial", "loss_shares"), str)
    earlier = pd.read_csv(path, dtype=words).fillna(dict.fromkeys(words, ""))
    if "precision" not in earlier:
        earlier.insert(2, "precision", json.loads(path.with_suffix(".json").read_text())["precision"])
    names = [name for name in CELL if name in earlier]
    known = set(frame[names].astype(str).itertuples(index=False, name=None))
    cells = earlier[names].astype(str).itertuples(index=False, name=None)
    absent_rows = earlier[[cell not in known for cell in cells]].reindex(columns=frame.columns.union(earlier.columns))
    absent_rows = absent_rows.fillna({"data": "", "heads": ""})
    whole = pd.concat([frame, absent_rows], ignore_index=True)[list(dict.fromkeys([*frame, *earlier]))]
    order = {name: index for index, name in enumerate(dict.fromkeys([*earlier["task"], *frame["task"]]))}
    return whole.sort_values("task", key=lambda tasks: tasks.map(order), kind="stable", ignore_index=True)


def _earlier_teachers(path: Path) -> Teachers:
    if not path.is_file():
        return {}
    about, found = json.loads(path.read_text()), {}
    for key, scores in about["teachers"].items():
        task, *middle, name = key.split("/")
        precision = middle.pop() if middle and middle[-1] in PRECISIONS else about["precision"]
        found[task, "".join(middle), precision, name] = scores
    return found


def _data_text(cell: Cell) -> str:
    """What is wrong with the training rows; whether a method leaves rows without a label out is the method's matter."""
    return data_text(cell.run.data.model_dump(mode="json", exclude={"unlabelled"}), bool(cell.run.teachers))


def _row(store: Store, cell: Cell, row: RunRow) -> dict[str, Any]:
    spec, train = cell.run.student, cell.run.train
    out = {
        "task": cell.run.task, "data": _data_text(cell), "precision": row.facts["precision"],
        "method": cell.label, "layers": spec.layers, "heads": str(spec.heads or ""), "init": spec.init,
        "init_layers": spec.init_layers, "seed": train.seed, "run": row.id,
        "seconds_training": round(row.summary["seconds_by_part"]["training"], 1),
        "parameters": row.facts["parameters"], "student_steps": row.facts["student_steps"],
        "all_steps": row.facts["steps"], "extra_parameters": row.facts["extra_parameters"],
        "exported_parameters": row.facts.get("exported_parameters", row.facts["parameters"]),
        "teacher_rows_cached": row.summary["cache"]["hits"] + row.summary["cache"]["misses"],
        "teacher_rows_live": row.summary["cache"].get("live", 0),
        "train_rows": row.facts["rows"], "partial": row.facts["partial"] or "",
        "loss_shares": _loss_shares(store.metrics(row.id, ["weighted"])),
    }  # fmt: skip
    for which, splits in row.summary["scores"].items():
        for split, scores in splits.items():
            for metric, value in scores.items():
                out[f"{which}_{split}_{metric}"] = value
    for teacher, splits in store.probes(row.id).get("fidelity", {}).items():
        for split, scores in splits.items():
            for name, value in scores.items():
                out[f"{name}_with_{teacher}_{split}"] = value
    return out


def _loss_shares(weighted: pd.DataFrame) -> str:
    """What the loss was made of at the end of each stage that is no pilot: each term's part of its last tenth."""
    parts = []
    for stage, points in weighted[~weighted["stage"].str.contains("pilot")].groupby("stage", sort=False):
        first, last = points["step"].min(), points["step"].max()
        ending = points[points["step"] >= last - (last - first) / 10].groupby("name", sort=False)["value"].mean()
        parts.append(f"{stage}: " + ", ".join(f"{name} {share:.0%}" for name, share in (ending / ending.sum()).items()))
    return "; ".join(parts)


def _task_table(frame: pd.DataFrame, teachers: Teachers) -> str:
    task, data, precision = (str(frame[name].iloc[0]) for name in CELL[:3])
    metric = TASKS[task].main_metric
    split = TASKS[task].splits[0]
    best, last = f"best_{split}_{metric}", f"last_{split}_{metric}"
    rows = ", ".join(filter(None, (f"{int(frame.train_rows.max()):,} training rows", data, precision)))
    here = [task, data, precision]
    theirs = {name: scores[split][metric] for (*where, name), scores in teachers.items() if where == here}
    lines = [
        f"## {TASKS[task].title}: {METRICS[metric]}, {split} split, {rows}",
        "",
        "Teachers: " + ", ".join(f"{name} {100 * score:.1f}" for name, score in theirs.items()) + ".",
        "",
        "| student | initial weights | method | seeds | best by `select`, each seed | mean ± std | last, mean ± std |",
        "|---|---|---|---|---|---|---|",
    ]
    for (layers, heads, init, method), part in frame.groupby(["layers", "heads", "init", "method"], sort=False):
        part = part.sort_values("seed")
        each = ", ".join(f"{100 * value:.1f}" for value in part[best])
        source, size = SOURCES[str(init)], _size(layers, heads, frame)
        lines.append(
            f"| {size} | {source} | {method} | {len(part)} | {each} | {_spread(part[best])} | {_spread(part[last])} |"
        )
    return "\n".join([*lines, "", *_costs(frame), "", *_beside_kd(frame, best)])


def _size(layers: object, heads: object, frame: pd.DataFrame) -> str:
    """Layers, and heads where the study has students of several numbers of them."""
    return f"{layers} layers" + (f", heads {heads}" if frame.heads.nunique() > 1 else "")


def _costs(frame: pd.DataFrame) -> list[str]:
    """What each method takes beside the student's own steps, means over its runs."""
    lines = [
        "Cost: all steps (pilots and assistants included) beside the student's own, rows that teachers answered from "
        "the cache and live, weights that are trained with the student and then dropped, weights of the exported "
        "student. Times are left to `bench/method_cost.py`, side by side on one machine: studies share theirs.",
        "",
        "| method | steps / student steps | teacher rows: cached | live | extra weights | exported |",
        "|---|---|---|---|---|---|",
    ]
    for method, part in frame.groupby("method", sort=False):
        mean = part.mean(numeric_only=True)
        lines.append(
            f"| {method} | {mean.all_steps:.0f} / {mean.student_steps:.0f} "
            f"| {mean.teacher_rows_cached:,.0f} | {mean.teacher_rows_live:,.0f} | {mean.extra_parameters:,.0f} "
            f"| {mean.exported_parameters / 1e6:.1f} M |"
        )
    return lines


def _beside_kd(frame: pd.DataFrame, best: str) -> list[str]:
    """What the runs themselves say of a difference to KD, or to the study's first method.

    It is how near they came to the first teacher, and what their loss held.
    """
    columns = [name for name in map(str, frame) if name.startswith(("agreement_with", "pearson_with"))]
    near = next(name for name in columns if frame[name].notna().any())
    far = near.replace("agreement_", "kl_").replace("pearson_", "mse_")
    other, pair = "kd" if (frame.method == "kd").any() else frame.method.iloc[0], ["layers", "heads", "init", "seed"]
    beside, name = frame[frame.method == other].set_index(pair)[best], "KD" if other == "kd" else other
    closeness = "agreement (%)" if near.startswith("agreement") else "Pearson (×100)"
    distance = "KL (nats)" if "kl" in far else "MSE"
    teacher = near.split("_with_")[1].rsplit("_", 1)[0]
    lines = [
        f"Beside {name}: the mean difference over the seeds that both have, how near the student came to {teacher} on "
        "the same split, and what its loss held in the last tenth of each stage (seed 0).",
        "",
        f"| method | minus {name} (points) | seeds | {closeness} with {teacher} | {distance} | parts of the weighted "
        "loss |",
        "|---|---|---|---|---|---|",
    ]
    for method, part in frame.groupby("method", sort=False):
        differences = (part.set_index(pair)[best] - beside).dropna()
        difference = f"{100 * differences.mean():+.1f} | {len(differences)}" if len(differences) else "no pairs | 0"
        first = part.sort_values("seed").iloc[0]
        nearness = f"{100 * part[near].mean():.1f} | {part[far].mean():.3f}"
        lines.append(f"| {method} | {difference} | {nearness} | {first.loss_shares} |")
    return lines


def _spread(values: pd.Series) -> str:
    mean = f"{100 * values.mean():.1f}"
    return mean if len(values) < 2 else f"{mean} ± {100 * values.std():.1f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
