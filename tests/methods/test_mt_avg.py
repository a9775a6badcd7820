"""Averaged teachers in closed form."""

import pytest
import torch
from torch import tensor

from kdrun.methods.losses import kd, mixture
from kdrun.methods.losses.response import kd_of_teachers

F64 = torch.float64
FIRST, SECOND, STUDENT = (tensor([answer], dtype=F64).log() for answer in ([0.9, 0.1], [0.5, 0.5], [0.6, 0.4]))


def test_a_mixture_softens_to_the_mean_of_the_answers():
    assert mixture([FIRST, SECOND]).exp().tolist() == [pytest.approx([0.7, 0.3], abs=1e-12)]
    softened = (mixture([FIRST, SECOND], 3.0) / 3).softmax(1)
    assert softened.tolist() == [pytest.approx(((FIRST / 3).softmax(1) + (SECOND / 3).softmax(1))[0].div(2).tolist())]


def test_the_means_and_their_gap():
    loss, prob = (float(kd_of_teachers([FIRST, SECOND], STUDENT, 1.0, mean)) for mean in ("loss", "prob"))
    assert (loss, prob, loss - prob) == pytest.approx((0.123350, 0.021601, 0.101749), abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_prob_and_loss_pull_the_student_alike_and_logit_does_not(temperature):
    pulls, values = {}, {}
    for mean in ("prob", "loss", "logit"):
        student = tensor([[0.3, -1.2]], dtype=F64, requires_grad=True)
        values[mean] = kd_of_teachers([FIRST, SECOND], student, temperature, mean)
        (pulls[mean],) = torch.autograd.grad(values[mean], student)
    assert torch.allclose(pulls["prob"], pulls["loss"], atol=1e-12)
    assert not torch.allclose(pulls["prob"], pulls["logit"], atol=1e-4)
    other = tensor([[2.0, 5.0]], dtype=F64)
    gap = (kd_of_teachers([FIRST, SECOND], other, temperature, "loss")
           - kd_of_teachers([FIRST, SECOND], other, temperature, "prob"))
    assert float(gap) == pytest.approx(float((values["loss"] - values["prob"]).detach()), abs=1e-12)


def test_logit_is_the_geometric_mean():
    geometric = tensor([[0.75, 0.25]], dtype=F64).log()
    assert float(kd_of_teachers([FIRST, SECOND], geometric, 1.0, "logit")) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("mean", ["prob", "loss", "logit"])
def test_equal_teachers_are_one_teacher(mean):
    one = kd(FIRST, STUDENT, 4.0)
    assert float(kd_of_teachers([FIRST] * 3, STUDENT, 4.0, mean)) == pytest.approx(float(one), abs=1e-12)


@pytest.mark.parametrize("mean", ["prob", "loss", "logit"])
def test_teachers_get_no_gradient(mean):
    teachers = [FIRST.clone().requires_grad_(), SECOND.clone().requires_grad_()]
    kd_of_teachers(teachers, STUDENT.clone().requires_grad_(), 2.0, mean).backward()
    assert [teacher.grad for teacher in teachers] == [None, None]
