"""Batches of as many samples of every class."""

from collections.abc import Iterator

import torch

from kdrun.data.batch import Batch
from kdrun.data.stream import MemoryStream
from kdrun.utils.seeding import generator

__all__ = ["Balanced"]


class Balanced:
    """Batches of so many samples of every class, class after class, as the samples are stored: without augmentation.

    The draws are keyed by (seed, epoch, step), so any epoch can be made again from any step on.

    Args:
        stream: of all samples, without augmentation.
        classes: how many there are.
        each: samples of a class, without repetition; of a smaller class all it has, of all as many.
        steps: batches an epoch.
        draws: independent draws in each batch, one after the other.
    """

    def __init__(self, stream: MemoryStream, classes: int, each: int, steps: int, draws: int = 1) -> None:
        self.stream, self.steps, self.draws = stream, steps, draws
        self.by_class = [(stream.labels == label).nonzero()[:, 0].cpu() for label in range(classes)]
        self.each = min(each, *(len(rows) for rows in self.by_class))

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `first` on."""
        for step in range(first, self.steps):
            source = generator("balanced", self.stream.seed, epoch, step)
            rows = torch.cat([own[torch.randperm(len(own), generator=source)[:self.each]]
                              for _ in range(self.draws) for own in self.by_class])
            yield self.stream.batch(rows.to(self.stream.labels.device), epoch, epochs, step)
