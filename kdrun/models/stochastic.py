"""Residual networks whose blocks can be left out: stochastic depth."""

from typing import Annotated

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Bounds, Layers, Proportion
from kdrun.models.resnet import ResNet
from kdrun.models.staged import ResidualBlock, StagedNet
from kdrun.models.wrn import WideResNet

__all__ = ["StochasticBlock", "StochasticResNet", "StochasticWideResNet"]

Survival = Annotated[float, Bounds(above=0, most=1)]


class StochasticBlock(nn.Module):
    """A residual block whose branch is left out of a step of training by chance, for the whole batch.

    Where it is kept it is divided by how probably that is, so in evaluation, where all branches count once, the block gives
    what it gave on average. A branch that is left out is computed all the same and counts nothing: its weights have a
    gradient of zero and its normalisation goes on measuring.

    Args:
        block: the block.
        survival: how probably the branch is kept.

    Attributes:
        dropped: whether in evaluation the branch is left out of this sub-network; None for the whole network.
    """

    def __init__(self, block: ResidualBlock, survival: float) -> None:
        super().__init__()
        self.block, self.survival = block, survival
        self.dropped: bool | None = None

    def forward(self, maps: Tensor) -> Tensor:
        """The shortcut, and the branch where it is not left out."""
        if not self.training and self.dropped is None:
            return self.block(maps)
        opened = self.block.opened(maps)
        skip = self.block.skip(maps, opened)
        if self.training:
            kept = (torch.rand((), device=maps.device) < self.survival).to(maps.dtype)
            return self.block.branch(opened) * (kept / self.survival) + skip
        return skip if self.dropped else self.block.branch(opened) / self.survival + skip


def make_stochastic(network: StagedNet, survival: float) -> None:
    """Make every residual block one that can be left out, the deeper the more probably.

    Args:
        network: holds the blocks.
        survival: how probably the last one is kept; of the input it would be 1, and falls linearly in between.
    """
    places = [(parent, name) for stage in network.stages for parent in stage.modules()
              for name, child in parent.named_children() if isinstance(child, ResidualBlock)]
    for number, (parent, name) in enumerate(places, start=1):
        setattr(parent, name, StochasticBlock(getattr(parent, name), 1 - number / len(places) * (1 - survival)))


class StochasticResNet(ResNet):
    """A CIFAR ResNet of stochastic depth (Huang et al., Deep networks with stochastic depth, ECCV 2016).

    Args:
        depth: 8, 14, 20, 32, 44, 56, 110, ...
        stem: channels of the first convolution.
        widths: channels of the three stages.
        survival: how probably the last block is kept in a step of training.
        classes: how many classes.
        channels: of the pictures.
    """

    def __init__(self, *, depth: Layers, stem: AtLeastOne, widths: list[AtLeastOne], survival: Survival, classes: int,
                 channels: int) -> None:
        super().__init__(depth=depth, stem=stem, widths=widths, classes=classes, channels=channels)
        make_stochastic(self, survival)


class StochasticWideResNet(WideResNet):
    """A wide residual network of stochastic depth (Huang et al., Deep networks with stochastic depth, ECCV 2016).

    Args:
        depth: 6n+4: 16, 22, 28, 40, ...
        width: the widening factor.
        dropout: inside the blocks.
        survival: how probably the last block is kept in a step of training.
        classes: how many classes.
        channels: of the pictures.
    """

    def __init__(self, *, depth: Layers, width: AtLeastOne, dropout: Proportion, survival: Survival, classes: int,
                 channels: int) -> None:
        super().__init__(depth=depth, width=width, dropout=dropout, classes=classes, channels=channels)
        make_stochastic(self, survival)
