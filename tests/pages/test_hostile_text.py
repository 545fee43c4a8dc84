"""Typed text stays text: no link on a page, no formula in a file that a spreadsheet opens."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest

from pages.parts.common.csv_file import csv_bytes
from pages.parts.common.text import plain

AUTOLINKS = (
    re.compile(r"(https?://|www(?=\.))([-.\w]+)([^ \t\r\n]*)", re.IGNORECASE),
    re.compile(r"([-.\w+]+)@([-\w]+(?:\.[-\w]+)+)"),
    re.compile(r"(mailto:|xmpp:|ftp://)[-.\w]", re.IGNORECASE),
)
"""What GitHub's Markdown makes a link of in plain text, after escapes are resolved."""


def shown(text: str) -> str:
    """As Markdown shows an escaped text."""
    return re.sub(r"\\(.)", r"\1", plain(text))


@pytest.mark.parametrize(
    "text",
    [
        "http://evil.invalid/x.png", "see HTTPS://evil.invalid", "www.evil.invalid", "(www.evil.invalid)",
        "someone@evil.invalid", "first.last+tag@evil.invalid", "mailto:a@evil.invalid", "xmpp:a@evil.invalid",
        "http://www.evil.invalid/http://www.evil.invalid", "ftp://evil.invalid",
    ],
)  # fmt: skip
def test_a_bare_address_is_no_link(text: str) -> None:
    assert any(link.search(text) for link in AUTOLINKS)
    assert not any(link.search(shown(text)) for link in AUTOLINKS)
    assert shown(text).replace("\u2060", "") == text


@pytest.mark.parametrize("text", ["kd, 3 layers", "http", "a @ b", "10:30", "w3.css", "https", "www"])
def test_other_text_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == text


HOSTILE = ["=cmd|'/c calc'!A1", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", " =1", "\uff1d1+1", "\r=1"]


def test_no_cell_or_column_of_a_file_is_a_formula() -> None:
    table = pd.DataFrame({"=name": HOSTILE, "score": [-0.5] * len(HOSTILE), "kind": pd.Categorical(HOSTILE)})
    written = pd.read_csv(io.BytesIO(csv_bytes(table)), keep_default_na=False)
    assert written.columns.tolist() == ["'=name", "score", "kind"]
    assert written["'=name"].str.startswith("'").all()
    assert written["kind"].str.startswith("'").all()
    assert written["score"].tolist() == [-0.5] * len(HOSTILE)


def test_numbers_dates_and_plain_text_stay() -> None:
    table = pd.DataFrame(
        {
            "text": ["-0.5", "+3", "plain", "a=b", None, "-"],
            "when": pd.to_datetime(["2024-01-01"] * 6),
            "mixed": [1, -2.5, "x", True, None, "\ud83d"],
        }
    )
    lines = csv_bytes(table).decode().splitlines()
    assert lines[1:4] == ["-0.5,2024-01-01,1", "+3,2024-01-01,-2.5", "plain,2024-01-01,x"]
    assert lines[6].startswith("'-,")
    two = pd.DataFrame([["=1", "=2"]], columns=["same", "same"])
    assert csv_bytes(two).decode().splitlines()[1] == "'=1,'=2"
