"""The table of methods says what their classes say, and costs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kdcore.methods import METHODS, catalog, docs
from kdcore.records import Paper

FILE = """
class Settings:
    key = "x"

class Made(Method):
    \"\"\"Made for
    a test.

    loss     x
    \"\"\"

    key = "made"
    title = "Made"
    family = "hidden"
    papers = (
        Paper(key="a2020b", title="T", authors="A B", venue="V", year=2020, arxiv="2001.00001"),
        Paper(key="c2021d", title="U", authors="C D", venue="V", year=2021, arxiv="2101.00001"),
    )
"""


def test_the_catalog_is_what_the_classes_say() -> None:
    infos = catalog.catalog()
    assert list(infos) == list(METHODS)
    for key, method in METHODS.items():
        info = infos[key]
        assert (info.key, info.title, info.papers, info.family) == (key, method.title, method.papers, method.family)
        assert info.idea == docs.read(method).idea
        assert method.__module__ == f"kdcore.methods.{info.module}"


def test_a_file_is_read_without_running_it() -> None:
    info = catalog.read_info(FILE, "made")
    assert (info.key, info.title, info.family, info.module) == ("made", "Made", "hidden", "made")
    assert (info.idea, info.cite, [paper.year for paper in info.papers]) == ("Made for a test.", "B 2020", [2020, 2021])
    assert info.family_name == "hidden states" and info.place == (2, 2020)


def test_a_method_may_be_nobodys() -> None:
    own = FILE[: FILE.index("    papers")] + "    papers = ()\n"
    info = catalog.read_info(own, "made")
    assert (info.papers, info.cite) == ((), "no paper")
    assert info.place > catalog.read_info(FILE, "made").place


def test_methods_are_listed_by_family_and_year() -> None:
    places = [info.place for info in catalog.catalog().values()]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = 1",
        FILE.replace('"made"', "name()"),
        FILE.replace("Paper(key=", "Paper("),
        FILE.replace('"hidden"', '"other"'),
        FILE.replace("papers = (", "papers = list("),
    ],
)
def test_what_is_not_a_literal_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        catalog.read_info(text, "made")


def test_a_method_from_elsewhere_is_called_by_its_key() -> None:
    assert (catalog.title_of("pkd"), catalog.title_of("x" * 60)) == ("Patient KD", "x" * 40)


@pytest.mark.parametrize(
    ("authors", "expected"),
    [("Siqi Sun, Yu Cheng, Zhe Gan", "Sun et al. 2019"), ("A Hahn, B Choi", "Hahn and Choi 2019"), ("A Hu", "Hu 2019")],
)
def test_a_paper_is_cited_in_one_way(authors: str, expected: str) -> None:
    assert Paper("k", "T", authors, "V", 2019, "1").cite == expected


@pytest.mark.parametrize(
    "code",
    [
        "import kdcore.methods",
        "from kdcore.methods import catalog; catalog.catalog(); catalog.title_of('pkd')",
        "from kdcore.figures import palette; assert palette.style('pkd').label == 'Patient KD'",
    ],
)
def test_titles_and_colours_load_no_torch(code: str) -> None:
    code += "; import sys; sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_package_gives_nothing_that_it_does_not_name() -> None:
    import kdcore.methods

    with pytest.raises(AttributeError, match="nothing"):
        kdcore.methods.nothing  # noqa: B018


@pytest.mark.parametrize("key", METHODS)
def test_every_method_has_its_loss_as_a_formula(key: str) -> None:
    formula = catalog.catalog()[key].formula
    assert formula.startswith(r"\mathcal{L}") and formula == " ".join(METHODS[key].formula.split())
    assert formula.count("{") == formula.count("}")
    assert (r"^{\mathrm S}" in formula or "^{(" in formula) and (r"^{\mathrm T" in formula or key == "fine-tune")
    assert "_{" + r"\mathrm" not in formula, "student and teacher are superscripts"
