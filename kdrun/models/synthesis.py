"""Networks of image synthesis: a generator of pictures of a wanted class, and the discriminator that it is trained against."""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne
from kdrun.models.output import ModelOutput

__all__ = ["PictureDiscriminator", "PictureGenerator", "pictures"]


class PictureGenerator(nn.Module):
    """From codes (noise and a wanted class) to pictures, as DCGAN does (Radford et al. 2016) at any size.

    A linear layer makes maps of the first width; each further stage enlarges to the nearest neighbour and convolves; a last
    convolution and a tanh make pixels from -1 to 1. The logits that it shows are the pictures, its stages the maps, its
    embedding the mean of the last one.

    Args:
        widths: channels of the maps at each size, each twice as large as the one before; the last has the pictures' size.
        latent: numbers of the noise.
        classes: how many there are; their one-hot code stands behind the noise.
        picture: (channels, height, width) of the pictures.

    Raises:
        ValueError: fewer than two widths.
    """

    inputs: ClassVar[str] = "codes"
    tasks: ClassVar[tuple[str, ...]] = ("synthesis",)

    def __init__(self, *, widths: list[AtLeastOne], latent: int, classes: int, picture: Sequence[int]) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths is {widths}; wanted two or more, the channels of the maps at each size")
        channels, *full = picture
        self.sizes = [tuple(math.ceil(side / 2**part) for side in full) for part in reversed(range(len(widths)))]
        self.first = nn.Linear(latent + classes, widths[0] * math.prod(self.sizes[0]))
        self.opening = nn.BatchNorm2d(widths[0])
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))
                                    for before, after in itertools.pairwise(widths))
        self.last = nn.Conv2d(widths[-1], channels, 3, 1, 1)

    def forward(self, codes: Tensor) -> ModelOutput:
        """Pictures [B, C, H, W] of codes [B, latent + classes]."""
        pre = self.opening(self.first(codes).view(len(codes), -1, *self.sizes[0]))
        pres, posts = [pre], [F.relu(pre)]
        for stage, size in zip(self.stages, self.sizes[1:], strict=True):
            pres.append(stage(F.interpolate(posts[-1], size)))
            posts.append(F.relu(pres[-1]))
        return ModelOutput(self.last(posts[-1]).tanh(), posts[-1].mean(dim=(2, 3)), tuple(posts), tuple(pres))


class PictureDiscriminator(nn.Module):
    """Tells real pictures of a class from made ones: [B, C, H, W] and classes [B] to logits [B].

    Convolutions of stride 2 and, beside a linear layer, the projection of the class (Miyato and Koyama 2018). It has no batch
    normalisation, so that a picture's logit depends on no other picture, as the penalty on its gradient asks for.

    Args:
        picture: (channels, height, width).
        classes: how many.
        width: channels of its first maps; those of the next ones are twice as many.
    """

    def __init__(self, picture: Sequence[int], classes: int, width: int) -> None:
        super().__init__()
        halvings = max(1, int(math.log2(min(picture[1:]))) - 1)
        widths = [picture[0], width, *(2 * width for _ in range(halvings))]
        self.maps = nn.Sequential(*(part for number, (before, after) in enumerate(itertools.pairwise(widths))
                                    for part in (nn.Conv2d(before, after, 3, 1 + (number > 0), 1), nn.LeakyReLU(0.2))))
        self.real, self.classes = nn.Linear(widths[-1], 1), nn.Embedding(classes, widths[-1])
        nn.init.zeros_(self.classes.weight)

    def forward(self, pictures: Tensor, classes: Tensor) -> Tensor:
        """Above 0: real, and of this class."""
        features = self.maps(pictures).sum(dim=(2, 3))
        return self.real(features)[:, 0] + (self.classes(classes) * features).sum(dim=1)


def pictures(output: ModelOutput) -> Tensor:
    """The pictures [B, C, H, W] of an answer to a batch, which has no rows."""
    assert output.dense is not None, "an answer to a batch of image synthesis"
    return output.dense
