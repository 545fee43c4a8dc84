"""A method from outside on the pages: with its file like any other, without it still shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdcore.methods import METHODS, catalog, find_method
from tests.helpers import own_method, store_factory
from tests.helpers.store_factory import add, run_config, words

BADGE = "from outside: angle_kd.py"


@pytest.fixture
def here(tmp_path: Path, methods_as_before: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The method's file, named as for a dashboard."""
    monkeypatch.setitem(store_factory.TERMS, own_method.KEY, {"hard": 0.5, "soft": 0.5, "angle": 1.0})
    file = own_method.write(tmp_path / "methods")
    monkeypatch.setenv("KD_METHODS_DIR", str(file.parent))
    find_method(own_method.KEY)
    return file


@pytest.fixture
def runs(store: Any, here: Path) -> list[str]:
    source = catalog.source_of(own_method.KEY)
    mine = [run_config(own_method.KEY, seed).model_copy(update={"method_source": source}) for seed in (0, 1)]
    return [add(store, run) for run in [*mine, run_config("pkd", 0), run_config("pkd", 1)]]


def _said(app: Any) -> str:
    assert not app.exception
    return words(app).replace("\\", "")


def _without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_METHODS_DIR", "")
    del METHODS[own_method.KEY]


def test_launch_offers_it_with_its_form_and_keeps_its_source(here: Path, store: Any, visit: Callable[..., Any]) -> None:
    app = visit("launch")
    app.selectbox(key="launch.method").set_value(own_method.KEY).run()
    assert BADGE in _said(app)
    app.number_input(key=f"launch.options.{own_method.KEY}.beta").set_value(2.0).run()
    said = _said(app)
    assert "method_source:" in said and "--method-file angle_kd.py" in said
    app.button(key="launch_go").click().run()
    run = store.get(store.runs()["id"].iloc[0]).config
    assert run.options["beta"] == 2.0 and run.method_source == catalog.source_of(own_method.KEY)


def test_learn_explains_it(here: Path, store: Any, visit: Callable[..., Any]) -> None:
    app = visit("learn", method=own_method.KEY)
    said = _said(app)
    assert BADGE in said and "learns the direction of the teacher's" in said
    assert any("weight of the angle" in table.value.to_string() for table in app.table)


def test_learn_says_what_a_docstring_lacks(tmp_path: Path, here: Path, store: Any, visit: Callable[..., Any]) -> None:
    text = own_method.text().replace('"angle-kd"', '"mute-kd"').replace("    shapes ", "    forms ")
    (here.parent / "mute.py").write_text(text)
    catalog._outside_methods.cache_clear()
    catalog._whole.cache_clear()
    find_method("mute-kd")
    app = visit("learn", method="mute-kd")
    assert "lacks shapes" in " ".join(error.value for error in app.error).replace("\\", "")


def test_what_cannot_be_taken_is_said_where_methods_are_chosen(
    here: Path, store: Any, visit: Callable[..., Any]
) -> None:
    (here.parent / "broken.py").write_text("def f(:\n")
    catalog._outside_methods.cache_clear()
    catalog._whole.cache_clear()
    for page in ("launch", "learn"):
        app = visit(page)
        warnings = " ".join(warning.value for warning in app.warning).replace("\\", "")
        assert "broken.py, line 1** is left out" in warnings and not app.exception, page


def test_pages_mark_its_runs(runs: list[str], visit: Callable[..., Any]) -> None:
    assert BADGE in _said(visit("live", job=runs[0])) and BADGE not in _said(visit("live", job=runs[2]))
    assert _said(visit("compare", runs=",".join(runs))).count(BADGE) == 1
    table = visit("runs").dataframe[0].value
    assert sorted(set(table["method"])) == ["Angle KD (from outside: angle_kd.py)", "Patient KD"]


def test_without_the_file_its_runs_are_still_shown(
    runs: list[str], store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch)
    for page in ("live", "layers", "attention"):
        assert BADGE in _said(visit(page, job=runs[0])), page
    for page in ("compare", "speed", "examples"):
        assert not visit(page, runs=",".join(runs), job=runs[0]).exception, page
    assert own_method.KEY in _said(visit("compare", runs=",".join(runs)))
    assert not visit("learn").exception
    app = visit("launch", clone=runs[0])
    errors = " ".join(error.value for error in app.error).replace("\\", "")
    assert not app.exception and "'angle-kd' is not here" in errors
    assert "KD_METHODS_DIR" in words(app).replace("\\", "") and app.selectbox(key="launch.method").value == "kd"


def test_a_resume_without_the_file_is_refused(
    here: Path, store: Any, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = catalog.source_of(own_method.KEY)
    run = add(store, run_config(own_method.KEY).model_copy(update={"method_source": source}), end="stopped")
    _without(monkeypatch)
    app = visit("live", job=run)
    app.button(key="live_resume").click().run()
    assert store.get(run).state == "stopped"
    assert "which is not here" in " ".join(toast.value for toast in app.toast).replace("\\", "")


@pytest.fixture(autouse=True)
def read_anew() -> Any:
    yield
    catalog._outside_methods.cache_clear()
    catalog._whole.cache_clear()
