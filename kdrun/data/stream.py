"""Training batches from samples in memory: order and augmentation are functions of the seed and the epoch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.mixing import Mixing
from kdrun.data.modalities import see
from kdrun.data.samples import IGNORED, Samples
from kdrun.data.sequences import Sequences
from kdrun.data.sequential_modalities import SEQUENTIAL
from kdrun.data.streamed import Streamed
from kdrun.tasks.base import Task
from kdrun.utils.seeding import generator

if TYPE_CHECKING:
    from kdrun.data.augment import Augmentation

__all__ = ["AsSequences", "MemoryStream", "Normalise", "Stream", "Unchanged", "WorkerStream", "cropped", "normaliser"]


class Stream(Protocol):
    """Where batches come from: any epoch can be made again, from any step on."""

    def __len__(self) -> int:
        """How many batches an epoch has."""
        ...

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (of so many), from step `first` on."""
        ...


class Normalise:
    """From stored pictures [B, H, W, C] to what a network sees: float32 [B, C, H, W], channels last in memory.

    Args:
        mean: of each channel, for pictures from 0 to 1.
        std: likewise.
        modality: in which the network sees the pictures, one of `modalities`; None for the pictures as they are.
    """

    def __init__(self, mean: list[float], std: list[float], modality: str | None = None) -> None:
        self.mean, self.std, self.modality = torch.tensor(mean), torch.tensor(std), modality
        self.placed: dict[tuple[torch.device, float], tuple[Tensor, Tensor]] = {}  # once for each device: copying waits

    def __call__(self, images: Tensor) -> Tensor:
        """What the network sees of stored pictures."""
        images = see(images, self.modality)
        full = 255.0 if images.dtype == torch.uint8 else 1.0
        if (key := (images.device, full)) not in self.placed:
            self.placed[key] = (1 / (full * self.std)).to(images.device), (-self.mean / self.std).to(images.device)
        scale, shift = self.placed[key]
        return images.to(torch.float32, copy=True).mul_(scale).add_(shift).permute(0, 3, 1, 2)

    def stored(self, seen: Tensor) -> Tensor:
        """The float32 pictures [B, H, W, C] that a network sees as [B, C, H, W]: from 0 to 1 where these were."""
        return seen.permute(0, 2, 3, 1) * self.std.to(seen.device) + self.mean.to(seen.device)

    @classmethod
    def measured(cls, images: Tensor, modality: str | None = None) -> "Normalise":
        """With the mean and spread of each channel over these pictures; a constant channel is only centred."""
        channels = see(images[:1], modality).shape[-1]
        # float64 sums of slices: exact enough for any size, and no float copy of the whole set
        total, squares, count = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64), 0
        for piece in images.split(max(1, (1 << 20) // images[0].numel())):
            seen = see(piece, modality)
            flat = seen.reshape(-1, channels).double() / (255.0 if seen.dtype == torch.uint8 else 1.0)
            total, squares, count = total + flat.sum(0), squares + flat.square().sum(0), count + len(flat)
        mean = total / count
        std = (squares / count - mean.square()).clamp_min(0).sqrt()
        return cls(mean.tolist(), torch.where(std > 1e-6, std, torch.ones_like(std)).tolist(), modality)


class Unchanged(Normalise):
    """Inputs that are no pictures are seen as they are stored."""

    def __init__(self) -> None:
        super().__init__([], [])

    def __call__(self, images: Tensor) -> Tensor:
        """The same."""
        return images


class AsSequences(Normalise):
    """From stored pictures [B, H, W, C] to a modality of them that is a sequence; frames are normalised, tokens need not be.

    Args:
        mean: of each feature over the places that are no padding; empty for tokens.
        std: likewise.
        modality: one of `sequential_modalities`.
    """

    modality: str

    def __call__(self, images: Tensor) -> Sequences:  # type: ignore[override]  # whose task takes those too
        """The sequences."""
        seen = SEQUENTIAL[self.modality].look(images)
        if not len(self.mean):
            return seen
        values = (seen.values - self.mean.to(images.device)) / self.std.to(images.device)
        return Sequences(values * seen.mask[..., None], seen.mask)

    @classmethod
    def measured(cls, images: Tensor, modality: str | None = None) -> "AsSequences":
        """With the mean and spread of each feature; a constant one is only centred."""
        assert modality is not None
        if SEQUENTIAL[modality].vocabulary is not None:
            return cls([], [], modality)
        places = []
        for piece in images.split(max(1, (1 << 20) // images[0].numel())):
            seen = SEQUENTIAL[modality].look(piece)
            places.append(seen.values[seen.mask].double())
        std, mean = torch.std_mean(torch.cat(places), dim=0, correction=0)
        return cls(mean.tolist(), torch.where(std > 1e-6, std, torch.ones_like(std)).tolist(), modality)


def normaliser(mean: list[float], std: list[float], modality: str | None) -> Normalise:
    """What brings stored inputs to what a network sees.

    Args:
        mean: of each channel or feature; empty for inputs that are no pictures, and for tokens.
        std: likewise.
        modality: in which the network sees pictures; None for as they are.
    """
    if modality in SEQUENTIAL:
        return AsSequences(mean, std, modality)
    return Normalise(mean, std, modality) if mean else Unchanged()


class MemoryStream:
    """Shuffled, cropped, flipped and normalised batches.

    Every draw is keyed by (seed, epoch, sample), never by what a method did before: all methods of one seed see the
    same pictures in the same order. A batch's pictures are taken from the set as it is, and cropped and flipped together:
    nothing is held beside the set. The last, short batch of an epoch is dropped (relations between
    samples need whole batches); another order every epoch leaves nobody out for long.

    Args:
        samples: the training split.
        task: makes batches of them.
        normalise: from stored inputs to what a network sees.
        batch_size: samples a batch; a smaller split makes one batch of what it has.
        crop: how many pixels of zeros to pad on each side before a random crop of the original size.
        flip: whether to mirror half of the pictures.
        seed: of the run.
        device: where the pictures live and the batches are made.
        views: further modalities of the same crops, by the name they have in `Batch.views`.
        paired: False shows those views in another order than the samples of the batch.
        mixing: of the samples of a batch; None for none.
    """

    def __init__(self, samples: Samples, task: Task, normalise: Normalise, *, batch_size: int, crop: int, flip: bool, seed: int,
                 device: torch.device, views: Mapping[str, Normalise] | None = None, paired: bool = True,
                 mixing: Mixing | None = None) -> None:
        self.samples, self.task, self.device, self.mixing = samples.to(device), task, device, mixing
        self.normalise, self.seed, self.crop, self.flip = normalise, seed, crop, flip
        self.views, self.paired = dict(views or {}), paired
        self.kept: dict[str, tuple[int, tuple[Tensor, ...]]] = {}
        self.size = min(batch_size, len(samples))

    @property
    def labels(self) -> Tensor:
        """Of every sample."""
        return self.samples.labels

    def __len__(self) -> int:
        return len(self.labels) // self.size

    @property
    def identity(self) -> dict[str, object]:
        """All that decides, with the pictures, which batches there are."""
        return {"seed": self.seed, "size": self.size, "samples": self.count, "crop": self.crop, "flip": self.flip,
                "paired": self.paired, **(asdict(self.mixing) if self.mixing else {})}

    @property
    def moves_labels(self) -> bool:
        """Whether an augmentation moves what the rows of an answer are of, so that two of them have different rows."""
        return self.task.under_crops == "moved" and bool(self.crop or self.flip)

    @property
    def count(self) -> int:
        """How many samples the split has."""
        return len(self.labels)

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `first` on."""
        order = self.order(epoch)
        steps = [order[start:start + self.size] for start in range(0, len(self) * self.size, self.size)]
        return (batch.signed(self) for batch in self.batches(steps, epoch, epochs, first))

    def batches(self, steps: Sequence[Tensor], epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch whose steps take these rows of the split, from step `first` on."""
        for step, (rows, images) in enumerate(zip(steps[first:], self.augmented(steps[first:], epoch), strict=True), first):
            yield self.made(rows, images, epoch, epochs, step)

    def batch(self, rows: Tensor, epoch: int, epochs: int, step: int, augmentation: str = "augmentation") -> Batch:
        """The batch of these rows of the split [B].

        Args:
            rows: which.
            epoch: of the stream, which decides the augmentation.
            epochs: how many there are.
            step: within the epoch, which decides whatever else the task draws.
            augmentation: the name of the draws; another one is an independent augmentation of the same samples, where
                inputs have one.
        """
        return self.made(rows, next(self.augmented([rows], epoch, augmentation)), epoch, epochs, step, augmentation)

    def made(self, rows: Tensor, images: Tensor, epoch: int, epochs: int, step: int,
             augmentation: str = "augmentation") -> Batch:
        """The batch of these rows, whose inputs are augmented."""
        others = images if self.paired else images[torch.randperm(
            len(rows), generator=generator("unpaired", self.seed, epoch, step)).to(images.device)]
        batch = self.task.batch(*self.labelled(rows, epoch, augmentation), self.normalise(images),
                                generator("task", self.seed, epoch, step))
        batch.index = rows
        batch.views = {name: seen(others) for name, seen in self.views.items()}
        batch.epoch, batch.epochs, batch.step = epoch, epochs, step
        if self.mixing:
            batch.x, batch.mixed = self.mixing(batch.pictures, batch.labels, epoch, step)
            batch.y = batch.index = None
        return batch

    def order(self, epoch: int, name: str = "order") -> Tensor:
        """The rows of the split in the order of an epoch; another name is an independent order."""
        return self.drawn(name, epoch, lambda draws: (torch.randperm(self.count, generator=draws),))[0]

    def labelled(self, rows: Tensor, epoch: int, augmentation: str) -> tuple[Samples, Tensor]:
        """Samples and which of them are those of a batch: all and these rows, or these alone with moved maps of labels."""
        if not self.moves_labels:
            return self.samples, rows
        own = self.samples[rows]
        moved = self.placed(own.labels[..., None], rows, epoch, augmentation, IGNORED)[..., 0]
        return replace(own, labels=moved), torch.arange(len(rows), device=rows.device)

    def augmented(self, steps: Sequence[Tensor], epoch: int, name: str = "augmentation") -> Iterator[Tensor]:
        """The inputs of steps that take these rows: pictures [B, H, W, C], augmented and stored as they were.

        Inputs of another kind come as they are.
        """
        taken = self.taken(steps)
        if isinstance(self.normalise, Unchanged):
            return taken
        return (self.placed(images, rows, epoch, name) for rows, images in zip(steps, taken, strict=True))

    def taken(self, steps: Sequence[Tensor]) -> Iterator[Tensor]:
        """The stored inputs of each step, in memory of their own."""
        return (self.samples.inputs.index_select(0, rows) for rows in steps)

    def placed(self, images: Tensor, rows: Tensor, epoch: int, name: str = "augmentation", around: int = 0) -> Tensor:
        """Pictures of these rows, or maps of their labels, in the crops that an epoch draws."""
        places, count = 2 * self.crop + 1, self.count
        top, left, mirrored = self.drawn(name, epoch, lambda draws: tuple(
            torch.randint(upper, (count,), generator=draws) for upper in (places, places, 1 + self.flip)))
        return cropped(images, self.crop, top[rows], left[rows], mirrored[rows] if self.flip else None, around)

    def drawn(self, name: str, epoch: int, draw: Callable[[torch.Generator], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What a stream of draws gives for an epoch: kept until another epoch is asked of it, so a step costs nothing."""
        if self.kept.get(name, (None,))[0] != epoch:
            numbers = draw(generator(name, self.seed, epoch))
            self.kept[name] = epoch, tuple(part.to(self.labels.device) for part in numbers)
        return self.kept[name][1]


class WorkerStream(MemoryStream):
    """The same, with pictures that are not in memory: workers read them ahead.

    Without a list of augmentations the batches are those that the same pictures in memory would give, to the last bit.

    Args:
        samples: the training split; its inputs are a `Streamed`.
        task: makes batches of them.
        normalise: from stored inputs to what a network sees.
        augmentation: of each picture, instead of a random crop and flip; None for those.
        settings: as those of a `MemoryStream`.
    """

    def __init__(self, samples: Samples, task: Task, normalise: Normalise, *, augmentation: "Augmentation | None",
                 **settings: Any) -> None:
        super().__init__(samples, task, normalise, **settings)
        self.pictures: Streamed = samples.inputs  # type: ignore[assignment]
        self.augmentation: Augmentation | None = augmentation

    @property
    def identity(self) -> dict[str, object]:
        """All that decides, with the pictures, which batches there are."""
        return super().identity | ({"augment": self.augmentation.identity} if self.augmentation else {})

    def augmented(self, steps: Sequence[Tensor], epoch: int, name: str = "augmentation") -> Iterator[Tensor]:
        """The pictures of steps that take these rows, [B, H, W, C], augmented."""
        if self.augmentation is None:
            return super().augmented(steps, epoch, name)
        return (images.to(self.device) for images in self.pictures.batches(steps, self.augmentation, (name, self.seed, epoch)))

    def taken(self, steps: Sequence[Tensor]) -> Iterator[Tensor]:
        """The pictures of each step, before any augmentation."""
        return (images.to(self.device) for images in self.pictures.batches(steps))


def cropped(images: Tensor, crop: int, top: Tensor, left: Tensor, mirrored: Tensor | None, around: int = 0) -> Tensor:
    """Random crops of a batch of pictures, some of them mirrored: one gather from a strided view of the padded pictures.

    Args:
        images: [B, H, W, C].
        crop: pixels of padding on each side.
        top: [B], the first row of each crop, from 0 to twice `crop`.
        left: [B], the first column, likewise.
        mirrored: [B], 1 where a padded picture is mirrored before it is cropped; None for nowhere.
        around: what they are padded with.

    Returns:
        [B, H, W, C].
    """
    if crop == 0 and mirrored is None:
        return images
    seen = images[None] if mirrored is None else torch.stack([images, images.flip(2)])
    padded = F.pad(seen, (0, 0, crop, crop, crop, crop), value=around)
    (count, height, width, channels), (kind, each, down, right, channel) = images.shape, padded.stride()
    windows = padded.as_strided((len(seen), count, 2 * crop + 1, 2 * crop + 1, height, width, channels),
                                (kind, each, down, right, down, right, channel))
    rows = torch.arange(count, device=images.device)
    return windows[torch.zeros_like(rows) if mirrored is None else mirrored, rows, top, left]
