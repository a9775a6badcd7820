"""Networks of stochastic depth."""

import pytest
import torch
from torch import nn

from kdrun.models.resnet import BasicBlock, ResNet
from kdrun.models.stochastic import StochasticBlock, StochasticResNet, StochasticWideResNet, make_stochastic
from kdrun.models.wrn import WideResNet

PAIRS = [(ResNet, StochasticResNet, {"depth": 14, "stem": 4, "widths": [4, 6, 8]}),
         (WideResNet, StochasticWideResNet, {"depth": 16, "width": 1, "dropout": 0.0})]


def blocks(network):
    return [module for module in network.modules() if isinstance(module, StochasticBlock)]


@pytest.mark.parametrize(("plain", "stochastic", "settings"), PAIRS)
def test_whole_it_is_the_plain_network_and_begins_with_its_weights(plain, stochastic, settings):
    made = []
    for kind, more in ((plain, {}), (stochastic, {"survival": 0.5})):
        torch.manual_seed(3)
        made.append(kind(**settings, **more, classes=5, channels=1).eval())
    pictures = torch.randn(2, 1, 8, 8)
    assert torch.equal(made[0](pictures).logits, made[1](pictures).logits)
    for network in made:
        network.train()
    for block in blocks(made[1]):
        block.survival = 1.0
    assert torch.equal(made[0](pictures).logits, made[1](pictures).logits)


@pytest.mark.parametrize(("plain", "stochastic", "settings"), PAIRS)
def test_later_blocks_are_left_out_more_often_and_without_any_it_still_runs(plain, stochastic, settings):
    network = stochastic(**settings, survival=0.4, classes=5, channels=1).eval()
    assert [block.survival for block in blocks(network)] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    for block in blocks(network):
        block.dropped = True
    assert network(torch.randn(2, 1, 8, 8)).logits.isfinite().all()


def test_a_kept_branch_counts_so_that_the_mean_is_the_whole():
    torch.manual_seed(0)
    block, maps = StochasticBlock(BasicBlock(3, 3, 1), 0.25).eval(), torch.randn(2, 3, 4, 4)
    whole, parts = block(maps), []
    for block.dropped in (True, False):
        parts.append(block(maps))
    assert torch.equal(parts[0], maps)
    assert torch.allclose(0.75 * parts[0] + 0.25 * parts[1], whole, atol=1e-6)


def test_in_training_chance_decides_and_a_branch_left_out_learns_nothing():
    block = StochasticBlock(BasicBlock(2, 2, 1), 0.3)
    torch.manual_seed(0)
    kept = 0
    for _ in range(200):
        block.zero_grad()
        block(torch.randn(2, 2, 3, 3)).square().mean().backward()
        kept += bool(block.block.first[0].weight.grad.abs().sum() > 0)
    assert 40 < kept < 80


def test_only_residual_blocks_are_replaced():
    network = ResNet(depth=8, stem=4, widths=[4, 4, 4], classes=2, channels=1)
    count = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    make_stochastic(network, 1.0)
    assert len(blocks(network)) == 3
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == count
