"""Readers of data sets: each returns a `Source` of pictures in memory, or says in one line why it cannot."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from kdrun.bounds import AtLeastOne, Fraction, Positive
from kdrun.data.pictures import Pictures, Source

__all__ = ["digits", "image_folder", "torchvision_set"]


def digits(*, test: Fraction) -> Source:
    """The 1,797 real handwritten digits of 8x8 pixels that scikit-learn ships: nothing to download.

    Args:
        test: the share of each class that is the test set.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8))[..., None]  # stored as 0 to 16
    whole = Pictures(images, torch.from_numpy(bunch.target.astype(np.int64)))
    train, held_out = whole.part(test, seed=0, classes=10)
    return Source(train, held_out, tuple(map(str, bunch.target_names)))


def torchvision_set(*, reader: Literal["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN"], root: str,
                    download: bool) -> Source:
    """A data set that torchvision reads (and checks, and downloads where it is asked to).

    Args:
        reader: the class of `torchvision.datasets`.
        root: the folder that holds the set's own folder.
        download: fetch what is missing.

    Raises:
        ValueError: the files are not there, or not whole.
    """
    from kdrun.vision import datasets

    kind = getattr(datasets, reader)
    parts, names = [], None
    for wanted in ({"split": "train"}, {"split": "test"}) if reader == "SVHN" else ({"train": True}, {"train": False}):
        try:
            part = kind(root=root, download=download, **wanted)
        except RuntimeError as error:
            reason = str(error).splitlines()[0].split(" You can use")[0]
            raise ValueError(f"{reader} is not in {Path(root).absolute()} ({reason}); set dataset.root to its folder, "
                             "or dataset.download=true to fetch it") from error
        images = torch.as_tensor(np.asarray(part.data))
        if reader == "SVHN":  # stored channels first
            images = images.permute(0, 2, 3, 1)
        images = images[..., None] if images.ndim == 3 else images
        labels = part.labels if reader == "SVHN" else part.targets
        parts.append(Pictures(images.contiguous(), torch.as_tensor(np.asarray(labels), dtype=torch.int64)))
        names = getattr(part, "classes", names)
    return Source(*parts, tuple(map(str, names or range(10))))


def image_folder(*, root: str, size: AtLeastOne | None, test: Fraction, memory_gb: Positive) -> Source:
    """A folder of pictures, a sub-folder a class; with `train/` and `test/` inside, or split here.

    Args:
        root: the folder.
        size: resize the shorter side to this and crop the centre; null takes the pictures as they are.
        test: the share of each class that is the test set, where the folder has none of its own.
        memory_gb: refuse to load more pictures than fit in this, in GB.

    Raises:
        ValueError: no folder, no class, no picture, pictures of several sizes, an unreadable picture, too much memory.
    """
    top = Path(root)
    if not top.is_dir():
        raise ValueError(f"there is no folder {top.absolute()}")
    held_out = next((top / name for name in ("test", "val") if (top / name).is_dir()), None)
    inside = top / "train" if held_out and (top / "train").is_dir() else top
    classes = tuple(sorted(entry.name for entry in inside.iterdir() if entry.is_dir()))
    if not classes:
        raise ValueError(f"{inside.absolute()} holds no sub-folder; wanted one for each class")
    train = _read_folder(inside, classes, size, memory_gb)
    if inside is top:
        return Source(*train.part(test, seed=0, classes=len(classes)), classes)
    assert held_out is not None
    extra = sorted({entry.name for entry in held_out.iterdir() if entry.is_dir()} - set(classes))
    if extra:
        raise ValueError(f"{held_out.absolute()} has classes that {inside.name}/ has not: {', '.join(extra[:5])}")
    return Source(train, _read_folder(held_out, classes, size, memory_gb), classes)


def _read_folder(folder: Path, classes: tuple[str, ...], size: int | None, memory_gb: float) -> Pictures:
    from PIL import Image, ImageOps

    endings = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}
    images: list[np.ndarray] = []
    labels: list[int] = []
    used = 0
    for label, name in enumerate(classes):
        for path in sorted(entry for entry in (folder / name).rglob("*") if entry.suffix.lower() in endings):
            try:
                with Image.open(path) as picture:
                    picture = picture.convert("L" if picture.mode in ("1", "L", "I;16") else "RGB")
                    if size is not None:
                        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
                    pixels = np.asarray(picture)
            except OSError as error:
                raise ValueError(f"cannot read {path.absolute()}: {error}") from error
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            if images and pixels.shape[:2] != images[0].shape[:2]:
                raise ValueError(f"{path.absolute()} is {pixels.shape[1]}x{pixels.shape[0]}, the first picture "
                                 f"{images[0].shape[1]}x{images[0].shape[0]}; set dataset.size to bring all to one size")
            used += pixels.nbytes
            if used > memory_gb * 1e9:
                raise ValueError(f"the pictures of {folder.absolute()} take more than {memory_gb:g} GB in memory; set a "
                                 "smaller dataset.size, or raise dataset.memory_gb")
            images.append(pixels)
            labels.append(label)
    if not images:
        raise ValueError(f"{folder.absolute()} holds no picture ({', '.join(sorted(endings))})")
    channels = max(pixels.shape[2] for pixels in images)  # a grey picture among coloured ones is a coloured one
    whole = np.stack([np.broadcast_to(pixels, (*pixels.shape[:2], channels)) for pixels in images])
    return Pictures(torch.from_numpy(whole), torch.tensor(labels))
