"""Colours: one place, one meaning, readable on both pages."""

from __future__ import annotations

import ast
import itertools
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kdcore.figures import palette, template
from kdcore.methods import METHODS, catalog, docs
from tests.helpers import own_method

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


SEEN_WITHOUT = {
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Linear RGB as seen without one kind of cones: Machado et al. 2009 (TVCG 15(6)), severity 1."""
LAB = (
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]],
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]],
)  # fmt: skip
"""Linear RGB to cones, and the cube roots of these to Oklab (Ottosson 2020), where 0.02 is just seen."""


def _oklab(color: str, seen: list[list[float]]) -> np.ndarray:
    parts = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return LAB[1] @ np.cbrt(LAB[0] @ np.clip(np.array(seen) @ linear, 0, 1))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("without", SEEN_WITHOUT)
def test_families_stay_apart_without_one_kind_of_cones(without: str, dark: bool) -> None:
    seen = {family: _oklab(pair[dark], SEEN_WITHOUT[without]) for family, pair in palette.FAMILIES.items()}
    for first, second in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[first] - seen[second]) > 0.04, (first, second)


def test_colour_is_the_familys_and_without_it_any_two_methods_differ() -> None:
    """So that a line can be told from every other in grey, too."""
    looks = {key: palette.style(key) for key in METHODS}
    for key, look in looks.items():
        assert look.color == palette.FAMILIES[METHODS[key].family][0]
    looks["a method from elsewhere"] = palette.style("a method from elsewhere")
    assert len({(look.dash, look.marker) for look in looks.values()}) == len(looks)
    assert max(Counter(look.marker for look in looks.values()).values()) <= 2, "markers alone tell most points apart"


def test_a_method_from_outside_changes_no_other_look(tmp_path: Path, methods_as_before: None) -> None:
    before = {key: palette.style(key) for key in METHODS}
    catalog.add_files([own_method.write(tmp_path)])
    palette.style.cache_clear()
    assert {key: palette.style(key) for key in before} == before
    own = palette.style(own_method.KEY)
    assert (own.dash, own.marker) not in {(look.dash, look.marker) for look in before.values()}
    palette.style.cache_clear()


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
    assert palette.with_opacity("#0228FD", 0.18) == "rgba(2,40,253,0.18)"


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
