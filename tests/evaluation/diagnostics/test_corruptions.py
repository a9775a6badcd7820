"""Corruptions by what each of them keeps and changes."""

import math

import pytest
import torch

from kdrun.evaluation.diagnostics.corruptions import CORRUPTIONS, SEVERITIES, corrupt, drawn_out, grey, overlap, plasma

SCENE = torch.rand(6, 16, 16, 3, generator=torch.Generator().manual_seed(3))
COARSE = SCENE[:, :4, :4].permute(0, 3, 1, 2)
SMOOTH = torch.nn.functional.interpolate(COARSE, size=(16, 16), mode="bilinear").permute(0, 2, 3, 1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_keeps_form_and_range_and_gets_worse(name):
    whole = (255 * SMOOTH).round().to(torch.uint8)
    changes: list[float] = []
    for severity in SEVERITIES:
        bad = corrupt(whole, name, severity)
        assert bad.dtype == torch.uint8
        assert bad.shape == whole.shape
        changes.append(float((bad.float() - whole.float()).square().mean()))
    assert changes[0] > 0
    # noise may wobble between neighbours, not over the whole range
    if name == "glass_blur":
        assert sum(changes[3:]) > 1.4 * sum(changes[:2])  # the third is blurred more than the last two, with fewer exchanges
    elif name != "elastic":  # how rubber is wrinkled is looked at below
        assert changes[-1] > 1.5 * changes[0]


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (2, 9, 13, 3)])
def test_each_takes_small_and_oblong_pictures(name, shape):
    bad = corrupt(torch.rand(shape, generator=torch.Generator().manual_seed(2)), name, 5)
    assert bad.shape == shape
    assert bool(bad.isfinite().all())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_is_the_same_every_time(name):
    assert torch.equal(corrupt(SCENE, name, 3, seed=1), corrupt(SCENE, name, 3, seed=1))


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "motion_blur",
                                  "glass_blur", "snow", "frost", "fog", "elastic"])
def test_another_seed_draws_otherwise(name):
    assert not torch.equal(corrupt(SCENE, name, 3, seed=1), corrupt(SCENE, name, 3, seed=2))


@pytest.mark.parametrize("name", ["gaussian_blur", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "contrast",
                                  "elastic", "pixelate"])
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


def test_each_picture_is_drawn_out_its_own_way():
    point = torch.zeros(2, 1, 5, 5)
    point[:, :, 2, 2] = 1
    streaks = drawn_out(point, torch.tensor([0, torch.pi / 2]), reach=1, sigma=1)
    near = math.exp(-0.5)
    assert streaks[0, 0, 2].tolist() == pytest.approx([0, near / (1 + near), 1 / (1 + near), 0, 0], abs=1e-6)
    assert streaks[1, 0, :, 2].tolist() == pytest.approx([0, near / (1 + near), 1 / (1 + near), 0, 0], abs=1e-6)


def test_glass_exchanges_pixels():
    bad = corrupt(SCENE, "glass_blur", 1)  # whose blur is none
    assert not torch.equal(bad, SCENE)
    for picture, other in zip(bad, SCENE, strict=True):
        assert torch.equal(picture.reshape(-1, 3).sort(dim=0)[0], other.reshape(-1, 3).sort(dim=0)[0])


def test_fog_is_between_the_picture_and_its_lightest_pixel():
    half = torch.full((3, 8, 8, 1), 0.5)
    bad = corrupt(half, "fog", 2)  # 0.5 + 0.5 * clouds from 0 to 1, over twice as much
    assert bad.amin(dim=(1, 2, 3)).tolist() == pytest.approx([0.25] * 3)
    assert bad.amax(dim=(1, 2, 3)).tolist() == pytest.approx([0.5] * 3)


def test_clouds_are_rougher_the_slower_their_parts_shrink():
    smooth, rough = (plasma(20, 32, 32, decay, torch.Generator().manual_seed(1)) for decay in (3, 1.5))
    assert float(rough.diff(dim=3).abs().mean()) > 2 * float(smooth.diff(dim=3).abs().mean())
    assert smooth.shape == (20, 1, 32, 32)


def test_ice_adds_to_what_it_lets_through():
    dark, light = (corrupt(torch.full((2, 8, 8, 3), value), "frost", 5) for value in (0, 0.4))
    assert torch.allclose(light - dark, torch.tensor(0.75 * 0.4))
    assert bool((dark[..., 0] < dark[..., 2]).all())


def test_snow_makes_nothing_darker():
    assert bool((corrupt(SCENE, "snow", 4) >= SCENE - 1e-6).all())
    assert grey(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)).item() == pytest.approx(0.299)


def test_rubber_is_wrinkled_the_more_the_worse():
    slope = (torch.arange(32.0) / 31).expand(8, 32, 32)[..., None].contiguous()
    middles = [corrupt(slope, "elastic", severity)[:, 8:24, 8:24] for severity in SEVERITIES]
    wrinkles = [float(middle.diff(n=2, dim=2).abs().mean()) for middle in middles]
    assert wrinkles[0] < 1e-6  # an affine map alone
    assert wrinkles == sorted(wrinkles)


def test_two_channels_are_no_jpeg():
    with pytest.raises(ValueError, match="1 or 3 channels, and these have 2"):
        corrupt(torch.rand(1, 8, 8, 2), "jpeg", 1)
