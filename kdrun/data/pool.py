"""Batches of samples in one order after the other, so many an epoch; of those without labels too (`dataset.labelled`)."""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.stream import MemoryStream, Stream

__all__ = ["BesidePool", "Pool", "Repeated"]


class Repeated:
    """Batches of samples, in one order after the other: what an epoch leaves over comes in the next.

    So an epoch has as many batches as it is to have, whatever the number of samples.

    Args:
        stream: of the samples.
        steps: batches an epoch.
    """

    def __init__(self, stream: MemoryStream, steps: int) -> None:
        self.stream, self.steps = stream, steps

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `first` on."""
        return (self.batch(self.rows(epoch, step), epoch, epochs, step) for step in range(first, self.steps))

    def rows(self, epoch: int, step: int) -> Tensor:
        """Which rows of the samples a step of an epoch sees [B]."""
        turn, place = divmod(epoch * self.steps + step, len(self.stream))
        return self.stream.order(turn)[place * self.stream.size:(place + 1) * self.stream.size]

    def batch(self, rows: Tensor, epoch: int, epochs: int, step: int, augmentation: str = "augmentation") -> Batch:
        """The batch of these rows of the samples, which are its `index`; as `MemoryStream.batch`."""
        turn, _ = divmod(epoch * self.steps + step, len(self.stream))
        return replace(self.stream.batch(rows, turn, epochs, step, augmentation), epoch=epoch)


class Pool(Repeated):
    """Batches of samples without labels.

    An epoch of the pool has no length of its own: baselines learn from the labelled samples alone, and a method that takes
    as many steps an epoch as these do makes as many updates.
    """

    def batch(self, rows: Tensor, epoch: int, epochs: int, step: int, augmentation: str = "augmentation") -> Batch:
        """The same without labels."""
        return replace(super().batch(rows, epoch, epochs, step, augmentation), y=None)


class BesidePool:
    """The batches of a stream, each with one of the pool beside it in `Batch.pool`.

    Args:
        stream: the labelled samples.
        pool: the others, of as many steps an epoch.
        view: the name of a second augmentation in the `views` of the pool's batch; None for none.
    """

    def __init__(self, stream: Stream, pool: Pool, view: str | None = None) -> None:
        assert len(stream) == len(pool)
        self.stream, self.pool, self.view = stream, pool, view

    def __len__(self) -> int:
        return len(self.stream)

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `first` on."""
        for batch in self.stream.epoch(epoch, epochs, first):
            rows = self.pool.rows(epoch, batch.step)
            batch.pool = self.pool.batch(rows, epoch, epochs, batch.step)
            if self.view:
                batch.pool.views[self.view] = self.pool.batch(rows, epoch, epochs, batch.step, self.view).x
            yield batch
