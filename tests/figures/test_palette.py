"""Colours: one place, one meaning, readable on both pages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from kdcore.figures import palette, template
from kdcore.methods import METHODS, docs

ROOT = Path(__file__).resolve().parents[2]


def _luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first: str, second: str) -> float:
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_every_colour_stands_out_from_its_page(dark: bool) -> None:
    colors = {
        **{family: pair[dark] for family, pair in palette.FAMILIES.items()},
        "teacher": palette.teacher(dark).color,
    }
    colors |= {f"term {at}": palette.term_color(at, dark) for at in range(len(palette.TERM_COLORS))}
    weak = {name: color for name, color in colors.items() if _contrast(color, template.PAGE[dark]) < 3.0}
    assert not weak


def test_colour_is_the_familys_and_methods_of_a_family_differ_in_dash_and_marker() -> None:
    looks = {key: palette.style(key) for key in METHODS}
    for key, look in looks.items():
        assert look.color == palette.FAMILIES[METHODS[key].family][0]
    families: dict[str, list[palette.Style]] = {}
    for key, look in looks.items():
        families.setdefault(METHODS[key].family, []).append(look)
    for members in families.values():
        assert len({(look.dash, look.marker) for look in members}) == len(members)


@pytest.mark.parametrize("dark", [False, True])
def test_a_term_has_the_colour_of_what_it_matches_whatever_its_place(dark: bool) -> None:
    for family, terms in {
        "none": ["hard"], "soft_targets": ["soft"], "hidden": ["patience", "hidden", "embedding"],
        "attention": ["attention"], "relation": ["values", "sample"],
    }.items():  # fmt: skip
        for name in terms:
            for names in ([name], ["hard", "soft", "unheard of", name]):
                assert palette.term_looks(names, dark)[name][0] == palette.FAMILIES[family][dark]


def test_terms_of_one_run_never_look_alike() -> None:
    for key, method in METHODS.items():
        looks = palette.term_looks(list(docs.read(method).terms))
        assert len(set(looks.values())) == len(looks), key
    assert len(set(palette.term_looks(["a", "b", "c"]).values())) == 3


def test_an_unknown_method_is_neutral_and_keeps_its_name() -> None:
    look = palette.style("from-elsewhere")
    assert look.label == "from-elsewhere" and look.color == palette.FAMILIES["none"][0]


def test_faded_is_css() -> None:
    assert palette.faded("#0228FD", 0.18) == "rgba(2,40,253,0.18)"


def test_no_page_names_a_colour_of_its_own() -> None:
    """Pages take colours from the palette; the picture of the start page too."""
    found = []
    for path in [ROOT / "app.py", *(ROOT / "pages").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.search(r"#[0-9A-Fa-f]{6}", node.value)
            ):
                found.append(f"{path.name}:{node.lineno}")
    assert not found


def test_both_themes_are_complete_and_use_the_palette() -> None:
    import tomllib

    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    for mode, dark in (("light", False), ("dark", True)):
        theme = config["theme"][mode]
        assert theme["backgroundColor"] == template.PAGE[dark]
        assert set(theme["chartCategoricalColors"]) >= {
            palette.FAMILIES[one][dark] for one in ("soft_targets", "hidden")
        }
        assert _contrast(theme["textColor"], theme["backgroundColor"]) >= 7
    assert config["server"]["address"] == "127.0.0.1" and config["server"]["headless"] is True
    assert config["browser"]["gatherUsageStats"] is False
