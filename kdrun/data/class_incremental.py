"""Classes that are learned in groups, one after the other: the split, the batches of a group, what is kept of the past."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.utils.seeding import generator

__all__ = ["Parent", "TaskStream", "accuracies", "exemplars", "forgetting", "split"]


class Parent(Protocol):
    """The stream of all classes that tasks take their batches from."""

    size: int
    seed: int

    @property
    def labels(self) -> Tensor:
        """Of every sample of the split."""
        ...

    def order(self, epoch: int) -> Tensor:
        """The rows of the split in the order of an epoch."""
        ...

    def batches(self, steps: Sequence[Tensor], epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches whose steps take these rows."""
        ...


def split(classes: int, wanted: int | Sequence[int]) -> list[slice]:
    """The classes of each task, in their order: so many tasks as equal as can be, or tasks of these sizes.

    Raises:
        ValueError: the sizes are not those of all classes, or there are fewer than two tasks.
    """
    sizes = list(wanted) if not isinstance(wanted, int) else [] if wanted > classes else \
        [classes // wanted + (number < classes % wanted) for number in range(wanted)]
    if len(sizes) < 2 or min(sizes) < 1 or sum(sizes) != classes:
        raise ValueError(f"method.split is {wanted}, and there are {classes} classes; wanted from 2 to {classes} tasks, or a "
                         "list of their sizes with that sum")
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


class TaskStream:
    """The batches of one task: its samples in the order and the augmentation that all classes together would have.

    Args:
        parent: the stream of all classes.
        task: the classes.
        kept: rows of the split of earlier tasks; each batch has as many of them as new samples, or all there are, after
            the new ones.

    Raises:
        ValueError: the task has fewer than two samples.
    """

    def __init__(self, parent: Parent, task: slice, kept: Tensor | None = None) -> None:
        self.parent, self.kept = parent, kept
        self.mine = (parent.labels >= task.start) & (parent.labels < task.stop)
        self.samples = int(self.mine.sum())
        if self.samples < 2:
            raise ValueError(f"the task of classes {task.start} to {task.stop - 1} has {self.samples} training picture(s)")
        self.size = min(parent.size, self.samples)

    def __len__(self) -> int:
        return self.samples // self.size

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `first` on."""
        order = self.parent.order(epoch)
        own = order[self.mine[order]]
        steps = [own[start:start + self.size] for start in range(0, len(self) * self.size, self.size)]
        if self.kept is not None:
            steps = [torch.cat([rows, self.drawn(epoch, step)]) for step, rows in enumerate(steps)]
        return self.parent.batches(steps, epoch, epochs, first)

    def drawn(self, epoch: int, step: int) -> Tensor:
        """The kept rows of a step."""
        assert self.kept is not None
        draws = generator("kept", self.parent.seed, epoch, step)
        return self.kept[torch.randperm(len(self.kept), generator=draws)[:self.size].to(self.kept.device)]


def exemplars(labels: Tensor, classes: int, each: int, seed: int) -> Tensor:
    """The rows of so many samples of each of the first `classes` classes, drawn from the seed."""
    rows = [(labels.cpu() == label).nonzero()[:, 0] for label in range(classes)]
    drawn = [own[torch.randperm(len(own), generator=generator("exemplars", seed, label))[:each]]
             for label, own in enumerate(rows)]
    return torch.cat(drawn).to(labels.device)


def accuracies(logits: Tensor, labels: Tensor, tasks: Sequence[slice], told: bool) -> list[float]:
    """The accuracy on the samples of each of these tasks, in order from the first class.

    Args:
        logits: [N, K] of samples of any class.
        labels: [N].
        tasks: those that were learned so far.
        told: whether a sample says of which task it is, and only the task's classes compete; or all classes so far.
    """
    found = []
    for task in tasks:
        among = task if told else slice(0, tasks[-1].stop)
        own = (labels >= task.start) & (labels < task.stop)
        answers = logits[own, among].argmax(dim=1) + among.start
        found.append(float((answers == labels[own]).double().mean()))
    return found


def forgetting(matrix: Sequence[Sequence[float]]) -> float:
    """How much accuracy was lost at the end, against its best, on average over all tasks but the last.

    Args:
        matrix: for each moment, after so many tasks, the accuracy on each of these tasks.
    """
    last = matrix[-1]
    lost = [max(row[task] for row in matrix[task:]) - last[task] for task in range(len(last) - 1)]
    return sum(lost) / len(lost)
