"""Labelled samples in memory, checked, split and subsampled."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from kdrun.data.modalities import misfit
from kdrun.data.streamed import Streamed
from kdrun.utils.seeding import generator

__all__ = ["IGNORED", "Samples", "Source"]

IGNORED = 255  # the label of pixels that do not count


@dataclass
class Samples:
    """Samples in memory: inputs, labels and what else belongs to each.

    Pictures are uint8 (0 to 255) or float32 (0 to 1), channels last: that is how a batch is gathered fastest, and it
    gives the networks their fast memory format for nothing.

    Attributes:
        inputs: pictures [N, H, W, C]; token ids [N, T], 0 where padded; frames [N, T, F]; or what the task says. Pictures
            may be a `Streamed` in the place of a tensor, which has a shape and is indexed and split like one.
        labels: of samples [N], int64; or of places, as the task says.
        fields: further tensors, a row a sample: "lengths" [N] of padded sequences, ... Samples that have the same "group"
            [N] (of one speaker, of one source text) are never parted by a split.
    """

    inputs: Tensor
    labels: Tensor
    fields: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor) -> "Samples":
        return self.map(lambda tensor: tensor[rows])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Samples":
        """The same with every tensor changed."""
        return Samples(change(self.inputs), change(self.labels), {name: change(one) for name, one in self.fields.items()})

    def to(self, device: torch.device) -> "Samples":
        """The same on a device."""
        return self.map(lambda tensor: tensor.to(device))

    def split(self, size: int) -> Iterator["Samples"]:
        """So many at a time, in their order."""
        for start in range(0, len(self), size):
            yield self.map(lambda tensor, rows=slice(start, start + size): tensor[rows])  # type: ignore[misc]

    def part(self, share: float, seed: int, classes: int) -> tuple["Samples", "Samples"]:
        """Set aside `share` of every class (of all groups, where there are some): (the rest, the part).

        It is always the same one for the same seed.
        """
        chosen = torch.zeros(len(self), dtype=torch.bool)
        if (groups := self.fields.get("group")) is not None:
            known = groups.unique()
            drawn = known[torch.randperm(len(known), generator=generator("split", seed))][:round(share * len(known))]
            chosen = torch.isin(groups, drawn)
            return self[~chosen], self[chosen]
        for label, rows in enumerate(self.by_class(seed, classes)):
            count = round(share * len(rows)) if len(rows) > 1 else 0
            if share > 0 and len(rows) > 1:
                count = min(max(count, 1), len(rows) - 1)
            chosen[rows[:count]] = True
            assert label < classes
        return self[~chosen], self[chosen]

    def limit(self, count: int, seed: int, classes: int) -> "Samples":
        """A fixed subset of `count` samples with the classes as balanced as they can be."""
        return self[self.balanced(count, seed, classes)]

    def labelled(self, count: int, seed: int, classes: int) -> tuple["Samples", "Samples"]:
        """The fixed subset that `limit` gives, and the others, whose labels are -1."""
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[self.balanced(count, seed, classes)] = True
        rest = self[~chosen]
        return self[chosen], replace(rest, labels=torch.full_like(rest.labels, -1))

    def balanced(self, count: int, seed: int, classes: int) -> Tensor:
        """The rows of a fixed subset of `count` samples with the classes as balanced as they can be, ascending."""
        rows = self.by_class(seed, classes)
        longest = max(len(own) for own in rows)
        # one sample of each class in turn, until there are enough
        turns = [own[turn] for turn in range(longest) for own in rows if turn < len(own)]
        return torch.stack(turns[:count]).sort().values

    def by_class(self, seed: int, classes: int) -> list[Tensor]:
        """The rows of each class, in an order drawn from the seed; all of them together where samples have no class."""
        order = torch.randperm(len(self), generator=generator("split", seed))
        if self.labels.ndim > 1:
            return [order]
        return [order[self.labels[order] == label] for label in range(classes)]

    @property
    def digest(self) -> str:
        """A digest of every input, label and field."""
        seen = hashlib.sha256(str((self.inputs.dtype, tuple(self.inputs.shape))).encode())
        seen.update(self.inputs.digest.encode() if isinstance(self.inputs, Streamed) else self.inputs.contiguous().numpy().data)
        seen.update(self.labels.contiguous().numpy().data)
        for name, one in sorted(self.fields.items()):
            seen.update(str((name, one.dtype, tuple(one.shape))).encode())
            seen.update(one.contiguous().numpy().data)
        return seen.hexdigest()


@dataclass
class Source:
    """What a reader gives: a training and a test set and the names of the classes.

    Attributes:
        train: samples to train on.
        test: samples to test on.
        classes: their names.
        sees: the modality in which networks see the pictures; None for the pictures as they are.
        views: further modalities of the same samples, by who sees them.
        paired: whether those views show the samples of the batch one by one, or in another order.
        name: of the set itself, where its settings have another for the whole of modalities.
        validation: samples to choose by; None where they are to be set aside from the training samples.
        found: where the splits come from, for people; empty where there is nothing to say.
        task: the key of what is to be learned of them, a module of `kdrun.tasks`.
        info: what else the task has to know of them, by name: the size of a vocabulary, ...
        augment: the augmentations of streamed pictures, as `kdrun.data.augment` has them; None for the crop and flip of
            the common settings.
    """

    train: Samples
    test: Samples
    classes: tuple[str, ...]
    sees: str | None = None
    views: dict[str, str | None] = field(default_factory=dict)
    paired: bool = True
    name: str | None = None
    validation: Samples | None = None
    found: str = ""
    task: str = "classification"
    info: dict[str, Any] = field(default_factory=dict)
    augment: list[Any] | None = None

    @property
    def parts(self) -> dict[str, Samples]:
        """The splits that there are, by name."""
        parts = {"training": self.train, "test": self.test}
        return parts if self.validation is None else parts | {"validation": self.validation}

    def problems(self) -> list[str]:
        """Everything that makes samples of any kind unfit to train on, a line each."""
        found = []
        for name, part in self.parts.items():
            counts = {"inputs": len(part.inputs), "labels": len(part.labels)} | {
                key: len(one) for key, one in part.fields.items()}
            if not len(part):
                found.append(f"there are no {name} samples")
            elif len(set(counts.values())) > 1:
                found.append(f"the {name} samples have " + ", ".join(f"{count} {key}" for key, count in counts.items()))
            elif part.inputs.is_floating_point() and not bool(torch.isfinite(part.inputs).all()):
                bad = int((~torch.isfinite(part.inputs).flatten(1).all(dim=1)).sum())
                found.append(f"{bad} of the {len(part)} {name} samples hold NaN or infinity")
        return found

    def annotation_problems(self, check: "Callable[[str, Samples], str | None]") -> list[str]:
        """Everything that makes pictures with labels of their places unfit to train on, a line each.

        Args:
            check: says what is wrong with the labels of a split, which it is told by name; None where nothing is.
        """
        found = self.odd_names() + self.problems()
        for name, part in self.parts.items():
            if (line := picture_misfit(name, part.inputs)) and line not in found:
                found.append(line)
        return found or [line for name, part in self.parts.items() if (line := check(name, part))] or self.odd_sizes()

    def odd_names(self) -> list[str]:
        """A line on a class whose name no table can show."""
        odd = [name for name in self.classes if not name.isprintable() or not name.strip()]
        return [f"a class is called {odd[0]!r}, which no table can show; give it another name"] if odd else []

    def odd_sizes(self) -> list[str]:
        """A line on each split whose pictures have not the size of the training pictures."""
        return [f"training pictures of {list(self.train.inputs.shape[1:])}, {name} pictures of "
                f"{list(part.inputs.shape[1:])} (height, width, channels)" for name, part in self.parts.items()
                if self.train.inputs.shape[1:] != part.inputs.shape[1:]]

    def class_problems(self) -> list[str]:
        """Everything that makes labels no classes of samples, a line each."""
        few = [f"{len(self.classes)} class of samples; a classifier needs at least two"] if len(self.classes) < 2 else []
        return few + self.odd_names() + [line for name, part in self.parts.items()
                                         for line in self.label_problems(name, part, "samples")]

    def label_problems(self, name: str, part: Samples, what: str) -> list[str]:
        """What makes the labels of a split no classes of its samples, a line each.

        Args:
            name: of the split.
            part: the split.
            what: people call the samples: pictures, ...
        """
        inputs, labels = part.inputs, part.labels
        if labels.dtype != torch.int64 or labels.ndim != 1:
            return [f"the {name} labels are {labels.dtype} of the shape {list(labels.shape)}; wanted int64 of [N]"]
        if len(inputs) != len(labels):
            return [f"{len(inputs)} {name} {what}, but {len(labels)} labels"]
        if not len(inputs):
            return [f"there are no {name} {what}"]
        if int(labels.min()) < 0 or int(labels.max()) >= len(self.classes):
            return [f"the {name} labels run from {int(labels.min())} to {int(labels.max())}; "
                    f"wanted 0 to {len(self.classes) - 1}"]
        if name != "training" or len(self.classes) < 2:
            return []
        empty = [self.classes[label] for label, count in enumerate(torch.bincount(labels, minlength=len(self.classes)))
                 if count == 0]
        if len(self.classes) - len(empty) < 2:
            return [f"all training {what} are of one class; there are {len(self.classes)} names"]
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        return [f"no training {what.removesuffix('s')} of class {', '.join(empty[:5])}{more}"] if empty else []

    def picture_problems(self) -> list[str]:
        """Everything that makes labelled pictures unfit to train on, a line each."""
        found = [f"{len(self.classes)} class of pictures; a classifier needs at least two"] if len(self.classes) < 2 else []
        found += self.odd_names()
        for name, part in self.parts.items():
            if line := picture_misfit(name, part.inputs):
                found.append(line)
            if part.inputs.ndim == 4 and part.inputs.shape[-1] in (1, 2, 3, 4):
                found += self.label_problems(name, part, "pictures")
        if not found:
            found += self.odd_sizes()
        return found or [line for name in dict.fromkeys([self.sees, *self.views.values()])
                         if (line := misfit(name, self.train.inputs))]


def picture_misfit(name: str, images: Tensor) -> str | None:
    """What is wrong with the pictures of a split, by its name; None where nothing is."""
    if images.ndim != 4 or images.shape[-1] not in (1, 2, 3, 4):
        return (f"the {name} pictures have the shape {list(images.shape)}; wanted [N, height, width, channels] with 1 to 4 "
                "channels")
    if images.dtype not in (torch.uint8, torch.float32):
        return f"the {name} pictures are {images.dtype}; wanted uint8 (0 to 255) or float32 (0 to 1)"
    if images.is_floating_point() and not bool(torch.isfinite(images).all()):
        bad = int((~torch.isfinite(images).flatten(1).all(dim=1)).sum())
        return f"{bad} of the {len(images)} {name} pictures hold NaN or infinity"
    return None
