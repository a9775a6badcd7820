"""A further input beside each of a stream."""

from collections.abc import Callable, Iterator

from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.stream import MemoryStream, Stream

__all__ = ["Beside"]


class Beside:
    """The batches of a stream, each with a second input beside every sample in `views`, augmented on its own.

    Args:
        stream: the training samples.
        name: of the view.
        partner: from an epoch to whom to show beside each row of the split [N]; None shows the sample itself again.
    """

    def __init__(self, stream: Stream, name: str, partner: Callable[[int], Tensor] | None = None) -> None:
        assert isinstance(stream, MemoryStream)
        self.stream, self.name, self.partner = stream, name, partner

    def __len__(self) -> int:
        return len(self.stream)

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `first` on."""
        partners = self.partner(epoch) if self.partner else None
        for batch in self.stream.epoch(epoch, epochs, first):
            rows = batch.rows if partners is None else partners[batch.rows]
            batch.views[self.name] = self.stream.batch(rows, epoch, epochs, batch.step, self.name).x
            yield batch
