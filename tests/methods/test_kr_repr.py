"""KR: sparse distributions of flows."""

import math

import pytest
import torch

from kdrun.methods.losses.cross_layer import flow_cross_entropy


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("share", "kept"), [(1.0, 12), (0.25, 3), (0.01, 1)])
def test_even_flows_have_the_entropy_of_what_is_kept(share, kept):
    even = [torch.zeros(2, 3, 4, dtype=torch.float64)]
    assert flow_cross_entropy(even, even, 1.0, share).item() == pytest.approx(math.log(kept))


def test_whole_flows_are_least_where_they_agree():
    wanted = [draw(2, 3, 4)]
    given = wanted[0].clone().requires_grad_()
    loss = flow_cross_entropy(wanted, [given], 2.0, 1.0)
    entropy = torch.distributions.Categorical(logits=wanted[0].flatten(1) / 2).entropy().mean()
    assert loss.item() == pytest.approx(entropy.item())
    loss.backward()
    assert given.grad.abs().max() < 1e-12


def test_what_is_left_out_gets_no_gradient():
    wanted, given = draw(2, 3, 4), draw(2, 3, 4, seed=1).requires_grad_()
    flow_cross_entropy([wanted], [given], 1.0, 0.25).backward()
    kept = torch.zeros(2, 12, dtype=torch.bool).scatter(1, wanted.flatten(1).topk(3).indices, True)
    assert torch.equal(given.grad.flatten(1) != 0, kept)
