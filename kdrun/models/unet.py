"""A network for segmentation that goes down and up again, with connections across."""

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Bounds
from kdrun.models.output import ModelOutput
from kdrun.models.staged import Chain, initialise

__all__ = ["UNet"]

Levels = Annotated[int, Bounds(least=2, most=10)]


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer and Brox, U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015),
    in the form of today: padded convolutions, batch normalisation, and maps enlarged to the nearest neighbour.

    Two convolutions at each level, going down by max-pooling; going up, the map from below is enlarged and put beside the
    one of the same size. The stages shown are those of the way down, then those of the way up, each before and after its
    activation; the embedding is the mean of the smallest maps.

    Args:
        width: channels of the first level, of the full size.
        levels: how many there are; each further one has half the size and twice the channels.
        classes: outputs of each pixel.
        channels: of the pictures.
        shape: (channels, height, width) of the pictures.

    Raises:
        ValueError: the pictures are too small for so many levels.
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)

    def __init__(self, *, width: AtLeastOne, levels: Levels, classes: int, channels: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        if min(shape[1:]) < 2 ** (levels - 1):
            raise ValueError(f"levels: pictures of {shape[1]}x{shape[2]} cannot be halved {levels - 1} times")
        widths = [width * 2**level for level in range(levels)]
        steps = list(zip([channels, *widths], widths, strict=False))
        self.down = nn.ModuleList(two_convolutions(before, after) for before, after in steps)
        self.up = nn.ModuleList(two_convolutions(below + beside, beside) for beside, below in reversed(steps[1:]))
        self.head = nn.Conv2d(width, classes, 1)
        initialise(self)

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W] with logits [B, K, H, W]."""
        maps, posts, pres = pictures, [], []
        for level, part in enumerate(self.down):
            pres.append(part(F.max_pool2d(maps, 2) if level else maps))
            maps = F.relu(pres[-1])
            posts.append(maps)
        embedding = maps.mean(dim=(2, 3))
        for part, beside in zip(self.up, posts[-2::-1], strict=True):
            pres.append(part(torch.cat([F.interpolate(maps, size=beside.shape[-2:]), beside], dim=1)))
            maps = F.relu(pres[-1])
            posts.append(maps)
        return ModelOutput(self.head(maps), embedding, tuple(posts), tuple(pres), pictures)

    def until(self, stage: int) -> list[nn.Module]:
        """The parts that lead to the end of a stage, counted from 1."""
        return [*self.down, *self.up][:stage]


def two_convolutions(before: int, after: int) -> nn.Module:
    """Two 3x3 convolutions with normalisation, an activation between them and none behind."""
    return Chain([nn.Sequential(nn.Conv2d(channels, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))
                  for channels in (before, after)])
