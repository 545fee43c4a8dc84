"""The rules of the code, read from the source: who imports whom, how long a file may be, what a method must bring."""

import ast
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

VOCABULARY = {
    "errors", "events", "config", "records", "batch", "tasks", "paths", "process", "disk", "formatting", "layer_map",
    "tensors", "extras",
}  # fmt: skip
LAYERS: list[set[str]] = [
    VOCABULARY,
    {"identity", "settings_file", "fields", "remote"},
    {"losses"},
    {"data", "models", "store"},
    {"methods"},
    {"probes"},
    {"engine"},
    {"runs"},
    {"analysis"},
    {"export"},
    {"search"},
    {"figures"},
    {"report"},
    {"cli", "api"},
    {"__main__", "pages"},
    {"app"},
]
"""Packages and modules from the ground up. Each imports from layers below its own; there are no exceptions."""

FORBIDDEN = {
    ("methods", "store"),
    ("methods", "data"),
    ("methods", "tasks"),
    ("probes", "store"),
    ("engine", "store"),
}
"""Imports that go down and are wrong all the same: methods see records, engine and probes only give results."""

METHOD_SUPPORT = {
    "base", "catalog", "contract", "contract_bench", "contract_report", "contract_settings", "docs", "domains", "draws",
    "info", "introspect", "outside", "registry", "row_selector", "running_mean", "teacher_weights",
}  # fmt: skip
"""Modules of `kdcore/methods` that are not a method; the only ones there that others there may import."""

LONGEST_FUNCTION = 60
LONGEST_FILE = {"kdcore": 400, "pages": 140}
"""Lines."""

ONLY_IN = {
    "streamlit": ("app.py", "pages/"),
    "plotly": ("kdcore/figures/",),
    "sqlalchemy": ("kdcore/store/",),
    "datasets": ("kdcore/data/", "kdcore/engine/evaluate.py"),
    "evaluate": ("kdcore/engine/evaluate.py",),
    "onnx": ("kdcore/export/",),
    "onnxruntime": ("kdcore/export/",),
    "openvino": ("kdcore/export/",),
    "tensorboard": ("kdcore/runs/trackers.py",),
    "mlflow": ("kdcore/runs/trackers.py",),
    "wandb": ("kdcore/runs/trackers.py",),
    "optuna": ("kdcore/search/",),
    "fsspec": ("kdcore/remote.py",),
}
"""Library -> where it may be imported."""

NOT_IN = {
    "torch": ("app.py", "pages/", "kdcore/figures/", "kdcore/store/", "kdcore/identity.py"),
    "transformers": ("app.py", "pages/", "kdcore/figures/", "kdcore/store/", "kdcore/losses/", "kdcore/methods/"),
}
"""Library -> where it may not be imported: pages choose, call one function and draw."""

HEAVY = ("torch", "transformers", "streamlit", "sqlalchemy", "pandas", "datasets", "plotly", "pydantic")


def sources() -> list[Path]:
    return sorted([*(ROOT / "kdcore").rglob("*.py"), *(ROOT / "pages").rglob("*.py"), ROOT / "app.py"])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def package_of(module: str) -> str | None:
    """What stands in LAYERS for a dotted name, or None for libraries and for `kdcore` itself."""
    parts = module.split(".")
    if parts[0] == "kdcore" and len(parts) > 1:
        return parts[1]
    return parts[0] if parts[0] in ("app", "pages") else None


def imports(path: Path, modules: Iterable[str] = ()) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, local ones and those for type checkers too.

    modules: all of ours; `from kdcore.engine import loop` then names the module `kdcore.engine.loop`.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import; write the whole name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in modules else node.module or ""


def layer_of(package: str) -> int:
    for layer, packages in enumerate(LAYERS):
        if package in packages:
            return layer
    raise AssertionError(f"{package!r} has no layer: add it to LAYERS, and to ARCHITECTURE.md")


def wrong(importer: str, imported: str) -> bool:
    """Whether this package may not import that one."""
    if importer == imported or {importer, imported} <= VOCABULARY:
        return False
    return (importer, imported) in FORBIDDEN or layer_of(imported) >= layer_of(importer)


def import_graph(paths: Iterable[Path]) -> dict[str, set[str]]:
    """Module -> those of ours that it imports anywhere in its text."""
    files = {module_of(path): path for path in paths}
    return {
        module: {target for _, target in imports(path, files) if target in files} - {module, "kdcore"}
        for module, path in files.items()
    }


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which is reached from every other (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for target in sorted(graph[module]):
            if target not in number:
                visit(target)
                lowest[module] = min(lowest[module], lowest[target])
            elif target in stack:
                lowest[module] = min(lowest[module], number[target])
        if lowest[module] == number[module]:
            start = stack.index(module)
            group = stack[start:]
            del stack[start:]
            if len(group) > 1:
                groups.append(sorted(group))

    for module in sorted(graph):
        if module not in number:
            visit(module)
    return groups


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, number of lines) of every function and method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def method_files(root: Path, but: Collection[str]) -> list[Path]:
    """The modules of `kdcore/methods`, also those in folders of its own, but for these."""
    files = sorted((root / "kdcore" / "methods").rglob("*.py"))
    return [path for path in files if path.stem not in {"__init__", *but}]


def test_each_package_imports_from_layers_below():
    modules = {module_of(path) for path in sources()}
    broken = []
    for path in sources():
        importer = package_of(module_of(path))
        for line, module in imports(path, modules):
            imported = package_of(module)
            if importer and imported and wrong(importer, imported):
                broken.append(f"{name_of(path)}:{line}: {importer} imports {module}")
    assert not broken, "\n".join(broken)


def test_no_modules_import_one_another_in_a_circle():
    found = circles(import_graph(sources()))
    assert not found, "\n".join(" <-> ".join(group) for group in found)


def test_files_and_functions_are_short():
    broken = []
    for path in sources():
        text = path.read_text(encoding="utf-8")
        lines, most = len(text.splitlines()), LONGEST_FILE.get(path.relative_to(ROOT).parts[0], 140)
        if lines > most:
            broken.append(f"{name_of(path)}: {lines} lines, {most} are allowed")
        broken += [
            f"{name_of(path)}: {name} has {length} lines, {LONGEST_FUNCTION} are allowed"
            for name, length in functions(ast.parse(text))
            if length > LONGEST_FUNCTION
        ]
    assert not broken, "\n".join(broken)


def test_methods_do_not_import_one_another():
    broken, modules = [], {module_of(path) for path in sources()}
    for path in method_files(ROOT, {"registry"}):  # it lists the methods
        for line, module in imports(path, modules):
            if module.startswith("kdcore.methods") and module.removeprefix("kdcore.methods.") not in METHOD_SUPPORT:
                broken.append(f"{name_of(path)}:{line}: imports {module}")
    assert not broken, "\n".join(broken)


def test_libraries_stay_where_they_belong():
    broken = []
    for path in sources():
        name = name_of(path)
        for line, module in imports(path):
            library = module.split(".")[0]
            if library in ONLY_IN and not name.startswith(ONLY_IN[library]):
                broken.append(f"{name}:{line}: {library} belongs in {', '.join(ONLY_IN[library])}")
            if library in NOT_IN and name.startswith(NOT_IN[library]):
                broken.append(f"{name}:{line}: {library} does not belong here")
    assert not broken, "\n".join(broken)


def dangers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of everything that could run code out of a file or a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            for library in ("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"):
                if any(name.split(".")[0] == library for name in names):
                    yield node.lineno, f"imports {library}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("eval", "exec", "torch.load", "yaml.unsafe_load", "yaml.full_load", "os.system"):
                yield node.lineno, f"calls {called}"
            if called == "yaml.load" and not any(keyword.arg == "Loader" for keyword in node.keywords):
                yield node.lineno, "calls yaml.load without a loader"
            if called.endswith(("read_pickle", "to_pickle")):
                yield node.lineno, f"calls {called}"
            for keyword in node.keywords:
                constant = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in ("trust_remote_code", "allow_pickle", "shell") and not constant:
                    yield node.lineno, f"passes {keyword.arg}={ast.unparse(keyword.value)}"
        elif isinstance(node, ast.Attribute) and node.attr in ("Loader", "UnsafeLoader", "FullLoader"):
            yield node.lineno, f"names {ast.unparse(node)}, which builds objects from text"


def test_nothing_runs_code_from_files():
    broken = [
        f"{name_of(path)}:{line}: {what}"
        for path in sources()
        for line, what in dangers(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(p)",
        "eval(text)",
        "yaml.load(f)",
        "yaml.load(f, Loader=yaml.FullLoader)",
        "np.load(p, allow_pickle=True)",
        "AutoModel.from_pretrained(p, trust_remote_code=flag)",
        "subprocess.run(words, shell=True)",
        "pd.read_pickle(p)",
    ],
)
def test_the_check_sees_dangers(code):
    assert list(dangers(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["model.eval()", "yaml.load(f, Loader=yaml.SafeLoader)", "np.load(p, allow_pickle=False)", "re.compile(x)"]
)
def test_the_check_lets_safe_code_pass(code):
    assert not list(dangers(ast.parse(code)))


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("losses", "models"), ("data", "store"), ("methods", "store"), ("engine", "runs"), ("store", "engine"),
        ("identity", "store"), ("identity", "fields"), ("probes", "engine"), ("analysis", "figures"), ("pages", "app"),
        ("records", "identity"), ("runs", "analysis"),
    ],
)  # fmt: skip
def test_the_check_sees_an_import_from_above(importer, imported):
    assert wrong(importer, imported) and not wrong("runs", "engine") and not wrong("engine", "methods")


def test_the_check_wants_a_layer_for_every_package():
    with pytest.raises(AssertionError, match="has no layer"):
        wrong("engine", "utilities")


def test_the_check_sees_circles():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a", "e"}}) == [["b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_the_check_sees_imports_wherever_they_stand(tmp_path):
    text = """
from kdcore.engine import loop
from kdcore.engine.step import Step
if TYPE_CHECKING:
    from kdcore.runs import worker
def f():
    import kdcore.report.page
    from kdcore import store
"""
    (tmp_path / "module.py").write_text(text)
    modules = {"kdcore.engine.loop", "kdcore.runs.worker", "kdcore.store"}
    assert [module for _, module in imports(tmp_path / "module.py", modules)] == [
        "kdcore.engine.loop", "kdcore.engine.step", "kdcore.runs.worker", "kdcore.report.page", "kdcore.store",
    ]  # fmt: skip


def test_the_checks_see_methods_in_folders(tmp_path):
    home = tmp_path / "kdcore" / "methods"
    (home / "family").mkdir(parents=True)
    for name in ("__init__", "base", "kd", "family/__init__", "family/deep"):
        (home / f"{name}.py").touch()
    assert [path.stem for path in method_files(tmp_path, METHOD_SUPPORT)] == ["deep", "kd"]


def test_the_check_measures_functions():
    assert list(functions(ast.parse("class A:\n    async def f(self):\n        x = 1\n        return x"))) == [("f", 3)]


def loaded_after(code: str) -> set[str]:
    """The heavy libraries that a fresh interpreter has loaded after running this."""
    report = f"\nimport sys; print('loaded:', *[n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.rsplit("loaded:", 1)[1].split())


def test_importing_the_package_is_light():
    assert loaded_after("import kdcore") == set()


def test_help_is_light():
    run = (
        "import runpy, sys\n"
        "sys.argv = ['kdcore', '--help']\n"
        "try:\n    runpy.run_module('kdcore', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n    assert not end.code, end.code"
    )
    assert loaded_after(run) <= {"pydantic"}


def test_every_method_is_registered_tested_and_has_a_paper():
    from kdcore.methods import METHODS

    files = method_files(ROOT, METHOD_SUPPORT)
    assert {method.__module__ for method in METHODS.values()} == {module_of(path) for path in files}
    for name in (path.stem for path in files):
        assert (ROOT / "tests" / "methods" / f"test_{name}.py").exists(), f"tests/methods/test_{name}.py is missing"
    for key, method in METHODS.items():
        assert method.key == key
        assert all(paper.title and paper.authors and paper.arxiv for paper in method.papers)
        assert method.papers or "no paper" in (method.__doc__ or "").lower(), f"{key} does not say that it is nobody's"


def test_losses_are_tested():
    for path in (ROOT / "kdcore" / "losses").rglob("*.py"):
        functions = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        tests = "".join(test.read_text() for test in (ROOT / "tests" / "losses").glob("test_*.py"))
        for name in functions:
            assert name.startswith("_") or re.search(rf"\b{name}\(", tests), f"{path.name}: {name} has no test"


def written_files() -> list[Path]:
    suffixes = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cfg", ".sh", ".css"}
    folders = [ROOT / name for name in ("kdcore", "pages", "tests", "bench", ".ci", ".streamlit")]
    found = [path for folder in folders if folder.exists() for path in folder.rglob("*")]
    found += [path for path in ROOT.iterdir() if path.suffix in suffixes or path.name == "Makefile"]
    return [path for path in found if path.is_file() and (path.suffix in suffixes or not path.suffix)]


def test_no_word_of_the_machine_it_was_written_on():
    paths = re.compile(r"(?<![\w.:/])/(?:work|root|home/\w+|Users/\w+)/\w")
    broken = [
        f"{name_of(path)}:{number}: {line.strip()[:80]}"
        for path in written_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if paths.search(line)
    ]
    assert not broken, "\n".join(broken)
