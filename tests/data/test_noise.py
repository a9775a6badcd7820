"""Noise in place of pictures: repeatable, and all that data-free methods ever read."""

from dataclasses import replace

import pytest
import torch

from kdrun.data.noise import Noise
from kdrun.models.generator import Canvas, Generator
from kdrun.training.loop import distill
from tests.toy import toy_run


def noise(**changes) -> Noise:
    return Noise([3, 2], **({"batch_size": 4, "steps": 5, "seed": 1, "device": torch.device("cpu")} | changes))


def test_any_epoch_can_be_made_again_from_any_step_on():
    whole, rest = list(noise().epoch(2, 9)), list(noise().epoch(2, 9, first=3))
    assert len(whole) == len(noise()) == 5
    assert [batch.step for batch in rest] == [3, 4]
    for one, other in zip(whole[3:], rest, strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.index, other.index)
    assert whole[0].x.shape == (4, 3, 2)
    assert whole[0].y is None
    assert [batch.epochs for batch in whole] == [9] * 5


def test_steps_epochs_and_seeds_draw_anew():
    draws = [next(noise().epoch(0, 1)).x, next(noise().epoch(0, 1, first=1)).x, next(noise().epoch(1, 2)).x,
             next(noise(seed=2).epoch(0, 1)).x]
    assert len({float(draw.sum()) for draw in draws}) == len(draws)


def test_draws_are_numbered_through():
    numbers = torch.cat([batch.index for epoch in range(2) for batch in noise().epoch(epoch, 2)])
    assert torch.equal(numbers, torch.arange(40))


@pytest.mark.parametrize(("kind", "low", "mean", "spread"), [("normal", -9, 0, 1), ("uniform", 0, 0.5, 12**-0.5)])
def test_kinds(kind, low, mean, spread):
    draws = next(noise(batch_size=4000, kind=kind).epoch(0, 1)).x
    assert low <= float(draws.min())
    assert float(draws.mean()) == pytest.approx(mean, abs=0.03)
    assert float(draws.std()) == pytest.approx(spread, abs=0.03)


@pytest.mark.parametrize("ending", ["tanh", "affine"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 7, 5)])
def test_generated_pictures_are_normalised_and_of_any_size(ending, shape):
    torch.manual_seed(0)
    pictures = Generator(noise=6, shape=shape, width=8, ending=ending, eps=1e-5)(torch.randn(64, 6))
    assert pictures.shape == (64, *shape)
    assert pictures.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0] * shape[0], abs=1e-4)
    assert pictures.std(dim=(0, 2, 3)).tolist() == pytest.approx([1] * shape[0], abs=0.05)


def test_pictures_that_are_standardised_one_by_one_or_not_at_all():
    torch.manual_seed(0)
    noise = torch.randn(3, 6)
    own = Generator(noise=6, shape=(2, 8, 8), width=8, ending="standardised", eps=1e-5)(noise)
    torch.testing.assert_close(own.mean(dim=(2, 3)), torch.zeros(3, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(own.std(dim=(2, 3)), torch.ones(3, 2), atol=0.05, rtol=0)
    with torch.no_grad():
        first, second, pictures = Generator(noise=6, shape=(2, 8, 8), width=8, ending="sigmoid", eps=1e-5).stack(noise)
    assert (first.shape, second.shape) == ((3, 8, 2, 2), (3, 8, 4, 4))
    assert 0 < float(pictures.min()) < float(pictures.max()) < 1


def test_a_label_beside_the_noise_chooses_among_a_generators_classes():
    torch.manual_seed(0)
    maker = Generator(noise=6, shape=(1, 8, 8), width=8, ending="tanh", eps=1e-5, classes=3).eval()
    noise, labels = torch.randn(1, 6).expand(3, 6), torch.tensor([0, 2, 2])
    one, other, same = maker(noise, labels)
    assert torch.allclose(other, same, atol=1e-6)
    assert not torch.allclose(one, other)
    with torch.no_grad():
        maker.first.weight[:, 6:] = maker.first.weight[:, 6:7]  # what the classes add is the same
    one, other, _ = maker(noise, labels)
    assert torch.allclose(one, other, atol=1e-6)
    with pytest.raises(AssertionError, match="labels go with"):
        maker(noise)


def test_a_canvas_keeps_its_rate_and_forgets_its_descent():
    canvas = Canvas([2, 1, 2, 2])
    optimizer = canvas.optimizer(list(canvas.parameters()), 0.5, (0.9, 0.999))
    assert optimizer.param_groups[0]["scheduled"] is False

    def descend():
        canvas.restart(torch.ones(2, 1, 2, 2))
        for power in (1, 3):
            optimizer.zero_grad()
            canvas.pixels.pow(power).sum().backward()
            optimizer.step()
        return canvas.pixels.detach().clone()

    first = descend()
    assert not torch.equal(first, torch.ones_like(first))
    assert torch.equal(first, descend())


class Forbidden:
    """Raises whatever it is asked for."""

    def __getattr__(self, name):
        raise AssertionError(f"the training pictures were asked for their {name}")

    def __len__(self):
        raise AssertionError("the training pictures were counted")


@pytest.mark.parametrize("key", ["cmi", "dafl", "deepinv", "dfad", "dfq", "dualgan_ka", "kegnet", "knowledge_within", "zskd",
                                 "zskt"])
def test_no_training_picture_is_read(key):
    run = toy_run(key, "offline")

    def build():
        raise AssertionError("the training stream was built")

    run.build_stream = build
    run.data = replace(run.data, train=Forbidden())
    distill(run)
    assert "stream" not in vars(run)
    assert run.trained["distill"] == run.recipe.epochs
