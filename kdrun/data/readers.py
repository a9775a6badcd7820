"""Readers of data sets: each returns a `Source` of pictures in memory, or says in one line why it cannot."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Bounds, Count, Filled, Positive
from kdrun.config.instantiation import instantiate
from kdrun.data.modalities import ModalityName
from kdrun.data.picture_files import FORMATS, Loading, channels_of, eight_bits, found_in
from kdrun.data.samples import Samples, Source
from kdrun.data.streamed import Stored, Streamed
from kdrun.utils.wording import counted

Share = Annotated[float, Bounds(above=0, below=1)]
Place = Annotated[str, Filled()]

__all__ = ["digits", "image_folder", "pair", "torchvision_set"]


def digits(*, test: Share) -> Source:
    """The 1,797 real handwritten digits of 8x8 pixels that scikit-learn ships: nothing to download.

    Args:
        test: the share of each class that is the test set.
    """
    spec = importlib.util.find_spec("sklearn")  # its file is all that is needed; importing it takes a second
    assert spec is not None
    assert spec.origin is not None
    table = np.loadtxt(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", dtype=np.int64, delimiter=",")
    images = torch.from_numpy(np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1))  # stored as 0 to 16
    train, held_out = Samples(images, torch.from_numpy(table[:, -1].copy())).part(test, seed=0, classes=10)
    return Source(train, held_out, tuple(map(str, range(10))))


def torchvision_set(*, reader: Literal["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN"], root: Place,
                    download: bool, augment: list[Any] | None, workers: Count) -> Source:
    """A data set that torchvision reads (and checks, and downloads where it is asked to), all of it in memory.

    Args:
        reader: the class of `torchvision.datasets`.
        root: the folder that holds the set's own folder.
        download: fetch what is missing.
        augment: augmentations of each picture in the place of crop and flip, as `kdrun.data.augment` has them; null for
            those two.
        workers: processes that do so.

    Raises:
        ValueError: the files are not there, or not whole.
    """
    from kdrun.utils.vision import datasets

    kind = getattr(datasets, reader)
    parts, names = [], None
    for wanted in ({"split": "train"}, {"split": "test"}) if reader == "SVHN" else ({"train": True}, {"train": False}):
        try:
            part = kind(root=root, download=download, **wanted)
        except Exception as error:  # whatever a damaged file makes torchvision raise, bare assertions included
            reason = (str(error).splitlines() or ["a damaged file"])[0].split(" You can use")[0]
            raise ValueError(f"{reader} is not in {Path(root).absolute()}, or not whole ({reason}); set dataset.root to "
                             "its folder, or dataset.download=true to fetch it") from error
        images = torch.as_tensor(np.asarray(part.data))
        if reader == "SVHN":  # stored channels first
            images = images.permute(0, 2, 3, 1)
        images = images[..., None] if images.ndim == 3 else images
        labels = part.labels if reader == "SVHN" else part.targets
        parts.append(Samples(images.contiguous(), torch.as_tensor(np.asarray(labels), dtype=torch.int64)))
        names = getattr(part, "classes", names)
    if augment is not None:
        parts = [replace(part, inputs=Streamed(Stored(part.inputs), torch.arange(len(part)), part.inputs.shape[1], None,
                                               workers, len(part)))  # type: ignore[arg-type]
                 for part in parts]
    return Source(parts[0], parts[1], tuple(map(str, names or range(10))), augment=augment)


def image_folder(*, root: Place, size: AtLeastOne | None, test: Share, memory_gb: Positive, resize: AtLeastOne | None,
                 stream: bool | None, workers: Count, augment: list[Any] | None, measured_on: AtLeastOne) -> Source:
    """A folder of pictures, a sub-folder a class; with `train/`, `val/` and `test/` inside, or split here.

    A `val/` without a `test/` is the test set, as in ImageNet; beside one it is what choices are made by.

    Args:
        root: the folder.
        size: resize the shorter side to this and crop the centre; null takes the pictures as they are.
        test: the share of each class that is the test set, where the folder has none of its own.
        memory_gb: the most that pictures may take in memory, in GB.
        resize: of streamed pictures, the shorter side before the centre is cut out; null for `size`.
        stream: leave pictures in their files and read them when a batch needs them; null for where they take more than
            `memory_gb` or are augmented by a list.
        workers: processes that read streamed pictures ahead.
        augment: augmentations of streamed pictures in the place of crop and flip, as `kdrun.data.augment` has them; null
            for those two.
        measured_on: so many streamed pictures tell mean and std.

    Raises:
        ValueError: no folder, no class, no picture, pictures of several sizes, an unreadable picture, too much memory.
    """
    top = Path(root)
    if not top.is_dir():
        raise ValueError(f"there is no folder {top.absolute()}; set dataset.root to the folder of your pictures")
    inside = top / "train" if (top / "train").is_dir() else top
    beside = [] if inside is top else [top / name for name in ("test", "val") if (top / name).is_dir()]
    classes = _classes(inside)
    if not classes:
        raise ValueError(f"{inside.absolute()} holds no sub-folder; wanted one for each class")
    loading = Loading(size=size, resize=resize, stream=stream, workers=workers, augment=augment, measured_on=measured_on,
                      memory_gb=memory_gb)
    known = {folder: found_in(folder, classes) for folder in (inside, *beside)}
    for folder, (paths, _) in known.items():
        if not paths:
            raise ValueError(f"{folder.absolute()} holds no picture ({', '.join(sorted(FORMATS))})")
    streams = loading.streams(sum(len(paths) for paths, _ in known.values()))
    if streams:
        channels = channels_of(*known[inside])
        parts = {folder: loading.samples(folder, *known[folder], channels) for folder in known}
    else:
        parts = {folder: _read_folder(folder, *known[folder], size, memory_gb) for folder in known}
    train = parts[inside]
    how = f"; read from their files by {counted(workers, 'worker')}" if streams else ""
    if not beside:
        source = Source(*train.part(test, seed=0, classes=len(classes)), classes, augment=augment)
        return replace(source, found=f"{inside.absolute()}: {len(source.train)} pictures to train on, {len(source.test)} set "
                                     f"aside to test on (dataset.test={test:g}){how}")
    for folder in beside:
        if extra := sorted({*_classes(folder)} - set(classes)):
            raise ValueError(f"{folder.absolute()} has classes that {inside.name}/ has not: {', '.join(extra[:5])}")
    held_out, *more = [parts[folder] for folder in beside]
    validation = more[0] if more else None
    told = [f"train/ with {counted(len(train), 'picture')}",
            f"{beside[0].name}/ with {len(held_out)}" + (", which is the test set" if beside[0].name == "val" else ""),
            f"val/ with {len(validation)} to choose by" if validation is not None else
            "validation is set aside from train/ (dataset.validation)"]
    return Source(train, held_out, classes, validation=validation, found=f"{top.absolute()}: {'; '.join(told)}{how}",
                  augment=augment)


def _classes(folder: Path) -> tuple[str, ...]:
    """The sub-folders of a folder; hidden ones are somebody's leftovers."""
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")))


def _read_folder(folder: Path, paths: list[Path], labels: Tensor, size: int | None, memory_gb: float) -> Samples:
    from PIL import Image, ImageOps

    images: list[np.ndarray] = []
    unreadable: list[str] = []
    used = 0
    for path in paths:
        try:
            with Image.open(path, formats=sorted(set(FORMATS.values()))) as opened:
                picture = eight_bits(opened)
                if size is not None:
                    picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
                pixels = np.asarray(picture)
        except Exception as error:  # Pillow raises whatever a damaged file makes it
            unreadable.append(f"cannot read {path.absolute()}: " + str(error).replace(f" '{path}'", ""))
            continue
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if images and pixels.shape[:2] != images[0].shape[:2]:
            raise ValueError(f"{path.absolute()} is {pixels.shape[1]}x{pixels.shape[0]}, the first picture "
                             f"{images[0].shape[1]}x{images[0].shape[0]}; set dataset.size to bring all to one size")
        used += pixels.nbytes
        if used > memory_gb * 1e9:
            raise ValueError(f"the pictures of {folder.absolute()} take more than {memory_gb:g} GB in memory; set a "
                             "smaller dataset.size, or raise dataset.memory_gb")
        images.append(pixels)
    if unreadable:
        more = [f"and {len(unreadable) - 5} pictures more that cannot be read"] if len(unreadable) > 5 else []
        raise ValueError("\n".join(unreadable[:5] + more))
    channels = max(pixels.shape[2] for pixels in images)  # a grey picture among coloured ones is a coloured one
    whole = np.stack([np.broadcast_to(pixels, (*pixels.shape[:2], channels)) for pixels in images])
    return Samples(torch.from_numpy(whole), labels)


def pair(*, base: dict, teacher_sees: ModalityName | list[ModalityName], student_sees: ModalityName, paired: bool) -> Source:
    """Another data set, each sample of which the teacher sees in one way and the student in another.

    Args:
        base: the settings of the other data set.
        teacher_sees: what teachers are trained on and asked about; of each teacher, in their order, or of all.
        student_sees: what the student, its baseline and its peers are trained and tested on.
        paired: whether both see the same sample. False is a control: in each batch the teacher sees the samples in
            another order, so that whatever a method carries over cannot be about the sample.

    Raises:
        ValueError: what the base's reader says, or that the base is a pair itself.
    """
    if "base" in base:
        raise ValueError("dataset/base is a pair itself; choose one that is not")
    source: Source = instantiate(base, "reader")
    # whoever sees the picture as it is shares its trained networks with runs on the base alone
    seen, *shown = (None if name == "picture" else name
                    for name in (student_sees, *(teacher_sees if isinstance(teacher_sees, list) else [teacher_sees])))
    views: dict[str, str | None] = {f"teacher {number}" if number > 1 else "teacher": name
                                    for number, name in enumerate(shown, start=1)}
    return replace(source, sees=seen, views=views, paired=paired, name=base["name"])
