"""The data of a run: read, checked, split once, subsampled, and ready to stream."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kdrun.config.dataset import DatasetSettings
from kdrun.data.batch import Batch
from kdrun.data.mixing import Mixing
from kdrun.data.samples import Samples, Source
from kdrun.data.sequences import Inputs, main_tensor
from kdrun.data.sequential_modalities import SEQUENTIAL
from kdrun.data.stream import AsSequences, MemoryStream, Normalise, Unchanged, WorkerStream, normaliser
from kdrun.data.streamed import Streamed
from kdrun.tasks.base import Task, task_class

if TYPE_CHECKING:
    from kdrun.data.augment import Augmentation

__all__ = ["Data", "read"]

VALUES = 1 << 18  # of the inputs of a batch in evaluation: 64 pictures of 32x32, whose maps take no more than a training's


@dataclass
class Data:
    """Samples split into train, validation and test, as one kind of network sees them.

    Attributes:
        settings: what they were made by.
        task: what is to be learned of them.
        normalise: from stored inputs to what a network sees.
        digest: of every input, label, split, modality and normalisation: equal digests, equal training data.
        views: the same samples as others see them, by who that is: "teacher", where teachers have a modality of their
            own, and "teacher 2", ... where each has another.
        paired: whether a batch shows those views of its own samples, or of others.
        found: where the splits come from, for people; empty where there is nothing to say.
        augmentation: of each picture of the training split, where workers read and augment them by a list.
        pool: what of the training samples has no label (-1); None where all have theirs, and are in `train`.
    """

    settings: DatasetSettings
    task: Task
    train: Samples
    validation: Samples
    test: Samples
    normalise: Normalise
    digest: str
    views: Mapping[str, "Data"] = field(default_factory=dict)
    paired: bool = True
    found: str = ""
    augmentation: "Augmentation | None" = None
    pool: Samples | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.task.classes

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what a network sees of one sample: (channels, height, width) of a picture."""
        return self.task.shape

    def view_of(self, role: str | None) -> str | None:
        """Which of the views a role has: one of its own, or that of all of its kind; None for the samples as they are.

        Args:
            role: or a view, which has itself: student, teacher, teacher 2, ...
        """
        names = (role or "", (role or "").partition(" ")[0])  # teacher 2 is a teacher
        return next((name for name in names if name in self.views), None)

    def seen(self, role: str | None) -> "Data":
        """These samples as a role (or whoever has a view of this name) sees them, and with no other view."""
        view = self.view_of(role)
        return replace(self, views={}) if view is None else self.views[view]

    def only(self, classes: Sequence[int] | None) -> "Data":
        """The samples of these classes alone, which are numbered anew in this order; all of them for None.

        Samples without a label are of no class.
        """
        task = self.task.only(classes)
        if task is self.task or classes is None:
            return self

        def part(samples: Samples) -> Samples:
            labels = torch.full_like(samples.labels, -1)
            for number, label in enumerate(classes):
                labels[samples.labels == label] = number
            return replace(samples, labels=labels)[(labels >= 0).nonzero()[:, 0]]

        digest = hashlib.sha256(json.dumps([self.digest, *classes]).encode()).hexdigest()
        return replace(self, settings=replace(self.settings, name=f"{self.settings.name}_{len(classes)}_classes"),
                       task=task, train=part(self.train), validation=part(self.validation),
                       test=part(self.test), digest=digest, pool=None,
                       views={name: own.only(classes) for name, own in self.views.items()})

    def stream(self, *, batch_size: int, seed: int, device: torch.device, mixing: Mixing | None = None,
               samples: Samples | None = None) -> MemoryStream:
        """The training batches.

        Args:
            batch_size: samples of each.
            seed: of the run.
            device: where they go.
            mixing: of the samples of a batch; None for none.
            samples: what they are of; None for the training split.

        Raises:
            ValueError: such samples cannot be mixed.
        """
        if mixing and (self.task.dense or not self.task.sample_labels or self.task.inputs != "pictures"):
            raise ValueError(f"{mixing.named} mixes pictures that have one label each, and this data set is of another task "
                             f"({self.task.key}); set it to 0")
        if mixing and self.views:
            raise ValueError(f"{mixing.named} mixes what one network sees, and here the teacher sees another modality; set it "
                             "to 0")
        settings: dict[str, Any] = {
            "batch_size": batch_size, "crop": self.settings.crop, "flip": self.settings.flip, "seed": seed, "device": device,
            "paired": self.paired, "views": {name: data.normalise for name, data in self.views.items()}, "mixing": mixing}
        samples = self.train if samples is None else samples
        if isinstance(samples.inputs, Streamed):
            return WorkerStream(samples, self.task, self.normalise, augmentation=self.augmentation, **settings)
        return MemoryStream(samples, self.task, self.normalise, **settings)

    def plain(self, samples: Samples, device: torch.device, size: int | None = None) -> Iterator[Batch]:
        """Batches of a split in its own order, without augmentation.

        Args:
            samples: the split.
            device: where the batches go.
            size: of a batch; None for one whose maps take little memory.
        """
        size = size or min(512, max(32, 2 ** int(math.log2(max(1, VALUES / math.prod(samples.inputs.shape[1:]))))))
        for part, inputs in zip(samples.split(size), samples.inputs.split(size), strict=True):  # streamed ones are read ahead
            own = replace(part, inputs=inputs).to(device)
            yield self.task.batch(own, torch.arange(len(own), device=device), self.normalise(own.inputs))

    def whole(self, samples: Samples, device: torch.device) -> Tensor:
        """All pictures of a split at once, without augmentation."""
        return torch.cat([batch.pictures for batch in self.plain(samples, device)])

    def example(self, count: int, device: torch.device | str = "cpu") -> Inputs:
        """Inputs of the form that networks see, of nothing in particular."""
        return self.task.example(count, device)


def read(settings: DatasetSettings, reader: Callable[..., Source], arguments: dict[str, Any]) -> Data:
    """Read, check and split a data set.

    Raises:
        ValueError: with a line for each thing that is wrong with it.
    """
    source = reader(**arguments)
    if not isinstance(source, Source):
        raise ValueError(f"the reader gave a {type(source).__name__}; wanted a kdrun.data.samples.Source")
    kind = task_class(source.task)
    task = kind(source.classes, tuple(source.train.inputs.shape[1:]), source.info)
    if found := task.problems(source):
        raise ValueError("\n".join(found))
    classes, train = len(source.classes), source.train
    if source.validation is None:
        if settings.validation is None:
            raise ValueError("validation is null, but this data set has no validation samples of its own; give a share of the "
                             "training samples, as dataset.validation=0.1")
        train, validation = train.part(settings.validation, settings.split_seed, classes)
    else:
        validation = source.validation
    if settings.train_limit is not None:
        if settings.train_limit > len(train):
            raise ValueError(f"train_limit is {settings.train_limit}, but there are only {len(train)} training samples")
        if settings.train_limit < classes and train.labels.ndim == 1:
            raise ValueError(f"train_limit is {settings.train_limit}, but there are {classes} classes; each needs a sample")
        train = train.limit(settings.train_limit, settings.split_seed, classes)
    pool = None
    if settings.labelled is not None:
        if not task.sample_labels:
            raise ValueError(f"labelled is for samples of one label each, and {source.task} have none; give labelled=null")
        if not classes <= settings.labelled < len(train):
            raise ValueError(f"labelled is {settings.labelled}, but there are {len(train)} training samples of {classes} "
                             f"classes; wanted {classes} to {len(train) - 1}, a label for each class and a sample without")
        train, pool = train.labelled(settings.labelled, settings.split_seed, classes)
    source = replace(source, train=train)  # the whole set is let go
    of_pictures = task.inputs in ("pictures", "questions")  # which are about pictures
    if of_pictures:
        check_pictures(settings, source, train)
        if source.task != "classification" and (odd := [name for name in (source.sees, *source.views.values())
                                                        if name in SEQUENTIAL]):
            raise ValueError(f"{odd[0]} is of pictures of one class each, and these are of {source.task}; choose a modality "
                             "that is a picture")
    elif odd := [name for name in ("crop", "flip", "mean", "std") if getattr(settings, name)]:
        raise ValueError(f"{odd[0]} is for pictures, and this data set has {task.inputs}; give {odd[0]}="
                         + {"crop": "0", "flip": "false"}.get(odd[0], "null"))
    parts = [part.digest for part in (train, validation, source.test, *([] if pool is None else [pool]))]
    known = train.inputs.sample() if isinstance(train.inputs, Streamed) else train.inputs
    augmentation = augmented(settings, source, known) if isinstance(train.inputs, Streamed) else None

    def seen(modality: str | None) -> Data:
        named = replace(settings, name="_".join(filter(None, (source.name or settings.name, modality))))
        if of_pictures:
            measured = (AsSequences if modality in SEQUENTIAL else Normalise).measured(known, modality)
            mean, std = settings.statistics
            normalise = normaliser(mean or measured.mean.tolist(), std or measured.std.tolist(), modality)
            seen_by: list[Any] = [settings.crop, settings.flip, normalise.mean.tolist(), normalise.std.tolist(), modality]
            seen_by += [augmentation.identity] if augmentation else []
            shape: tuple[int, ...] = tuple(main_tensor(normalise(known[:1])).shape[1:])
        else:
            normalise, seen_by, shape = Unchanged(), [], tuple(train.inputs.shape[1:])
        identity = [*parts, *seen_by, *([source.task, source.info] if source.task != "classification" or source.info else [])]
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        info = source.info | SEQUENTIAL[modality].info if modality in SEQUENTIAL else source.info
        return Data(named, kind(source.classes, shape, info), train, validation, source.test, normalise, digest,
                    pool=pool)

    views = {name: seen(modality) for name, modality in source.views.items()}
    return replace(seen(source.sees), views=views, paired=source.paired, found=source.found, augmentation=augmentation)


def augmented(settings: DatasetSettings, source: Source, known: Tensor) -> "Augmentation | None":
    """The augmentation that a list asks for; None where there is no list.

    Args:
        settings: of the data set.
        source: of streamed pictures.
        known: some of the pictures [N, H, W, C].

    Raises:
        ValueError: an entry of the list does not fit.
    """
    if source.augment is None:
        return None
    from kdrun.data.augment import Augmentation  # torchvision's transforms take seconds to import

    pictures: Any = source.train.inputs
    fill = settings.statistics[0] or Normalise.measured(known).mean.tolist()
    return Augmentation(source.augment, pictures.size, pictures.resize, fill)


def check_pictures(settings: DatasetSettings, source: Source, train: Samples) -> None:
    """Refuse settings that do not fit the pictures.

    Raises:
        ValueError: naming the setting.
    """
    height, width, channels = train.inputs.shape[1:]
    moved = task_class(source.task).under_crops
    if moved == "refused" and (odd := [name for name in ("crop", "flip") if getattr(settings, name)]):
        raise ValueError(f"{odd[0]}: the labels of {source.task} do not move along; give {odd[0]}="
                         + {"crop": "0", "flip": "false"}[odd[0]])
    if settings.crop > min(height, width):
        raise ValueError(f"crop is {settings.crop}, but the pictures have {height}x{width} pixels; wanted at most "
                         f"{min(height, width)}")
    for name in ("mean", "std"):
        given = getattr(settings, name)
        if given is not None and len(given) != channels:
            raise ValueError(f"{name} has {len(given)} numbers, but the pictures have {channels} channels")
    _, std = settings.statistics
    if std is not None and min(std) <= 0:
        raise ValueError(f"std must be above 0, got {std}")
    if source.views and (settings.mean or settings.std):
        raise ValueError("mean and std are measured for each modality; leave them null")
