"""Training batches from pictures in memory: order and augmentation are functions of the seed and the epoch."""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.pictures import Pictures
from kdrun.randomness import generator

__all__ = ["Normalise", "PictureStream", "Stream"]


class Stream(Protocol):
    """Where batches come from: any epoch can be made again, from any step on."""

    def __len__(self) -> int:
        """How many batches an epoch has."""

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (of so many), from step `first` on."""


class Normalise:
    """From stored pictures [B, H, W, C] to what a network sees: float32 [B, C, H, W], channels last in memory."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)

    def __call__(self, images: Tensor) -> Tensor:
        full = 255.0 if images.dtype == torch.uint8 else 1.0
        scale = (1 / (full * self.std)).to(images.device)
        shift = (-self.mean / self.std).to(images.device)
        return images.to(torch.float32, copy=True).mul_(scale).add_(shift).permute(0, 3, 1, 2)

    @classmethod
    def measured(cls, images: Tensor) -> "Normalise":
        """With the mean and spread of each channel over these pictures; a constant channel is only centred."""
        full = 255.0 if images.dtype == torch.uint8 else 1.0
        channels = images.shape[-1]
        # float64 sums of slices: exact enough for any size, and no float copy of the whole set
        total, squares, count = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64), 0
        for piece in images.split(4096):
            flat = piece.reshape(-1, channels).double() / full
            total, squares, count = total + flat.sum(0), squares + flat.square().sum(0), count + len(flat)
        mean = total / count
        std = (squares / count - mean.square()).clamp_min(0).sqrt()
        return cls(mean.tolist(), torch.where(std > 1e-6, std, torch.ones_like(std)).tolist())


class PictureStream:
    """Shuffled, cropped, flipped and normalised batches.

    Every draw is keyed by (seed, epoch, sample), never by what a method did before: all methods of one seed see the
    same pictures in the same order. Crops are one gather from a strided view of the padded pictures, flips are stored
    beforehand; a picture costs no more than its bytes. The last, short batch of an epoch is dropped (relations between
    samples need whole batches); another order every epoch leaves nobody out for long.

    Args:
        pictures: the training split.
        normalise: from stored pictures to what a network sees.
        batch_size: samples a batch; a smaller split makes one batch of what it has.
        crop: how many pixels of zeros to pad on each side before a random crop of the original size.
        flip: whether to mirror half of the pictures.
        seed: of the run.
        device: where the pictures live and the batches are made.
    """

    def __init__(self, pictures: Pictures, normalise: Normalise, *, batch_size: int, crop: int, flip: bool, seed: int,
                 device: torch.device) -> None:
        self.labels = pictures.labels.to(device)
        self.normalise, self.seed, self.crop, self.flip = normalise, seed, crop, flip
        self.size = min(batch_size, len(pictures))
        height, width, channels = pictures.images.shape[1:]
        padded = F.pad(pictures.images, (0, 0, crop, crop, crop, crop))
        stored = torch.stack([padded, padded.flip(2)] if flip else [padded]).to(device)
        one, each, down, right, channel = stored.stride()
        self.windows = stored.as_strided((len(stored), len(padded), 2 * crop + 1, 2 * crop + 1, height, width, channels),
                                         (one, each, down, right, down, right, channel))

    def __len__(self) -> int:
        return len(self.labels) // self.size

    @property
    def samples(self) -> int:
        """How many samples the split has."""
        return len(self.labels)

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `first` on."""
        order = self.order(epoch)
        view = self.view(epoch)
        for step in range(first, len(self)):
            rows = order[step * self.size:(step + 1) * self.size]
            yield Batch(view(rows), self.labels[rows], rows, epoch=epoch, epochs=epochs, step=step)

    def order(self, epoch: int) -> Tensor:
        """The rows of the split in the order of an epoch."""
        return torch.randperm(self.samples, generator=generator("order", self.seed, epoch)).to(self.labels.device)

    def view(self, epoch: int, name: str = "augmentation") -> Callable[[Tensor], Tensor]:
        """One augmentation of every sample for an epoch: from rows [B] to pictures [B, C, H, W].

        Args:
            epoch: which epoch.
            name: of the stream of draws; another name is an independent view of the same samples.
        """
        draws, places = generator(name, self.seed, epoch), 2 * self.crop + 1
        device, count = self.labels.device, self.samples
        top, left = (torch.randint(places, (count,), generator=draws).to(device) for _ in range(2))
        mirrored = torch.randint(1 + self.flip, (count,), generator=draws).to(device)
        return lambda rows: self.normalise(self.windows[mirrored[rows], rows, top[rows], left[rows]])
