"""What `from kdcore import ...` gives: light until it is used, and as docs/python.md and the notebook show it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kdcore
from tests.helpers import pocket_teachers

ROOT = Path(__file__).resolve().parent.parent
TINY = {
    "task": "pocket-sentiment", "method": "fine-tune",
    "student": {"layers": 1, "width": 16, "heads": 2, "init": "random"},
    "train": {"max_steps": 3, "max_train_rows": 64, "max_length": 16},
    "probes": {"fidelity": False, "latency": False, "distances": False},
}  # fmt: skip


def executed(code: str, folder: Path) -> str:
    """What a program prints that is started in this folder."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=550,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_public_name_is_there_and_explains_itself() -> None:
    for name in kdcore.__all__:
        thing = getattr(kdcore, name)
        assert name == "__version__" or (thing.__doc__ or "").strip(), name
    assert set(kdcore.__all__) <= set(dir(kdcore))
    with pytest.raises(AttributeError, match="nothing"):
        kdcore.nothing  # noqa: B018
    assert callable(kdcore.figures.scores.dots)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kdcore.figures.nothing  # noqa: B018


def test_settings_need_no_torch() -> None:
    code = "from kdcore import RunConfig, figures; import sys; assert not {'torch', 'plotly'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=ROOT)


def test_the_document_runs_from_top_to_bottom(tmp_path: Path, own_cache: Path) -> None:
    pocket_teachers.put_into(own_cache)
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    printed = executed("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), tmp_path)
    assert " done {'accuracy': " in printed and "method and student" in printed and "KD" in printed
    for name in ("scores.html", "terms.html", "my-run/student-best/model.safetensors"):
        assert (tmp_path / name).is_file(), name


def test_the_notebook_runs_cell_by_cell_and_holds_no_output(tmp_path: Path, own_cache: Path) -> None:
    pocket_teachers.put_into(own_cache)
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells and not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = "\n".join("".join(cell["source"]) for cell in cells)
    printed = executed(f"{code}\nprint(len(comparison.table()), tuple(logits.shape))", tmp_path)
    assert printed.splitlines()[-1] == "3 (2, 2)"


def test_a_run_tells_its_events_and_is_listed() -> None:
    events: list[object] = []
    one = kdcore.run(TINY, on_event=events.append)
    assert {type(event).__name__ for event in events} >= {"RunStarted", "StepDone", "RunFinished"}
    store = kdcore.open_store()
    assert list(store.runs()["id"]) == [one.id] and one.state == "done"
    assert one.row.config.train.max_steps == 3 and one.scores["validation"].keys() == {"accuracy"}
    assert (one.folder / "student-best" / "config.json").is_file()
    model, tokenizer = one.student()
    assert not model.training and len(tokenizer) > 5
    assert set(one.metrics()["kind"]) >= {"loss", "raw"}


def test_a_run_that_cannot_be_met_raises_with_its_remedy() -> None:
    with pytest.raises(kdcore.UserError, match="nope"):
        kdcore.run(TINY | {"method": "nope"})
    with pytest.raises(kdcore.UserError, match="failed: "):
        kdcore.run(TINY | {"student": {"layers": 1, "init": "base"}})
    assert kdcore.open_store().runs()["state"].tolist() == ["failed"]


def test_a_sweep_skips_what_is_done_and_names_its_groups() -> None:
    grid = {
        "name": "api", "tasks": ["pocket-sentiment"], "seeds": [0, 1], "students": [TINY["student"]],
        "methods": [{"method": "fine-tune", "label": "labels"}],
        "common": {"train": TINY["train"], "probes": TINY["probes"]},
    }  # fmt: skip
    first = kdcore.sweep(grid)
    events: list[object] = []
    (again,) = kdcore.sweep(grid, on_event=events.append)
    assert not events and len(first) == 1
    assert again.summary()["n"].tolist() == [2] and again.summary()["label"][0].startswith("labels")


def test_only_finished_runs_are_compared() -> None:
    with pytest.raises(kdcore.UserError, match="no finished run"):
        kdcore.compare()
    with pytest.raises(kdcore.UserError, match="nowhere is not a finished run"):
        kdcore.compare(["nowhere"])
    one = kdcore.run(TINY)
    (comparison,) = kdcore.compare()
    assert comparison.runs["id"].tolist() == [one.id]
    figure = kdcore.plot_scores(comparison)
    assert figure.data and kdcore.plot_terms(one).data
