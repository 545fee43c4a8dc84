"""The page Layers: every cell is what was measured, at each moment, and two runs stand on one scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kdcore.analysis.layer_distances import LayerTrajectory
from kdcore.figures import layer_pair, layers
from kdcore.paths import run_dir
from kdcore.probes import snapshots
from tests.helpers import model_factory as at
from tests.helpers.store_factory import add, run_config, words


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What the page gave to be drawn: matrices, and pairs through the training."""
    kept: dict[str, list[Any]] = {"matrix": [], "course": []}
    for module, name in ((layers, "matrix"), (layer_pair, "course")):
        real = getattr(module, name)

        def watched(*given: Any, real: Any = real, name: str = name, **more: Any) -> Any:
            figure = real(*given, **more)
            kept[name].append((figure, given, more))
            return figure

        monkeypatch.setattr(module, name, watched)
    return kept


def made(store: Any, method: str = "pkd", seed: int = 1, teachers: dict[str, int] | None = None, **more: Any) -> str:
    """A run with moments: its student has two layers, its teachers so many."""
    depths = teachers or {"large": 4}
    run = add(store, run_config(method, seed, **more))
    at.leave(run, at.model(2, seed), {name: at.model(deep, 10 + deep) for name, deep in depths.items()})
    return run


def kept(run: str) -> Any:
    return snapshots.read(run_dir(run))


def test_every_cell_is_what_was_measured_at_that_moment(
    store: Any, visit: Callable[..., Any], drawn: dict[str, list[Any]]
) -> None:
    run = made(store)
    for measure, tab in (("cka", "CKA"), ("cls", "CKA of [CLS]"), ("cosine", "Direction"), ("mse", "Distance")):
        app = visit("layers", job=run, measure=tab)
        assert not app.exception and not app.error
        assert app.select_slider(key="moment").value == "kept student", "the probe at the end comes last"
        for step in at.STEPS:
            app.select_slider(key="moment").set_value(str(step)).run()
            expected = kept(run).distances(step)["large"][measure]
            figure, given, _ = drawn["matrix"][-1]
            assert np.array_equal(np.asarray(figure.data[0].z, dtype=float), expected.T.astype(float), equal_nan=True)
            assert given[2] == {1: (2,)}, "the method's map is outlined"
            assert f"at **step {step}**" in words(app)


def test_a_run_of_before_says_that_cls_was_not_compared_alone(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("layers", job=add(store, run_config("pkd")), measure="CKA of [CLS]")
    assert not app.exception and not app.error and "trained before" in words(app)


def test_one_scale_for_all_moments_and_both_runs(
    store: Any, visit: Callable[..., Any], drawn: dict[str, list[Any]]
) -> None:
    one, other = made(store), made(store, "kd", 2)
    app = visit("layers", job=one, beside=other, measure="Distance", moment="20")
    assert not app.exception and not app.error
    (first, second) = drawn["matrix"][-2:]
    tops = [kept(run).distances(step)["large"]["mse"].max() for run in (one, other) for step in at.STEPS]
    assert first[0].data[0].zmax == second[0].data[0].zmax == pytest.approx(max(tops))
    assert first[0].data[0].zmin == second[0].data[0].zmin == 0
    for run, (figure, *_) in ((one, first), (other, second)):
        assert np.array_equal(np.asarray(figure.data[0].z), kept(run).distances(20)["large"]["mse"].T)
    said = words(app)
    assert "reads the teacher's answers alone" in said and said.count("at **step 20**") == 2
    assert [metric.label for metric in app.metric] == ["CKA", "CKA of [CLS]", "Cosine distance", "Squared distance"] * 2


def test_pairs_are_followed_through_the_training(
    store: Any, visit: Callable[..., Any], drawn: dict[str, list[Any]]
) -> None:
    run = made(store)
    app = visit("layers", job=run, slayer="2", tlayer="4", moment="40")
    assert not app.exception
    lines, measure, marked, _ = drawn["course"][-1][1]
    assert measure == "cka" and marked == {"step 40": 40}
    assert [line.name for line in lines] == ["1 ↔ 2", "2 ↔ 4"], "the matched pair and the chosen one"
    for line, (s, t) in zip(lines, [(1, 2), (2, 4)], strict=True):
        assert line.steps == list(at.STEPS)
        assert line.values == pytest.approx([float(kept(run).distances(k)["large"]["cka"][t, s]) for k in at.STEPS])
    assert "4 snapshots were taken while training" in words(app)
    app = visit("layers", job=made(store, "kd", 3), slayer="1", tlayer="2")
    assert [line.name for line in drawn["course"][-1][1][0]] == ["1 ↔ 2", "2 ↔ 4"]
    assert "Evenly spread pairs, as the method matches none" in words(app)


def test_several_teachers_are_chosen_from(store: Any, visit: Callable[..., Any], drawn: dict[str, list[Any]]) -> None:
    run = made(store, "skd", teachers={"small": 2, "medium": 3})
    app = visit("layers", job=run, teacher="medium", moment="0")
    assert not app.exception and not app.error
    assert np.array_equal(np.asarray(drawn["matrix"][-1][0].data[0].z), kept(run).distances(0)["medium"]["cka"].T)
    app.selectbox(key="teacher").set_value("small").run()
    assert not app.exception and np.asarray(drawn["matrix"][-1][0].data[0].z).shape == (3, 3)


def test_a_student_equal_to_its_teacher_is_at_no_distance(
    store: Any, visit: Callable[..., Any], drawn: dict[str, list[Any]]
) -> None:
    run = add(store, run_config("kd"), end="stopped")  # so that only the moments are there
    at.leave(run, at.model(2, 7), {"large": at.model(2, 7)})
    for measure, tab, expected in (("cka", "CKA", 1.0), ("cosine", "Direction", 0.0), ("mse", "Distance", 0.0)):
        visit("layers", job=run, moment="60", measure=tab)
        found = np.diag(np.asarray(drawn["matrix"][-1][0].data[0].z, dtype=float))
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=measure)


def test_runs_of_other_depths_stand_beside_as_far_in_their_training(
    store: Any, visit: Callable[..., Any], drawn: dict[str, list[Any]]
) -> None:
    """The second has no pair that deep, and says so."""
    one, other = made(store), add(store, run_config("kd", 5))
    at.leave(other, at.model(1, 5), {"large": at.model(2, 12)})
    app = visit("layers", job=one, beside=other, slayer="2", tlayer="4", moment="0")
    assert not app.exception and not app.error
    assert np.asarray(drawn["matrix"][-1][0].data[0].z).shape == (2, 3)
    assert "has no such pair: its student has 1 layers" in words(app)


def test_a_run_without_moments_says_how_they_come(store: Any, visit: Callable[..., Any]) -> None:
    app = visit("layers", job=add(store, run_config("kd")))
    assert not app.exception and not app.select_slider
    assert "has no snapshots of its training" in words(app)


def test_a_run_that_has_nothing_yet_is_not_called_lost(store: Any, visit: Callable[..., Any]) -> None:
    add(store, run_config("kd"))
    waits = add(store, run_config("kd", 1, name="still waiting"), end="queued")
    app = visit("layers", job=waits)
    assert not app.exception and "still waiting (queued)" in words(app) and "not in this store" not in words(app)


def test_a_stopped_run_shows_what_it_kept(store: Any, visit: Callable[..., Any]) -> None:
    run = add(store, run_config("kd"), end="stopped")
    assert "ended before its first snapshot" in words(visit("layers", job=run))
    at.leave(run, at.model(2, 1), {"large": at.model(4, 2)})
    app = visit("layers", job=run)
    assert not app.exception and list(app.select_slider(key="moment").options) == ["0", "20", "40", "60"]


def test_bad_addresses_and_damage_are_cards(store: Any, visit: Callable[..., Any]) -> None:
    run = made(store)
    app = visit("layers", job=run, beside="../../x", moment="<b>", measure="no", teacher="..", slayer="99")
    assert not app.exception and "not in this store" in words(app) and "beside" not in app.query_params
    (kept(run).folder / "00000020.safetensors").write_bytes(b"short")
    app = visit("layers", job=run)
    assert not app.exception and "cannot be read" in words(app).replace("\\", "") and "What to do" in words(app)


@pytest.mark.parametrize("measure", ["mse", "cka"])
def test_live_shows_the_matched_pairs_as_they_move(
    store: Any, visit: Callable[..., Any], drawn: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch, measure: str
) -> None:
    """The second measure stands where the first is not defined."""
    run = made(store)
    defined = LayerTrajectory.applies
    monkeypatch.setattr(LayerTrajectory, "applies", lambda *asked: asked[2] == measure and defined(*asked))
    app = visit("live", job=run)
    assert not app.exception and not app.error
    title = {"mse": "Layer distances", "cka": "Layer similarity"}[measure]
    assert title in [one.value for one in app.subheader], "a large value is far in one and near in the other"
    figure, (lines, drawn_as, _, _), _ = drawn["course"][-1]
    assert drawn_as == measure and [line.name for line in lines] == ["1 ↔ 2"], "the method's map"
    expected = [kept(run).distances(step)["large"][measure][2, 1] for step in at.STEPS]
    assert list(figure.data[0].x) == list(at.STEPS) and np.allclose(figure.data[0].y, expected)
    assert "the pairs that the method matches" in words(app)
