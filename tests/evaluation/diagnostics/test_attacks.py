"""Attacks on linear networks, where the worst change of a picture is known."""

import pytest
import torch

from kdrun.evaluation.diagnostics.attacks import fgsm, pgd, robust, transition_gaps
from kdrun.utils.seeding import generator

WEIGHTS = torch.tensor([[1.0, -2.0, 0.5, 0.25], [-1.0, 1.0, 0.0, 0.5]])


def linear(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.flatten(1) @ WEIGHTS.T + torch.tensor([0.3, 0.0])


def pictures(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return torch.rand(count, 2, 2, 1, generator=draws), torch.randint(0, 2, (count,), generator=draws)


def worst(pixels: torch.Tensor, labels: torch.Tensor, eps: float) -> torch.Tensor:
    """Of two classes: along the sign of the other class's weights less the own one's."""
    sign = (WEIGHTS[1 - labels] - WEIGHTS[labels]).sign().view(pixels.shape)
    return (pixels + eps * sign).clamp(0, 1)


def test_fgsm_of_a_linear_network_is_its_worst_case():
    pixels, labels = pictures()
    assert torch.equal(fgsm(linear, pixels, labels, 0.1), worst(pixels, labels, 0.1))


def test_pgd_of_a_linear_network_is_as_bad_and_stays_in_the_ball():
    pixels, labels = pictures()
    moved = pgd(linear, pixels, labels, 0.1, 10, generator("test"))
    assert (moved - pixels).abs().max() <= 0.1 + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    broken = linear(worst(pixels, labels, 0.1)).argmax(1) != labels
    assert torch.equal(linear(moved).argmax(1) != labels, broken)
    assert 0 < broken.sum() < len(labels)


def test_pgd_keeps_what_misled_on_the_way():
    # wrong only in a narrow valley half-way to the ball's edge, that later steps leave behind
    def valley(pixels: torch.Tensor) -> torch.Tensor:
        height = pixels.flatten(1).mean(1)
        dip = (height - 0.55).abs()
        return torch.stack([torch.where(dip < 0.02, -1.0, 1.0) - height, torch.zeros_like(height)], dim=1)

    pixels, labels = torch.full((8, 1, 1, 1), 0.5), torch.zeros(8, dtype=torch.int64)
    moved = pgd(valley, pixels, labels, 0.1, 20, generator("valley"))
    started_below = (0.5 + 0.1 * (2 * torch.rand(8, 1, 1, 1, generator=generator("valley")) - 1)).flatten() < 0.55
    assert started_below.any()
    assert (valley(moved).argmax(1)[started_below] == 1).all()


def test_the_slope_goes_through_normalisation():
    def inverted(pixels: torch.Tensor) -> torch.Tensor:
        return linear((pixels - 0.5) / -0.25)

    pixels, labels = pictures()
    up = fgsm(linear, pixels, labels, 0.01) - pixels
    down = fgsm(inverted, pixels, labels, 0.01) - pixels
    inside = ((pixels > 0.01) & (pixels < 0.99)).flatten(1).all(1)
    assert torch.allclose(up[inside], -down[inside])


def test_an_attack_never_helps():
    # inverts every picture: what was wrong becomes right, and must not count
    def invert(sees, pixels, labels):
        return 1 - pixels

    pixels, labels = pictures()
    clean = linear(pixels).argmax(1) == labels
    held = robust(linear, pixels, labels, invert)
    assert bool((linear(1 - pixels).argmax(1) == labels)[~clean].any())
    assert not held[~clean].any()
    assert torch.equal(robust(linear, pixels, labels, fgsm, 0.0), clean)


def test_what_has_no_gradient_is_refused():
    pixels, labels = pictures()
    with pytest.raises(ValueError, match="no gradient"):
        fgsm(lambda seen: (seen.flatten(1)[:, :2] > 0.5).float(), pixels, labels, 0.1)


def test_transition_gaps_vanish_between_a_network_and_itself():
    pixels, labels = pictures(5)
    assert transition_gaps(linear, linear, pixels, labels, 2, 3, 0.5).shape == (5, 1, 3)
    assert not transition_gaps(linear, linear, pixels, labels, 2, 3, 0.5).any()


def test_transition_gaps_against_a_network_that_knows_nothing():
    pixels, labels = pictures(5)
    gaps = transition_gaps(linear, lambda seen: torch.zeros(len(seen), 2), pixels, labels, 2, 200, 1.0)
    # the walk ends where the first network is sure of the other class, the second still says one half
    assert gaps[:, 0, -1].tolist() == pytest.approx([0.5] * 5, abs=0.02)
