"""torchvision's data sets that are files of pictures, too many to be held in memory."""

import os
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import torch

from kdrun.config.constraints import AtLeastOne, Count, Positive
from kdrun.data.picture_files import Loading
from kdrun.data.readers import Place
from kdrun.data.samples import Samples, Source
from kdrun.utils.wording import counted

__all__ = ["torchvision_files"]

Reader = Literal["ImageNet", "Imagenette", "Food101", "Flowers102", "OxfordIIITPet", "FGVCAircraft", "DTD", "Country211"]

SPLITS: dict[str, tuple[str, str]] = {  # what torchvision calls them: to train on, and with labels to test on
    "ImageNet": ("train", "val"), "Imagenette": ("train", "val"), "Food101": ("train", "test"), "Flowers102": ("train", "test"),
    "OxfordIIITPet": ("trainval", "test"), "FGVCAircraft": ("trainval", "test"), "DTD": ("train", "test"),
    "Country211": ("train", "test")}
PAIRS = ("samples", "_samples")  # where a set of torchvision keeps (path, label) of its pictures ...
LISTS = (("_image_files", "_labels"), ("_images", "_labels"))  # ... or paths and labels


def torchvision_files(*, reader: Reader, root: Place, download: bool, size: AtLeastOne, resize: AtLeastOne | None,
                      stream: bool | None, workers: Count, augment: list[Any] | None, measured_on: AtLeastOne,
                      memory_gb: Positive) -> Source:
    """A data set of torchvision whose pictures are files, read by workers when a batch needs them.

    Args:
        reader: the class of `torchvision.datasets`.
        root: the folder that torchvision is given.
        download: fetch what is missing (ImageNet has to be fetched by hand).
        size: height and width of what networks see.
        resize: the shorter side before the centre is cut out; null for `size`.
        stream: true leaves pictures in their files, false reads all into memory, null decides by `memory_gb`.
        workers: processes that read ahead.
        augment: augmentations in the place of crop and flip, as `kdrun.data.augment` has them; null for those two.
        measured_on: so many pictures tell mean and std.
        memory_gb: the most that pictures may take in memory, in GB.

    Raises:
        ValueError: the files are not there, or not whole.
    """
    loading = Loading(size=size, resize=resize, stream=stream, workers=workers, augment=augment, measured_on=measured_on,
                      memory_gb=memory_gb)
    train, test = (opened(reader, root, split, download) for split in SPLITS[reader])
    named = getattr(train, "classes", None) or list(map(str, range(1 + max(files_of(train, reader)[1]))))
    parts: list[Samples] = []
    for found in (train, test):
        paths, labels = files_of(found, reader)
        parts.append(loading.samples(common(paths), [path.absolute() for path in paths], torch.tensor(labels), 3))
    streams = loading.streams(sum(map(len, parts)))
    if not streams:
        parts = [Samples(torch.cat(list(part.inputs.split(256))), part.labels) for part in parts]
    how = f"; read from their files by {counted(workers, 'worker')}" if streams else ""
    return Source(parts[0], parts[1], names_of(named), augment=augment,
                  found=f"{reader}: {len(parts[0])} pictures to train on, {len(parts[1])} to test on{how}")


def opened(reader: str, root: str, split: str, download: bool) -> Any:
    """A split, as torchvision has it.

    Raises:
        ValueError: it is not there.
    """
    from kdrun.utils.vision import datasets

    try:
        return getattr(datasets, reader)(root, split=split, **({} if reader == "ImageNet" else {"download": download}))
    except Exception as error:  # whatever a damaged file makes torchvision raise
        reason = (str(error).splitlines() or ["a damaged file"])[0].split(" You can use")[0]
        fetch = "" if reader == "ImageNet" else ", or dataset.download=true to fetch it"
        raise ValueError(f"{reader} is not in {Path(root).absolute()}, or not whole ({reason}); set dataset.root to its "
                         f"folder{fetch}") from error


def files_of(found: Any, reader: str) -> tuple[list[Path], list[int]]:
    """Paths and labels of the pictures of a set of torchvision, which has no public name for them.

    Raises:
        ValueError: this version of torchvision keeps them elsewhere.
    """
    for name in PAIRS:
        if hasattr(found, name):
            pairs = getattr(found, name)
            return [Path(path) for path, _ in pairs], [label for _, label in pairs]
    for paths, labels in LISTS:
        if hasattr(found, paths) and hasattr(found, labels):
            return [Path(path) for path in getattr(found, paths)], list(getattr(found, labels))
    raise ValueError(f"this version of torchvision does not tell the files of {reader}; use dataset=image_folder")


def common(paths: list[Path]) -> Path:
    """The folder that all files are in."""
    return Path(os.path.commonpath([path.parent.absolute() for path in paths]))


def names_of(classes: Any) -> tuple[str, ...]:
    """A name of its own for each class: the first of several synonyms, or all of them where others have it too."""
    groups = [(one,) if isinstance(one, str) else tuple(one) for one in classes]
    firsts = Counter(group[0] for group in groups)
    names = [group[0] if firsts[group[0]] == 1 else ", ".join(group) for group in groups]
    twice = {name for name, count in Counter(names).items() if count > 1}  # two classes of ImageNet are cranes
    return tuple(f"{name} ({number})" if name in twice else name for number, name in enumerate(names))
