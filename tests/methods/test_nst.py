"""NST: the discrepancy of sets of channels."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.losses.feature import nst
from tests.toy import toy_experiment

KERNELS = ["poly", "linear", "gaussian"]


def channels(*patterns: list[float]) -> torch.Tensor:
    return torch.tensor([patterns], dtype=torch.float64)[:, :, None, :]


@pytest.mark.parametrize("kernel", ["poly", "linear"])
def test_known_sets(kernel):
    assert nst(channels([0, 1]), channels([1, 0]), kernel).item() == pytest.approx(2.0, abs=1e-9)
    assert nst(channels([1, 0], [0, 1]), channels([1, 0]), kernel).item() == pytest.approx(0.5, abs=1e-9)


def test_gaussian():
    # the squared distance is 2 and is the width: 1 + 1 - 2 exp(-1/2)
    assert nst(channels([0, 1]), channels([1, 0]), "gaussian").item() == pytest.approx(
        2 - 2 * torch.exp(torch.tensor(-0.5)).item(), abs=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_only_the_set_of_patterns_counts(kernel):
    maps = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    scaled = maps.flip(1) * torch.tensor([1.0, 7.0, 0.2], dtype=torch.float64)[:, None, None]
    assert nst(maps, scaled, kernel).item() == pytest.approx(0, abs=1e-9)
    assert nst(maps, maps.flip(0), kernel).item() > 1e-3


@pytest.mark.parametrize("kernel", KERNELS)
def test_dead_channels_have_finite_gradients(kernel):
    dead = torch.zeros(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    nst(torch.zeros(2, 2, 2, 2, dtype=torch.float64), dead, kernel).backward()
    assert torch.isfinite(dead.grad).all()


def test_maps_of_one_place_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="more than one place"):
        toy_experiment("nst", tmp_path, "student=mlp", "student.widths=[8,8,8]")
