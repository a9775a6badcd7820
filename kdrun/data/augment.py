"""Augmentations of one picture at a time, named by a list in a data set's YAML and run by torchvision's transforms v2."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Bounds, Count, Fraction, NonNegative, Positive, annotations, closest, misfit

__all__ = ["STEPS", "Augmentation", "resized"]

Hue = Annotated[float, Bounds(least=0, most=0.5)]
Magnitude = Annotated[int, Bounds(least=0, most=30)]


def transforms() -> Any:
    """The transforms of torchvision, which take seconds to import and serve those alone who augment by a list."""
    from kdrun.utils.vision import transforms

    return transforms


def random_resized_crop(size: int, *, scale: list[Fraction], ratio: list[Positive]) -> nn.Module:
    """A part of the picture, of a random share of its area and a random aspect, resized (Szegedy et al. 2015).

    Args:
        size: of the result, each way.
        scale: the smallest and the largest share of the area.
        ratio: the smallest and the largest width over height.
    """
    check_ranges(scale=scale, ratio=ratio)
    v2 = transforms()
    return v2.RandomResizedCrop(size, scale, ratio, interpolation=v2.InterpolationMode.BILINEAR, antialias=True)


def random_crop(size: int, *, padding: Count) -> nn.Module:
    """A crop of the original size out of the picture with so many pixels of black on each side."""
    return transforms().RandomCrop(size, padding=padding)


def flip(size: int, *, chance: Fraction) -> nn.Module:
    """The picture mirrored left to right, by this chance."""
    return transforms().RandomHorizontalFlip(chance)


def randaugment(size: int, *, operations: AtLeastOne, magnitude: Magnitude) -> nn.Module:
    """So many operations drawn from 14, all of one magnitude (Cubuk et al. 2020, RandAugment)."""
    v2 = transforms()
    return v2.RandAugment(operations, magnitude, interpolation=v2.InterpolationMode.BILINEAR)


def trivialaugment(size: int) -> nn.Module:
    """One operation drawn from 14, of a random magnitude in a wide range (Müller and Hutter 2021, TrivialAugment)."""
    v2 = transforms()
    return v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR)


def color_jitter(size: int, *, brightness: NonNegative, contrast: NonNegative, saturation: NonNegative, hue: Hue) -> nn.Module:
    """Brightness, contrast, saturation (factors from 1 - x to 1 + x) and hue (turned by up to x of the circle)."""
    return transforms().ColorJitter(brightness, contrast, saturation, hue)


def erase(size: int, *, chance: Fraction, scale: list[Fraction], ratio: list[Positive]) -> nn.Module:
    """A rectangle of a random share of the area painted over, by this chance (Zhong et al. 2020, Random erasing).

    It is painted in the mean colour of the data set, which is zero for the network.
    """
    check_ranges(scale=scale, ratio=ratio)
    return transforms().RandomErasing(chance, scale, ratio)


def check_ranges(**ranges: list[float]) -> None:
    """Refuse what is no range.

    Raises:
        ValueError: naming it.
    """
    for name, ends in ranges.items():
        if len(ends) != 2 or ends[0] > ends[1]:
            raise ValueError(f"{name}: got {ends}, wanted the smallest and the largest")


STEPS: dict[str, Callable[..., nn.Module]] = {
    step.__name__: step for step in (random_resized_crop, random_crop, flip, randaugment, trivialaugment, color_jitter, erase)}
"""What an entry of `dataset.augment` may be called, and what makes its transform."""


def resized(picture: Image.Image, size: int, resize: int | None = None) -> Image.Image:
    """The centre of a picture, `size` pixels each way, once its shorter side has `resize` (None: `size`) pixels."""
    if resize is not None and resize != size:
        short = min(picture.size)
        width, height = (max(round(side * resize / short), size) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        return picture.crop((left, top, left + size, top + size))
    return ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)


def described(entry: object) -> tuple[str, Mapping[str, Any]]:
    """The name and the numbers of an entry: `trivialaugment`, or `{flip: {chance: 0.5}}`.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        (name, numbers), = entry.items()
        if numbers is None or isinstance(numbers, Mapping):
            return str(name), numbers or {}
    raise ValueError(f"got {entry}, wanted a name, or one name with its numbers: {{flip: {{chance: 0.5}}}}")


def step_of(entry: object, size: int) -> nn.Module:
    """The transform of an entry.

    Raises:
        ValueError: there is none of this name, or its numbers do not fit.
    """
    name, numbers = described(entry)
    if name not in STEPS:
        raise ValueError(f"there is no '{name}'" + (closest(name, STEPS) or f"; there is {', '.join(STEPS)}"))
    make = STEPS[name]
    wanted, kinds = [key for key in inspect.signature(make).parameters if key != "size"], annotations(make)
    for key, value in numbers.items():
        if key not in wanted:
            raise ValueError(f"{name} has no '{key}'" + (closest(key, wanted) or
                                                         f"; it has {', '.join(wanted) or 'no numbers'}"))
        if reason := misfit(value, kinds[key]):
            raise ValueError(f"{name}.{key}: got {value}, wanted {reason}")
    if missing := [key for key in wanted if key not in numbers]:
        raise ValueError(f"{name}.{missing[0]} is not set")
    try:
        return make(size, **numbers)
    except ValueError as error:
        raise ValueError(f"{name}.{error}" if ":" in str(error) else f"{name}: {error}") from error


class Augmentation:
    """From a picture as it is stored to one of `size` pixels each way, augmented: [H, W, C], uint8.

    Random numbers come from torch's own generator: who calls seeds it. A list without `random_resized_crop` works on
    pictures that were brought to their size before.

    Args:
        steps: as in the YAML.
        size: of the result.
        resize: see `resized`.
        fill: the mean colour, of each channel from 0 to 1.

    Raises:
        ValueError: an entry of the list does not fit; the line begins with its number.
    """

    def __init__(self, steps: Sequence[object], size: int, resize: int | None, fill: Sequence[float]) -> None:
        self.size, self.resize, self.described = size, resize, [*steps, *fill]
        self.steps: list[nn.Module] = []
        for number, entry in enumerate(steps):
            try:
                self.steps.append(step_of(entry, size))
            except ValueError as error:
                raise ValueError(f"augment[{number}]: {error}") from error
        v2 = transforms()
        for step in self.steps:
            if isinstance(step, v2.RandomErasing):
                step.value = [round(255 * share) for share in fill]
        self.brings_size = any(isinstance(step, v2.RandomResizedCrop) for step in self.steps)
        self.of_tensors = (v2.RandomErasing,)  # all others are faster on Pillow's pictures

    @property
    def identity(self) -> list[str]:
        """All that decides what becomes of a picture: the steps, and the code that runs them."""
        from kdrun.utils.vision import torchvision

        return [*map(str, self.described), torchvision.__version__, PIL.__version__]

    def __call__(self, picture: Image.Image) -> Tensor:
        """One draw."""
        if not self.brings_size:
            picture = resized(picture, self.size, self.resize)
        seen: Any = picture
        for step in self.steps:
            if isinstance(step, self.of_tensors) and isinstance(seen, Image.Image):
                seen = pixels(seen).permute(2, 0, 1)
            seen = step(seen)
        return pixels(seen) if isinstance(seen, Image.Image) else seen.permute(1, 2, 0)


def pixels(picture: Image.Image) -> Tensor:
    """A grey or coloured picture of 8 bits a channel as [H, W, C], uint8."""
    found = torch.from_numpy(np.array(picture))
    return found[..., None] if found.ndim == 2 else found
