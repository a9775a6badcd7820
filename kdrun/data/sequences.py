"""Inputs of networks that are more than one tensor: sequences of unequal length, pictures with a question each."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Asked", "Inputs", "Sequences", "main_tensor"]


@dataclass(frozen=True, eq=False)
class Sequences:
    """A batch of sequences, padded at their ends.

    Attributes:
        values: token ids [B, T], int64, 0 where padded; or frames [B, T, F], float32.
        mask: [B, T], true where there is something: the first places of each row.
        prefix: [B, U], int64: what a decoder is given; 0 where padded. None where nothing is decoded.
    """

    values: Tensor
    mask: Tensor
    prefix: Tensor | None = None

    @classmethod
    def padded(cls, values: Tensor, lengths: Tensor) -> "Sequences":
        """Sequences [B, T, ...] of which so many places [B] are no padding."""
        return cls(values, torch.arange(values.shape[1], device=values.device) < lengths[:, None])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Sequences":
        """The same with every tensor changed."""
        return Sequences(change(self.values), change(self.mask), None if self.prefix is None else change(self.prefix))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.values.device

    @property
    def lengths(self) -> Tensor:
        """[B], int64."""
        return self.mask.sum(dim=1)


@dataclass(frozen=True, eq=False)
class Asked:
    """A batch of pictures with a question about each.

    Attributes:
        pictures: [B, C, H, W], float32.
        questions: of token ids [B, T].
        answers: the class of the right answer [B], int64, -1 where it is not known, for networks that are shown it in training
            (privileged information); None in evaluation.
    """

    pictures: Tensor
    questions: Sequences
    answers: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Asked":
        """The same with every tensor changed."""
        return Asked(change(self.pictures), self.questions.map(change), None if self.answers is None else change(self.answers))

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.pictures.device


Inputs = Tensor | Sequences | Asked


def main_tensor(inputs: Inputs) -> Tensor:
    """The tensor that inputs are made of; of sequences their values, of pictures with questions the pictures."""
    if isinstance(inputs, Asked):
        return inputs.pictures
    return inputs.values if isinstance(inputs, Sequences) else inputs
