"""Mixing the samples of a batch with one another, and their labels with them: mixup and CutMix."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from kdrun.utils.seeding import seed_of

__all__ = ["MixedLabels", "Mixing"]


@dataclass(frozen=True)
class MixedLabels:
    """The labels of mixed samples: each sample has two, which share it.

    Attributes:
        first: labels [B] of the samples that the larger or smaller part is of.
        second: labels [B] of the other part.
        share: of the first, from 0 to 1.
    """

    first: Tensor
    second: Tensor
    share: float

    def loss(self, of: Callable[[Tensor], Tensor]) -> Tensor:
        """The loss with soft labels: a cross-entropy is linear in them, so it is that of both labels, by their shares."""
        return self.share * of(self.first) + (1 - self.share) * of(self.second)


@dataclass(frozen=True)
class Mixing:
    """How batches are mixed. A sample is mixed with the one before it in the batch, all of a batch by one share.

    The share is drawn from Beta(a, a), keyed by (seed, epoch, step): every method of a seed sees the same mixtures.
    Where both kinds are wanted a batch is mixed by one of them, each as likely (as torchvision's and timm's recipes do).

    Attributes:
        mixup: a of mixup, which adds up two pictures by their shares (Zhang et al. 2018); 0 for none.
        cutmix: a of CutMix, which pastes a rectangle of one picture into another (Yun et al. 2019); 0 for none.
        seed: of the run.
    """

    mixup: float
    cutmix: float
    seed: int

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    @property
    def named(self) -> str:
        """The settings, for messages."""
        return " and ".join(f"recipe.{name}={value:g}" for name, value in (("mixup", self.mixup), ("cutmix", self.cutmix))
                            if value > 0)

    def __call__(self, pictures: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, MixedLabels]:
        """Mix a batch.

        Args:
            pictures: [B, C, H, W], normalised.
            labels: [B].
            epoch: of the batch.
            step: of the batch.
        """
        mixed, share = self.mixed(pictures, epoch, step)
        return mixed, MixedLabels(labels, labels.roll(1, 0), share)

    def mixed(self, pictures: Tensor, epoch: int, step: int) -> tuple[Tensor, float]:
        """The mixed pictures [B, C, H, W] of a batch, and the share of each that is its own."""
        draws = random.Random(seed_of("mixing", self.seed, epoch, step))
        paste = self.cutmix > 0 and (self.mixup == 0 or draws.random() < 0.5)
        share = draws.betavariate(*[self.cutmix if paste else self.mixup] * 2)
        images = pictures.permute(0, 2, 3, 1)  # as they are in memory
        others = images.roll(1, 0)
        if paste:
            top, bottom, left, right = box(images.shape[1], images.shape[2], share, draws)
            mixed = images.clone()
            mixed[:, top:bottom, left:right] = others[:, top:bottom, left:right]
            share = 1 - (bottom - top) * (right - left) / (images.shape[1] * images.shape[2])
        else:
            mixed = others.lerp(images, share)
        return mixed.permute(0, 3, 1, 2), share


def box(height: int, width: int, share: float, draws: random.Random) -> tuple[int, int, int, int]:
    """A rectangle of the area (1 - share), around a random place and cut off at the edges: (top, bottom, left, right)."""
    side = (1 - share) ** 0.5
    bounds: list[int] = []
    for length in (height, width):
        centre, half = draws.randrange(length), int(length * side) // 2
        bounds += [max(centre - half, 0), min(centre + half, length)]
    return bounds[0], bounds[1], bounds[2], bounds[3]
