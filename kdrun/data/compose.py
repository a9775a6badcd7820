"""Scenes made of small real pictures: digits pasted on a larger canvas, with clutter, and where everything is."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.data.samples import IGNORED

__all__ = ["Layout", "Scenes", "compose"]

TRIES = 20  # places that are drawn for a digit until one is free


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How scenes are made.

    Attributes:
        canvas: pixels of a scene's side.
        digits: fewest and most digits in a scene.
        side: fewest and most pixels of a digit's side.
        overlap: the largest share of a digit's square that earlier digits may cover, where a free place can be found.
        clutter: pieces of other digits in a scene, which belong to the background.
        piece: pixels of such a piece's side.
        noise: the standard deviation of Gaussian noise on all pixels, for pictures from 0 to 1.
        threshold: the intensity above which a pixel belongs to a digit.
    """

    canvas: int
    digits: tuple[int, int]
    side: tuple[int, int]
    overlap: float
    clutter: int
    piece: int
    noise: float
    threshold: float


@dataclass
class Scenes:
    """Scenes and where everything in them is; of D digits at most.

    Attributes:
        pictures: [N, H, W, 1], uint8.
        masks: the class of each pixel, 0 for the background and 1 + k for digit k, `IGNORED` around overlaps:
            [N, H, W], uint8.
        labels: the digits in the order in which they were pasted, [N, D], int64; -1 where there are fewer.
        boxes: left, top, right, bottom of each digit's own pixels, in pixels, [N, D, 4], float32.
    """

    pictures: Tensor
    masks: Tensor
    labels: Tensor
    boxes: Tensor


def compose(images: Tensor, labels: Tensor, count: int, layout: Layout, draws: torch.Generator) -> Scenes:
    """Paste pictures of digits on empty canvases.

    Each digit is enlarged bilinearly to a side that is drawn, and its place is drawn anew until earlier squares cover at
    most `overlap` of it, `TRIES` times at most. Pixels are merged by their maximum; where masks meet the later digit has
    the pixels, and the rim of one pixel around those is ignored. Pieces of further digits are pasted as clutter
    (as in Mnih et al., Recurrent models of visual attention, NeurIPS 2014).

    Args:
        images: of digits, [M, h, w], from 0 to 1.
        labels: of the digits, [M], int64.
        count: how many scenes.
        layout: how they are made.
        draws: what everything random is drawn from.
    """
    least, most = layout.digits
    sides = range(layout.side[0], layout.side[1] + 1)
    enlarged = {side: F.interpolate(images[:, None].float(), size=(side, side), mode="bilinear",
                                    align_corners=False)[:, 0].numpy() for side in sides}

    def integers(low: int, high: int, *shape: int) -> list:
        return torch.randint(low, high, shape, generator=draws).tolist()

    numbers = integers(least, most + 1, count)
    rows = integers(0, len(images), count, most)
    chosen = integers(sides.start, sides.stop, count, most)
    places = torch.rand(count, most, TRIES, 2, generator=draws, dtype=torch.float64).tolist()
    clutter_rows = integers(0, len(images), count, layout.clutter)
    corners = integers(0, sides.start - layout.piece + 1, count, layout.clutter, 2)
    clutter_places = integers(0, layout.canvas - layout.piece + 1, count, layout.clutter, 2)

    size = (count, layout.canvas, layout.canvas)
    pictures, masks = np.zeros(size, np.float32), np.zeros(size, np.uint8)
    scene_labels, boxes = np.full((count, most), -1), np.zeros((count, most, 4), np.float32)
    names = labels.tolist()
    for scene in range(count):
        picture, mask = pictures[scene], masks[scene]
        taken: list[tuple[int, int, int]] = []
        for row, (down, right), place in zip(clutter_rows[scene], corners[scene], clutter_places[scene], strict=True):
            paste(picture, enlarged[sides.start][row][down:down + layout.piece, right:right + layout.piece], *place)
        for number in range(numbers[scene]):
            side, row = chosen[scene][number], rows[scene][number]
            top, left = free_place(places[scene][number], side, taken, layout)
            taken.append((top, left, side))
            paste(picture, enlarged[side][row], top, left)
            own = enlarged[side][row] > layout.threshold
            overwrite(mask, own, names[row] + 1, top, left)
            scene_labels[scene, number] = names[row]
            boxes[scene, number] = tight_box(own, top, left)
    canvas = torch.from_numpy(pictures)
    if layout.noise:
        canvas += layout.noise * torch.randn(size, generator=draws)
    return Scenes((canvas.clamp(0, 1) * 255).round().to(torch.uint8)[..., None], torch.from_numpy(masks),
                  torch.from_numpy(scene_labels), torch.from_numpy(boxes))


def free_place(drawn: list[list[float]], side: int, taken: list[tuple[int, int, int]], layout: Layout) -> tuple[int, int]:
    """The first of the places that earlier squares leave free, or else the one they cover least; top and left."""
    room, best, least = layout.canvas - side + 1, (0, 0), math.inf
    for down, right in drawn:
        top, left = int(down * room), int(right * room)
        covered = sum(max(0, min(top + side, other_top + other) - max(top, other_top))
                      * max(0, min(left + side, other_left + other) - max(left, other_left))
                      for other_top, other_left, other in taken)
        if covered < least:
            best, least = (top, left), covered
        if covered <= layout.overlap * side * side:
            break
    return best


def paste(picture: np.ndarray, piece: np.ndarray, top: int, left: int) -> None:
    """Merge a piece into a picture by the maximum, in place."""
    window = picture[top:top + piece.shape[0], left:left + piece.shape[1]]
    np.maximum(window, piece, out=window)


def overwrite(mask: np.ndarray, own: np.ndarray, label: int, top: int, left: int) -> None:
    """Give a digit its pixels in a mask, in place; where it covers another, the rim around the shared pixels is ignored."""
    window = mask[top:top + own.shape[0], left:left + own.shape[1]]
    shared = own & (window != 0) & (window != IGNORED)
    window[own] = label
    for down, right in np.argwhere(shared):
        row, column = top + down, left + right
        mask[max(row - 1, 0):row + 2, max(column - 1, 0):column + 2] = IGNORED
    window[shared] = label


def tight_box(own: np.ndarray, top: int, left: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a mask's pixels where it is pasted; the right and bottom edges are behind the last."""
    rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
    return left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
