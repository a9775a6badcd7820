"""Jacobian matching: gradients to the pictures, differentiated again."""

import copy

import pytest
import torch

from kdrun.methods.feature.jacobian import Jacobian
from kdrun.methods.losses.feature import jacobian
from tests.toy import toy_run

PICTURE = torch.tensor([[0.3, -2.0]], dtype=torch.float64).view(1, 2, 1, 1)

PLAIN = Jacobian(weight=1.0, reference=None, scaling="none", ce_weight=1.0)


def of_linear(weights: torch.Tensor, trained: bool = False) -> torch.Tensor:
    pictures = PICTURE.clone().requires_grad_()
    return jacobian(pictures.flatten(1) @ weights.T, pictures, torch.tensor([1]), create_graph=trained)


def weights(*row: float) -> torch.Tensor:
    return torch.tensor([[9.0, -9.0], row], dtype=torch.float64)  # the label is class 1; class 0 must not matter


def test_linear_networks():
    wanted, given = of_linear(weights(1, 0)), of_linear(weights(3, 4))
    assert torch.allclose(given, torch.tensor([[0.6, 0.8]], dtype=torch.float64), atol=1e-9)
    assert (given - wanted).square().mean().item() == pytest.approx(0.4, abs=1e-6)
    assert torch.allclose(of_linear(5 * weights(3, 4)), given, atol=1e-9)


def test_the_student_learns_from_it():
    own = weights(3, 4).requires_grad_()
    (of_linear(own, trained=True) - of_linear(weights(1, 0))).square().mean().backward()
    # 0.5 * |g/|g| - (1, 0)|^2 = 1 - g1/|g|, whose gradient at (3, 4) is (-16, 12) / 125
    assert torch.allclose(own.grad[1], torch.tensor([-16.0, 12.0], dtype=torch.float64) / 125, atol=1e-9)
    assert own.grad[0].abs().sum() == 0


@pytest.mark.parametrize("scheme", ["offline", "online", "self"])
def test_a_networks_own_sensitivity_matches_and_its_pictures_keep_no_gradient(scheme):
    run = toy_run("jacobian", scheme)
    run.networks.teachers = [copy.deepcopy(run.networks.student)]
    batch = next(iter(run.stream.epoch(0, 1)))
    terms = run.method.loss(run.networks, batch)
    assert terms["jacobian"].item() == pytest.approx(0, abs=1e-9)
    assert not batch.x.requires_grad
