"""Distances against slow loops in float64, and what must not change them."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch

from kdcore.models.observe import observe
from kdcore.probes import distances
from kdcore.probes.distances import DistanceMeter, layer_distances
from kdcore.records import ALL_LAYERS, Encoding


def states(seed, layers, width, rows=4, tokens=6):
    generator = torch.Generator().manual_seed(seed)
    return {layer: torch.randn(rows, tokens, width, generator=generator) for layer in range(layers)}


def a_mask(rows=4, tokens=6):
    lengths = torch.tensor([6, 5, 3, 4])[:rows]
    return (torch.arange(tokens)[None] < lengths[:, None]).long()


def slow_hsic(x, y):
    """HSIC_1 as the mean over ordered quadruples of different samples (Song et al. 2012, equation 4)."""
    k, l = x @ x.T, y @ y.T
    n = len(x)
    total = 0.0
    for i, j, q, r in itertools.permutations(range(n), 4):
        total += k[i, j] * l[i, j] + k[i, j] * l[q, r] - 2 * k[i, j] * l[i, q]
    return float(total) / (n * (n - 1) * (n - 2) * (n - 3))


def test_cka_equals_the_mean_over_quadruples():
    x, y = states(0, 1, 5, rows=1, tokens=7)[0], states(1, 1, 3, rows=1, tokens=7)[0]
    y = y + x[..., :3]
    found = layer_distances([x], [y], torch.ones(1, 7)).cka[0, 0].item()
    a, b = x[0].double(), y[0].double()
    assert found == pytest.approx(slow_hsic(a, b) / math.sqrt(slow_hsic(a, a) * slow_hsic(b, b)), rel=1e-9)


def test_cka_nears_the_textbook_formula_where_tokens_are_many():
    """Kornblith et al. 2019, section 3.1: |Y^T X|^2 / (|X^T X| |Y^T Y|) on centred states, biased in 1 / n."""
    x = states(0, 1, 4, rows=10, tokens=50)[0]
    y = x[..., :3] * 2 + 0.8 * states(1, 1, 3, rows=10, tokens=50)[0]
    a, b = (state.flatten(0, 1).double() - state.flatten(0, 1).double().mean(0) for state in (x, y))
    expected = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert layer_distances([x], [y], torch.ones(10, 50)).cka.item() == pytest.approx(expected.item(), abs=0.02)


def test_mse_and_cosine_equal_slow_loops():
    teacher, student, mask = states(0, 3, 5), states(1, 2, 5), a_mask()
    found = layer_distances(teacher, student, mask)
    assert found.mse.shape == found.cosine.shape == found.cka.shape == (3, 2) and found.tokens == 18
    for i, j in itertools.product(range(3), range(2)):
        pairs = [
            (teacher[i][row, token].double(), student[j][row, token].double())
            for row, token in itertools.product(range(4), range(6))
            if mask[row, token]
        ]
        mean = sum(t for t, _ in pairs) / len(pairs)
        mse = sum(((t - s) ** 2).sum() for t, s in pairs) / sum(((t - mean) ** 2).sum() for t, _ in pairs)
        cosine = sum(1 - t @ s / (t.norm() * s.norm()) for t, s in pairs) / len(pairs)
        assert found.mse[i, j].item() == pytest.approx(mse.item(), rel=1e-9)
        assert found.cosine[i, j].item() == pytest.approx(cosine.item(), rel=1e-9)


def test_identical_states_are_at_no_distance():
    hidden = states(0, 3, 5)
    found = layer_distances(hidden, hidden, a_mask())
    torch.testing.assert_close(found.mse.diagonal(), torch.zeros(3).double())
    torch.testing.assert_close(found.cosine.diagonal(), torch.zeros(3).double())
    torch.testing.assert_close(found.cka.diagonal(), torch.ones(3).double())
    assert (found.cka - torch.eye(3)).abs().triu(1).max() < 0.9 and found.mse[0, 1] > 0.5


def test_predicting_the_teachers_mean_state_is_a_distance_of_one():
    teacher, mask = states(0, 1, 5)[0] + 7, a_mask()
    mean = teacher[mask.bool()].mean(0).expand_as(teacher)
    assert layer_distances([teacher], [mean], mask).mse.item() == pytest.approx(1.0, rel=1e-5)


def test_cka_does_not_see_rotation_scale_or_shift():
    hidden, mask = states(0, 2, 5), a_mask()
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(2)))
    turned = {layer: 3.5 * (state @ rotation) + 2 for layer, state in hidden.items()}
    plain, other = layer_distances(hidden, hidden, mask), layer_distances(hidden, turned, mask)
    torch.testing.assert_close(other.cka, plain.cka, rtol=1e-5, atol=1e-5)
    assert other.mse[0, 0] > 1
    stretched = {layer: state * torch.tensor([9.0, 1, 1, 1, 1]) for layer, state in hidden.items()}
    assert layer_distances(hidden, stretched, mask).cka[0, 0] < 0.9


def test_padding_changes_nothing():
    teacher, student, mask = states(0, 2, 5), states(1, 2, 5), a_mask()
    plain = layer_distances(teacher, student, mask)
    for hidden in (teacher, student):
        for state in hidden.values():
            state[mask == 0] = 1e6
    other = layer_distances(teacher, student, mask)
    for name in ("mse", "cosine", "cka"):
        assert torch.equal(getattr(plain, name), getattr(other, name))


def test_batches_add_up():
    teacher, student, mask = states(0, 2, 5), states(1, 2, 5), a_mask()
    whole, meter = layer_distances(teacher, student, mask), DistanceMeter()
    for rows in (slice(0, 2), slice(2, 4)):
        meter.update({i: t[rows] for i, t in teacher.items()}, {i: s[rows] for i, s in student.items()}, mask[rows])
    torch.testing.assert_close(meter.result().mse, whole.mse)
    torch.testing.assert_close(meter.result().cosine, whole.cosine)
    assert meter.result().tokens == 18


def test_cka_in_small_chunks_is_not_biased(monkeypatch):
    """Unrelated states: the biased estimate would rise to about 0.4 in chunks of 16, this one stays near 0."""
    teacher, student = states(0, 1, 8, 40, 20), states(1, 1, 8, 40, 20)
    related = {0: teacher[0] + student[0]}
    mask = torch.ones(40, 20)
    whole = [layer_distances(teacher, other, mask).cka.item() for other in (student, related)]
    monkeypatch.setattr(distances, "_CHUNK", 16)
    chunked = [layer_distances(teacher, other, mask).cka.item() for other in (student, related)]
    assert abs(chunked[0]) < 0.06 and chunked == pytest.approx(whole, abs=0.06) and whole[1] > 0.3


def test_other_widths_have_cka_alone_and_the_data_is_json():
    found = layer_distances(states(0, 2, 5), states(1, 3, 4), a_mask())
    assert found.mse.isnan().all() and found.cosine.isnan().all() and found.cka.isfinite().all()
    data = json.loads(json.dumps(found.data(), allow_nan=False))
    assert data["mse"] == [[None] * 3] * 2 and data["tokens"] == 18 and len(data["cka"]) == 2


def test_states_without_any_variation_are_not_defined():
    flat = {0: torch.ones(4, 6, 5)}
    found = layer_distances(flat, states(1, 1, 5), a_mask())
    assert found.cka.isnan().all() and found.mse.isnan().all()


def test_too_few_tokens_for_cka_leave_the_rest():
    found = layer_distances(states(0, 1, 5, 1, 3), states(1, 1, 5, 1, 3), torch.ones(1, 3))
    assert found.cka.isnan().all() and found.mse.isfinite().all()


def test_misuse():
    with pytest.raises(ValueError, match="same tokens"):
        layer_distances(states(0, 1, 5), states(0, 1, 5, tokens=5), a_mask()[:, :5])
    with pytest.raises(ValueError, match="no tokens"):
        DistanceMeter().result()


def _model(layers=2, width=8):
    from kdcore.models.sizes import bert_config
    from kdcore.models.weights import build_classifier
    from kdcore.records import ModelSize

    size = ModelSize(layers, width, 2, 16, 30, 16, 2)
    return build_classifier(bert_config(size, 2, None), {}, layers)[0]


def _rows(count):
    ids = torch.randint(5, 30, (count, 6), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = 2
    mask = (torch.arange(6)[None] < torch.tensor([6, 5, 4])[torch.arange(count) % 3][:, None]).long()
    return Encoding(ids, mask, torch.zeros_like(ids))


def test_cls_alone_is_the_cka_of_the_first_tokens(monkeypatch):
    rows, (teacher, student) = _rows(12), (_model(3), _model(2))
    hidden = [observe(m.eval(), rows, {"hidden": ALL_LAYERS}, grad=False).hidden for m in (teacher, student)]
    seen = [distances.layer_states(model, rows) for model in (teacher, student)]
    found = distances.compare_states(*seen)
    first = [{layer: state[None, :, 0] for layer, state in states.items() if layer} for states in hidden]
    expected = layer_distances(*first, torch.ones(1, 12)).cka
    torch.testing.assert_close(found.cls[1:, 1:], expected)
    assert found.cls.shape == (4, 3) and found.cls[0].isnan().all() and found.cls[:, 0].isnan().all()
    whole = layer_distances(*hidden, rows.attention_mask)
    torch.testing.assert_close(found.mse, whole.mse, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(distances, "SAMPLE_TOKENS", 25)
    some = distances.compare_states(*(distances.layer_states(model, rows) for model in (teacher, student)))
    assert some.tokens == distances.sample_tokens(rows.attention_mask.sum(1).numpy()) == 20, "every third of 60"
    torch.testing.assert_close(some.cls, found.cls, equal_nan=True)


def test_the_sample_is_the_same_every_time_and_bounded():
    lengths = np.arange(1, 301)
    assert distances.sample(lengths).tolist() == distances.sample(lengths).tolist()
    assert len(set(distances.sample(lengths))) == distances.SAMPLE_ROWS and sorted(distances.sample(lengths[:3])) == [
        0,
        1,
        2,
    ]
    assert distances.sample_tokens(np.array([1024])) == 1024 and distances.sample_tokens(np.array([1025])) == 513
