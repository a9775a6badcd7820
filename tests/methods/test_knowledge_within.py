"""Statistics as normal distributions, their use by two methods, and students that are compressed teachers."""

import math

import pytest
import torch
from torch import nn, tensor

from kdrun.methods.data_free.compressed import copy_teacher
from kdrun.methods.data_free.dfq import entropy
from kdrun.methods.data_free.knowledge_within import roughness
from kdrun.methods.data_free.statistics import statistics_kl
from kdrun.methods.losses.synthetic import gaussian_kl
from kdrun.training.loop import distill
from tests.toy import state, toy_run

F64 = torch.float64
COPY = ("student.widths=[6,8,12]", "method.from_teacher=true")


def test_divergence_of_known_distributions():
    zero, one, four = (tensor(value, dtype=F64) for value in (0.0, 1.0, 4.0))
    assert gaussian_kl(zero, one, one, four).item() == pytest.approx(0.443147, abs=1e-6)
    assert gaussian_kl(one, four, one, four).item() == 0


@pytest.mark.parametrize(("from_batch", "wanted"), [(False, 0.443147), (True, math.log(0.5) + 2)])
def test_divergence_of_what_comes_in_from_what_is_remembered(from_batch, wanted):
    """The layer remembers N(0, 1), and the batch is N(1, 4) in each of its two channels."""
    layer = nn.BatchNorm2d(2).double()
    maps = tensor([-1.0, 3.0], dtype=F64).view(2, 1, 1, 1).expand(2, 2, 3, 3)
    found = statistics_kl(maps, layer, 0.0, from_batch)
    torch.testing.assert_close(found, torch.full((2,), wanted, dtype=F64), atol=1e-6, rtol=0)


def test_roughness_and_entropy():
    assert roughness(tensor([[[[0.0, 2.0], [0.0, 2.0]]]])).item() == pytest.approx(4)
    assert entropy(torch.zeros(3, 4, dtype=F64)).item() == pytest.approx(math.log(4))


def test_made_pictures_are_told_apart_from_noise():
    run = toy_run("knowledge_within", "offline", "method.iterations=20", "recipe.epochs=1")
    distill(run)
    rows = {row["pictures"]: row["divergence"] for row in run.method.extra_tables(run)["statistics"]}
    assert rows["made"] < rows["noise"]
    assert rows["validation"] > 0


@pytest.mark.parametrize("key", ["knowledge_within", "dfq"])
def test_a_student_can_be_a_copy_of_few_bits(key):
    run = toy_run(key, "offline", *COPY, "method.bits=2", "recipe.epochs=1")
    distill(run)
    for layer in run.networks.student.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert len(layer.weight.unique()) <= 4
    assert run.networks.student.network.stored_size().bits < 32 * sum(
        weight.numel() for weight in run.networks.student.parameters())


def test_a_copy_that_learns_from_noise_keeps_its_statistics():
    run = toy_run("knowledge_within", "offline", *COPY, "method.pictures=gaussian", "recipe.epochs=1")
    distill(run)
    before, now = state(run.networks.teacher.network), state(run.networks.student.network)
    same = {name for name in now if torch.equal(before[name], now[name])}
    assert {name for name in now if "running" in name} <= same
    assert any("weight" in name for name in now.keys() - same)


def test_another_network_cannot_be_copied():
    with pytest.raises(ValueError, match=r"student=cnn, or method\.from_teacher=false"):
        copy_teacher(toy_run("knowledge_within", "offline").networks)
