"""The one-file report: it holds what the page shows, asks nobody for anything, and reads no typed text as markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kdcore import report
from kdcore.analysis.comparison import compare
from kdcore.cli import app
from kdcore.errors import UserError
from kdcore.events import Probed
from kdcore.figures.template import PLOTLY_JS
from kdcore.report.parts import escape, inert, prose
from kdcore.store import Store, open_store
from tests.helpers.store_factory import add, run_config

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)> \"a\" 'b' & <b>c</b>"
MADE = datetime(2026, 1, 2, tzinfo=UTC)


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._aside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._aside = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._aside = False

    def handle_data(self, data: str) -> None:
        if not self._aside:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def store() -> Store:
    return open_store()


@pytest.fixture
def runs(store: Store) -> list[str]:
    """Fine-tuning and KD on three seeds each."""
    return [
        add(store, run_config(method, seed), score=score + 0.01 * seed)
        for method, score in (("kd", 0.8), ("fine-tune", 0.7))
        for seed in range(3)
    ]


def test_it_says_where_the_gain_comes_from_and_what_parts_bring(store: Store) -> None:
    whole = {seed: run_config("pkd", seed, options={"alpha": 0.5, "beta": 500.0}) for seed in range(3)}
    for seed, run in whole.items():
        add(store, run, score=0.80 + 0.01 * seed)
        add(store, run_config("pkd", seed, options={"alpha": 0.5, "beta": 0.0}), score=0.77 + 0.01 * seed)
        add(store, run_config("fine-tune", seed), score=0.7)
    page = Page(report.html(store, list(store.runs()["id"]), made=MADE))
    assert "+11.0 points over random initial weights without a teacher" in page.text
    assert "beta 0" in page.text and "-3.0 -3.0 -3.0 3 0, 1, 2" in page.text
    alone = Page(report.html(store, [run for run in store.runs()["id"] if run.startswith("fine-tune")], made=MADE))
    assert "with one setting changed" not in alone.text


def test_it_holds_what_the_page_shows(store: Store, runs: list[str]) -> None:
    text = report.html(store, runs, made=MADE)
    page = Page(text)
    headings = re.findall(r"<h([123])[^>]*>([^<]*)</h", text)
    assert headings[0] == ("1", "Pocket sentiment: Fine-tuning alone, KD")
    for words in ("What was compared", "Scores", "Is the difference real?", "Where the gain comes from", "Curves",
                  "Layers: student against teacher",
                  "Speed", "Settings that differ", "The methods", "The runs", "How it was computed"):  # fmt: skip
        assert words in [title for _, title in headings], words
    assert "81.0 ± 1.0 (N=3)" in page.text and "+10.0 ± 0.0 (N=3)" in page.text
    ((_, answer),) = compare(store, store.runs())[0].answers()
    assert f"{answer.headline} {answer.sentence}" in page.text
    for words in (
        "synthetic task", "Where this differs from the paper.", "( 1 − α ) hard + α soft", "Test CPU",
        "Settings in which the groups differ", "Made on 2026-01-02", "validation: 1000 rows", f"report {runs[0]}",
    ):  # fmt: skip
        assert words in page.text, words
    assert '<ul class="topics"><li><strong>sources</strong>: ' in text and "<code>reduction=" in text


def test_quality_stands_against_latency(store: Store, runs: list[str]) -> None:
    page = Page(report.html(store, runs))
    named = [one["aria-label"] or "" for one in page.all("div") if one.get("class") == "plot"]
    assert any("Latency per row (ms, batch 1, 32 tokens, median)" in one for one in named)
    assert "Measured on Test CPU (2 cores), fp32, 1 thread, 32 tokens." in page.text
    untimed = [add(store, run_config(method, 7), end="stopped") for method in ("kd", "fine-tune")]
    assert "Latency per row" not in Page(report.html(store, untimed)).text


def test_it_asks_nobody_for_anything_and_brings_plotly_once(store: Store, runs: list[str]) -> None:
    text = report.html(store, runs)
    page = Page(text)
    library = PLOTLY_JS.read_text(encoding="utf-8")
    assert text.count(library) == 1 and "</script" not in library
    assert len(text) < len(library) + 500_000
    assert not [name for name in ("link", "img", "iframe", "object", "base") if page.all(name)]
    assert not [one for one in page.all("script") if "src" in one]
    assert all((one["href"] or "").startswith("#") for one in page.all("a"))
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'") and "http" not in policy
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style and "prefers-color-scheme: dark" in style


def test_the_same_runs_make_the_same_file(store: Store, runs: list[str]) -> None:
    assert report.html(store, runs, made=MADE) == report.html(store, runs, made=MADE)


def test_typed_text_is_never_markup(store: Store) -> None:
    teacher = {"name": "large", "source": "pocket", "where": "large"}
    run = add(store, run_config("kd", name=HOSTILE, teachers=[teacher]))
    other = add(store, run_config("fine-tune", name=HOSTILE + "\u202e"))
    store.annotate(run, note=f"{HOSTILE}\nsecond line")
    text = report.html(store, [run, other])
    page = Page(text)
    assert {"script", "img", "b"} & {tag for tag, _ in page.tags} == {"script"}
    plots = [one for one in page.all("div") if one.get("class") == "plot"]
    assert len(page.all("script")) == len(plots) + 2, "one for the numbers of each plot, plotly.js, and what draws"
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count("<img src=x onerror=alert(1)>") >= 3, "it is shown, letter by letter"
    assert "\u202e" not in page.text and f"{HOSTILE} second line" in page.text


def test_text_and_data_are_made_harmless() -> None:
    assert escape('<a href="x">') == "&lt;a href=&quot;x&quot;&gt;"
    assert inert({"x": "</script>&"}) == '{"x": "\\u003c/script\\u003e\\u0026"}'
    assert prose("read on `select` only", "Note.") == "<p><strong>Note.</strong> read on <code>select</code> only</p>"


def test_tables_and_plots_can_be_read_without_seeing(store: Store, runs: list[str]) -> None:
    page = Page(report.html(store, runs))
    tables = len(page.all("table"))
    assert tables == len(page.all("caption")) == len([one for one in page.all("div") if one.get("role") == "region"])
    assert all(one.get("scope") in ("row", "col") for one in page.all("th"))
    plots = [one for one in page.all("div") if one.get("class") == "plot"]
    assert len(plots) == len(page.all("figcaption")) == len(page.all("details")) > 2
    assert all(one["role"] == "img" and len(one["aria-label"] or "") > 10 for one in plots)
    assert page.all("html")[0]["lang"] == "en" and page.all("main")


def test_the_baseline_is_chosen(store: Store, runs: list[str]) -> None:
    text = Page(report.html(store, runs, baseline=runs[0])).text
    assert "-10.0 ± 0.0 (N=3)" in text and "Fine-tuning alone, 2 x 32 against KD, 2 x 32" in text
    assert f"--baseline {runs[0]}" in text


def test_tasks_stand_one_after_the_other_with_an_average(store: Store) -> None:
    made = [
        add(store, run_config(method, task=task), score=score)
        for task, scores in (("pocket-sentiment", (0.8, 0.7)), ("pocket-entailment", (0.6, 0.5)))
        for method, score in zip(("kd", "fine-tune"), scores, strict=True)
    ]
    page = Page(report.html(store, made))
    assert "Scores by task" in page.text and "70.0 (N=1)" in page.text and "no GLUE average" in page.text
    anchors = {one["id"] for tag, one in page.tags if "id" in one}
    assert {(one["href"] or "")[1:] for one in page.all("a")} <= anchors


def test_a_damaged_record_costs_one_part(store: Store, runs: list[str]) -> None:
    store.record(runs[0], [Probed("distances", 99, {"cka": [["x"]], "teacher": "large"})])
    text = Page(report.html(store, runs)).text
    assert "This part could not be made: ValueError" in text and "Latency, median over runs" in text


@pytest.mark.parametrize(
    ("chosen", "baseline", "field"), [([], None, "runs"), (["nope"], None, "run"), (None, "nope", "baseline")]
)
def test_what_cannot_be_reported_is_refused(
    store: Store, runs: list[str], chosen: list[str] | None, baseline: str | None, field: str
) -> None:
    with pytest.raises(UserError) as refused:
        report.html(store, runs if chosen is None else chosen, baseline)
    assert refused.value.field == field


def _kd(*arguments: Any) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_writes_and_does_not_overwrite(store: Store, runs: list[str], tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    code, out, _ = _kd("report", *runs, "--baseline", runs[0], "-o", file)
    assert code == 0 and out.startswith(f"wrote {file} (") and file.read_text().startswith("<!DOCTYPE html>")
    file.write_text("mine")
    code, _, error = _kd("report", *runs, "-o", file)
    assert code == 2 and "exists; name another file, or add --force" in error and file.read_text() == "mine"
    assert _kd("report", *runs, "-o", file, "--force")[0] == 0 and len(file.read_text()) > 1_000_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "x.html"], "Missing argument"),
        (["nope", "-o", "x.html"], "no run 'nope'"),
        (["nope", "-o", "absent/x.html"], "names no file in an existing folder"),
        (["nope"], "Missing option"),
    ],
)
def test_the_command_says_what_is_wrong(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, error = _kd("report", *arguments)
    assert code == 2 and words in error and error.startswith("error: ") and error.count("\n") == 1 and not out
    assert not (tmp_path / "x.html").exists()


def test_how_closely_students_follow_stands_in_it(store: Store) -> None:
    run = add(store, run_config("kd"))
    answers = {"large": {"validation": {"agreement": 0.8125, "kl": 0.5}}}
    loyalty = {"split": "validation", "teachers": {"large": {"spearman": 0.4375, "cosine": 0.25, "rows": 64}}}
    store.record(run, [Probed("fidelity", 9, answers), Probed("saliency", 9, loyalty)])
    text = Page(report.html(store, [run], made=MADE)).text
    assert "How closely students follow their teachers" in text and "saliency loyalty (rank)" in text
    assert "0.812" in text and "0.438" in text
