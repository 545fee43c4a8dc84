"""Methods that are not shipped: Python files and packages that a person names. They are found and read, nothing is run.

Three ways in, each a person's own word on this machine: `--method-file`, a folder in `KD_METHODS_DIR`, and installed
packages with an entry point in the group `kdboard.methods` (`angle-kd = "my_package.angle:AngleKD"`). Nothing that is
imported, clicked or typed into a page names one.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from kdcore.config import MethodSource
from kdcore.errors import UserError
from kdcore.methods.info import LITERALS, MethodInfo, MethodTextError, assignments, classes, info_of

FILES, FOLDER = "KD_METHOD_FILES", "KD_METHODS_DIR"
"""Environment variables: what `--method-file` named, for processes started from here, and a folder of files."""
GROUP = "kdboard.methods"
"""Entry points of packages that bring methods."""
LARGEST_FILE = 2**20
VERSION_DIGITS = 12
_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_CHECK = "mend it; `kdcore check-method FILE` tries it alone"


class MethodPaths(NamedTuple):
    """What a person has named: the values of `FILES` and `FOLDER`."""

    files: str
    folder: str


@dataclass(frozen=True)
class OutsideMethod:
    """A method that can be loaded. text: what runs; class_name: in it. module: of a package, empty for a file."""

    info: MethodInfo
    path: Path
    text: str
    class_name: str
    module: str = ""


@dataclass(frozen=True)
class OutsideMethods:
    """Key -> method, and file or entry point -> why it is not taken."""

    methods: Mapping[str, OutsideMethod]
    problems: Mapping[str, UserError]


def method_paths() -> MethodPaths:
    """What is named now."""
    return MethodPaths(os.environ.get(FILES, ""), os.environ.get(FOLDER, ""))


def with_files(before: MethodPaths, paths: list[Path]) -> MethodPaths:
    """The same with these files.

    Raises:
        UserError: a path that holds the sign between paths.
    """
    texts = [str(path.resolve()) for path in paths]
    for text in texts:
        if os.pathsep in text:
            raise UserError("--method-file", f"{text} has a {os.pathsep!r} in it", "move the file to another folder")
    return before._replace(
        files=os.pathsep.join(dict.fromkeys([*filter(None, before.files.split(os.pathsep)), *texts]))
    )


def keep(chosen: MethodPaths) -> None:
    """Names the files for this process and those that it starts."""
    os.environ[FILES] = chosen.files


def find(chosen: MethodPaths, shipped: Mapping[str, MethodInfo]) -> OutsideMethods:
    """The methods that are named, in files and in installed packages.

    Args:
        shipped: key -> methods whose names are taken.
    """
    methods: dict[str, OutsideMethod] = {}
    problems: dict[str, UserError] = {}
    if chosen.folder and not Path(chosen.folder).is_dir():
        problems[chosen.folder] = UserError(FOLDER, f"{chosen.folder} is not a folder", "name a folder of Python files")
    for where, read in _candidates(chosen):
        try:
            method = read()
            _check_name(method, shipped, methods)
        except UserError as error:
            problems[where] = error
        else:
            methods[method.info.key] = method
    return OutsideMethods(methods, problems)


def _candidates(chosen: MethodPaths) -> Iterator[tuple[str, _Reader]]:
    """(file or entry point, what reads it); a file that is named twice comes once."""
    paths = [Path(text) for text in chosen.files.split(os.pathsep) if text]
    if chosen.folder and Path(chosen.folder).is_dir():
        paths += sorted(path for path in Path(chosen.folder).glob("*.py") if path.name[0] not in "_.")
    for path in dict.fromkeys(path.resolve() for path in paths):
        yield str(path), _Reader(path)
    for point in _points():
        yield f"{GROUP}: {point.name}", _Reader(point)


class _Reader:
    """Reads one candidate when it is called."""

    def __init__(self, candidate: Path | EntryPoint) -> None:
        self.candidate = candidate

    def __call__(self) -> OutsideMethod:
        if isinstance(self.candidate, EntryPoint):
            return read_package(self.candidate)
        return read_file(self.candidate)


@cache
def _points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def read_file(path: Path) -> OutsideMethod:
    """The method in a file of one's own.

    Raises:
        UserError: it cannot be read, or holds no method; file, line and remedy are named.
    """
    text = _text(path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    info, name = _read(text, path, "")
    source = MethodSource(origin=path.name[:200], version=digest[:VERSION_DIGITS])
    return OutsideMethod(replace(info, source=source, sha256=digest), path, text, name)


def read_package(point: EntryPoint) -> OutsideMethod:
    """The method that an installed package's entry point names.

    Raises:
        UserError: there is no such module or class, or it is no method.
    """
    package = f"{point.dist.name} {point.dist.version}" if point.dist else point.module
    field = f"entry point {point.name} of {package}"
    try:
        spec = find_spec(point.module)
    except Exception as error:  # whatever the package's own code raises
        problem = f"{point.module} cannot be imported ({type(error).__name__}: {str(error)[:200]})"
        raise UserError(field, problem, "mend the package, or uninstall it") from None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise UserError(field, f"there is no module {point.module}", "mend the package's entry point, or uninstall it")
    path = Path(spec.origin)
    text = _text(path)
    info, name = _read(text, path, point.attr)
    digest = _package_hash(point.module, path)
    source = MethodSource(origin=package[:200], version=digest[:VERSION_DIGITS])
    return OutsideMethod(replace(info, source=source, sha256=digest), path, text, name, point.module)


def _package_hash(module: str, path: Path) -> str:
    """SHA-256 over all Python files of the package that the module is in; of a module alone, over its own."""
    top = find_spec(module.partition(".")[0])
    folders = [Path(folder) for folder in (top.submodule_search_locations or ())] if top else []
    files = sorted((file.relative_to(folder).as_posix(), file) for folder in folders for file in folder.rglob("*.py"))
    digest = hashlib.sha256()
    for name, file in files or [(path.name, path)]:
        content = file.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _text(path: Path) -> str:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST_FILE:
            raise UserError(path.name, f"{path} is not a file of at most 1 MiB", "name a Python file with one method")
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise UserError(path.name, f"there is no {path}", "name a Python file with one method") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(path.name, f"{path} cannot be read ({error})", "save it as text in UTF-8") from None


def _read(text: str, path: Path, class_name: str) -> tuple[MethodInfo, str]:
    """What the text says of its method, and the name of its class."""
    try:
        node = _method_class(ast.parse(text), class_name)
        info = info_of(node, path.stem)
        if not _KEY.fullmatch(info.key):
            line = assignments(node)["key"].lineno
            raise MethodTextError(f"the key {info.key[:40]!r} is not made of a-z, 0-9 and '-', 40 at most", line)
    except SyntaxError as error:
        raise UserError(place(path, error.lineno or 0), f"it is not Python ({error.msg})", "mend that line") from None
    except (ValueError, RecursionError) as error:
        problem, line = (error.problem, error.line) if isinstance(error, MethodTextError) else (str(error), 0)
        raise UserError(place(path, line), problem, _remedy(problem)) from None
    return info, node.name


def _method_class(tree: ast.Module, name: str) -> ast.ClassDef:
    """The class of this name, or the only one that has the look of a method."""
    if name:
        chosen = [node for node in classes(tree) if node.name == name]
    else:
        chosen = [node for node in classes(tree) if set(LITERALS) <= assignments(node).keys()]
        chosen = chosen or [node for node in classes(tree) if _is_meant(node)][:1]
    if not chosen:
        raise MethodTextError(f"there is no class {name}" if name else "it has no Method class")
    if len(chosen) > 1:
        raise MethodTextError(f"it has two methods, {chosen[0].name} and {chosen[1].name}", chosen[1].lineno)
    return chosen[0]


def _is_meant(node: ast.ClassDef) -> bool:
    bases = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
    return "Method" in bases or {"key", "title"} & assignments(node).keys() != set()


def _remedy(problem: str) -> str:
    if "no Method class" in problem:
        return "write `class MyMethod(Method)` with " + ", ".join(LITERALS) + "; docs/add-a-method.md has an example"
    if "two methods" in problem:
        return "put each into a file of its own"
    if "no class" in problem:
        return "name the class in the entry point as module:Class"
    return "write it as docs/add-a-method.md shows: " + ", ".join(LITERALS) + " as literals in the class"


def _check_name(method: OutsideMethod, shipped: Mapping[str, MethodInfo], others: Mapping[str, OutsideMethod]) -> None:
    key = method.info.key
    line = next(
        (assignments(node)["key"].lineno for node in classes(ast.parse(method.text)) if node.name == method.class_name),
        0,
    )
    if key in shipped:
        problem = f"the key {key!r} is that of the shipped method {shipped[key].title}"
        raise UserError(place(method.path, line), problem, "give it a key of its own")
    if key in others:
        problem = f"the key {key!r} is also that of {others[key].path}"
        raise UserError(place(method.path, line), problem, "give one of the two another key, or name one of them only")


def place(path: Path, line: int) -> str:
    """`my.py, line 12`."""
    return f"{path.name}, line {line}" if line else path.name
