"""Damaged sentences: the same for everyone, more of it with more severity, none of it at severity 0."""

from __future__ import annotations

import numpy as np
import pytest

from kdcore.probes.robustness import KINDS, SEVERITIES, damaged

TEXTS = [
    "the  film is not without its charm , though it is long",
    "a",
    "",
    "an honest , warm and funny picture of two sisters who never say what they think",
]
IDS = np.array([7, 1_000_000_003, 12, 5])


@pytest.mark.parametrize("kind", KINDS)
def test_no_severity_is_no_change_at_all(kind: str) -> None:
    assert damaged(TEXTS, IDS, kind, 0.0) == TEXTS, "double spaces included"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_row_is_damaged_alike_wherever_it_stands(kind: str) -> None:
    once = damaged(TEXTS, IDS, kind, 0.4)
    assert once == damaged(TEXTS, IDS, kind, 0.4)
    assert once[::-1] == damaged(TEXTS[::-1], IDS[::-1], kind, 0.4)
    assert once != damaged(TEXTS, IDS, kind, 0.4, column=1), "two sentences of a pair are damaged apart"
    assert once != damaged(TEXTS, IDS + 1, kind, 0.4)


@pytest.mark.parametrize("kind", KINDS)
def test_more_severity_is_more_damage(kind: str) -> None:
    texts = [" ".join(f"word{i}x{j}" for j in range(30)) for i in range(200)]
    ids, before = np.arange(200), -1.0
    for severity in SEVERITIES:
        changed = np.mean(
            [_changed(a, b, kind) for a, b in zip(texts, damaged(texts, ids, kind, severity), strict=True)]
        )
        assert changed > before
        before = float(changed)
        if kind != "swapped neighbours":
            assert changed == pytest.approx(severity, abs=0.01)


def _changed(before: str, after: str, kind: str) -> float:
    first, second = before.split(), after.split()
    if kind == "dropped words":
        return 1 - len(second) / len(first)
    return float(np.mean([a != b for a, b in zip(first, second, strict=True)]))


def test_a_smaller_damage_is_part_of_a_larger_one() -> None:
    some, more = (damaged(TEXTS, IDS, "typos", severity) for severity in (0.2, 0.4))
    for text, little, much in zip(TEXTS, some, more, strict=True):
        for word, a, b in zip(text.split(), little.split(), much.split(), strict=True):
            assert a in (word, b)
    assert set(damaged(TEXTS, IDS, "dropped words", 0.4)[3].split()) <= set(TEXTS[3].split())


def test_what_each_kind_leaves_as_it_is() -> None:
    assert sorted(damaged(TEXTS, IDS, "swapped neighbours", 1.0)[3].split()) == sorted(TEXTS[3].split())
    assert damaged(["a b c"], [1], "swapped neighbours", 1.0) == ["b a c"]
    assert damaged(["one two"], [3], "dropped words", 1.0)[0] in ("one", "two"), "a row never becomes empty"
    for word in damaged(["ab " * 50], [1], "typos", 1.0)[0].split():
        assert word in ("b", "a", "aab", "abb", "ba") and word != "ab"
    assert damaged(["x", ""], [1, 2], "typos", 1.0) == ["xx", ""]


@pytest.mark.parametrize(("kind", "severity"), [("fire", 0.1), ("typos", 1.1), ("typos", -0.1)])
def test_what_makes_no_sense_is_refused(kind: str, severity: float) -> None:
    with pytest.raises(ValueError, match="kind"):
        damaged(TEXTS, IDS, kind, severity)
