"""Collaborative learning: the four ensembles, and what each network sees."""

import pytest
import torch
import torch.nn.functional as F

from kdrun.config.schema import ConfigError
from kdrun.methods.online.kdcl import best, error_moments, general_shares, least, linear_shares, mixed
from kdrun.training.loop import distill
from tests.toy import prepared, toy_run

TWO = torch.tensor([[[2.0, 1.0, -1.0]], [[1.0, -0.5, 0.5]]], dtype=torch.float64)  # two networks, one sample
LABEL = torch.tensor([0])


def test_minimum_logit():
    wanted = torch.tensor([[0.0, -1.5, -3.0]], dtype=torch.float64)
    assert torch.allclose(least(TWO, LABEL), wanted, atol=1e-12)
    assert float(F.cross_entropy(least(TWO, LABEL), LABEL)) == pytest.approx(0.241311, abs=1e-6)
    apart = [float(F.cross_entropy(own, LABEL)) for own in TWO]
    assert apart == pytest.approx([0.349012, 0.604131], abs=1e-6)


def test_naive_takes_the_best_answer_to_each_sample():
    logits = torch.cat([TWO, TWO.flip(0)], dim=1)
    assert torch.equal(best(logits, torch.tensor([0, 0])), TWO[[0, 0], 0])
    # to class 2 the second network is the nearer one
    assert torch.equal(best(TWO, torch.tensor([2])), TWO[1])


@pytest.mark.parametrize("count", [2, 3])
def test_linear_shares_are_the_best_of_the_simplex(count):
    draws = torch.Generator().manual_seed(count)
    logits = 2 * torch.randn(count, 16, 5, generator=draws, dtype=torch.float64)
    labels = torch.randint(5, (16,), generator=draws)
    shares = linear_shares(logits, labels)
    assert float(shares.sum()) == pytest.approx(1, abs=1e-9)
    assert float(shares.min()) >= -1e-9
    reached = float(F.cross_entropy(mixed(logits, shares), labels))
    tried = torch.rand(500, count, generator=draws, dtype=torch.float64).log().neg()
    others = [float(F.cross_entropy(mixed(logits, own / own.sum()), labels)) for own in tried]
    assert reached <= min(others) + 1e-6


def test_linear_shares_go_to_a_corner_where_one_is_always_better():
    right = torch.tensor([[[3.0, 0.0]], [[0.0, 3.0]]], dtype=torch.float64)
    assert torch.allclose(linear_shares(right, LABEL), torch.tensor([1.0, 0.0], dtype=torch.float64), atol=1e-5)


def test_general_shares():
    errors = torch.tensor([[0.2, 0.05], [0.05, 0.1]], dtype=torch.float64)
    wanted = torch.tensor([0.25, 0.75], dtype=torch.float64)
    assert torch.allclose(general_shares(errors, ridge=0.0), wanted, atol=1e-6)
    assert torch.allclose(general_shares(errors), wanted, atol=1e-4)
    # the unclipped optimum of these would be negative for the first
    errors = torch.tensor([[0.5, 0.2], [0.2, 0.1]], dtype=torch.float64)
    assert torch.equal(general_shares(errors), torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.allclose(general_shares(torch.zeros(2, 2)), torch.tensor([0.5, 0.5]))


def test_error_moments():
    logits = torch.log(torch.tensor([[[0.5, 0.5]], [[0.8, 0.2]]], dtype=torch.float64))
    wanted = torch.tensor([[0.5, 0.2], [0.2, 0.08]], dtype=torch.float64)
    assert torch.allclose(error_moments(logits, LABEL), wanted, atol=1e-12)


@pytest.mark.parametrize("variant", ["naive", "linear", "minlogit", "general"])
def test_every_variant_trains(variant):
    run = toy_run("kdcl", "online", f"method.variant={variant}", "method.peers=2")
    distill(run)
    shares = run.method.shares
    assert (variant == "general") == bool((shares != 1 / 3).any())
    assert float(shares.sum()) == pytest.approx(1, abs=1e-6)
    assert all(torch.isfinite(weight).all() for role in run.networks for weight in role.parameters())


def test_measuring_leaves_networks_in_training():
    run = toy_run("kdcl", "online", "method.variant=general")
    next(iter(run.method.phases(run)))
    for role in run.networks:
        role.train()
    run.method.measure(run.networks)
    assert all(module.training for role in run.networks for module in role.modules())


def test_each_network_sees_its_own_view_of_the_same_samples():
    run = toy_run("kdcl", "online")
    next(iter(run.method.phases(run)))
    batch = next(run.stream.epoch(0, 1))
    own = run.method.seen_by("peer 2", batch)
    assert torch.equal(own.index, batch.index)
    assert torch.equal(own.labels, batch.labels)
    assert not torch.equal(own.x, batch.x)
    assert run.method.seen_by("student", batch) is batch


def test_the_general_variant_needs_held_out_pictures():
    with pytest.raises(ConfigError, match=r"set dataset.validation above 0"):
        prepared(("kdcl", "method.variant=general", "dataset.validation=0"))
