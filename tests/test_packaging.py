"""What `pip install` brings, and what the lock files hold."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from kdcore import paths

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-dev.lock")
NOT_LOCKED = {"torch"}
"""Its build depends on the machine, so no one hash fits."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this tree, built in a copy of it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, source)
    for name in ("kdcore", "pages", "bench", "static"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(source)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, timeout=300)
    (path,) = source.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_engine_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "kdcore").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == files


def test_the_wheel_brings_the_command_and_the_licence(wheel):
    info = {name.split(".dist-info/")[1]: wheel.read(name).decode() for name in wheel.namelist() if "dist-info" in name}
    assert "kdcore = kdcore.cli:app" in info["entry_points.txt"]
    assert "Apache License" in info["licenses/LICENSE"] and "License-Expression: Apache-2.0" in info["METADATA"]
    for name, version in pins("requirements.txt").items():
        assert re.search(rf"^Requires-Dist: {name}=={version}$", info["METADATA"], re.MULTILINE | re.IGNORECASE), name
    assert re.search(r"^Requires-Dist: pytest==.*extra == .dev.", info["METADATA"], re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    """Package -> version of a requirements or lock file, packages in lower case."""
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {package.lower().replace("_", "-"): version for package, version in found}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_agrees_with_the_requirements(name):
    asked = pins("requirements.txt") | (pins("requirements-dev.txt") if "dev" in name else {})
    locked = pins(name)
    assert {package: locked.get(package) for package in asked if package not in NOT_LOCKED} == {
        package: version for package, version in asked.items() if package not in NOT_LOCKED
    }
    assert not NOT_LOCKED & locked.keys() and not any(package.startswith("nvidia") for package in locked)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_names_no_registry(name):
    text = (ROOT / name).read_text()
    assert "://" not in text and not re.search(r"--(?!hash)", text)
    entries = re.split(r"\n(?=[a-z])", text)[1:]
    assert entries and all("--hash=sha256:" in entry for entry in entries)


def test_the_developers_lock_extends_the_other():
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


def test_versions_agree():
    import kdcore

    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {kdcore.__version__}\n" in citation
    assert f"\nlicense: {PROJECT['project']['license']}\n" in citation


def test_a_checkout_writes_beside_itself_and_an_installed_package_into_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("KD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of-the-user"))
    package = tmp_path / "site-packages" / "kdcore"
    package.mkdir(parents=True)
    monkeypatch.setattr(paths, "__file__", str(package / "paths.py"))
    assert paths.cache_dir() == tmp_path / "of-the-user" / "kdboard"
    (package.parent / "app.py").touch()
    assert paths.cache_dir() == package.parent / "cache"


def test_the_slow_tests_are_there():
    from tests.conftest import HERE, SLOW

    assert [name for name in SLOW if not (HERE / name).exists()] == []
