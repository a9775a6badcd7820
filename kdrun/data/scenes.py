"""A reader of scenes: handwritten digits on larger canvases, for segmentation, landmarks and detection."""

from typing import Any, Literal

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Count, Fraction, NonNegative, Positive
from kdrun.data.compose import Layout, Scenes, compose
from kdrun.data.readers import digits
from kdrun.data.samples import Samples, Source
from kdrun.utils.seeding import generator

__all__ = ["scenes"]

NAMES = tuple(map(str, range(10)))
TEST, HELD_OUT = 0.3, 0.15  # shares of the pictures of digits that the test and the validation scenes are made of


def scenes(*, task: Literal["segmentation", "landmarks", "detection"], train: AtLeastOne, held_out: AtLeastOne,
           test: AtLeastOne, canvas: AtLeastOne, digits_per_scene: list[AtLeastOne], side: list[AtLeastOne],
           overlap: Fraction, clutter: Count, piece: AtLeastOne, noise: NonNegative, threshold: Fraction, seed: Count,
           max_rows: AtLeastOne | None, stride: AtLeastOne, sigma: Positive,
           divide_by: Literal["all", "visible"], min_radius: Count) -> Source:
    """Real handwritten digits pasted on larger canvases with clutter: nothing to download.

    The pictures of digits are split into training, validation and test set first, and scenes composed of each part.

    Args:
        task: what is to be found. Segmentation: the class of each pixel. Landmarks: the centre of the box of each class
            that is there exactly once. Detection: a box around each digit.
        train: how many scenes to train on.
        held_out: how many to watch and choose by.
        test: how many to test on.
        canvas: pixels of a scene's side.
        digits_per_scene: fewest and most.
        side: fewest and most pixels of a digit's side.
        overlap: the largest share of a digit's square that earlier digits may cover, where a free place can be found.
        clutter: pieces of digits in a scene that belong to the background.
        piece: pixels of such a piece's side.
        noise: the standard deviation of Gaussian noise on all pixels, for pictures from 0 to 1.
        threshold: the intensity above which a pixel belongs to a digit.
        seed: of the scenes.
        max_rows: segmentation: so many pixels of a batch, drawn anew in each step, are rows for methods; null for all.
        stride: landmarks, detection: pixels a cell of the heatmaps.
        sigma: landmarks: of the Gaussians in the heatmaps, in cells.
        divide_by: landmarks: what the label loss is divided by, all keypoints of a batch or the visible ones.
        min_radius: detection: of the Gaussians in the heatmaps, in cells.

    Raises:
        ValueError: digits do not fit on the canvas.
    """
    layout = Layout(canvas=canvas, digits=pair("digits_per_scene", digits_per_scene), side=pair("side", side),
                    overlap=overlap, clutter=clutter, piece=piece, noise=noise, threshold=threshold)
    if side[1] > canvas:
        raise ValueError(f"side: digits of {side[1]} pixels do not fit on a canvas of {canvas}")
    if piece > side[0]:
        raise ValueError(f"piece: cannot be cut from digits of {side[0]} pixels, got {piece}")
    sources = apart(seed)
    parts = [samples(compose(*source, count, layout, generator("scenes", name, seed)), task)
             for (name, source), count in zip(sources.items(), (train, held_out, test), strict=True)]
    names = ("background", *NAMES) if task == "segmentation" else NAMES
    infos: dict[str, dict[str, Any]] = {
        "segmentation": {"max_rows": max_rows}, "detection": {"heatmap_stride": stride, "min_radius": min_radius},
        "landmarks": {"heatmap_stride": stride, "sigma": sigma, "divide_by": divide_by}}
    return Source(parts[0], parts[2], names, validation=parts[1], task=task, info=infos[task],
                  found=f"{train} scenes to train on, {held_out} to choose by, {test} to test on, of different digits")


def apart(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The pictures of digits, from 0 to 1, and their labels, for training, validation and test scenes."""
    whole = digits(test=TEST)
    train, held_out = whole.train.part(HELD_OUT / (1 - TEST), seed, len(NAMES))
    return {name: (part.inputs[..., 0] / 255, part.labels)
            for name, part in (("train", train), ("validation", held_out), ("test", whole.test))}


def pair(name: str, values: list[int]) -> tuple[int, int]:
    """A least and a most.

    Raises:
        ValueError: it is something else.
    """
    if len(values) != 2 or values[0] > values[1]:
        raise ValueError(f"{name}: wanted the least and the most, as in [1, 4]; got {values}")
    return values[0], values[1]


def samples(made: Scenes, task: str) -> Samples:
    """Scenes with the labels of a task."""
    if task == "segmentation":
        return Samples(made.pictures, made.masks)
    if task == "detection":
        return Samples(made.pictures, made.labels, {"boxes": made.boxes})
    centres = (made.boxes[..., :2] + made.boxes[..., 2:]) / 2
    of_class = made.labels[:, :, None] == torch.arange(len(NAMES))  # [N, D, J]
    visible = of_class.sum(dim=1) == 1
    points = (of_class[..., None] * centres[:, :, None]).sum(dim=1) * visible[..., None]
    return Samples(made.pictures, visible.long(), {"points": points})
