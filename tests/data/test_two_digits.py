"""Numbers of two digits: who is seen, and what distortions do."""

import math

import torch

from kdrun.data import two_digits as module
from kdrun.data.two_digits import two_digits
from kdrun.utils.seeding import generator

CLEAN = {"rotation": 0.0, "zoom": 0.0, "shift": 0.0, "noise": 0.0}


def made(**changes):
    return two_digits(**({"unseen": 30, "each": 2, "validation_each": 1, "test_each": 2, **CLEAN, "seed": 0, "head": "linear",
                          "scale": 16.0, "margin": 0.2, "far": 0.01} | changes))


def test_seventy_numbers_are_trained_on_and_thirty_others_tested():
    source = made()
    assert len(source.classes) == 70
    assert source.train.labels.tolist() == source.train.labels.sort().values.tolist()
    assert set(source.train.labels.tolist()) == set(source.validation.labels.tolist()) == set(range(70))
    assert set(source.test.labels.tolist()) == set(range(70, 100))
    assert source.train.inputs.shape == (140, 12, 20, 1)
    assert source.found.startswith("60 test pictures of 30 numbers that nobody is trained on; raw pixels reach recall@1 ")


def test_no_digit_picture_is_in_two_splits():
    source = made(each=20)
    halves = [{bytes(half.numpy().tobytes()) for picture in part.inputs for half in picture[2:10, 2:18, 0].split(8, dim=1)}
              for part in (source.train, source.validation, source.test)]
    assert not halves[0] & halves[2]
    assert not halves[0] & halves[1]
    assert not halves[1] & halves[2]


def test_the_same_seed_makes_the_same_pictures():
    noisy = {"rotation": 12.0, "zoom": 0.1, "shift": 1.0, "noise": 0.15}
    assert torch.equal(made(**noisy).test.inputs, made(**noisy).test.inputs)
    assert not torch.equal(made(**noisy).test.inputs, made(**noisy, seed=1).test.inputs)


def test_distortions_move_turn_and_keep_lengths():
    bar = torch.zeros(50, 8, 16, dtype=torch.uint8)
    bar[:, 4, 4:12] = 240  # 8 pixels long
    place = torch.stack(torch.meshgrid(torch.arange(12.0) + 0.5, torch.arange(20.0) + 0.5, indexing="ij"), dim=-1).view(-1, 2)

    def drawn(**changes):
        """The centres of the bars [50, 2], and their spread along their own direction [50]."""
        weight = module._distorted(bar, *(CLEAN | changes).values(), generator("test")).double().view(50, -1, 1)
        weight = weight / weight.sum(dim=1, keepdim=True)
        centre = (weight * place).sum(dim=1)
        offset = place - centre[:, None]
        return centre, torch.linalg.eigvalsh((weight * offset).mT @ offset)[:, 1].sqrt()

    centre, spread = drawn()
    assert torch.allclose(spread, torch.full((50,), math.sqrt(63 / 12), dtype=torch.float64), atol=1e-6)
    assert torch.allclose(drawn(rotation=40.0)[1], spread, atol=0.15)
    assert 0.2 < float((drawn(zoom=0.2)[1] / spread).log().abs().max()) < 0.3
    moved = (drawn(shift=1.0)[0] - centre).abs()
    assert float(moved.max()) <= 1 + 1e-6
    assert float(moved.min(dim=0).values.max()) < 0.2 < 0.8 < float(moved.max(dim=0).values.min())
