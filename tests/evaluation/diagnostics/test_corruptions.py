"""Corruptions by what each of them keeps and changes."""

import pytest
import torch

from kdrun.evaluation.diagnostics.corruptions import CORRUPTIONS, SEVERITIES, corrupt, filtered, overlap

SCENE = torch.rand(6, 16, 16, 3, generator=torch.Generator().manual_seed(3))
COARSE = SCENE[:, :4, :4].permute(0, 3, 1, 2)
SMOOTH = torch.nn.functional.interpolate(COARSE, size=(16, 16), mode="bilinear").permute(0, 2, 3, 1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_keeps_form_and_range_and_gets_worse(name):
    whole = (255 * SMOOTH).round().to(torch.uint8)
    changes = []
    for severity in SEVERITIES:
        bad = corrupt(whole, name, severity)
        assert bad.dtype == torch.uint8
        assert bad.shape == whole.shape
        changes.append(float((bad.float() - whole.float()).square().mean()))
    assert changes[0] > 0
    # noise may wobble between neighbours, not over the whole range
    assert changes[-1] > 1.5 * changes[0]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_is_the_same_every_time(name):
    assert torch.equal(corrupt(SCENE, name, 3, seed=1), corrupt(SCENE, name, 3, seed=1))


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "motion_blur"])
def test_another_seed_draws_otherwise(name):
    assert not torch.equal(corrupt(SCENE, name, 3, seed=1), corrupt(SCENE, name, 3, seed=2))


@pytest.mark.parametrize("name", ["gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "contrast", "pixelate"])
def test_a_flat_picture_stays_flat(name):
    flat = torch.full((2, 9, 9, 1), 0.4)
    assert torch.allclose(corrupt(flat, name, 5), flat, atol=1e-5)


def test_noise_has_its_spread():
    grey = torch.full((20, 32, 32, 3), 0.5)
    assert float(corrupt(grey, "gaussian_noise", 5).std()) == pytest.approx(0.10, rel=0.02)
    assert float(corrupt(grey, "speckle_noise", 5).std()) == pytest.approx(0.10, rel=0.02)
    assert float(corrupt(grey, "shot_noise", 5).var()) == pytest.approx(0.5 / 50, rel=0.05)  # Poisson: mean over count
    lost = corrupt(grey, "impulse_noise", 5)
    assert float((lost == 0).float().mean()) == pytest.approx(0.035, rel=0.1)
    assert float((lost == 1).float().mean()) == pytest.approx(0.035, rel=0.1)


def test_brightness_raises_the_value_alone():
    colour = torch.tensor([0.4, 0.2, 0.1]).expand(1, 4, 4, 3)
    assert torch.allclose(corrupt(colour, "brightness", 3), colour * 0.55 / 0.4)
    assert torch.allclose(corrupt(torch.zeros(1, 4, 4, 1), "brightness", 1), torch.full((1, 4, 4, 1), 0.05))


def test_contrast_moves_towards_the_mean():
    halves = torch.cat([torch.zeros(1, 4, 2, 1), torch.ones(1, 4, 2, 1)], dim=2)
    assert corrupt(halves, "contrast", 5).unique().tolist() == pytest.approx([0.425, 0.575])


def test_pixels_are_averaged_over_their_areas():
    assert torch.allclose(overlap(3, 2), torch.tensor([[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]))
    assert torch.equal(overlap(4, 2), torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]))


def test_each_picture_has_its_own_kernel():
    point = torch.zeros(2, 1, 5, 5)
    point[:, :, 2, 2] = 1
    kernels = torch.zeros(2, 3, 3)
    kernels[0, 1, 1] = kernels[1, 1, 0] = 1
    moved = filtered(point, kernels)
    assert moved[0, 0, 2, 2] == 1
    assert moved[1, 0, 2, 3] == 1  # a correlation: the kernel's left is taken to the point


def test_two_channels_are_no_jpeg():
    with pytest.raises(ValueError, match="1 or 3 channels, and these have 2"):
        corrupt(torch.rand(1, 8, 8, 2), "jpeg", 1)
