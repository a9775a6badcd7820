"""Log-Euclidean teachers in closed form, and how their weights move."""

import math

import pytest
import torch

from kdrun.methods.losses.spectral import likenesses, log_euclid, symmetric_log
from kdrun.methods.multi_teacher.mt_logeuclid import moved
from kdrun.training.loop import distill
from tests.toy import toy_run

F64 = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_logarithm_of_multiples_of_the_identity():
    apart = symmetric_log(math.e * torch.eye(2, dtype=F64)) - symmetric_log(torch.eye(2, dtype=F64))
    assert float(apart.square().sum()) == pytest.approx(2.0, abs=1e-12)


def test_its_gradient_is_right_and_finite_where_eigenvalues_are_equal():
    def whole(lower):  # of a symmetric matrix, as the derivative is meant
        return symmetric_log(lower @ lower.T + torch.eye(4, dtype=F64))

    assert torch.autograd.gradcheck(whole, draw(4, 3).requires_grad_())  # an eigenvalue of 1; three others
    assert torch.autograd.gradcheck(whole, torch.eye(4, dtype=F64).requires_grad_())  # all of them 2


def test_the_same_up_to_length_sign_and_rotation_costs_nothing():
    vectors = draw(6, 5).abs()
    assert float(log_euclid(vectors, torch.cat([9 * vectors, -draw(6, 2).abs()], dim=1), 0.1)) == pytest.approx(0, abs=1e-16)
    student, wide = draw(6, 3, seed=1), likenesses(vectors, 0.1)
    again = log_euclid(torch.cat([vectors, vectors], dim=1), student, 0.1)  # other vectors, the same inner products
    assert torch.allclose(again, log_euclid(vectors, student, 0.1))
    assert torch.allclose(wide.diagonal(), torch.full((6,), 1.1, dtype=F64))
    assert float(wide.min()) >= 0


def test_repeating_samples_alike_in_both_networks_is_a_larger_batch_of_the_same_kind():
    teacher, student = torch.eye(3, dtype=F64), torch.ones(3, 1, dtype=F64)
    # eigenvalues 1 + e three times, against 3 + e once and e twice, on the same first vector
    wanted = (math.log(3.5) - math.log(1.5))**2 + 2 * (math.log(0.5) - math.log(1.5))**2
    assert float(log_euclid(teacher, student, 0.5)) == pytest.approx(wanted / 9, abs=1e-12)


def test_weights_go_to_the_teacher_that_agrees_with_the_labels():
    raw = torch.zeros(2, dtype=F64)
    assert moved(raw, torch.tensor([0.3, 0.3], dtype=F64), 1.0).tolist() == [0, 0]
    assert moved(raw, torch.tensor([1.0, -1.0], dtype=F64), 0.1).tolist() == pytest.approx([0.05, -0.05])


def test_adaptive_weights_leave_batch_statistics_to_the_training_pictures():
    ends = []
    for weights in ("adaptive", "uniform"):
        run = toy_run("mt_logeuclid", "offline", f"method.weights={weights}", "method.weight=0", "recipe.epochs=1")
        distill(run)
        ends.append((run.networks.student.state_dict(), run.method.raw))
    assert all(torch.equal(value, ends[1][0][name]) for name, value in ends[0][0].items())
    assert ends[0][1].abs().min() > 0
    assert float(ends[0][1].sum()) == pytest.approx(0, abs=1e-6)
    assert ends[1][1].tolist() == [0, 0]


def test_adaptive_weights_need_a_validation_split():
    run = toy_run("mt_logeuclid", "offline")
    run.data.validation = run.data.validation[torch.arange(0)]
    with pytest.raises(ValueError, match=r"dataset\.validation above 0"):
        distill(run)
