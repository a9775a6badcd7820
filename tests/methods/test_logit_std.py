"""Standardised logits: what the base sees, and what labels see."""

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from kdrun.cast import Cast, frozen
from kdrun.data.batch import Batch
from kdrun.losses import soften
from kdrun.methods.attention.at import AT
from kdrun.methods.response.dkd import DKD, decoupled
from kdrun.methods.response.kd import KD
from kdrun.methods.response.logit_std import LogitStd, standardised
from tests.conftest import TINY_STUDENT, TINY_TEACHER

F64 = torch.float64


def test_mean_zero_deviation_one():
    logits = tensor([[3.0, -1.0, 0.5, 9.0]], dtype=F64)
    assert standardised(logits).mean().item() == pytest.approx(0, abs=1e-12)
    assert standardised(logits).std().item() == pytest.approx(1, abs=1e-6)


def test_only_the_form_counts():
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 5, 10, dtype=F64)
    wanted = float(soften(standardised(teacher), standardised(student), 2.0))
    assert float(soften(standardised(3 * teacher + 7), standardised(0.2 * student - 5), 2.0)) == pytest.approx(wanted, abs=1e-6)


def test_of_two_classes_only_the_larger_is_left():
    sure, unsure, opposite = (standardised(tensor([row], dtype=F64)) for row in ([9.0, 0.0], [0.1, 0.0], [0.0, 4.0]))
    assert float(soften(sure, unsure, 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(soften(sure, opposite, 2.0)) == pytest.approx(0.960316, abs=1e-6)


def test_an_even_answer_is_finite():
    even = torch.zeros(1, 4, requires_grad=True)
    soften(tensor([[1.0, 2.0, 3.0, 4.0]]), standardised(even), 2.0).backward()
    assert standardised(even).abs().max() == 0
    assert torch.isfinite(even.grad).all()


@pytest.fixture
def cast(networks):
    nets = networks(teachers=(TINY_TEACHER, TINY_STUDENT))
    cast = Cast(nets.student(), [frozen(role).double() for role in nets.untrained_teachers()])
    cast.student.double().eval()
    return cast


@pytest.fixture
def batch(data):
    torch.manual_seed(0)
    return Batch(torch.randn(6, *data.shape, dtype=F64), torch.arange(6) % 4)


def terms_of(method, cast, batch):
    ((player, terms),) = method.step(cast, batch)
    assert player == "student"
    return {name: float(term.detach()) for name, term in terms.items()}


def test_over_kd(cast, batch):
    cast.teachers = cast.teachers[:1]
    method = LogitStd(base=KD(temperature=2.0, ce_weight=0.1, kd_weight=9.0, form="zhu"))
    method.label_smoothing = 0.1  # as the recipe may say
    student, teacher = cast.student(batch).logits, cast.teacher(batch).logits
    assert terms_of(method, cast, batch) == pytest.approx({
        "ce": 0.1 * float(F.cross_entropy(student, batch.y, label_smoothing=0.1).detach()),
        "kd": 9 * float(soften(standardised(teacher), standardised(student), 2.0).detach())})


def test_over_dkd(cast, batch):
    cast.teachers = cast.teachers[1:]
    method = LogitStd(base=DKD(temperature=2.0, ce_weight=1.0, alpha=9.0, beta=72.0, reference=None, scaling="none",
                                warmup_epochs=0))
    student, teacher = cast.student(batch).logits, cast.teacher(batch).logits
    target, others = decoupled(standardised(teacher), standardised(student), batch.y, 2.0)
    assert terms_of(method, cast, batch) == pytest.approx({
        "ce": float(F.cross_entropy(student, batch.y).detach()), "tckd": 9 * float(target.detach()),
        "nckd": 72 * float(others.detach())})


def test_the_gradient_goes_through_the_students_mean_and_deviation(cast, batch):
    cast.teachers = cast.teachers[:1]
    method = LogitStd(base=KD(temperature=2.0, ce_weight=0.0, kd_weight=1.0, form="zhu"))
    ((_, terms),) = method.step(cast, batch)
    (slope,) = torch.autograd.grad(terms["kd"], cast.student(batch).logits, retain_graph=True)
    assert slope.abs().max() > 1e-6
    assert slope.sum(1).abs().max() < 1e-12  # no gain by a shift,
    assert (slope * cast.student(batch).logits).sum(1).abs().max() < 1e-6  # nor by a scale


def test_a_base_without_answers_is_refused():
    with pytest.raises(ValueError, match="does not learn from answers"):
        LogitStd(base=AT(power=2.0, weight=1.0, reference=None, scaling="linear", ce_weight=1.0, mode="code"))
