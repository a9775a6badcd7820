"""What makes pictures out of noise: a network, or the pixels themselves."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Canvas", "Ending", "Generator"]

Ending = Literal["tanh", "affine", "standardised", "sigmoid"]


class Generator(nn.Module):
    """From noise [B, D], and labels where it has classes, to pictures [B, C, H, W], normalised as networks see them.

    The small generator of the data-free papers (DAFL, DFAD, ZSKT): a linear layer to maps of a quarter of the size,
    twice enlarged to the nearest neighbour and convolved, then a convolution to the channels of a picture. It mostly ends
    in a normalisation, so that its pictures have the mean and spread that normalised pictures have.

    Args:
        noise: D.
        shape: (channels, height, width) of a picture; any size will do.
        width: channels of the first maps; the last ones have half as many.
        ending: `tanh` bounds the pixels before a normalisation without weights (DAFL, DFAD); `affine` normalises with
            a learned scale and shift and no bound (ZSKT); `standardised` bounds them, and gives each channel of each picture
            mean 0 and spread 1 (KegNet); `sigmoid` makes pictures from 0 to 1, which are still to be normalised (CMI).
        eps: of the two normalisations between convolutions, added to their variance.
        classes: K, that pictures are asked for by: the label stands beside the noise, one of K numbers 1 and the others 0
            (KegNet, AC-GAN); 0 for none.
    """

    def __init__(self, *, noise: int, shape: tuple[int, ...], width: int, ending: Ending, eps: float,
                 classes: int = 0) -> None:
        super().__init__()
        channels, *full = shape
        self.sizes = [tuple(math.ceil(side / part) for side in full) for part in (4, 2, 1)]
        half = max(width // 2, 1)
        self.width, self.ending = width, ending
        self.classes = classes
        self.first = nn.Linear(noise + classes, width * math.prod(self.sizes[0]))
        self.opening = nn.BatchNorm2d(width)
        self.middle = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width, eps), nn.LeakyReLU(0.2))
        self.late = nn.Sequential(nn.Conv2d(width, half, 3, 1, 1), nn.BatchNorm2d(half, eps), nn.LeakyReLU(0.2))
        self.last = nn.Conv2d(half, channels, 3, 1, 1)
        if ending in ("tanh", "affine"):
            self.normal = nn.BatchNorm2d(channels, affine=ending == "affine")

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Pictures of noise [B, D], of the classes [B] (int64) where there are some."""
        return self.stack(noise, labels)[-1]

    def stack(self, noise: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The maps of a quarter [B, `width`, ...] and of half of the size [B, `width`, ...] on the way, and the pictures."""
        assert (labels is not None) == (self.classes > 0), "labels go with a generator of classes"
        quarter, half, full = self.sizes
        if labels is not None:
            noise = torch.cat([noise, F.one_hot(labels, self.classes).to(noise.dtype)], dim=1)
        first = self.opening(self.first(noise).view(-1, self.width, *quarter))
        second = self.middle(F.interpolate(first, half))
        pictures = self.last(self.late(F.interpolate(second, full)))
        if self.ending == "sigmoid":
            return first, second, pictures.sigmoid()
        if self.ending == "standardised":
            pictures = pictures.tanh()
            variance, mean = torch.var_mean(pictures, dim=(2, 3), keepdim=True)
            return first, second, (pictures - mean) / (variance + 1e-5).sqrt()
        return first, second, self.normal(pictures.tanh() if self.ending == "tanh" else pictures)


class Canvas(nn.Module):
    """Pictures that are weights: what an optimizer descends where there is no generator.

    Args:
        shape: of all of them together, [B, ...].
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.pixels = nn.Parameter(torch.zeros(*shape))
        self.painter: torch.optim.Optimizer | None = None

    def optimizer(self, weights: Sequence[nn.Parameter], lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
        """An Adam that keeps its rate: each batch of pictures is a descent of its own, no moment of the training."""
        self.painter = torch.optim.Adam([{"params": list(weights), "scheduled": False}], lr=lr, betas=betas)
        return self.painter

    def restart(self, pictures: Tensor, *others: nn.Parameter) -> None:
        """Begin new pictures, with an optimizer that knows nothing of the ones before, nor of the others' past."""
        assert self.painter is not None, "a canvas is restarted within a phase, when its optimizer exists"
        for weight in (self.pixels, *others):
            self.painter.state.pop(weight, None)
        with torch.no_grad():
            self.pixels.copy_(pictures)
