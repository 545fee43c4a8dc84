"""Every page in every state of the store: it says something, and it never raises."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.store_factory import PAGES, add, fill, run_config, words

HOSTILE = "<script>alert(1)</script> [x](javascript:alert(1)) :red[r] $e^x$ **b** `c` ![i](http://e.org/i.png)\n# head"

EMPTY = {
    "start": "No runs yet",
    "launch": "Before you start",
    "live": "Nothing is running",
    "runs": "No runs yet",
    "compare": "Nothing to compare yet",
    "layers": "No finished run yet",
    "attention": "No finished run yet",
    "speed": "No finished run yet",
    "beyond": "No finished run yet",
    "examples": "No finished run yet",
    "lost": "No finished run yet",
    "learn": "No finished run of this method yet",
    "system": "Nothing is training",
}


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_store_is_explained(page: str, visit: Callable[..., Any]) -> None:
    app = visit(page)
    assert not app.exception
    assert EMPTY[page] in words(app)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_a_filled_store_is_shown(page: str, theme: str, store: Any, visit: Callable[..., Any]) -> None:
    fill(store, seeds=3)
    app = visit(page, theme)
    assert not app.exception
    # the written runs keep no answers for Examples, and one of them waits, so System has no such words either way
    assert EMPTY[page] not in words(app) or page in ("launch", "examples", "system")
    if page not in ("attention", "launch"):  # attention needs a student on disk, launch shows its own cards
        assert not [error.value for error in app.error]


@pytest.mark.parametrize("page", PAGES)
def test_a_run_whose_settings_are_damaged_harms_no_page(
    page: str, store: Any, visit: Callable[..., Any], tmp_path: Path
) -> None:
    made = fill(store, seeds=1)
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        connection.execute("update runs set config = ? where id = ?", ('{"task": 3', made[0]))
    app = visit(page, job=made[0], runs=",".join(made))
    assert not app.exception
    if page == "live":
        assert "cannot be read" in words(app).replace("\\", "")


@pytest.mark.parametrize("page", PAGES)
def test_typed_names_are_never_read_as_markup(page: str, store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd", name=HOSTILE))
    add(store, run_config("kd", 1, name=HOSTILE), end="queued")
    store.annotate(run, HOSTILE, [HOSTILE])
    app = visit(page, job=run)
    assert not app.exception
    for kind in ("title", "markdown", "caption", "info", "warning", "error", "page_link", "button"):
        for element in getattr(app, kind):
            said = str(getattr(element, "label", "") or element.value)
            for mark in ("<script>", "[x](", ":red[", "$e^x$", "**b**", "`c`", "![i]", "\n# head"):
                assert mark not in said, (kind, said)


@pytest.mark.parametrize("page", PAGES)
def test_an_address_with_nonsense_gets_a_friendly_page(page: str, store: Any, visit: Callable[..., Any]) -> None:
    fill(store, seeds=1)
    app = visit(page, job="../../etc/passwd", runs="a,../../x,<b>", sm="9", x="sideways", band="..", what="evil",
                clone="nobody", ctask="..", stask="..", logy="maybe", race="../x,<b>", moment="<i>", verdict_first="..",
                gains_of="'", every="?")  # fmt: skip
    assert not app.exception
    if page in ("live", "layers", "attention", "lost"):
        assert "not in this store" in words(app)
        assert app.query_params.get("job") != "../../etc/passwd"
    if page in ("compare", "speed", "beyond"):
        assert "not in this store" in words(app)
        assert ".." not in str(app.query_params.get("runs", ""))


@pytest.mark.parametrize("page", PAGES)
def test_an_unreadable_store_is_a_card_with_its_path(
    page: str, store: Any, visit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "runs.db").write_text("this is no database " * 100)
    monkeypatch.setenv("KD_CACHE_DIR", str(other))
    app = visit(page)
    assert not app.exception
    assert "elsewhere" in words(app).replace("\\", "") and "What to do" in words(app)


def test_a_pick_that_is_no_run_changes_nothing(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label of a moment ago can come back in place of an id where a message crosses a redraw."""
    import streamlit as st

    from pages.parts.common import run_picker

    state: dict[str, Any] = {"box": "r1 · Pocket sentiment · running · 1 min 22 s ago", "job": "r1"}
    query: dict[str, str] = {"job": "r1"}
    monkeypatch.setattr(st, "session_state", state)
    monkeypatch.setattr(st, "query_params", query)
    run_picker._pick("box", ["r1", "r2"])
    assert state["job"] == query["job"] == "r1"
    state["box"] = "r2"
    run_picker._pick("box", ["r1", "r2"])
    assert state["job"] == query["job"] == "r2"


def test_the_first_preferred_state_comes_first(store: Any, visit: Callable[..., Any]) -> None:
    """Live shows what trains, not what waits, though that is newer."""
    training = add(store, run_config("kd"), end="running")
    add(store, run_config("kd", 1), end="queued")
    app = visit("live")
    assert app.query_params["job"] == training
