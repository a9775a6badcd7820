"""The data of a run: read, checked, split once, subsampled, and ready to stream."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Count, FileName, Proportion
from kdrun.data.pictures import Pictures, Source
from kdrun.data.stream import Normalise, PictureStream

__all__ = ["Data", "DatasetSettings", "read"]


@dataclass(kw_only=True)
class DatasetSettings:
    """What every data set has, beside the settings of its own reader.

    Attributes:
        name: what results call it.
        validation: the share of the training pictures set aside to watch and to choose by; 0 for none. Where a data set
            has validation pictures of its own, those are taken.
        split_seed: which pictures those are; not the run's seed, so that all seeds of a sweep share one split.
        train_limit: train on a fixed, class-balanced subset of this many pictures; null for all.
        crop: pixels of padding before a random crop; 0 for none.
        flip: mirror half of the pictures.
        mean: of each channel, for pictures from 0 to 1; null to measure it on the training split.
        std: likewise.
    """

    name: FileName
    validation: Proportion
    split_seed: Count
    train_limit: AtLeastOne | None
    crop: Count
    flip: bool
    mean: list[float] | None
    std: list[float] | None


@dataclass
class Data:
    """Pictures split into train, validation and test, as one kind of network sees them.

    Attributes:
        settings: what they were made by.
        classes: their names.
        shape: (channels, height, width) of what a network sees.
        digest: of every picture, label, split, modality and normalisation: equal digests, equal training data.
        views: the same samples as others see them, by who that is: "teacher", where teachers have a modality of their
            own.
        paired: whether a batch shows those views of its own samples, or of others.
        found: where the splits come from, for people; empty where there is nothing to say.
    """

    settings: DatasetSettings
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    train: Pictures
    validation: Pictures
    test: Pictures
    normalise: Normalise
    digest: str
    views: Mapping[str, "Data"] = field(default_factory=dict)
    paired: bool = True
    found: str = ""

    def seen(self, view: str | None) -> "Data":
        """These samples as whoever has this view sees them, and with no other view."""
        return self.views.get(view or "", replace(self, views={}))

    def stream(self, *, batch_size: int, seed: int, device: torch.device) -> PictureStream:
        """The training batches."""
        return PictureStream(self.train, self.normalise, batch_size=batch_size, crop=self.settings.crop,
                             flip=self.settings.flip, seed=seed, device=device, paired=self.paired,
                             views={name: data.normalise for name, data in self.views.items()})

    def plain(self, pictures: Pictures, device: torch.device, size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches (x, y) of a split in its own order, without augmentation."""
        for images, labels in zip(pictures.images.split(size), pictures.labels.split(size), strict=True):
            yield self.normalise(images.to(device)), labels.to(device)

    def whole(self, pictures: Pictures, device: torch.device) -> Tensor:
        """All pictures of a split at once, without augmentation."""
        return torch.cat([x for x, _ in self.plain(pictures, device)])


def read(settings: DatasetSettings, reader: Callable[..., Source], arguments: dict[str, Any]) -> Data:
    """Read, check and split a data set.

    Raises:
        ValueError: with a line for each thing that is wrong with it.
    """
    source = reader(**arguments)
    if not isinstance(source, Source):
        raise ValueError(f"the reader gave a {type(source).__name__}; wanted a kdrun.data.pictures.Source")
    if found := source.problems():
        raise ValueError("\n".join(found))
    classes, train = len(source.classes), source.train
    if source.validation is None:
        train, validation = train.part(settings.validation, settings.split_seed, classes)
    else:
        validation = source.validation
    if settings.train_limit is not None:
        if settings.train_limit > len(train):
            raise ValueError(f"train_limit is {settings.train_limit}, but there are only {len(train)} training pictures")
        if settings.train_limit < classes:
            raise ValueError(f"train_limit is {settings.train_limit}, but there are {classes} classes; each needs a picture")
        train = train.limit(settings.train_limit, settings.split_seed, classes)
    height, width, channels = train.images.shape[1:]
    if settings.crop > min(height, width):
        raise ValueError(f"crop is {settings.crop}, but the pictures have {height}x{width} pixels; wanted at most "
                         f"{min(height, width)}")
    for name in ("mean", "std"):
        given = getattr(settings, name)
        if given is not None and len(given) != channels:
            raise ValueError(f"{name} has {len(given)} numbers, but the pictures have {channels} channels")
    if settings.std is not None and min(settings.std) <= 0:
        raise ValueError(f"std must be above 0, got {settings.std}")
    if source.views and (settings.mean or settings.std):
        raise ValueError("mean and std are measured for each modality; leave them null")
    parts = [part.digest for part in (train, validation, source.test)]

    def seen(modality: str | None) -> Data:
        named = replace(settings, name="_".join(filter(None, (source.name or settings.name, modality))))
        measured = Normalise.measured(train.images, modality)
        normalise = Normalise(settings.mean or measured.mean.tolist(), settings.std or measured.std.tolist(), modality)
        identity = [*parts, settings.crop, settings.flip, normalise.mean.tolist(), normalise.std.tolist(), modality]
        shape = normalise(train.images[:1]).shape[1:]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        return Data(named, source.classes, (shape[0], shape[1], shape[2]), train, validation, source.test, normalise,
                    digest)

    views = {name: seen(modality) for name, modality in source.views.items()}
    return replace(seen(source.sees), views=views, paired=source.paired, found=source.found)
