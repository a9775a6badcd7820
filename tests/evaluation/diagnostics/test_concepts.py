"""The noise that features bear, where it can be computed by hand."""

import math

import pytest
import torch

from kdrun.evaluation.diagnostics.concepts import ENTROPY, entropy, foreground, held, tolerated


def linear(weights):
    return lambda pixels: (pixels[:, 0] * weights).sum(dim=(1, 2))[:, None]


def draws():
    return torch.Generator().manual_seed(1)


def test_noise_is_weaker_where_a_linear_feature_has_more_weight():
    weights = torch.tensor([[1.0, 2], [4, 0.5]])
    found = tolerated(linear(weights), torch.rand(2, 1, 2, 2), (2, 2), noises=500, steps=60, draws=draws())
    assert found.mean(dim=(1, 2)).tolist() == pytest.approx([ENTROPY] * 2, abs=1e-4)
    level = found + weights.log()  # sigma times weight is the same everywhere
    assert torch.allclose(level, level.mean(), atol=0.1)


def test_what_is_ignored_bears_all_noise():
    weights = torch.ones(8, 8)
    weights[0, 0] = 0
    found = tolerated(linear(weights), torch.zeros(1, 1, 8, 8), (8, 8), noises=100, steps=60, draws=draws())
    most = float(entropy(torch.tensor(0.0)))
    assert float(found[0, 0, 0]) == pytest.approx(most, abs=0.05)
    assert float(found.flatten()[1:].max()) < most - 2


def test_cells_of_several_pixels_have_one_scale():
    weights = torch.ones(4, 4)
    weights[:2, :2] = 3
    found = tolerated(linear(weights), torch.zeros(1, 1, 4, 4), (2, 2), noises=500, steps=60, draws=draws())
    assert float(found[0, 1, 1] - found[0, 0, 0]) == pytest.approx(math.log(3), abs=0.15)


def test_the_mean_is_held_within_the_bounds():
    least, most = math.log(0.001), 0.0
    found = held(torch.tensor([[-50.0, -4, -2, 9], [0, 0, 0, 0]]), -3.0)
    assert found.mean(dim=1).tolist() == pytest.approx([-3, -3], abs=1e-5)
    assert found[0, 0].item() == pytest.approx(least)
    assert found[0, 3].item() == pytest.approx(most)
    assert float(found[0, 2] - found[0, 1]) == pytest.approx(2, abs=1e-4)
    assert found[1].tolist() == pytest.approx([-3] * 4, abs=1e-5)


def test_features_without_a_gradient_are_refused():
    with pytest.raises(ValueError, match="no gradient in the pixels"):
        tolerated(lambda pixels: (pixels > 0).float(), torch.zeros(1, 1, 2, 2), (2, 2), 2, 1, draws())


def test_ink_and_what_is_next_to_it_are_foreground():
    point = torch.zeros(1, 1, 6, 6)
    point[0, 0, 1, 1], point[0, 0, 5, 5] = 0.5, 0.1  # the second is fainter than ink
    assert foreground(point, (6, 6))[0].nonzero().tolist() == [[row, column] for row in range(3) for column in range(3)]
    assert foreground(point, (3, 3))[0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
