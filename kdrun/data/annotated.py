"""Readers of one's own annotated pictures: a folder of masks, a file of boxes in the format of COCO."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
import torch

from kdrun.config.constraints import AtLeastOne, Bounds, Count, Filled, Positive
from kdrun.data.picture_files import FORMATS, eight_bits
from kdrun.data.samples import IGNORED, Samples, Source
from kdrun.utils.seeding import generator
from kdrun.utils.wording import counted

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

Share = Annotated[float, Bounds(above=0, below=1)]
Place = Annotated[str, Filled()]
T = TypeVar("T")

__all__ = ["coco_boxes", "folder_masks"]


def folder_masks(*, root: Place, classes: list[str] | None, size: AtLeastOne | None, test: Share, memory_gb: Positive,
                 max_rows: AtLeastOne | None) -> Source:
    """A folder with `images/` and `masks/`: for each picture a mask of the same name whose pixels are numbers of classes.

    Either folder may instead be inside `train/`, `val/` and `test/`; a `val/` without a `test/` is the test set. Masks are
    pictures of one channel (grey, or with a palette); 255 marks pixels that do not count.

    Args:
        root: the folder.
        classes: their names, in the order of their numbers, the background among them; null names them by number.
        size: resize the shorter side to this and crop the centre, masks to the nearest pixel; null takes pictures as they are.
        test: the share of the pictures that is the test set, where the folder has none of its own.
        memory_gb: refuse to load more pictures than fit in this, in GB.
        max_rows: so many pixels of a batch, drawn anew in each step, are rows for methods; null for all.

    Raises:
        ValueError: no folder, no picture, a picture without a mask, sizes that differ, an unreadable file, an unknown class.
    """
    top = Path(root)
    if not top.is_dir():
        raise ValueError(f"there is no folder {top.absolute()}; set dataset.root to the folder of your pictures")
    inside = top / "train" if (top / "train").is_dir() else top
    beside = [] if inside is top else [top / name for name in ("test", "val") if (top / name).is_dir()]
    parts = [masked_pictures(folder, size, memory_gb) for folder in (inside, *beside)]
    highest = max(int(part.labels[part.labels != IGNORED].max()) if bool((part.labels != IGNORED).any()) else 0
                  for part in parts)
    names = tuple(classes) if classes else tuple(map(str, range(highest + 1)))
    if highest >= len(names):
        raise ValueError(f"classes names {counted(len(names), 'class', 'classes')}, but the masks of {top.absolute()} have the "
                         f"number {highest}; name all, or mark what does not count by {IGNORED}")
    info = {"max_rows": max_rows}
    if not beside:
        train, held_out = apart(parts[0], test)
        return Source(train, held_out, names, task="segmentation", info=info,
                      found=f"{inside.absolute()}: {len(train)} pictures to train on, {len(held_out)} set aside to test "
                                  f"on (dataset.test={test:g})")
    return Source(parts[0], parts[1], names, validation=parts[2] if len(parts) > 2 else None, task="segmentation", info=info,
                  found=f"{top.absolute()}: " + "; ".join(f"{folder.name}/ with {counted(len(part), 'picture')}"
                                                                for folder, part in zip((inside, *beside), parts, strict=True)))


def coco_boxes(*, images: Place, train: Place, val: Place | None, test: Place | None, size: AtLeastOne, test_share: Share,
               memory_gb: Positive, stride: AtLeastOne, min_radius: Count) -> Source:
    """Pictures and boxes as in COCO: a folder of pictures, and files of JSON with `images`, `annotations` and `categories`.

    A picture is resized so that its longer side is `size`, and padded with black at its right or bottom; boxes move along.
    Crowds (`iscrowd`) and boxes without an area are left out.

    Args:
        images: the folder that file names are relative to.
        train: the file of what is trained on.
        val: of what choices are made by; null sets it aside from `train`.
        test: of what is tested on; null sets it aside from `train`.
        size: pixels of a picture's side.
        test_share: the share of the pictures that is the test set, where it has no file.
        memory_gb: refuse to load more pictures than fit in this, in GB.
        stride: pixels a cell of the heatmaps.
        min_radius: of the Gaussians in the heatmaps, in cells.

    Raises:
        ValueError: a file that is not there or not of this format, a picture that is missing, too much memory.
    """
    files = [Annotations.read(Path(path)) for path in (train, test, val) if path]
    names = files[0].categories
    for file in files[1:]:
        if file.categories != names:
            raise ValueError(f"{file.path.absolute()} has other categories than {files[0].path.absolute()}")
    order = {category: row for row, category in enumerate(names)}
    parts = [file.samples(Path(images), order, size, memory_gb) for file in files]
    train_part, *others = parts
    held_out = others.pop(0) if test else None
    if held_out is None:
        train_part, held_out = apart(train_part, test_share)
    return Source(train_part, held_out, tuple(names.values()), validation=others[0] if others else None, task="detection",
                  info={"heatmap_stride": stride, "min_radius": min_radius},
                  found=f"{Path(train).absolute()}: {counted(len(train_part), 'picture')} to train on, {len(held_out)} to "
        "test on")


def apart(samples: Samples, share: float) -> tuple[Samples, Samples]:
    """The samples without a share of them that is drawn, always the same one, and that share; neither is empty.

    Raises:
        ValueError: there is but one.
    """
    if len(samples) < 2:
        raise ValueError(f"{counted(len(samples), 'picture')} cannot be both trained and tested on; wanted at least 2")
    order = torch.randperm(len(samples), generator=generator("split", 0))
    count = min(max(round(share * len(samples)), 1), len(samples) - 1)
    return samples[order[count:].sort().values], samples[order[:count].sort().values]


def read_all(items: Iterable[T], read: Callable[[T], np.ndarray], memory_gb: float, where: str) -> list[np.ndarray]:
    """Read pictures one after the other.

    Args:
        items: what to read.
        read: gives the pixels of one; whatever it raises is told in a line.
        memory_gb: the most that all may take.
        where: they are, for people.

    Raises:
        ValueError: some cannot be read (the first five are named), or they take too much memory.
    """
    pixels: list[np.ndarray] = []
    problems: list[str] = []
    used = 0
    for item in items:
        try:
            pixels.append(read(item))
        except Exception as error:  # Pillow raises whatever a damaged file makes it
            problems.append(str(error))
            continue
        used += pixels[-1].nbytes
        if used > memory_gb * 1e9:
            raise ValueError(f"the pictures of {where} take more than {memory_gb:g} GB in memory; set a smaller dataset.size, "
                             "or raise dataset.memory_gb")
    if problems:
        more = [f"and {len(problems) - 5} pictures more that cannot be read"] if len(problems) > 5 else []
        raise ValueError("\n".join(problems[:5] + more))
    return pixels


def open_picture(path: Path, change: "Callable[[PilImage], PilImage]") -> np.ndarray:
    """The pixels of a picture, changed as is said: [H, W, C].

    Raises:
        ValueError: it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=sorted(set(FORMATS.values()))) as opened:
            pixels = np.asarray(change(opened))
    except Exception as error:  # Pillow raises whatever a damaged file makes it
        raise ValueError(f"cannot read {path.absolute()}: " + str(error).replace(f" '{path}'", "")) from error
    return pixels if pixels.ndim == 3 else pixels[..., None]


def stacked(pixels: Sequence[np.ndarray]) -> torch.Tensor:
    """Pictures of one size in one tensor; a grey picture among coloured ones is a coloured one."""
    channels = max(picture.shape[2] for picture in pixels)
    return torch.from_numpy(np.stack([np.broadcast_to(picture, (*picture.shape[:2], channels)) for picture in pixels]))


def masked_pictures(folder: Path, size: int | None, memory_gb: float) -> Samples:
    """The pictures of `images/` with those of `masks/`, by name."""
    found = {}
    for name in ("images", "masks"):
        if not (folder / name).is_dir():
            raise ValueError(f"there is no folder {(folder / name).absolute()}; wanted images/ and masks/ in dataset.root, or "
                             "in train/ and test/ inside it")
        found[name] = {path.stem: path for path in sorted((folder / name).iterdir())
                       if path.suffix.lower() in FORMATS and path.is_file()}
    if not found["images"]:
        raise ValueError(f"{(folder / 'images').absolute()} holds no picture ({', '.join(sorted(FORMATS))})")
    if lonely := [stem for stem in found["images"] if stem not in found["masks"]]:
        raise ValueError(f"{counted(len(lonely), 'picture')} of {(folder / 'images').absolute()} without a mask of the same "
                         f"name in masks/, the first is {lonely[0]}")
    paths = list(found["images"].values())
    pictures = read_all(paths, lambda path: open_picture(path, lambda opened: fitted(eight_bits(opened), size, smooth=True)),
                        memory_gb, str(folder.absolute()))
    masks = read_all((found["masks"][path.stem] for path in paths), lambda path: mask_of(path, size), memory_gb,
                     str(folder.absolute()))
    for path, picture, mask in zip(paths, pictures, masks, strict=True):
        if picture.shape[:2] != pictures[0].shape[:2]:
            raise ValueError(f"{path.absolute()} is {picture.shape[1]}x{picture.shape[0]}, the first picture "
                             f"{pictures[0].shape[1]}x{pictures[0].shape[0]}; set dataset.size to bring all to one size")
        if picture.shape[:2] != mask.shape[:2]:
            raise ValueError(f"{path.absolute()} is {picture.shape[1]}x{picture.shape[0]}, its mask {mask.shape[1]}x"
                             f"{mask.shape[0]}")
    return Samples(stacked(pictures), stacked(masks)[..., 0])


def fitted(picture: "PilImage", size: int | None, *, smooth: bool) -> "PilImage":
    """A picture with its shorter side resized and its centre cut out."""
    from PIL import Image, ImageOps

    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return picture if size is None else ImageOps.fit(picture, (size, size), method)


def mask_of(path: Path, size: int | None) -> np.ndarray:
    """The numbers of a mask's pixels, [H, W, 1], uint8.

    Raises:
        ValueError: it has several channels, or numbers above 255.
    """
    def numbers(opened: "PilImage") -> "PilImage":
        if opened.mode not in ("1", "L", "P", "I", "I;16"):
            raise ValueError(f"its mode is {opened.mode}; a mask has one channel, whose values are numbers of classes")
        return fitted(opened, size, smooth=False)

    pixels = open_picture(path, numbers)
    if pixels.max() > IGNORED:
        raise ValueError(f"cannot read {path.absolute()}: its numbers go up to {pixels.max()}; wanted at most {IGNORED}")
    return pixels.astype(np.uint8)


@dataclass
class Annotations:
    """What a file in the format of COCO says.

    Attributes:
        path: the file.
        pictures: the file name of each picture, by its number.
        categories: the name of each class, by its number.
        boxes: left, top, width, height and the number of the class of each box, by the picture's number.
    """

    path: Path
    pictures: dict[int, str]
    categories: dict[int, str]
    boxes: dict[int, list[tuple[list[float], int]]]

    @classmethod
    def read(cls, path: Path) -> "Annotations":
        """From a file.

        Raises:
            ValueError: it is not there, or not of this format.
        """
        try:
            whole = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot read {path.absolute()}: {error}") from error
        try:
            pictures = {int(entry["id"]): str(entry["file_name"]) for entry in whole["images"]}
            categories = {int(entry["id"]): str(entry["name"]) for entry in whole["categories"]}
            boxes: dict[int, list[tuple[list[float], int]]] = {number: [] for number in pictures}
            for entry in whole["annotations"]:
                left, top, width, height = map(float, entry["bbox"])
                category, picture = int(entry["category_id"]), int(entry["image_id"])
                if category not in categories or picture not in boxes:
                    raise ValueError(f"an annotation of picture {picture} and category {category}, which it does not list")
                if not entry.get("iscrowd", 0) and width > 0 and height > 0:
                    boxes[picture].append(([left, top, width, height], category))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"no {error} where one is due" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path.absolute()} is not in the format of COCO ({reason}); wanted images, annotations and "
                             "categories") from error
        if not pictures:
            raise ValueError(f"{path.absolute()} lists no picture")
        return cls(path, pictures, dict(sorted(categories.items())), boxes)

    def samples(self, folder: Path, order: dict[int, int], size: int, memory_gb: float) -> Samples:
        """The pictures and their boxes.

        Args:
            folder: that file names are relative to.
            order: the place of each category among the classes.
            size: pixels of a side, after resizing and padding.
            memory_gb: the most that the pictures may take.
        """
        from PIL import Image, ImageOps

        top = folder.resolve()
        scales: list[float] = []

        def read(name: str) -> np.ndarray:
            path = (folder / name).resolve()
            if not path.is_relative_to(top) or not path.is_file():
                raise ValueError(f"{self.path.absolute()} names {name}, but there is no such picture in {folder.absolute()}")

            def change(opened: "PilImage") -> "PilImage":
                scales.append(size / max(opened.size))
                picture = ImageOps.contain(eight_bits(opened), (size, size), Image.Resampling.BILINEAR)
                return ImageOps.pad(picture, (size, size), centering=(0, 0))

            return open_picture(path, change)

        pixels = read_all(self.pictures.values(), read, memory_gb, str(folder.absolute()))
        own = [self.boxes[number] for number in self.pictures]
        most = max(1, *map(len, own))
        labels, corners = torch.full((len(own), most), -1), torch.zeros(len(own), most, 4)
        for row, (entries, scale) in enumerate(zip(own, scales, strict=True)):
            for place, ((left, upper, width, height), category) in enumerate(entries):
                labels[row, place] = order[category]
                corners[row, place] = scale * torch.tensor([left, upper, left + width, upper + height])
        return Samples(stacked(pixels), labels, {"boxes": corners})
