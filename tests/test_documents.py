"""What the documents say is there: files, commands, and the Python snippet of the first screen."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", "docs/RESULTS.md",
    "docs/add-a-method.md", "docs/analyses.md", "docs/publish.md", "docs/python.md", "docs/search.md",
)  # fmt: skip
README = (ROOT / "README.md").read_text()
SUFFIXES = ("py", "ipynb", "md", "yaml", "yml", "toml", "json", "csv", "js", "css", "png", "txt", "lock", "cff")
OF_A_RUN = {
    "config.json", "teacher.json", "teachers.json", "content.json", "rows.json", "log.txt", "kdboard.json",
    "tokenizer.json", "tokenizer_config.json", "search.json", "question.yaml", "process.json",
}  # fmt: skip
"""Files that a run, a search, a teacher that is kept, or an export writes."""
OF_A_READER = {"angle_kd.py"}
"""Files that a document tells its reader to write."""


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def names(text: str) -> list[str]:
    """Files and folders named in a document, as links or in code spans; `a.{md,csv}` are two."""
    text = without_code(text)
    spans = [word for span in re.findall(r"`([^`]+)`", text) for word in span.split()]
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    expanded = []
    for name in [*links, *filter(looks_like_a_path, spans)]:
        braces = re.fullmatch(r"(.*)\{(.*)\}", name)
        expanded += [braces[1] + end for end in braces[2].split(",")] if braces else [name]
    return [name for name in expanded if name]


def looks_like_a_path(word: str) -> bool:
    if re.search(r"[<>()=*:@]", word) or word.startswith(("-", "~", "/", ".venv")):
        return False
    folder = re.fullmatch(r"(kdcore|pages|tests|bench|docs|\.github)/[\w/.-]*/?", word)
    return bool(folder or re.fullmatch(rf"[\w./-]*\w\.(\{{[\w,]+\}}|{'|'.join(SUFFIXES)})", word))


def exists(name: str, document: str) -> bool:
    """Beside the document, from the root, or (as ARCHITECTURE says) inside the engine."""
    return any((folder / name).exists() for folder in ((ROOT / document).parent, ROOT, ROOT / "kdcore"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_exist(document):
    text = (ROOT / document).read_text()
    if document == "CHANGELOG.md":
        text = text.split("## 0.1.0")[0]  # history names what was
    missing = [
        name
        for name in names(text)
        if not exists(name, document) and name not in OF_A_RUN | OF_A_READER and not name.startswith("sst2/")
    ]
    assert not missing, f"{document} names what is not there: {', '.join(dict.fromkeys(missing))}"


def test_every_package_stands_in_the_architecture():
    table = (ROOT / "ARCHITECTURE.md").read_text().split("## From click to plot")[0]
    for path in (ROOT / "kdcore").iterdir():
        if not path.name.startswith(("_", "py.typed")):
            assert f"`{path.name}{'/' if path.is_dir() else ''}`" in table, f"ARCHITECTURE.md does not name {path.name}"


def test_the_check_sees_names():
    text = "[a](docs/A.md#x), `results/a.{md,csv}`, `x.py`, `store.add_run`, `kdcore/data/` and `python -m kdcore`"
    assert names(text) == ["docs/A.md", "results/a.md", "results/a.csv", "x.py", "kdcore/data/"]
    assert not exists("nowhere.py", "README.md")


def test_the_first_screen_is_short():
    assert len(README.encode()) < 6000


def test_commands_of_the_documents_exist():
    from typer.main import get_command

    from kdcore.cli import app

    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    text = "".join(
        (ROOT / name).read_text()
        for name in (
            "README.md",
            "ARCHITECTURE.md",
            "bench/README.md",
            "docs/analyses.md",
            "docs/publish.md",
            "docs/search.md",
        )
    )
    named = set(re.findall(r"(?:^|`|-m )kdcore ([a-z]+)", text, re.MULTILINE))
    assert len(named) > 5 and named <= commands
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md"):
        assert set(re.findall(r"^make ([a-z-]+)", (ROOT / name).read_text(), re.MULTILINE)) <= targets


def test_benches_of_the_documents_exist():
    text = "".join((ROOT / name).read_text() for name in DOCUMENTS)
    for name in set(re.findall(r"-m bench\.(\w+)", text)):
        assert (ROOT / "bench" / f"{name}.py").exists(), name


def test_the_snippet_of_the_first_screen_runs(tmp_path):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code[1]}"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    last = done.stdout.splitlines()[-1]
    assert "best validation" in last and float(last.split("accuracy': ")[1].rstrip("}")) > 0.5
    assert (tmp_path / "my-run" / "student-best" / "model.safetensors").is_file()
