"""Pea-KD against its card: the layer table, the four labels, the stages, and the losses written from the equations.

The sharing itself is tested with the models (tests/models/test_shared_layers.py): invariants 1 to 6 of the card.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from kdcore.errors import UserError
from kdcore.layer_map import single
from kdcore.methods import resolve
from kdcore.methods.pea_kd import LABELS, PeaKD, median_thresholds, ptp_labels, repeated_layers
from kdcore.records import ModelSize, Outputs, Setup
from tests.methods.contract import Contract

CONTRACT = Contract(
    variants=({"sharing": "plain", "beta": 0.0}, {"ptp": False, "second_pass": "upper-half"}),
    trained=({"sharing": "none", "second_pass": "all", "thresholds": (0.5, 0.4)},),
    # its student is never its teacher: it runs layers twice, or learns labels
    not_zero=frozenset({"ptp", "soft", "patience"}),
)


def size(layers: int, width: int = 768) -> ModelSize:
    return ModelSize(layers, width, 12, 4 * width)


def config(**options) -> PeaKD.Config:
    return resolve("pea-kd", options)[1]


@pytest.mark.parametrize(
    ("sharing", "layers", "depth", "pairs"),
    [
        ("shuffle", 1, 2, {1: 6}),
        ("shuffle", 2, 4, {1: 3, 2: 6, 3: 9}),
        ("shuffle", 3, 6, {1: 2, 2: 4, 3: 6, 4: 8, 5: 10}),
        ("shuffle", 6, 9, {3: 4, 6: 8}),
        ("none", 2, 2, {1: 6}),
        ("none", 3, 3, {1: 4, 2: 8}),
        ("none", 6, 6, {1: 2, 2: 4, 3: 6, 4: 8, 5: 10}),
        ("none", 1, 1, {}),
    ],
)
def test_the_authors_table_of_depths_and_layers(sharing, layers, depth, pairs):
    chosen = config(sharing=sharing)
    assert PeaKD.deployed(chosen, size(layers), {}).layers == depth
    assert single(PeaKD.layer_map(chosen, size(layers), size(12))) == pairs


def test_layers_that_run_again():
    assert repeated_layers(config(), 6) == [4, 5, 6]
    assert repeated_layers(config(second_pass="all"), 4) == [1, 2, 3, 4]
    assert repeated_layers(config(second_pass="upper-half"), 3) == [2, 3]
    assert repeated_layers(config(sharing="none"), 3) == []


def test_depths_without_a_common_divisor_take_the_nearest_layers():
    assert single(PeaKD.layer_map(config(sharing="none"), size(5), size(6))) == {1: 1, 2: 2, 3: 4, 4: 5}


def test_widths_must_be_equal_unless_the_patience_term_is_off():
    setup = Setup(kind="classification", labels=2, student=size(2, 384), teachers={"t": size(12)}, scores={"t": None})
    with pytest.raises(UserError, match=r"student\.width"):
        PeaKD(config(), setup)
    PeaKD(config(beta=0.0), setup)


# --- PTP --------------------------------------------------------------------------------------------------------------


def answers(rows: int = 400, classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (rows,), generator=generator)


def slow_label(row: torch.Tensor, gold: int, t1: float, t2: float) -> int:
    exp = [math.exp(float(z)) for z in row]
    confidence = max(exp) / sum(exp)
    if exp.index(max(exp)) == gold:
        return 0 if confidence > t1 else 1
    return 2 if confidence > t2 else 3


def test_each_row_gets_the_one_label_that_the_definition_gives():
    logits, gold = answers()
    got = ptp_labels(logits, gold, 0.8, 0.6).tolist()
    assert got == [slow_label(row, int(y), 0.8, 0.6) for row, y in zip(logits, gold, strict=True)]
    assert set(got) == {0, 1, 2, 3}


def test_the_first_two_labels_are_the_right_answers():
    logits, gold = answers()
    labels = ptp_labels(logits, gold, 0.8, 0.6)
    assert torch.equal(labels < 2, logits.argmax(-1) == gold)


def test_confidence_lies_between_chance_and_one():
    logits, gold = answers(classes=3)
    assert not (ptp_labels(logits, gold, 1.0, 1.0) % 2 == 0).any(), "nobody is surer than 1"
    assert not (ptp_labels(logits, gold, 1 / 3 - 1e-9, 1 / 3 - 1e-9) % 2 == 1).any(), "nobody is less sure than 1/C"


def test_a_median_leaves_at_most_half_confident():
    logits, gold = answers(rows=401)
    t1, t2 = median_thresholds(logits, gold)
    labels = ptp_labels(logits, gold, t1, t2)
    right = int((labels < 2).sum())
    assert 0 < int((labels == 0).sum()) <= right / 2
    assert 0 < int((labels == 2).sum()) <= (401 - right) / 2


def test_a_teacher_that_is_never_wrong_has_a_threshold_all_the_same():
    logits, _ = answers()
    t1, t2 = median_thresholds(logits, logits.argmax(-1))
    assert t1 == t2 and 1 / 3 < t1 < 1
    assert set(ptp_labels(logits, logits.argmax(-1), t1, t2).tolist()) == {0, 1}


class Said:
    """The teacher's answers on the training rows."""

    def __init__(self, logits: torch.Tensor, gold: torch.Tensor) -> None:
        self._logits, self._gold = logits, gold

    def labels(self) -> torch.Tensor:
        return self._gold

    def logits(self, teacher: str) -> torch.Tensor:
        return self._logits


@pytest.mark.parametrize(
    ("options", "task", "expected"),
    [
        ({}, "mrpc", (0.95, 0.75)),
        ({}, "own", None),
        ({"thresholds": "median"}, "mrpc", None),
        ({"thresholds": "0.7, 0.5"}, "mrpc", (0.7, 0.5)),
    ],
)
def test_thresholds(options, task, expected):
    logits, gold = answers()
    setup = Setup(
        kind="classification", labels=3, student=size(2), teachers={"t": size(12)}, scores={"t": None}, task=task
    )
    method = PeaKD(config(**options), setup)
    method.before_stage("ptp", Said(logits, gold))
    assert method.history()["thresholds"] == list(expected or median_thresholds(logits, gold))


def test_notes_count_the_labels_and_price_a_blind_guess():
    logits, gold = answers()
    setup = Setup(
        kind="classification", labels=3, student=size(2), teachers={"t": size(12)}, scores={"t": None}, task="rte"
    )
    method = PeaKD(config(), setup)
    assert method.notes() == {}
    method.before_stage("ptp", Said(logits, gold))
    shares = [method.notes()[f"ptp/{name}"] for name in LABELS]
    assert shares == pytest.approx([float((ptp_labels(logits, gold, 0.8, 0.6) == c).float().mean()) for c in range(4)])
    assert method.notes()["ptp/loss of a blind guess"] == pytest.approx(-sum(s * math.log(s) for s in shares if s))


def test_wrong_thresholds_are_named():
    for wrong in ("0.9", "high", (0.9,)):
        with pytest.raises(UserError, match=r"options\.thresholds"):
            resolve("pea-kd", {"thresholds": wrong})


# --- losses and stages ------------------------------------------------------------------------------------------------


def test_ptp_loss_is_the_cross_entropy_of_the_head(world, replaced):
    made = world("pea-kd", {"thresholds": (0.5, 0.4)}, student=ModelSize(3, 8, 2, 16))
    method = made.method.double()
    method.before_stage("ptp", Said(*answers()))
    step = made.step()
    pooled = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).requires_grad_()
    step = replaced(step, students={"student": Outputs({"pooled": pooled}, step.student.mask)})
    slow = 0.0
    for row in range(6):
        label = slow_label(step.teacher.logits[row], int(step.batch.labels[row]), 0.5, 0.4)
        guess = (method.head.weight @ pooled[row] + method.head.bias).tolist()
        slow -= (guess[label] - math.log(sum(math.exp(g) for g in guess))) / 6
    (term,) = method.ptp_terms(step).values()
    assert term.value.item() == pytest.approx(slow, abs=1e-10) and term.weight == 1
    assert torch.autograd.gradcheck(
        lambda x: (
            method.ptp_terms(replaced(step, students={"student": Outputs({"pooled": x}, step.student.mask)}))[
                "ptp"
            ].value
        ),
        pooled,
    )


def test_the_final_loss_is_pkds_on_the_depth_that_runs(world):
    made = world("pea-kd", {"alpha": 0.3, "temperature": 2, "beta": 50}, student=ModelSize(3, 8, 2, 16))
    step = made.step()
    s, t, y = step.student.logits, step.teacher.logits, step.batch.labels
    slow = 0.0
    for row in range(6):
        p, q = torch.softmax(t[row] / 2, 0), torch.softmax(s[row] / 2, 0)
        slow += 0.7 * float(-torch.log_softmax(s[row], 0)[y[row]]) / 6
        slow += 0.3 * 4 * sum(float(a * (a.log() - b.log())) for a, b in zip(p, q, strict=True)) / 6
        for j, n in {1: 1, 2: 2, 3: 3, 4: 4, 5: 5}.items():
            ours, theirs = step.student.cls[j][row], step.teacher.cls[n][row]
            apart = ours / ours.norm() - theirs / theirs.norm()
            slow += 50 * float((apart**2).sum()) / (6 * 5 * 8)
    assert float(made.loss(step)) == pytest.approx(slow, abs=1e-10)


def test_everything_off_is_plain_fine_tuning(world):
    options = {"sharing": "none", "ptp": False, "alpha": 0.0, "beta": 0.0}
    made = world("pea-kd", options, student=ModelSize(12, 8, 2, 16))
    step = made.step()
    assert [stage.name for stage in made.method.stages()] == ["distil"]
    assert float(made.loss(step)) == pytest.approx(float(F.cross_entropy(step.student.logits, step.batch.labels)))


def test_the_encoder_goes_on_and_the_four_way_head_does_not(world):
    ptp, final = world("pea-kd").method.stages()
    assert (ptp.judge, ptp.ends) == ("loss", "best")
    assert ptp.trains("student") and ptp.trains("method")
    assert final.trains("student") and not final.trains("method")
    assert "logits" not in ptp.needs.student, "the task's classifier is new when the final stage begins"
    assert (ptp.share, final.share) == (0.4, 0.6)


def test_scores_have_no_right_and_wrong(world):
    made = world("pea-kd", regression=True)
    assert [stage.name for stage in made.method.stages()] == ["distil"]
    assert not list(made.method.parameters())
