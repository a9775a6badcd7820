"""What tasks have in common whose samples are sequences of frames and whose networks answer once a frame."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.samples import Source
from kdrun.data.sequences import Sequences
from kdrun.tasks.base import InputKind, Task

__all__ = ["FrameTask", "length_problems"]


class FrameTask(Task):
    """An answer for every frame: inputs [N, T, F], padded at their ends, and their `lengths` [N] among the fields."""

    inputs: ClassVar[InputKind] = "frames"

    def given(self) -> dict[str, Any]:
        """What the constructor of a network may ask for, by name."""
        length, features = self.shape
        return {"classes": self.outputs, "length": length, "features": features, "per_place": True, **self.info}

    def example(self, count: int, device: torch.device | str = "cpu") -> Sequences:
        """Sequences of full length, of nothing in particular."""
        return Sequences(torch.zeros(count, *self.shape, device=device),
                         torch.ones(count, self.shape[0], dtype=torch.bool, device=device))

    def expected(self, count: int) -> tuple[int | None, ...]:
        """The shape of a network's logits for so many samples."""
        return (count, self.shape[0], self.outputs)

    def rows(self, logits: Tensor, batch: Batch) -> Tensor:
        """The rows [M, K] of logits [B, T, K]."""
        assert batch.places is not None
        return logits.flatten(0, 1)[batch.places]


def length_problems(source: Source) -> list[str]:
    """What is wrong with the lengths of padded sequences, a line each."""
    found = []
    for name, part in source.parts.items():
        lengths, most = part.fields.get("lengths"), source.train.inputs.shape[1]
        if part.inputs.shape[1:] != source.train.inputs.shape[1:]:
            found.append(f"training samples of {list(source.train.inputs.shape[1:])}, {name} samples of "
                         f"{list(part.inputs.shape[1:])}; expected sequences padded to one length")
        elif lengths is None or lengths.dtype != torch.int64 or lengths.ndim != 1:
            found.append(f"the {name} samples have no lengths; expected a field \"lengths\", int64 of [N]")
        elif int(lengths.min()) < 1 or int(lengths.max()) > most:
            found.append(f"the lengths of the {name} samples run from {int(lengths.min())} to {int(lengths.max())}; "
                         f"expected 1 to {most}")
    return found
