"""The laws of the house, read from the source: who imports whom, what may not be called, what a method must bring."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FLOORS: list[set[str]] = [
    {"config", "records", "events", "tasks", "errors", "paths", "wording"},
    {"layer_map", "losses", "shares"},
    {"data", "models", "store"},
    {"methods"},
    {"engine", "probes"},
    {
        "jobs",
        "sweep",
        "bundle",
        "figures",
        "compared",
        "costs",
        "report",
        "presets",
        "student_file",
        "example",
        "cli",
        "__main__",
    },
    {"app", "pages"},
]
"""Rooms from the ground up. A room imports from floors below its own."""

GROUND = FLOORS[0]
NEIGHBOURS = {
    ("engine", "probes"),  # a run measures its student
    ("sweep", "jobs"),
    ("bundle", "student_file"),
    ("example", "bundle"),
    ("presets", "sweep"),  # one way to read and check settings
    ("cli", "presets"),
    ("sweep", "compared"),  # one verdict for the command line and the pages
    ("compared", "figures"),
    ("report", "figures"),
    ("costs", "compared"),
    ("costs", "figures"),
    ("report", "compared"),
    ("report", "costs"),
    ("cli", "jobs"),
    ("cli", "sweep"),
    ("pages", "app"),  # a page that was entered without app.py goes through it
    ("cli", "bundle"),
    ("cli", "figures"),
    ("cli", "report"),
    ("__main__", "cli"),
    ("app", "pages"),
}
"""The only imports between rooms of one floor, beside the ground floor's own."""

FORBIDDEN = {
    ("methods", "store"),
    ("methods", "data"),
    ("methods", "tasks"),
    ("probes", "store"),
    ("engine", "store"),
}
"""Imports that would go down and are wrong all the same: methods see records, engine and probes only give results."""

ONLY_IN = {
    "streamlit": ("app.py", "pages/"),
    "plotly": ("kdcore/figures/",),
    "sqlalchemy": ("kdcore/store/",),
    "datasets": ("kdcore/data/", "kdcore/engine/evaluate.py"),
    "evaluate": ("kdcore/engine/evaluate.py",),
}
"""Library -> where it may be imported."""

NOT_IN = {
    "torch": ("app.py", "pages/", "kdcore/figures/", "kdcore/store/"),
    "transformers": ("app.py", "pages/", "kdcore/figures/", "kdcore/store/", "kdcore/losses/", "kdcore/methods/"),
}
"""Library -> where it may not be imported: pages choose, call one function and draw."""

HEAVY = ("torch", "transformers", "streamlit", "sqlalchemy", "pandas", "datasets", "plotly", "pydantic")


def sources() -> list[Path]:
    return sorted([*(ROOT / "kdcore").rglob("*.py"), *(ROOT / "pages").rglob("*.py"), ROOT / "app.py"])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "kdcore" and len(parts) > 1 else parts[0]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, local ones and those for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import; write the whole name"
            # `from kdcore import store` names a room, `from kdcore.store import x` a thing in it
            inner = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from ((node.lineno, name) for name in (inner if node.module == "kdcore" else [node.module or ""]))


def floor_of(room: str) -> int:
    for floor, rooms in enumerate(FLOORS):
        if room in rooms:
            return floor
    raise AssertionError(f"room {room!r} has no floor: add it to FLOORS, and to ARCHITECTURE.md")


def wrong(importer: str, imported: str) -> bool:
    if importer == imported or {importer, imported} <= GROUND or (importer, imported) in NEIGHBOURS:
        return False
    return (importer, imported) in FORBIDDEN or floor_of(imported) >= floor_of(importer)


def ours(module: str) -> str | None:
    """The room a dotted name belongs to, or None for libraries."""
    parts = module.split(".")
    if parts[0] == "kdcore" and len(parts) > 1:
        return parts[1]
    return parts[0] if parts[0] in ("app", "pages") else None


def test_the_import_law():
    broken = []
    for path in sources():
        if name_of(path) == "kdcore/__init__.py":
            continue
        for line, module in imports(path):
            room = ours(module)
            if room and not room.startswith("__") and wrong(room_of(path), room):
                broken.append(f"{name_of(path)}:{line}: {room_of(path)} imports {module}")
    assert not broken, "\n".join(broken)


def test_methods_do_not_import_one_another():
    broken = []
    for path in (ROOT / "kdcore" / "methods").glob("*.py"):
        if path.name == "__init__.py":
            continue
        for line, module in imports(path):
            if module.startswith("kdcore.methods") and module != "kdcore.methods.base":
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
    [("losses", "models"), ("data", "store"), ("methods", "store"), ("engine", "jobs"), ("store", "engine")],
)
def test_the_law_sees_a_breach(importer, imported):
    assert wrong(importer, imported) and not wrong("jobs", "engine") and not wrong("engine", "methods")


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

    files = {path.stem for path in (ROOT / "kdcore" / "methods").glob("*.py")} - {"__init__", "base", "words"}
    assert {method.__module__.rsplit(".", 1)[1] for method in METHODS.values()} == files
    for name in files:
        assert (ROOT / "tests" / "methods" / f"test_{name}.py").exists(), f"tests/methods/test_{name}.py is missing"
    for key, method in METHODS.items():
        assert method.key == key and method.paper.title and method.paper.authors and method.paper.arxiv


def test_losses_are_tested():
    for path in (ROOT / "kdcore" / "losses").glob("*.py"):
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
