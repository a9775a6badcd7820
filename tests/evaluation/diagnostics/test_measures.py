"""Temperatures, Brier scores and mean corruption errors by closed form."""

import math

import pytest
import torch

from kdrun.evaluation import metrics
from kdrun.evaluation.diagnostics.calibration import fitted_temperature
from kdrun.evaluation.diagnostics.robustness import corruption_errors


def test_the_fitted_temperature_makes_confidence_the_accuracy():
    # every answer has margin 4 and three of four are right: the best temperature has sigmoid(4 / T) = 3/4
    logits = torch.tensor([[4.0, 0.0]]).expand(400, 2)
    labels = (torch.arange(400) % 4 == 0).long()
    assert fitted_temperature(logits, labels) == pytest.approx(4 / math.log(3), rel=1e-4)


def test_the_fitted_temperature_undoes_a_scale():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 5, generator=draws)
    labels = torch.distributions.Categorical(logits=logits).sample()
    assert fitted_temperature(10 * logits, labels) == pytest.approx(10 * fitted_temperature(logits, labels), rel=1e-3)


def test_brier():
    logits = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]).log()
    # 0.4² + 0.3² + 0.1²; 0.2² + 0.8² + 0.6²
    assert metrics.brier(logits, torch.tensor([0, 1])) == pytest.approx((0.26 + 1.04) / 2)


def test_mean_corruption_error_is_one_for_the_reference_and_a_ratio_of_sums():
    theirs = {("blur", 1): 0.1, ("blur", 2): 0.3, ("noise", 1): 0.2, ("noise", 2): 0.2}
    own = {("blur", 1): 0.2, ("blur", 2): 0.4, ("noise", 1): 0.3, ("noise", 2): 0.3}
    assert corruption_errors(theirs, theirs, 0.05, 0.05) == pytest.approx((1, 1))
    first, relative = corruption_errors(own, theirs, 0.1, 0.05)
    assert first == pytest.approx((0.6 / 0.4 + 0.6 / 0.4) / 2)
    assert relative == pytest.approx((0.4 / 0.3 + 0.4 / 0.3) / 2)


def test_a_reference_without_errors_measures_nothing():
    assert corruption_errors({("blur", 1): 0.2}, {("blur", 1): 0.0}, 0.1, 0.0) == (None, None)
