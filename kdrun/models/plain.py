"""Plain networks: two small convolutional ones and a multilayer perceptron."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne
from kdrun.models.output import ModelOutput
from kdrun.models.staged import Chain, StagedNet, initialise
from kdrun.models.vgg import Pool

__all__ = ["CNN", "MLP", "ConvNet"]


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


class ConvNet(nn.Module):
    """The network of dataset condensation (Zhao, Mopuri and Bilen 2021): convolutions, instance normalisation, mean pooling.

    Every channel of every picture is normalised by itself, so no statistics are kept and pictures of a batch do not meet. The
    classifier sees all places of the last map.

    Args:
        width: channels of all stages.
        depth: stages, each of which halves height and width.
        classes: how many classes.
        shape: (channels, height, width) of the pictures.
    """

    def __init__(self, *, width: AtLeastOne, depth: AtLeastOne, classes: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, side = shape
        if min(height, side) < 2**depth:
            raise ValueError(f"depth is {depth}, and pictures of {height}x{side} pixels can be halved "
                             f"{int(math.log2(min(height, side)))} times")
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv2d(before, width, 3, padding=1), nn.GroupNorm(width, width))
                                    for before in [channels, *[width] * (depth - 1)])
        self.head = nn.Linear(width * (height >> depth) * (side >> depth), classes)

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]."""
        maps, posts, pres = pictures, [], []
        for stage in self.stages:
            pres.append(stage(maps))
            posts.append(F.relu(pres[-1]))
            maps = F.avg_pool2d(posts[-1], 2)
        embedding = maps.flatten(1)
        return ModelOutput(self.head(embedding), embedding, tuple(posts), tuple(pres), pictures)


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
