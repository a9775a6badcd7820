"""Small tasks of a few classes each, for learning from many trainings."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.stream import MemoryStream
from kdrun.utils.seeding import generator

__all__ = ["SmallTask", "SmallTasks"]


class SmallTask(NamedTuple):
    """A task.

    Attributes:
        classes: of the data set, in the order in which the task numbers them.
        rows: of the training split, those of each step one after the other.
    """

    classes: Tensor
    rows: Tensor


class SmallTasks:
    """Batches that hold the training of a small task each: so many classes, drawn and numbered anew, and its samples.

    A batch has `steps * size` samples, in the order of the steps; its labels count the task's classes from 0. A step
    has no sample twice. All draws are keyed by (seed, epoch, number), so any task can be made again.

    Args:
        stream: of all samples; a batch is augmented as its are.
        classes: of which a task has some.
        ways: how many.
        steps: of a training.
        size: samples a step; of few, all there are.
        count: tasks an epoch.
        name: of the draws; another name, other tasks.
    """

    def __init__(self, stream: MemoryStream, classes: Sequence[int], *, ways: int, steps: int, size: int, count: int,
                 name: str = "small tasks") -> None:
        self.stream, self.ways, self.steps, self.count, self.name = stream, ways, steps, count, name
        self.classes = torch.tensor(list(classes))
        self.by_class = {label: (stream.labels == label).nonzero()[:, 0].cpu() for label in classes}
        fewest = sum(sorted(len(rows) for rows in self.by_class.values())[:ways])
        self.size = min(size, fewest)

    def __len__(self) -> int:
        return self.count

    def task(self, epoch: int, number: int) -> SmallTask:
        """A task of an epoch."""
        source = generator(self.name, self.stream.seed, epoch, number)
        chosen = self.classes[torch.randperm(len(self.classes), generator=source)[:self.ways]]
        own = torch.cat([self.by_class[int(label)] for label in chosen])
        return SmallTask(chosen, torch.cat([own[torch.randperm(len(own), generator=source)[:self.size]]
                                            for _ in range(self.steps)]))

    def batch(self, task: SmallTask, epoch: int, epochs: int, number: int) -> Batch:
        """The batch of a task."""
        batch = self.stream.batch(task.rows.to(self.stream.labels.device), epoch, epochs, number)
        batch.y = (batch.labels[:, None] == task.classes.to(batch.labels.device)).int().argmax(dim=1)
        return batch

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The tasks of an epoch, from number `first` on."""
        return (self.batch(self.task(epoch, number), epoch, epochs, number) for number in range(first, self.count))
