"""Densely connected networks."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from kdrun.config.constraints import AtLeastOne, Layers, Proportion
from kdrun.models.staged import StagedNet, initialise

__all__ = ["DenseNet"]


class DenseLayer(nn.Module):
    """Normalise, activate, convolve, and put what that makes beside what came in.

    Args:
        before: channels that come in.
        growth: channels that it adds.
        dropout: of what it adds.
    """

    def __init__(self, before: int, growth: int, dropout: float) -> None:
        super().__init__()
        self.made = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU(inplace=True),
                                  nn.Conv2d(before, growth, 3, 1, 1, bias=False), nn.Dropout(dropout))

    def forward(self, maps: Tensor) -> Tensor:
        """From a map to a wider one, neither normalised nor activated."""
        return torch.cat([maps, self.made(maps)], dim=1)


class Transition(nn.Module):
    """A 1x1 convolution of an activated map, then its halving; a map of one pixel stays."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.Dropout(dropout))

    def forward(self, maps: Tensor) -> Tensor:
        """The mean of each 2x2 square."""
        return avg_pool2d(self.convolution(maps), 2, ceil_mode=True)


class DenseNet(StagedNet):
    """A DenseNet without bottlenecks or compression (Huang et al., Densely connected convolutional networks, CVPR 2017).

    Three dense blocks. The normalisation and activation that open a transition, and the last ones, are counted as the
    end of the stage before: same network, same parameters, and every stage ends in an activation.

    Args:
        depth: 3n+4: 22, 40, 100, ...
        growth: channels that each layer adds.
        dropout: after every convolution but the first; the paper's is 0.2 where pictures are not augmented.
        classes: how many classes.
        channels: of the pictures.

    Raises:
        ValueError: the depth is not 3n+4.
    """

    def __init__(self, *, depth: Layers, growth: AtLeastOne, dropout: Proportion, classes: int, channels: int) -> None:
        layers, rest = divmod(depth - 4, 3)
        if rest or layers < 1:
            raise ValueError(f"depth must be 3n+4 (22, 40, 100, ...), got {depth}")
        stages: list[nn.Module] = []
        width = 16
        for number in range(3):
            parts: list[nn.Module] = [Transition(width, dropout)] if number else []
            parts += [DenseLayer(width + layer * growth, growth, dropout) for layer in range(layers)]
            width += layers * growth
            stages.append(nn.Sequential(*parts, nn.BatchNorm2d(width)))
        super().__init__(nn.Conv2d(channels, 16, 3, 1, 1, bias=False), stages, width, classes)
        initialise(self)
