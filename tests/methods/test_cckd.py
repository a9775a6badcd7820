"""CCKD: the correlations and their congruence."""

import math

import pytest
import torch

from kdrun.methods.losses.relation import cckd, correlations

UNITS = torch.eye(2, dtype=torch.float64)
SAME = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)


def congruence(teacher, student, kernel="gaussian"):
    return cckd(teacher, student, kernel, gamma=0.4, order=2)


def test_known_correlations():
    assert correlations(UNITS, "gaussian", 0.4, 2).flatten().tolist() == pytest.approx(
        [0.9525774, 0.4493290, 0.4493290, 0.9525774], abs=1e-6)
    assert correlations(UNITS, "gaussian", 0.4, 40)[0, 1].item() == pytest.approx(math.exp(-0.8))  # squared distance 2
    assert correlations(2 * SAME, "bilinear", 0.4, 2).flatten().tolist() == pytest.approx([1] * 4)


def test_known_congruence():
    assert congruence(SAME, UNITS).item() == pytest.approx(0.1266295, abs=1e-6)
    assert congruence(SAME, UNITS, "bilinear").item() == pytest.approx(0.5, abs=1e-9)
    vectors = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    turn = torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64)
    turned = vectors @ turn * torch.tensor([[1.0], [2], [3], [4]])
    assert congruence(vectors, turned).item() == pytest.approx(0, abs=1e-12)


def test_dead_rows_have_finite_gradients():
    dead = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    congruence(SAME, dead).backward()
    assert torch.isfinite(dead.grad).all()
