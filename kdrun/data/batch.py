"""What the loop hands to a method."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(eq=False)  # two batches are the same batch only if they are one object
class Batch:
    """Pictures, labels and where they come from.

    Attributes:
        x: pictures [B, C, H, W], float32, augmented and normalised; teacher and student see this very tensor, unless
            `views` has another for the teacher.
        y: labels [B], int64, or None where there are none.
        index: the row [B] of each sample in the training split, for methods that keep a memory of samples.
        views: further pictures beside the samples: augmentations by name, modalities by who sees them.
        epoch: the epoch of the phase, from 0.
        epochs: how many epochs the phase has.
        step: the step within the epoch, from 0.
    """

    x: Tensor
    y: Tensor | None = None
    index: Tensor | None = None
    views: dict[str, Tensor] = field(default_factory=dict)
    epoch: int = 0
    epochs: int = 1
    step: int = 0

    @property
    def labels(self) -> Tensor:
        """The labels, for methods that cannot do without."""
        assert self.y is not None, "a method that reads labels was given data without them"
        return self.y

    def __len__(self) -> int:
        return len(self.x)
