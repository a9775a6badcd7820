"""Scenes: what is where agrees between pictures, masks and boxes."""

import dataclasses

import torch

from kdrun.data.compose import Layout, compose
from kdrun.data.samples import IGNORED

LAYOUT = Layout(canvas=24, digits=(1, 3), side=(8, 12), overlap=0.1, clutter=0, piece=4, noise=0.0, threshold=0.35)


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """A full square as digit 3 and a bar as digit 7."""
    bar = torch.zeros(8, 8)
    bar[:, 2:5] = 1.0
    return torch.stack([torch.ones(8, 8), bar]), torch.tensor([3, 7])


def scenes(count: int = 40, **changes):
    return compose(*digits(), count, dataclasses.replace(LAYOUT, **changes), torch.Generator().manual_seed(1))


def test_masks_and_boxes_tell_the_same():
    made = scenes(digits=(1, 1))
    assert made.pictures.shape == (40, 24, 24, 1)
    for mask, label, box in zip(made.masks, made.labels[:, 0].tolist(), made.boxes[:, 0].int().tolist(), strict=True):
        left, top, right, bottom = box
        own = mask == label + 1
        rows, columns = own.any(1).nonzero()[:, 0], own.any(0).nonzero()[:, 0]
        assert [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] == [left, top, right, bottom]
        assert int(own.sum()) == int((mask != 0).sum())
    assert set(made.labels.flatten().tolist()) == {3, 7}


def test_without_noise_a_digit_is_bright_and_clutter_is_background():
    assert bool(((scenes().pictures[..., 0] > 0.4 * 255) <= (scenes().masks != 0)).all())
    littered = scenes(clutter=3)
    assert bool(((littered.pictures[..., 0] > 200) & (littered.masks == 0)).any())


def test_the_rim_of_what_two_digits_share_is_ignored():
    crowded = scenes(digits=(3, 3), overlap=1.0)
    ignored = crowded.masks == IGNORED
    assert ignored.any()
    assert bool((ignored.flatten(1).float().mean(1) < 0.5).all())
    assert not (scenes(digits=(1, 1)).masks == IGNORED).any()


def test_the_same_generator_makes_the_same_scenes():
    first, second = scenes(noise=0.1), scenes(noise=0.1)
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("pictures", "masks", "labels", "boxes"))
