"""Inputs of networks that are sequences of unequal length."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Inputs", "Sequences", "main_tensor"]


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


Inputs = Tensor | Sequences


def main_tensor(inputs: Inputs) -> Tensor:
    """The tensor that inputs are made of; of sequences their values."""
    return inputs.values if isinstance(inputs, Sequences) else inputs
