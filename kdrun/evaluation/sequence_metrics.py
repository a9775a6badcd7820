"""Measures of sequences: edits, error rates, exact matches, segments, and the F1 score of their tags.

Every measure is a sum over the whole set that is divided once, never a mean of the batches' means. Sequences are any
Python sequences whose items compare: lists of numbers, tuples of phonemes, texts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

__all__ = ["Edits", "clipped_accuracy", "edits", "macro_f1", "segments", "sequence_accuracy", "total_edits"]


@dataclass(frozen=True)
class Edits:
    """The fewest edits that turn references into answers, and how long the references are.

    Attributes:
        insertions: items of the answer that the reference has not.
        deletions: items of the reference that the answer has not.
        substitutions: items that are others in the answer.
        length: of the reference.
    """

    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    length: int = 0

    @property
    def distance(self) -> int:
        """The Levenshtein distance: all edits."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def rate(self) -> float | None:
        """Edits per item of the references (word, character or phone error rate), which may exceed 1; None without items."""
        return self.distance / self.length if self.length else None

    def __add__(self, other: "Edits") -> "Edits":
        return Edits(self.insertions + other.insertions, self.deletions + other.deletions,
                     self.substitutions + other.substitutions, self.length + other.length)


def edits(reference: Sequence[Any], answer: Sequence[Any]) -> Edits:
    """The fewest insertions, deletions and substitutions from a reference to an answer, each of cost 1 (Levenshtein 1966).

    Of equally few, those with more substitutions are counted.

    >>> edits("kitten", "sitting")
    Edits(insertions=1, deletions=0, substitutions=2, length=6)
    """
    # a cell is (distance, insertions, deletions) of the best way to turn a prefix of the reference into one of the answer
    row = [(column, column, 0) for column in range(len(answer) + 1)]
    for number, item in enumerate(reference, start=1):
        diagonal, row[0] = row[0], (number, 0, number)
        for column, other in enumerate(answer, start=1):
            above, left = row[column], row[column - 1]
            if item == other:
                best = diagonal
            else:
                best = diagonal[0] + 1, diagonal[1], diagonal[2]
                if above[0] + 1 < best[0]:
                    best = above[0] + 1, above[1], above[2] + 1
                if left[0] + 1 < best[0]:
                    best = left[0] + 1, left[1] + 1, left[2]
            diagonal, row[column] = above, best
    distance, insertions, deletions = row[-1]
    return Edits(insertions, deletions, distance - insertions - deletions, len(reference))


def total_edits(references: Iterable[Sequence[Sequence[Any]]], answers: Iterable[Sequence[Any]]) -> Edits:
    """The edits of a whole set: its `rate` is the error rate.

    Args:
        references: one or more right answers for each answer; the nearest counts, the first of equally near ones.
        answers: one for each.
    """
    total = Edits()
    for right, answer in zip(references, answers, strict=True):
        total += min((edits(reference, answer) for reference in right), key=lambda one: one.distance)
    return total


def clipped_accuracy(total: Edits) -> float | None:
    """1 minus the error rate, and 0 where there are more edits than items; None without items."""
    return None if total.rate is None else max(0.0, 1 - total.rate)


def sequence_accuracy(references: Iterable[Sequence[Sequence[Any]]], answers: Iterable[Sequence[Any]]) -> float | None:
    """The share of answers that equal one of their references; None without answers."""
    right = [any(list(answer) == list(reference) for reference in several)
             for several, answer in zip(references, answers, strict=True)]
    return sum(right) / len(right) if right else None


def segments(tags: Iterable[int], gap: int | None) -> list[int]:
    """The runs of equal tags, an item each, without gaps (which have a tag of their own, or None).

    >>> segments([10, 3, 3, 10, 3, 7, 7], gap=10)
    [3, 3, 7]
    """
    return [tag for tag, _ in groupby(tags) if tag != gap]


def macro_f1(answers: Tensor, labels: Tensor, classes: int) -> float | None:
    """The mean F1 score of the classes that occur among labels or answers (both [M] int64); None without rows."""
    hits = torch.bincount(labels[answers == labels], minlength=classes)
    involved = torch.bincount(labels, minlength=classes) + torch.bincount(answers, minlength=classes)
    occurs = involved > 0
    return float((2 * hits[occurs].double() / involved[occurs]).mean()) if bool(occurs.any()) else None
