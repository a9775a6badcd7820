"""What the loop hands to a method."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torch import Tensor

from kdrun.data.mixing import MixedLabels
from kdrun.data.sequences import Inputs, main_tensor


class KeyedStream(Protocol):
    """A stream whose batches depend on nothing but what it is made of and the number of the epoch."""

    def __len__(self) -> int:
        """How many batches an epoch has."""

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> "Iterator[Batch]":
        """The batches of an epoch (of so many), from step `first` on."""

    @property
    def identity(self) -> dict[str, object]:
        """All that decides, with the samples, which batches there are."""

    @property
    def labels(self) -> Tensor:
        """Those of all samples, where the batches are made."""


class Origin(NamedTuple):
    """Which batch of which stream a batch is.

    Attributes:
        stream: that made it.
        epoch: of the stream.
        step: within the epoch.
        inputs: the tensors it was made with and the versions they had: x, then each view by its name.
    """

    stream: KeyedStream
    epoch: int
    step: int
    inputs: dict[str, tuple[Tensor, int]]


@dataclass(eq=False)  # two batches are the same batch only if they are one object
class Batch:
    """Inputs, labels and where they come from.

    An answer of a network to a batch has M rows: one a sample where samples are classified, one for each valid token,
    frame or pixel elsewhere. Which those are is the batch's: teacher and student have the same.

    Attributes:
        x: pictures [B, C, H, W], float32, augmented and normalised, or what else the networks of the task see; teacher and
            student see this very tensor, unless `views` has another for the teacher.
        y: labels [M], int64, one a row; None where there are none.
        index: the row [B] of each sample in the training split, for methods that keep a memory of samples.
        views: further inputs beside the samples: augmentations by name, modalities by who sees them.
        places: which of all places of the answer each row is, [M], int64: sample * places a sample + place. None where
            every sample is one row.
        targets: what else the label loss of the task needs, by name.
        mixed: the labels of samples that were mixed with one another, which then have neither `y` nor `index`.
        epoch: the epoch of the phase, from 0.
        epochs: how many epochs the phase has.
        step: the step within the epoch, from 0.
        origin: where the stream says it comes from; see `original`.
        pool: a batch of samples without labels beside it, where a phase asks for one (`BesidePool`).
    """

    x: Inputs
    y: Tensor | None = None
    index: Tensor | None = None
    views: dict[str, Inputs] = field(default_factory=dict)
    places: Tensor | None = None
    targets: dict[str, Tensor] = field(default_factory=dict)
    mixed: MixedLabels | None = None
    epoch: int = 0
    epochs: int = 1
    step: int = 0
    origin: Origin | None = None
    pool: "Batch | None" = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What the inputs are made of: the tensor of x, then of each view by its name."""
        return {name: main_tensor(inputs) for name, inputs in {"": self.x, **self.views}.items()}

    @property
    def original(self) -> Origin | None:
        """Which batch of the training stream this is; None if it comes from elsewhere or has other pictures by now."""
        now = self.tensors
        if self.origin is None or now[""].requires_grad:
            return None
        same = all(now.get(name) is tensor and version_of(tensor) == version
                   for name, (tensor, version) in self.origin.inputs.items())
        return self.origin if same else None

    def signed(self, stream: KeyedStream) -> "Batch":
        """The same batch, which tells from now on that it is the stream's own."""
        inputs = {name: (tensor, version_of(tensor)) for name, tensor in self.tensors.items()}
        self.origin = Origin(stream, self.epoch, self.step, inputs)
        return self

    @property
    def labels(self) -> Tensor:
        """The labels [M], for methods that cannot do without.

        Raises:
            ValueError: there are none.
        """
        if self.mixed is not None and self.y is None:
            raise ValueError("it reads one label a sample, and recipe.mixup or recipe.cutmix mixes them; set both to 0")
        if self.y is None:
            raise ValueError("it reads labels, and these rows have none")
        return self.y

    @property
    def has_labels(self) -> bool:
        """Whether a label loss can be asked for."""
        return self.y is not None or self.mixed is not None

    @property
    def rows(self) -> Tensor:
        """Which samples of the training split these are [B], for methods that keep something of each.

        Raises:
            ValueError: they are none of it, or mixtures of several.
        """
        if self.index is None:
            raise ValueError("it has to know the samples of a batch, and " + (
                "these are of no training split" if self.mixed is None else
                "recipe.mixup or recipe.cutmix mixes them; set both to 0"))
        return self.index

    @property
    def tensor(self) -> Tensor:
        """The inputs, where they are one tensor: pictures, noise, ...

        Raises:
            ValueError: they are sequences, or pictures with questions.
        """
        if not isinstance(self.x, Tensor):
            raise ValueError(f"it works on tensors, and these inputs are {type(self.x).__name__.lower()}")
        return self.x

    @property
    def pictures(self) -> Tensor:
        """The inputs [B, C, H, W], for methods that need pictures.

        Raises:
            ValueError: they are none.
        """
        if not isinstance(self.x, Tensor) or self.x.ndim != 4:
            raise ValueError("it works on pictures, and these inputs are none")
        return self.x

    def __len__(self) -> int:
        return len(self.x)


def version_of(tensor: Tensor) -> int:
    """A number that rises when a tensor is changed in place; tensors of inference mode, which do not count, are at -1."""
    return -1 if tensor.is_inference() else tensor._version
