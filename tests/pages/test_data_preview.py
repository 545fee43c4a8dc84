"""Launch shows what is in the rows: classes with counts, scores, lengths and the first rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pages.parts.launch import data_preview


def frame_of(app: Any, index: str) -> Any:
    return next(frame.value for frame in app.dataframe if index in frame.value.index)


@pytest.fixture
def launch(visit: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    def _launch(rows: list[tuple[str, str]], text: str = "text", kind: str = "classification") -> Any:
        path = tmp_path / "rows.csv"
        path.write_text("\n".join(",".join(row) for row in [(text, "answer"), *rows]))
        app = visit("launch")
        app.selectbox(key="launch.task").set_value("own").run()
        app.text_input(key="launch.own.path").set_value(str(path))
        app.text_input(key="launch.own.text").set_value(text)
        app.text_input(key="launch.own.label").set_value("answer")
        app.selectbox(key="launch.own.kind").set_value(kind)
        return app.run()

    return _launch


def test_pocket_rows_are_counted_and_drawn(visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(data_preview, "plot", lambda figure, key: drawn.append(key))
    app = visit("launch")
    assert not app.exception
    table = frame_of(app, "all rows")
    assert {"train", "select"} < set(table.columns)
    assert table.loc["all rows", "train"] == table.drop("all rows")["train"].sum()
    assert drawn[-1:] == ["launch_lengths"]


def test_an_own_table_by_class(launch: Callable[..., Any]) -> None:
    app = launch([(f"<b>film</b> {i}", ("bad", "good")[i % 2]) for i in range(100)])
    assert not app.exception
    table = frame_of(app, "all rows")
    assert table["train"].to_dict() == {"bad": 41, "good": 40, "all rows": 81}
    assert table.loc["all rows"].tolist() == [81, 9, 10]
    examples = next(frame.value for frame in app.dataframe if "label" in frame.value.columns)
    numbers = [int(text.rsplit(" ", 1)[1]) for text in examples.iloc[:, 0]]
    assert len(numbers) == 3 and numbers == sorted(numbers), "the first rows that are not held out"
    assert examples["label"].tolist() == [("bad", "good")[number % 2] for number in numbers]


def test_scores_and_a_text_column_of_an_awkward_name(launch: Callable[..., Any]) -> None:
    app = launch([(f"film {i}", f"{i / 10}") for i in range(100)], text="label", kind="regression")
    assert not app.exception
    assert "train rows" in frame_of(app, "lowest score").index
    assert any(list(frame.value.columns) == ["label", "its label"] for frame in app.dataframe)


def test_rows_that_cannot_be_read_show_nothing(launch: Callable[..., Any]) -> None:
    app = launch([("film", "good")])
    assert not app.exception
    assert not any("all rows" in frame.value.index for frame in app.dataframe)
