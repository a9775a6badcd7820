"""Classes that are learned in groups, one after the other: the split, the batches of a group, what is kept of the past."""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.utils.seeding import generator

__all__ = ["KeptStream", "Parent", "TaskStream", "accuracies", "class_order", "exemplars", "forgetting", "herding",
           "incremental_accuracy", "split"]


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


def class_order(classes: int, wanted: Literal["label", "seed"] | Sequence[int], seed: int) -> Tensor:
    """The labels in the order in which their classes are learned, [K].

    Args:
        classes: how many there are.
        wanted: as they are numbered, in an order drawn from the seed, or in this one.
        seed: of the run.

    Raises:
        ValueError: the order does not name each class once.
    """
    if wanted == "label":
        return torch.arange(classes)
    if wanted == "seed":
        return torch.randperm(classes, generator=generator("class order", seed))
    if sorted(wanted) != list(range(classes)):
        raise ValueError(f"method.class_order does not name each of the {classes} classes once; wanted the numbers from 0 to "
                         f"{classes - 1} in any order, label or seed")
    return torch.tensor(wanted)


class PartStream:
    """Batches of some rows of a split, in the order and the augmentation that all of them together would have.

    Labels are numbered anew: a class has the number of its turn to be learned.

    Args:
        parent: the stream of all classes.
        turns: of each class, its turn [K].
    """

    size: int  # of a batch

    def __init__(self, parent: Parent, turns: Tensor) -> None:
        self.parent, self.turns = parent, turns.to(parent.labels.device)
        self.labels = self.turns[parent.labels]

    def __len__(self) -> int:
        raise NotImplementedError

    def steps(self, epoch: int) -> list[Tensor]:
        """The rows of each batch of an epoch."""
        raise NotImplementedError

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `first` on."""
        for batch in self.parent.batches(self.steps(epoch), epoch, epochs, first):
            if batch.y is not None:
                batch.y = self.turns[batch.y]
            yield batch

    def among(self, mine: Tensor, epoch: int, size: int) -> list[Tensor]:
        """Those rows that are marked, in the order of an epoch, so many at a time; what is left over is dropped."""
        order = self.parent.order(epoch)
        own = order[mine[order]]
        return list(own[:len(own) // size * size].split(size))


class KeptStream(PartStream):
    """The batches of kept samples alone.

    Args:
        parent: the stream of all classes.
        turns: of each class, its turn [K].
        kept: their rows of the split.
    """

    def __init__(self, parent: Parent, turns: Tensor, kept: Tensor) -> None:
        super().__init__(parent, turns)
        self.mine = torch.zeros_like(self.labels, dtype=torch.bool).index_fill_(0, kept.to(self.labels.device), True)
        self.samples, self.size = len(kept), min(parent.size, len(kept))

    def __len__(self) -> int:
        return self.samples // self.size

    def steps(self, epoch: int) -> list[Tensor]:
        """The rows of each batch of an epoch."""
        return self.among(self.mine, epoch, self.size)


class TaskStream(PartStream):
    """The batches of one task, and of what is kept of earlier ones.

    Args:
        parent: the stream of all classes.
        turns: of each class, its turn [K].
        task: the turns of its classes.
        kept: rows of the split of earlier tasks, which come after the new samples of a batch.
        mixed: whether new and kept samples share the places of a batch, each its share of both together, as if they were
            shuffled as one set; otherwise there are as many kept ones beside the new ones of a whole batch, or all.

    Attributes:
        new: samples of the task in a batch.

    Raises:
        ValueError: the task has fewer than two samples.
    """

    def __init__(self, parent: Parent, turns: Tensor, task: slice, kept: Tensor | None = None, mixed: bool = False) -> None:
        super().__init__(parent, turns)
        self.kept = kept
        self.mine = (self.labels >= task.start) & (self.labels < task.stop)
        self.samples = int(self.mine.sum())
        if self.samples < 2:
            raise ValueError(f"the task of classes {task.start} to {task.stop - 1} has {self.samples} training picture(s)")
        self.new, self.old = min(parent.size, self.samples), 0 if kept is None else min(parent.size, len(kept))
        if kept is not None and mixed:
            size = min(parent.size, self.samples + len(kept))
            self.new = min(max(1, round(size * self.samples / (self.samples + len(kept)))), self.samples, size - 1)
            self.old = min(size - self.new, len(kept))
        self.size = self.new + self.old

    def __len__(self) -> int:
        return self.samples // self.new

    def steps(self, epoch: int) -> list[Tensor]:
        """The rows of each batch of an epoch."""
        steps = self.among(self.mine, epoch, self.new)
        return [torch.cat([rows, self.drawn(epoch, step)]) for step, rows in enumerate(steps)] if self.old else steps

    def drawn(self, epoch: int, step: int) -> Tensor:
        """The kept rows of a step."""
        assert self.kept is not None
        draws = generator("kept", self.parent.seed, epoch, step)
        return self.kept[torch.randperm(len(self.kept), generator=draws)[:self.old].to(self.kept.device)].to(self.labels.device)


def exemplars(labels: Tensor, classes: int, each: int, seed: int) -> Tensor:
    """The rows of so many samples of each of the first `classes` classes, drawn from the seed."""
    rows = [(labels.cpu() == label).nonzero()[:, 0] for label in range(classes)]
    drawn = [own[torch.randperm(len(own), generator=generator("exemplars", seed, label))[:each]]
             for label, own in enumerate(rows)]
    return torch.cat(drawn).to(labels.device)


def herding(embeddings: Tensor, count: int) -> Tensor:
    """Which samples of a class stand for it, in order: each brings the mean of those so far nearest to the mean of all.

    Source: Rebuffi et al., iCaRL: Incremental classifier and representation learning, CVPR 2017, algorithm 4.

    Args:
        embeddings: [N, D]; their directions count. The mean that is approached is of unit vectors, and not of unit length.
        count: how many; all, where there are fewer.

    Example:
        >>> herding(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]]), 2)
        tensor([2, 1])
    """
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    wanted, total = unit.mean(dim=0), torch.zeros_like(unit[0])
    chosen: list[int] = []
    for number in range(1, min(count, len(unit)) + 1):
        apart = (wanted - (total + unit) / number).norm(dim=1)
        apart[chosen] = torch.inf
        chosen.append(int(apart.argmin()))
        total = total + unit[chosen[-1]]
    return torch.tensor(chosen, dtype=torch.int64)


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


def incremental_accuracy(matrix: Sequence[Sequence[float]], counts: Sequence[int]) -> float:
    """The accuracy on the samples of all tasks so far, on average over all moments.

    Args:
        matrix: as for `forgetting`.
        counts: of the samples of each task.

    Example:
        >>> incremental_accuracy([[1.0], [0.5, 0.8]], [10, 20])  # 1 and (5 + 16) / 30
        0.85
    """
    moments = [sum(value * count for value, count in zip(row, counts, strict=False)) / sum(counts[:len(row)]) for row in matrix]
    return sum(moments) / len(moments)
