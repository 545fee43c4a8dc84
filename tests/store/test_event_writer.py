"""What people type is text, and deleting a run never reaches outside `runs/`."""

import pytest
from sqlalchemy import text

from kdcore.errors import UserError
from kdcore.events import RunFinished
from kdcore.paths import cache_subdir, run_dir

HOSTILE = [
    "'; DROP TABLE runs; --", "<script>alert(1)</script>", "../../etc/passwd", "{{7*7}} ${HOME} %s %n", "\x1b[31mred",
    "a\nb\tc", "🙂 名前 \u202e", "x" * 5000, "", "NaN", "None", "[red]bold[/red]",
]  # fmt: skip


@pytest.mark.parametrize("words", HOSTILE)
def test_names_notes_and_tags_are_just_text(store, settings, words):
    run = store.add_run(settings(name=words[:200]))
    store.annotate(run, note=words, tags=[words, words, "x"])
    row = store.get(run)
    assert row.note == words
    assert row.tags == list(dict.fromkeys([words[:60], "x"]))
    assert row.name == (words[:200] or run)
    store.rename(run, "after" + words)
    listed = store.runs().iloc[0]
    assert listed["name"] == ("after" + words)[:200] and listed.note == words


def test_annotate_leaves_what_is_not_named(store, settings):
    run = store.add_run(settings())
    store.annotate(run, note="n", tags=["t"])
    store.annotate(run, note="m")
    store.annotate(run, tags=[])
    row = store.get(run)
    assert (row.note, row.tags) == ("m", [])


@pytest.mark.parametrize("word", ["../../x", "A B/C", "", "é", "-" * 300, "con..fig", "x" * 300])
def test_ids_are_safe_folder_names_whatever_the_method_is_called(store, settings, word):
    run = store.add_run(settings(method=word or "-", task=word if word not in ("", "own") else "mrpc"))
    assert run_dir(run).parent == cache_subdir("runs")
    assert len(run) <= 80


def test_ids_are_readable(store, settings):
    assert store.add_run(settings(method="pkd")).startswith("pkd-mrpc-")


def test_delete_removes_the_folder_with_all_in_it(store, settings, step):
    run, other = store.add_run(settings(0)), store.add_run(settings(1))
    for name in (run, other):
        (run_dir(name) / "student-best").mkdir(parents=True)
        (run_dir(name) / "student-best" / "config.json").write_text("{}")
    store.record(run, [step(1), RunFinished({})])
    store.delete(run)
    assert not run_dir(run).exists() and (run_dir(other) / "student-best" / "config.json").exists()
    assert list(store.runs().id) == [other] and store.metrics([run]).empty
    store.delete(other)
    with pytest.raises(UserError):
        store.delete(other)


def test_delete_does_not_follow_links(store, settings, tmp_path):
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "thesis.txt").write_text("years")
    linked, inside = store.add_run(settings(0)), store.add_run(settings(1))
    run_dir(linked).symlink_to(outside)
    run_dir(inside).mkdir()
    (run_dir(inside) / "link").symlink_to(outside)
    store.delete(linked)
    store.delete(inside)
    assert (outside / "thesis.txt").read_text() == "years"
    assert not run_dir(linked).is_symlink() and not run_dir(inside).exists()


@pytest.mark.parametrize("bad", ["../precious", "..", ".", "/", "a/../../precious", ""])
def test_delete_of_a_hostile_id_removes_the_row_only(store, settings, tmp_path, bad):
    precious = cache_subdir("runs").parent / "precious"
    precious.mkdir()
    run = store.add_run(settings())
    (run_dir("other")).mkdir()
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET id = :bad WHERE id = :run"), {"bad": bad, "run": run})
    store.delete(bad)
    assert store.runs().empty and precious.is_dir() and run_dir("other").is_dir()


def test_a_run_that_is_trained_is_not_deleted(store, settings):
    run = store.add_run(settings())
    store.claim("w", "cpu")
    run_dir(run).mkdir()
    with pytest.raises(UserError, match="stop it first"):
        store.delete(run)
    assert run_dir(run).is_dir() and store.get(run).state == "starting"
