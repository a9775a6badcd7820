"""Two plain networks: a small convolutional one and a multilayer perceptron."""

import math

from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne
from kdrun.models.staged import Chain, StagedNet, initialise
from kdrun.models.vgg import Pool

__all__ = ["CNN", "MLP"]


class CNN(StagedNet):
    """Convolution, normalisation, activation, pooling: a stage for each width.

    Args:
        widths: channels of the stages.
        classes: how many classes.
        channels: of the pictures.
    """

    def __init__(self, *, widths: list[AtLeastOne], classes: int, channels: int) -> None:
        stages: list[nn.Module] = []
        for number, (before, after) in enumerate(zip([channels, *widths], widths, strict=False)):
            layer = nn.Sequential(nn.Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))
            stages.append(nn.Sequential(Pool(), layer) if number else layer)
        super().__init__(nn.Identity(), stages, [channels, *widths][-1], classes)
        initialise(self)


class Flatten(nn.Module):
    """Samples [B, C, H, W] as maps of one pixel, [B, C*H*W, 1, 1]."""

    def forward(self, pictures: Tensor) -> Tensor:
        """Every pixel a channel."""
        return pictures.flatten(1)[:, :, None, None]


class MLP(StagedNet):
    """Fully connected layers with batch normalisation, each a stage whose map has one pixel.

    Args:
        widths: units of the hidden layers.
        classes: how many classes.
        shape: (channels, height, width) of the pictures.
    """

    def __init__(self, *, widths: list[AtLeastOne], classes: int, shape: tuple[int, int, int]) -> None:
        inputs = [math.prod(shape), *widths]
        stages: list[nn.Module] = [Chain([nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))])
                                   for before, after in zip(inputs, widths, strict=False)]
        super().__init__(Flatten(), stages, inputs[-1], classes)
        initialise(self)
