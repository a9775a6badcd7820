"""Labelled pictures in memory, checked, split and subsampled."""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdrun.data.modalities import misfit
from kdrun.utils.seeding import generator

__all__ = ["Pictures", "Source"]


@dataclass
class Pictures:
    """Pictures [N, H, W, C] and labels [N].

    Pictures are uint8 (0 to 255) or float32 (0 to 1), channels last: that is how a batch is gathered fastest, and it
    gives the networks their fast memory format for nothing.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor) -> "Pictures":
        return Pictures(self.images[rows], self.labels[rows])

    def part(self, share: float, seed: int, classes: int) -> tuple["Pictures", "Pictures"]:
        """Set aside `share` of every class: (the rest, the part), always the same one for the same seed."""
        chosen = torch.zeros(len(self), dtype=torch.bool)
        for label, rows in enumerate(self.by_class(seed, classes)):
            count = round(share * len(rows)) if len(rows) > 1 else 0
            if share > 0 and len(rows) > 1:
                count = min(max(count, 1), len(rows) - 1)
            chosen[rows[:count]] = True
            assert label < classes
        return self[~chosen], self[chosen]

    def limit(self, count: int, seed: int, classes: int) -> "Pictures":
        """A fixed subset of `count` pictures with the classes as balanced as they can be."""
        rows = self.by_class(seed, classes)
        longest = max(len(own) for own in rows)
        # one picture of each class in turn, until there are enough
        turns = [own[turn] for turn in range(longest) for own in rows if turn < len(own)]
        return self[torch.stack(turns[:count]).sort().values]

    def by_class(self, seed: int, classes: int) -> list[Tensor]:
        """The rows of each class, in an order drawn from the seed."""
        order = torch.randperm(len(self), generator=generator("split", seed))
        return [order[self.labels[order] == label] for label in range(classes)]

    @property
    def digest(self) -> str:
        """A digest of every pixel and label."""
        seen = hashlib.sha256(str((self.images.dtype, tuple(self.images.shape))).encode())
        seen.update(self.images.contiguous().numpy().data)
        seen.update(self.labels.contiguous().numpy().data)
        return seen.hexdigest()


@dataclass
class Source:
    """What a reader gives: a training and a test set and the names of the classes.

    Attributes:
        train: pictures to train on.
        test: pictures to test on.
        classes: their names.
        sees: the modality in which networks see the pictures; None for the pictures as they are.
        views: further modalities of the same samples, by who sees them.
        paired: whether those views show the samples of the batch one by one, or in another order.
        name: of the set itself, where its settings have another for the whole of modalities.
        validation: pictures to choose by; None where they are to be set aside from the training pictures.
        found: where the splits come from, for people; empty where there is nothing to say.
    """

    train: Pictures
    test: Pictures
    classes: tuple[str, ...]
    sees: str | None = None
    views: dict[str, str | None] = field(default_factory=dict)
    paired: bool = True
    name: str | None = None
    validation: Pictures | None = None
    found: str = ""

    def problems(self) -> list[str]:
        """Everything that makes the pictures unfit to train on, a line each."""
        found = []
        if len(self.classes) < 2:
            found.append(f"{len(self.classes)} class of pictures; a classifier needs at least two")
        if odd := [name for name in self.classes if not name.isprintable() or not name.strip()]:
            found.append(f"a class is called {odd[0]!r}, which no table can show; give it another name")
        parts = {"training": self.train, "test": self.test}
        if self.validation is not None:
            parts["validation"] = self.validation
        for name, part in parts.items():
            images, labels = part.images, part.labels
            if images.ndim != 4 or images.shape[-1] not in (1, 2, 3, 4):
                found.append(f"the {name} pictures have the shape {list(images.shape)}; wanted [N, height, width, "
                             "channels] with 1 to 4 channels")
                continue
            if images.dtype not in (torch.uint8, torch.float32):
                found.append(f"the {name} pictures are {images.dtype}; wanted uint8 (0 to 255) or float32 (0 to 1)")
            elif images.is_floating_point() and not bool(torch.isfinite(images).all()):
                bad = int((~torch.isfinite(images).flatten(1).all(dim=1)).sum())
                found.append(f"{bad} of the {len(images)} {name} pictures hold NaN or infinity")
            if labels.dtype != torch.int64 or labels.ndim != 1:
                found.append(f"the {name} labels are {labels.dtype} of the shape {list(labels.shape)}; wanted int64 of [N]")
            elif len(images) != len(labels):
                found.append(f"{len(images)} {name} pictures, but {len(labels)} labels")
            elif not len(images):
                found.append(f"there are no {name} pictures")
            elif int(labels.min()) < 0 or int(labels.max()) >= len(self.classes):
                found.append(f"the {name} labels run from {int(labels.min())} to {int(labels.max())}; "
                             f"wanted 0 to {len(self.classes) - 1}")
            elif name == "training" and len(self.classes) > 1:
                empty = [self.classes[label] for label, count in
                         enumerate(torch.bincount(labels, minlength=len(self.classes))) if count == 0]
                if len(self.classes) - len(empty) < 2:
                    found.append(f"all training pictures are of one class; there are {len(self.classes)} names")
                elif empty:
                    found.append(f"no training picture of class {', '.join(empty[:5])}"
                                 + (f" and {len(empty) - 5} more" if len(empty) > 5 else ""))
        if not found:
            found += [f"training pictures of {list(self.train.images.shape[1:])}, {name} pictures of "
                      f"{list(part.images.shape[1:])} (height, width, channels)" for name, part in parts.items()
                      if self.train.images.shape[1:] != part.images.shape[1:]]
        return found or [line for name in dict.fromkeys([self.sees, *self.views.values()])
                         if (line := misfit(name, self.train.images))]
