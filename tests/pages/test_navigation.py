"""How one gets about: the menu, the selection that follows, empty pages that lead on, the example that is lent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdcore.runs import example
from pages.parts.common.menu import MANY_RUNS, ONE_RUN, PAGES, SECTIONS
from tests.helpers.store_factory import add, run_config, words

EMPTY = ("live", "runs", "compare", "layers", "attention", "speed", "beyond", "examples", "lost")


def test_every_page_is_in_one_section() -> None:
    listed = [page for pages in SECTIONS.values() for page in pages]
    assert sorted(listed) == sorted(PAGES) and len(set(listed)) == len(listed)
    assert {*ONE_RUN, *MANY_RUNS} <= set(PAGES)


# --- the selection follows -----------------------------------------------------------------------------------------


@pytest.fixture
def compared(store: Any) -> list[str]:
    """Three runs to compare; a newer one of another method is not among them."""
    made = [add(store, run_config(method)) for method in ("kd", "fine-tune", "pkd")]
    add(store, run_config("skd"))
    return made


@pytest.mark.parametrize("page", ["live", "layers", "attention"])
def test_a_page_of_one_run_opens_one_of_the_compared(page: str, compared: list[str], visit: Callable[..., Any]) -> None:
    app = visit("compare", runs=",".join(compared))
    app.switch_page(f"pages/{page}.py").run()
    assert not app.exception and app.query_params["job"] == compared[2], "the newest that learned from a teacher"
    picked = app.selectbox(key=f"{page}_run")
    assert [picked.options.index(picked.format_func(run)) for run in reversed(compared)] == [0, 1, 2], (
        "they stand first"
    )


def test_a_run_chosen_before_gives_way_to_those_that_are_compared(
    compared: list[str], store: Any, visit: Callable[..., Any]
) -> None:
    other = store.runs()["id"].iloc[0]
    app = visit("layers", job=other)
    del app.query_params["job"]
    app.query_params["runs"] = ",".join(compared)
    app.switch_page("pages/compare.py").run()
    app.switch_page("pages/layers.py").run()
    assert app.query_params["job"] == compared[2]


def test_a_run_among_the_compared_stays(compared: list[str], visit: Callable[..., Any]) -> None:
    app = visit("layers", job=compared[0])
    del app.query_params["job"]
    app.query_params["runs"] = ",".join(compared)
    app.switch_page("pages/compare.py").run()
    app.switch_page("pages/attention.py").run()
    assert app.query_params["job"] == compared[0]


def test_taking_the_run_out_of_the_comparison_leaves_it(compared: list[str], visit: Callable[..., Any]) -> None:
    app = visit("compare", runs=",".join(compared))
    app.session_state["job"] = compared[2]
    app.multiselect(key="compare_runs").set_value(compared[:2]).run()
    app.switch_page("pages/layers.py").run()
    assert app.query_params["job"] == compared[0]


# --- empty pages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", EMPTY)
def test_an_empty_page_opens_the_example_in_place(page: str, store: Any, visit: Callable[..., Any]) -> None:
    app = visit(page)
    app.button(key="empty_example").click().run()
    assert not app.exception and not app.error
    assert len(store.runs()) > 3 and not [button for button in app.button if button.key == "empty_example"]
    if page in ("live", "layers", "attention", "examples", "lost"):
        method = store.get(app.query_params["job"]).method
        assert method != "fine-tune" and app.query_params["job"] in example.example_runs(store)


# --- a read-only dashboard without runs ----------------------------------------------------------------------------


def test_a_read_only_dashboard_without_runs_lends_the_example(
    store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KD_READ_ONLY", "1")
    app = visit("compare")
    assert not app.exception and not app.error
    assert "finished example that comes with KDBoard" in words(app) and "ahead of" in words(app)
    assert store.runs().empty, "nothing is written into the store that is empty"
    lent = Path(os.environ["KD_CACHE_DIR"])
    assert lent != tmp_path and (lent / "runs.db").is_file()
    app.switch_page("pages/layers.py").run()
    assert not app.exception and "tokens of" in words(app)


def test_a_read_only_dashboard_with_runs_shows_its_own(
    store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = add(store, run_config("kd"))
    monkeypatch.setenv("KD_READ_ONLY", "1")
    app = visit("live")
    assert app.query_params["job"] == run and "comes with KDBoard" not in words(app)
    assert os.environ["KD_CACHE_DIR"] == str(tmp_path)
