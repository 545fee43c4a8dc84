"""Properties of a sweep's expansion: every combination once, in an order that does not depend on how it is written."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdcore.errors import UserError
from kdcore.runs.sweep import Grid, expand, merge

METHODS = ("fine-tune", "kd", "pkd", "skd")
TASKS = ("pocket-sentiment", "pocket-paraphrase", "pocket-similarity")
INITS = ({"init": "random"}, {"init": "teacher", "init_layers": "skip"}, {"init": "teacher", "init_layers": "first"})
TEACHERS = [
    {"name": "large", "source": "pocket", "where": "large"},
    {"name": "medium", "source": "pocket", "where": "medium"},
]

examples = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""No example is judged by its time: other work may share the machine."""


def some(values: Any, most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique_by=repr)


@st.composite
def grids(draw: st.DrawFn) -> dict[str, Any]:
    """The content of a sweep file."""
    return {
        "name": "properties",
        "common": {"train": {"epochs": draw(st.integers(1, 3))}},
        "teachers": TEACHERS,
        "methods": draw(some(METHODS)),
        "tasks": draw(some(TASKS)),
        "students": [{"layers": layers} for layers in draw(some((1, 2, 4)))],
        "inits": [dict(init) for init in draw(some(INITS))],
        "seeds": draw(some(range(10), 4)),
    }


def expanded(grid: dict[str, Any]) -> list[Any]:
    return expand(Grid.model_validate(grid))


@examples
@given(grid=grids())
def test_every_combination_is_one_cell(grid):
    cells = expanded(grid)
    combinations = [
        (cell.run.task, cell.run.train.seed, cell.run.student.layers, cell.run.student.init,
         cell.run.student.init_layers, cell.run.method)
        for cell in cells
    ]  # fmt: skip
    wanted = product(
        grid["tasks"], grid["seeds"], [student["layers"] for student in grid["students"]],
        [(init["init"], init.get("init_layers")) for init in grid["inits"]], grid["methods"],
    )  # fmt: skip
    assert [(task, seed, layers, init, method) for task, seed, layers, init, _, method in combinations] == [
        (task, seed, layers, init, method) for task, seed, layers, (init, _), method in wanted
    ]
    assert len(set(combinations)) == len(cells) == len({cell.hash for cell in cells})
    assert {cell.run.train.epochs for cell in cells} == {grid["common"]["train"]["epochs"]}


@examples
@given(grid=grids(), shuffle=st.randoms(use_true_random=False))
def test_order_and_form_of_the_file_do_not_change_the_runs(grid, shuffle):
    hashes = {cell.hash for cell in expanded(grid)}
    for key in ("methods", "tasks", "students", "inits", "seeds"):
        shuffle.shuffle(grid[key])
    keys = list(grid)
    shuffle.shuffle(keys)
    spelled = {key: grid[key] for key in keys} | {"methods": [{"method": method} for method in grid["methods"]]}
    assert {cell.hash for cell in expanded(yaml.safe_load(yaml.safe_dump(spelled, sort_keys=False)))} == hashes


@examples
@given(grid=grids(), seed=st.integers(100, 200))
def test_a_longer_grid_holds_the_shorter_ones_runs_in_their_order(grid, seed):
    shorter = [cell.hash for cell in expanded(grid)]
    longer = [cell.hash for cell in expanded(grid | {"seeds": [*grid["seeds"], seed]})]
    assert [run for run in longer if run in set(shorter)] == shorter
    assert len(longer) * len(grid["seeds"]) == len(shorter) * (len(grid["seeds"]) + 1)


@examples
@given(grid=grids(), label=st.text("abc xyz", min_size=1, max_size=20))
def test_a_label_names_a_run_and_does_not_change_it(grid, label):
    named = grid | {"methods": [{"method": method, "label": f"{label} {method}"} for method in grid["methods"]]}
    cells, plain = expanded(named), expanded(grid)
    assert [cell.hash for cell in cells] == [cell.hash for cell in plain]
    assert all(cell.label.startswith(label) and cell.run.name == cell.label for cell in cells)


@examples
@given(grid=grids(), key=st.sampled_from(["methods", "students", "inits", "seeds"]))
def test_the_same_run_twice_is_refused(grid, key):
    with pytest.raises(UserError, match="are the same run"):
        expanded(grid | {key: [*grid[key], grid[key][0]]})


trees = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


@examples
@given(earlier=mappings, later=mappings)
def test_merged_settings_keep_the_later_value(earlier, later):
    result = merge(earlier, later)
    assert merge(earlier) == earlier == merge(earlier, {}) == merge({}, earlier) == merge(earlier, earlier)
    assert result.keys() == earlier.keys() | later.keys()
    for key in later:
        if not (isinstance(earlier.get(key), dict) and isinstance(later[key], dict)):
            assert result[key] == later[key]
    assert merge(result, later) == result
