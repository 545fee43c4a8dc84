"""The table of methods says what their classes say, and costs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kdcore.methods import METHODS, catalog
from kdcore.records import Paper

FILE = """
class Settings:
    key = "x"

class Made(Method):
    key = "made"
    title = "Made"
    paper = Paper(key="a2020b", title="T", authors="A B", venue="V", year=2020, arxiv="2001.00001", family="hidden")
"""


def test_the_catalog_is_what_the_classes_say() -> None:
    infos = catalog.catalog()
    assert list(infos) == list(METHODS)
    for key, method in METHODS.items():
        info = infos[key]
        assert (info.key, info.title, info.paper, info.family) == (key, method.title, method.paper, method.paper.family)
        assert method.__module__ == f"kdcore.methods.{info.module}"


def test_a_file_is_read_without_running_it() -> None:
    info = catalog.read_info(FILE, "made")
    assert (info.key, info.title, info.paper.year, info.module) == ("made", "Made", 2020, "made")


@pytest.mark.parametrize("text", ["", "x = 1", FILE.replace('"made"', "name()"), FILE.replace("Paper(key=", "Paper(")])
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
    assert Paper("k", "T", authors, "V", 2019, "1", "hidden").cite == expected


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
