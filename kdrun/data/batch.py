"""What the loop hands to a method."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from kdrun.data.stream import PictureStream


class Origin(NamedTuple):
    """Which batch of which stream a batch is.

    Attributes:
        stream: that made it.
        epoch: of the stream.
        step: within the epoch.
        pictures: the tensors it was made with and the versions they had: x, then each view by its name.
    """

    stream: "PictureStream"
    epoch: int
    step: int
    pictures: dict[str, tuple[Tensor, int]]


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
        origin: where the stream says it comes from; see `original`.
    """

    x: Tensor
    y: Tensor | None = None
    index: Tensor | None = None
    views: dict[str, Tensor] = field(default_factory=dict)
    epoch: int = 0
    epochs: int = 1
    step: int = 0
    origin: Origin | None = None

    @property
    def original(self) -> Origin | None:
        """Which batch of the training stream this is; None if it comes from elsewhere or has other pictures by now."""
        if self.origin is None or self.x.requires_grad:
            return None
        now = {"": self.x, **self.views}
        same = all(now.get(name) is picture and version_of(picture) == version
                   for name, (picture, version) in self.origin.pictures.items())
        return self.origin if same else None

    def signed(self, stream: "PictureStream") -> "Batch":
        """The same batch, which tells from now on that it is the stream's own."""
        pictures = {name: (picture, version_of(picture)) for name, picture in {"": self.x, **self.views}.items()}
        self.origin = Origin(stream, self.epoch, self.step, pictures)
        return self

    @property
    def labels(self) -> Tensor:
        """The labels, for methods that cannot do without."""
        assert self.y is not None, "a method that reads labels was given data without them"
        return self.y

    def __len__(self) -> int:
        return len(self.x)


def version_of(picture: Tensor) -> int:
    """A number that rises when a tensor is changed in place; tensors of inference mode, which do not count, are at -1."""
    return -1 if picture.is_inference() else picture._version
