"""Batches of noise, for methods that make their own pictures and see no training data."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch

from kdrun.data.batch import Batch
from kdrun.utils.seeding import generator

__all__ = ["Noise"]


class Noise:
    """Random draws in place of pictures: what a generator makes pictures of, or what pictures start from.

    A batch has no labels; its `x` is the draws [B, *shape], its `index` their numbers, counted on from epoch to epoch.
    Every draw is keyed by (seed, epoch, step), so any epoch can be made again from any step on. An epoch of noise has
    no natural length: a method's `steps` says how many batches it is.

    Args:
        shape: of one draw.
        batch_size: draws a batch.
        steps: batches an epoch.
        seed: of the run.
        device: where the batches go.
        kind: `normal` (mean 0, spread 1) or `uniform` (from 0 to 1).
    """

    def __init__(self, shape: Sequence[int], *, batch_size: int, steps: int, seed: int, device: torch.device,
                 kind: Literal["normal", "uniform"] = "normal") -> None:
        self.shape, self.batch_size, self.steps = tuple(shape), batch_size, steps
        self.seed, self.device, self.kind = seed, device, kind

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `first` on."""
        for step in range(first, self.steps):
            source = generator("noise", self.seed, epoch, step)
            draw = torch.randn if self.kind == "normal" else torch.rand
            draws = draw(self.batch_size, *self.shape, generator=source)
            index = (epoch * self.steps + step) * self.batch_size + torch.arange(self.batch_size)
            yield Batch(draws.to(self.device), index=index.to(self.device), epoch=epoch, epochs=epochs, step=step)
