"""Methods from files and packages: found and read without being run, refused with file, line and remedy."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from kdcore.config import MethodSource, RunConfig
from kdcore.errors import UserError
from kdcore.methods import METHODS, catalog, docs, find_method, outside, problems, resolve
from tests.helpers import own_method

pytestmark = pytest.mark.usefixtures("methods_as_before")


def run(**changes: object) -> RunConfig:
    return RunConfig.model_validate({"task": "pocket-sentiment", "method": own_method.KEY} | changes)


def test_a_file_brings_a_method_like_any_other(tmp_path: Path) -> None:
    path = own_method.write(tmp_path)
    catalog.add_files([path])
    info = catalog.catalog()[own_method.KEY]
    assert (info.title, info.family, info.cite) == ("Angle KD", "hidden", "no paper")
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info.source == MethodSource(origin="angle_kd.py", version=info.sha256[:12])
    method, config = resolve(own_method.KEY, {"beta": 2})
    assert METHODS[own_method.KEY] is method and config.beta == 2.0
    assert docs.read(method).idea == info.idea
    assert catalog.title_of(own_method.KEY) == "Angle KD"
    places = [one.place for one in catalog.catalog().values()]
    assert places == sorted(places)


def test_a_folder_brings_each_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_method.write(tmp_path)
    own_method.write(tmp_path, "b.py", key="other-kd")
    own_method.write(tmp_path, "_aside.py", key="aside-kd")
    monkeypatch.setenv("KD_METHODS_DIR", str(tmp_path))
    assert set(catalog.outside_methods().methods) == {own_method.KEY, "other-kd"} and not problems()
    assert {find_method(key).key for key in catalog.outside_methods().methods} == {own_method.KEY, "other-kd"}


def test_reading_runs_nothing_and_loads_no_torch(tmp_path: Path) -> None:
    own_method.write(tmp_path, more="\nraise SystemExit('it was run')\n")
    code = (
        "import sys; from kdcore.methods import catalog; assert catalog.title_of('angle-kd') == 'Angle KD'; "
        "sys.exit('torch' in sys.modules)"
    )
    settings = os.environ | {"KD_METHODS_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=settings)


@pytest.mark.parametrize(
    ("change", "line", "problem", "remedy"),
    [
        (lambda text: text + "\nx = = 1\n", -1, "not Python", "mend that line"),
        (lambda text: "x = 1\n", None, "no Method class", "class MyMethod(Method)"),
        (lambda text: text.replace('    family = "hidden"\n', ""), "class AngleKD", "lacks family", "literals"),
        (lambda text: text.replace('"hidden"', '"odd"'), "family =", "none of the families", "literals"),
        (lambda text: text.replace('"Angle KD"', "str(1)"), "title =", "`title` is no literal", "literals"),
        (lambda text: text.replace('"angle-kd"', '"Angle KD"'), "key =", "a-z", "literals"),
        (lambda text: text.replace('"angle-kd"', '"pkd"'), "key =", "shipped method Patient KD", "key of its own"),
        (lambda text: text + text[text.index("class ") :].replace("AngleKD", "Two"), "class Two", "two methods", "own"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(
    tmp_path: Path, change, line: object, problem: str, remedy: str
) -> None:
    path = tmp_path / "angle_kd.py"
    text = change(own_method.text())
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        catalog.add_files([path])
    error = raised.value
    lines = text.splitlines()
    if isinstance(line, str):
        line = next(number for number, words in enumerate(lines, 1) if words.strip().startswith(line))
    expected = "angle_kd.py" if line is None else f"angle_kd.py, line {len(lines) if line == -1 else line}"
    assert error.field == expected and problem in error.problem and remedy in error.remedy
    assert own_method.KEY not in catalog.catalog() and os.environ["KD_METHOD_FILES"] == ""


@pytest.mark.parametrize("name", ["absent.py", "folder.py", "latin.py", "large.py"])
def test_what_is_no_file_of_python_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "folder.py":
        path.mkdir()
    elif name == "latin.py":
        path.write_bytes(b"# \xe9")
    elif name == "large.py":
        path.write_bytes(b"#" * (outside.LARGEST_FILE + 1))
    with pytest.raises(UserError, match=name):
        catalog.add_files([path])


def test_two_files_with_one_key_are_refused_and_the_same_file_twice_is_not(tmp_path: Path) -> None:
    first, second = own_method.write(tmp_path), own_method.write(tmp_path, "again.py")
    catalog.add_files([first, first])
    catalog.add_files([first])
    with pytest.raises(UserError, match=r"again\.py, line \d+: .* is also that of .*angle_kd\.py") as raised:
        catalog.add_files([second])
    assert "another key" in raised.value.remedy


def test_a_file_in_a_folder_that_cannot_be_taken_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_method.write(tmp_path)
    (tmp_path / "broken.py").write_text("def f(:\n")
    own_method.write(tmp_path, "raises.py", key="raises-kd", more="\n\nprint(undefined_name)\n")
    monkeypatch.setenv("KD_METHODS_DIR", str(tmp_path))
    assert find_method(own_method.KEY).title == "Angle KD"
    with pytest.raises(UserError) as raised:
        find_method("raises-kd")
    last = len((tmp_path / "raises.py").read_text().splitlines())
    assert raised.value.field == f"raises.py, line {last}" and "NameError" in raised.value.problem
    assert {problem.field.partition(",")[0] for problem in problems()} == {"broken.py", "raises.py"}
    with pytest.raises(UserError, match=r"broken\.py, line 1"):
        find_method("broken-kd")


def test_a_class_that_is_no_method_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.py"
    path.write_text('class Plain:\n    key = "plain"\n    title = "P"\n    family = "none"\n    papers = ()\n')
    catalog.add_files([path])
    with pytest.raises(UserError, match=r"plain\.py: Plain is not a Method; write `class Plain\(Method\)`"):
        find_method("plain")


def test_a_folder_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KD_METHODS_DIR", str(tmp_path / "nowhere"))
    (problem,) = problems()
    assert problem.field == "KD_METHODS_DIR" and "not a folder" in problem.problem


def test_what_runs_is_what_was_hashed(tmp_path: Path) -> None:
    """A file that changes between reading and loading does not run under the old hash."""
    path = own_method.write(tmp_path)
    catalog.add_files([path])
    path.write_text(path.read_text().replace('title = "Angle KD"', 'title = "Changed"'))
    assert find_method(own_method.KEY).title == "Angle KD"


def test_an_installed_package_brings_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "angle_package"
    path = own_method.write(package, "angle.py")
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    points = (
        EntryPoint("angle-kd", "angle_package.angle:AngleKD", outside.GROUP),
        EntryPoint("absent", "angle_package.absent:Absent", outside.GROUP),
        EntryPoint("other", "angle_package.angle:Other", outside.GROUP),
    )
    monkeypatch.setattr(outside, "_points", lambda: points)
    catalog._outside_methods.cache_clear()
    catalog._whole.cache_clear()
    try:
        info = catalog.catalog()[own_method.KEY]
        assert info.source is not None and info.source.origin.startswith("angle_package")
        assert find_method(own_method.KEY).__module__ == "angle_package.angle"
        assert sorted(problem.problem for problem in problems()) == [
            "there is no class Other", "there is no module angle_package.absent",
        ]  # fmt: skip
        digest = outside._package_hash("angle_package.angle", path)
        (package / "helper.py").write_text("x = 1")
        assert outside._package_hash("angle_package.angle", path) != digest == info.sha256
    finally:
        catalog._outside_methods.cache_clear()
        catalog._whole.cache_clear()


def test_a_run_belongs_to_the_source_it_was_made_with(tmp_path: Path) -> None:
    path = own_method.write(tmp_path)
    catalog.add_files([path])
    mine = run(method_source=catalog.source_of(own_method.KEY))
    catalog.check_source(mine)
    catalog.check_source(run(method="kd"))
    other = run(method_source={"origin": "angle_kd.py", "version": "0" * 12})
    with pytest.raises(UserError, match="version 000000000000, when this run was made") as raised:
        catalog.check_source(other)
    assert "put back" in raised.value.remedy
    absent = run(method="absent-kd", method_source={"origin": "absent.py", "version": "0" * 12})
    with pytest.raises(UserError, match=r"comes from absent\.py, which is not here; name it with --method-file"):
        catalog.check_source(absent)
    package = run(method="absent-kd", method_source={"origin": "angles 1.2", "version": "0" * 12})
    with pytest.raises(UserError, match=r"install angles 1\.2"):
        catalog.check_source(package)


def test_a_run_whose_file_is_broken_now_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = own_method.write(tmp_path)
    path.write_text("def f(:\n")
    monkeypatch.setenv("KD_METHODS_DIR", str(tmp_path))
    stored = run(method_source={"origin": "angle_kd.py", "version": "0" * 12})
    with pytest.raises(UserError, match=r"cannot be taken \(angle_kd\.py, line 1"):
        catalog.check_source(stored)


def test_a_method_from_outside_changes_no_look_of_the_shipped_ones(tmp_path: Path) -> None:
    from kdcore.figures import palette

    palette.style.cache_clear()
    before = {key: palette.style(key) for key in catalog.built_in()}
    path = own_method.write(tmp_path)
    paper = 'Paper(key="old2012", title="T", authors="A B", venue="V", year=2012, arxiv="1201.00001"),'
    text = (
        path.read_text().replace("import Needs,", "import Paper, Needs,").replace("papers = ()", f"papers = ({paper})")
    )
    path.write_text(text)
    catalog.add_files([path])
    palette.style.cache_clear()
    assert {key: palette.style(key) for key in catalog.built_in()} == before
    assert palette.style(own_method.KEY).label == "Angle KD"
    palette.style.cache_clear()


def test_a_shipped_method_has_no_source() -> None:
    assert not any(info.source or info.sha256 for info in catalog.built_in().values())
    assert catalog.source_of("pkd") is None
