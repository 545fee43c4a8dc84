"""Sending a student away: against a hub that is pretended, and never without a person's word."""

import huggingface_hub
import pytest
from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.errors import UserError
from kdcore.export.folder import export_student
from kdcore.export.push import push_folder


@pytest.fixture
def folder(store, student, tmp_path):
    export_student(store, student, tmp_path / "m")
    return tmp_path / "m"


@pytest.fixture
def sent(monkeypatch) -> list[tuple]:
    """What reached the hub, in place of sending it."""
    calls: list[tuple] = []

    def create_repo(name, **how):
        calls.append(("create", name, how))
        return f"https://hub.invalid/{name}"

    def upload_folder(**how):
        calls.append(("upload", how["repo_id"], sorted(path.name for path in how["folder_path"].iterdir())))

    monkeypatch.setattr(huggingface_hub, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub, "upload_folder", upload_folder)
    return calls


def push(folder, *more: str, answer: str = ""):
    return CliRunner().invoke(app, ["push", str(folder), "--to", "org/student", *more], input=answer)


def test_nothing_is_sent_without_a_yes(folder, sent):
    for answer in ("n\n", "\n", ""):
        done = push(folder, answer=answer)
        assert done.exit_code == 130 and "model.safetensors" in done.stdout and sent == []


def test_a_yes_sends_the_whole_folder_to_a_private_repository(folder, sent):
    done = push(folder, answer="y\n")
    assert done.exit_code == 0 and "sent to https://hub.invalid/org/student" in done.stdout
    names = ["README.md", "config.json", "kdboard.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert sent == [
        ("create", "org/student", {"private": True, "exist_ok": True}), ("upload", "org/student", names)
    ]  # fmt: skip
    assert push(folder, "--yes", "--public").exit_code == 0
    assert sent[2] == ("create", "org/student", {"private": False, "exist_ok": True})


@pytest.mark.parametrize("name", ["student", "a/b/c", "org/", "../x", "org/na me", "https://hub/org/x"])
def test_names_that_are_no_ids_are_refused_before_anything(folder, sent, name):
    done = CliRunner().invoke(app, ["push", str(folder), "--to", name, "--yes"])
    assert done.exit_code == 2 and "organisation/name" in done.stderr and sent == []


def test_other_folders_are_refused(folder, sent, tmp_path):
    (folder / "README.md").unlink()
    done = push(folder, "--yes")
    assert done.exit_code == 2 and "has no README.md" in done.stderr and sent == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LocalTokenNotFoundError("no token"), "hf auth login"),
        (ConnectionError("offline"), "did not take it"),
        (HTTPError("no route"), "did not take it"),
    ],
)
def test_a_hub_that_refuses_is_an_error_with_a_remedy(folder, monkeypatch, error, words):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "create_repo", refuse)
    with pytest.raises(UserError, match=words):
        push_folder(folder, "org/student")
