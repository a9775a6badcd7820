"""VID: the Gaussian and its variance."""

import math

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.feature.vid import VID, Guess
from kdrun.methods.losses.feature import vid
from tests.toy import toy_experiment, toy_run


def test_known_surprise():
    guess = Guess(2, 3, 5.0).double()
    assert torch.allclose(guess.variance, torch.full((3,), 5.0, dtype=torch.float64), atol=1e-6)
    maps = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    assert vid(maps, maps, guess.variance).item() == pytest.approx(0.804719, abs=1e-6)
    assert vid(maps + 2, maps, torch.full((3,), 4.0, dtype=torch.float64)).item() == pytest.approx(
        0.5 * (1 + math.log(4)), abs=1e-9)


def test_the_best_variance_is_the_squared_residual():
    maps = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    variance = torch.tensor([0.49], dtype=torch.float64, requires_grad=True)
    vid(maps + 0.7, maps, variance).backward()
    assert variance.grad.abs().item() < 1e-12


def test_mean_and_variance_learn_and_the_teacher_does_not():
    run = toy_run("vid", "online")
    next(run.method.phases(run))
    assert isinstance(run.method, VID)
    batch = next(iter(run.stream.epoch(0, 1)))
    run.method.loss(run.networks, batch)["vid"].backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in run.method.parameters())
    assert all(weight.grad is None for weight in run.networks.teacher.parameters())


def test_unequal_stages_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="the student has 2 and the teacher 3"):
        toy_experiment("vid", tmp_path, "student.widths=[6,8]")
