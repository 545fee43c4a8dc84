"""A method from a file is trained, kept and resumed like a shipped one, and tied to its source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdcore.errors import UserError
from kdcore.events import RunFinished, RunStarted, StepDone
from kdcore.methods import METHODS, catalog, find_method, registry
from tests.helpers import own_method
from tests.helpers.tiny_task import StopAt, run

pytestmark = pytest.mark.usefixtures("methods_as_before")


@pytest.fixture
def angle(tmp_path, one_teacher):
    """A run of the document's method, as the command line makes it."""
    catalog.add_files([own_method.write(tmp_path)])
    find_method(own_method.KEY)
    setting = run(own_method.KEY, one_teacher, epochs=1)
    return setting.model_copy(update={"method_source": catalog.source_of(own_method.KEY)})


def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the file has another text, as a program that is started now would read it."""
    path = own_method.write(tmp_path, more="\n# another source\n")
    catalog._outside_methods.cache_clear()
    catalog._whole.cache_clear()
    monkeypatch.setitem(
        METHODS, own_method.KEY, registry.load_outside(catalog.outside_methods().methods[own_method.KEY])
    )
    assert path.exists()


@pytest.fixture(autouse=True)
def read_anew():
    yield
    catalog._outside_methods.cache_clear()
    catalog._whole.cache_clear()


def test_it_trains_beside_pkd_and_says_where_it_comes_from(trained, angle, one_teacher, tmp_path):
    mine, pkd = trained(angle), trained(run("pkd", one_teacher, epochs=1))
    assert {name for event in mine.of(StepDone) for name in event.raw} == {"hard", "soft", "angle"}
    assert len(mine.of(StepDone)) == len(pkd.of(StepDone)) and mine.of(RunFinished)
    facts = [done.of(RunStarted)[0].facts for done in (mine, pkd)]
    assert facts[0]["method_source"]["origin"] == "angle_kd.py"
    assert facts[0]["method_source"]["sha256"].startswith(angle.method_source.version)
    assert len(facts[0]["method_source"]["sha256"]) == 64 and "method_source" not in facts[1]
    assert str(tmp_path) not in json.dumps(facts[0]["method_source"])
    stored = json.loads((mine.folder / "config.json").read_text())
    assert stored["method_source"] == angle.method_source.model_dump()


def test_a_resume_with_the_same_source_goes_on_and_with_another_is_refused(trained, angle, tmp_path, monkeypatch):
    half = trained(angle, control=StopAt(3))
    changed(tmp_path, monkeypatch)
    with pytest.raises(UserError, match="put back what was there") as raised:
        trained(angle, half.folder)
    assert raised.value.field == "method"
    own_method.write(tmp_path)
    catalog._outside_methods.cache_clear()
    catalog._whole.cache_clear()
    assert trained(angle, half.folder).of(RunFinished)


def test_a_run_that_names_no_source_is_tied_to_it_by_its_folder(trained, angle, tmp_path, monkeypatch):
    bare = angle.model_copy(update={"method_source": None})
    half = trained(bare, control=StopAt(3))
    changed(tmp_path, monkeypatch)
    with pytest.raises(UserError, match="method changed since this run began") as raised:
        trained(bare, half.folder)
    assert raised.value.field == "method"


def test_a_run_without_its_file_is_refused(trained, angle, tmp_path, monkeypatch):
    monkeypatch.setenv("KD_METHOD_FILES", "")
    del METHODS[own_method.KEY]
    with pytest.raises(UserError, match=r"comes from angle_kd\.py, which is not here"):
        trained(angle, tmp_path / "run")
