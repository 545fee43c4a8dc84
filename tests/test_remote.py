"""Folders on a place that computers share: whole or not there, and what goes wrong is named with nothing lost."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdcore.disk import FullDiskError
from kdcore.errors import UserError
from kdcore.paths import cache_subdir
from kdcore.remote import MANIFEST, RemoteError, files_of, open_remote


@pytest.fixture(params=["file", "memory", "s3"])
def remote(request, tmp_path, monkeypatch):
    match request.param:
        case "file":
            url = f"file://{tmp_path / 'place'}"
        case "memory":
            url = f"memory://{tmp_path.name}"
        case _:
            url = request.getfixturevalue("bucket")
    monkeypatch.setenv("KD_REMOTE", url)
    return open_remote()


@pytest.fixture
def folder(tmp_path):
    """A model's folder, with things that do not travel."""
    made = tmp_path / "model"
    (made / "probes").mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    (made / "probes" / "latency.json").write_text("[1]")
    for name in ("code.py", "old.pkl", "pytorch_model.bin", "opening.lock", ".hidden.json"):
        (made / name).write_text("no")
    (made / "00-01.partial").mkdir()
    (made / "00-01.partial" / "place.json").write_text("half")
    (made / "link.json").symlink_to(made / "config.json")
    return made


def stored(remote, name="n"):
    return {path.rsplit("/", 1)[1] for path in remote.system.find(f"{remote.root}/{name}")}


def content(folder):
    return {name: path.read_bytes() for name, path in files_of(folder).items()}


def test_folder_comes_back_as_it_was_and_without_code(remote, folder):
    remote.push("n", files_of(folder))
    with remote.pulled("n") as got:
        assert content(got) == content(folder)
        assert sorted(content(got)) == ["config.json", "model.safetensors", "probes/latency.json"]
        assert len([path for path in got.rglob("*") if path.is_file()]) == 3
    assert not got.exists() and list(cache_subdir("pulled").iterdir()) == []


def test_what_was_never_pushed_is_not_there(remote):
    assert remote.files("n") is None
    with remote.pulled("n") as got:
        assert got is None


def test_equal_content_is_sent_once_and_what_is_replaced_goes(remote, folder, monkeypatch):
    remote.push("n", files_of(folder))
    first, sent = stored(remote), []
    real = type(remote)._put
    monkeypatch.setattr(
        type(remote), "_put", lambda self, name, file, write: (sent.append(file), real(self, name, file, write))[1]
    )
    (folder / "config.json").write_text('{"a": 1}')
    remote.push("n", files_of(folder))
    assert len(sent) == 2 and sent[-1] == MANIFEST
    assert len(stored(remote)) == len(first) == 4 and len(stored(remote) - first) == 1
    with remote.pulled("n") as got:
        assert content(got) == content(folder)


@pytest.mark.parametrize("calls", range(4))
def test_push_that_breaks_anywhere_leaves_what_was_there(remote, folder, monkeypatch, calls):
    """Full after so many files; another computer sees the folder of before, whole."""
    remote.push("n", files_of(folder))
    before, names = content(folder), stored(remote)
    for name in ("config.json", "model.safetensors", "probes/latency.json"):
        (folder / name).write_bytes(b"newer " + name.encode())
    real, done = remote.system.mv, []

    def full(*args, **options):
        done.append(1)
        if len(done) > calls:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **options)

    monkeypatch.setattr(remote.system, "mv", full)
    with pytest.raises(RemoteError, match=r"KD_REMOTE.*no room.*stays"):
        remote.push("n", files_of(folder))
    assert not any(name.endswith(".partial") for name in stored(remote)) and names <= stored(remote)
    with remote.pulled("n") as got:
        assert content(got) == before
    monkeypatch.undo()
    remote.push("n", files_of(folder))  # there is room again
    with remote.pulled("n") as got:
        assert content(got) == content(folder)


def test_who_may_no_longer_name_it_changes_nothing(remote, folder):
    class Lost(BaseException):
        pass

    def lost():
        raise Lost

    remote.push("n", files_of(folder))
    before = content(folder)
    (folder / "config.json").write_text("mine")
    with pytest.raises(Lost):
        remote.push("n", files_of(folder), lost)
    with remote.pulled("n") as got:
        assert content(got) == before


def test_damage_there_is_found_before_it_has_a_name_here(remote, folder):
    remote.push("n", files_of(folder))
    digest = remote.files("n")["model.safetensors"]
    remote.system.pipe_file(f"{remote.root}/n/{digest}", b"hurt")
    with pytest.raises(RemoteError, match=r"model\.safetensors of n is not as it was written"), remote.pulled("n"):
        pytest.fail("damaged files were handed out")
    assert list(cache_subdir("pulled").iterdir()) == []


@pytest.fixture
def disk(monkeypatch):
    """`disk(path)`: files on their way to this computer are written to this device in their place."""
    real = Path.open

    def install(device):
        def opened(self, *how):
            away = cache_subdir("pulled") in self.parents
            return real(Path(device) if away else self, *how)

        monkeypatch.setattr(Path, "open", opened)

    return install


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full (/dev/full)")
@pytest.mark.parametrize("size", [1, 1 << 20])  # it is full when the file is closed, or before
def test_full_disk_here_is_not_the_fault_of_the_place(remote, folder, disk, size):
    (folder / "config.json").write_bytes(b"x" * size)
    remote.push("n", files_of(folder))
    disk("/dev/full")
    with pytest.raises(FullDiskError, match=r"KD_CACHE_DIR: the disk of .* is full.*cache gc"), remote.pulled("n"):
        pytest.fail("half a folder was handed out")
    assert list(cache_subdir("pulled").iterdir()) == []


def test_disk_here_that_cannot_be_written_is_named(remote, folder, disk):
    remote.push("n", files_of(folder))
    disk("/proc/version")
    with pytest.raises(UserError, match=r"KD_CACHE_DIR: cannot write .*pulled") as said, remote.pulled("n"):
        pass
    assert not isinstance(said.value, RemoteError)


def test_full_disk_there_is_not_the_fault_of_this_computer(remote, folder, monkeypatch):
    """A driver may keep what it reads in a file of its own, or the place may have none left to answer with."""
    remote.push("n", files_of(folder))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(remote.system, "open", full)
    with pytest.raises(RemoteError, match=r"KD_REMOTE: cannot read n \(there is no room\)"), remote.pulled("n"):
        pass


def test_names_of_folders_there_and_what_was_removed_is_gone(remote, folder):
    assert remote.names("runs/a") == []
    for name in ("runs/a/2", "runs/a/1", "runs/b/1"):
        remote.push(name, files_of(folder))
    assert remote.names("runs") == ["a", "b"] and remote.names("runs/a") == ["1", "2"]
    remote.remove("runs/a/1")
    remote.remove("runs/a/1")  # by another at the same moment
    assert remote.names("runs/a") == ["2"] and remote.files("runs/a/1") is None
    with remote.pulled("runs/a/2") as got:
        assert content(got) == content(folder)


@pytest.mark.parametrize(
    "listed",
    [
        {"../up.json": "0" * 64}, {"/etc/passwd.json": "0" * 64}, {"a/../../b.json": "0" * 64}, {"code.py": "0" * 64},
        {"pytorch_model.bin": "0" * 64}, {"a.json": "short"}, {"a.json": "../" * 21 + "a"}, {"a.json": 7}, ["a.json"],
        {"b\\c.json": "0" * 64}, {"": "0" * 64},
    ],
)  # fmt: skip
def test_manifest_that_names_other_places_or_code_is_refused(remote, listed):
    remote.system.makedirs(f"{remote.root}/n", exist_ok=True)
    remote.system.pipe_file(f"{remote.root}/n/{MANIFEST}", json.dumps(listed).encode())
    with pytest.raises(RemoteError, match="no folder of this program"), remote.pulled("n"):
        pass


def test_manifest_that_is_no_json_is_named(remote):
    remote.system.makedirs(f"{remote.root}/n", exist_ok=True)
    remote.system.pipe_file(f"{remote.root}/n/{MANIFEST}", b"{half")
    with pytest.raises(RemoteError, match="cannot read n"):
        remote.files("n")


def test_newer_folder_that_takes_its_place_meanwhile_is_read(remote, folder, monkeypatch):
    remote.push("n", files_of(folder))
    real, done = type(remote)._download, []

    def download(self, name, digest, target, check):
        if not done:
            done.append(1)
            for file in ("config.json", "model.safetensors"):
                (folder / file).write_bytes(b"newer")
            remote.push("n", files_of(folder))
        real(self, name, digest, target, check)

    monkeypatch.setattr(type(remote), "_download", download)
    with remote.pulled("n") as got:
        assert content(got) == content(folder)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nosuch://x/y", "nosuch://x/y is no address.*set it to"),
        ("place", "place is no address.*set it to"),
        ("/place", "place is no address.*set it to"),
        ("file:///proc/nowhere", "cannot open file:///proc/nowhere"),
        ("file:///dev/null/x", "cannot open"),
    ],
)
def test_address_that_cannot_be_used_is_named(monkeypatch, url, words):
    monkeypatch.setenv("KD_REMOTE", url)
    with pytest.raises(RemoteError, match=words):
        open_remote()


def test_missing_driver_is_named_and_no_password_shown(monkeypatch):
    from fsspec.registry import known_implementations

    missing = {"class": "no_such_driver.FS", "err": "Install no_such_driver"}
    monkeypatch.setitem(known_implementations, "kdtest", missing)
    monkeypatch.setenv("KD_REMOTE", "kdtest://user:hunter2@bucket/kd")
    with pytest.raises(RemoteError, match=r"kdtest://bucket/kd needs a driver \(Install no_such_driver") as said:
        open_remote()
    assert "hunter2" not in str(said.value)


def test_unset_is_no_place(monkeypatch):
    for value in ("", "  "):
        monkeypatch.setenv("KD_REMOTE", value)
        assert open_remote() is None


def test_nothing_of_it_is_loaded_until_it_is_asked_for():
    code = "import sys, kdcore.remote; sys.exit('fsspec' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
