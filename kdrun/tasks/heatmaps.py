"""Heatmaps: how points become targets, what is learned from them, and how points are read from answers.

Cells are counted from the top left; a point at (x, y) pixels is at (x, y) / stride cells, in the cell of the rounded-down
coordinates for boxes (the offset says where in it) and of the nearest coordinates for keypoints.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.tasks.base import Task

__all__ = ["BoxTargets", "HeatmapTask", "Peaks", "box_targets", "decode_boxes", "decode_points",
           "gaussian_radius", "gaussians", "heat_mse", "nearest_cell", "penalty_reduced_focal", "point_targets"]

PEAKS = 50  # boxes a picture, as many as are kept


class HeatmapTask(Task):
    """Pictures whose networks answer with a heatmap for each class, [B, classes, height, width], coarser than the picture.

    Crops and mirror images would move what is to be found, and are refused.

    Args:
        classes: their names.
        shape: (channels, height, width) of the pictures.
        info: "heatmap_stride": pixels a cell; and what a subclass needs.
    """

    under_crops: ClassVar[Literal["same", "moved", "refused"]] = "refused"
    further_heads: ClassVar[Mapping[str, int]] = {}
    heat_bias: ClassVar[float] = 0.0

    def __init__(self, classes: tuple[str, ...], shape: tuple[int, ...], info: Mapping[str, Any] | None = None) -> None:
        super().__init__(classes, shape, info)
        self.stride: int = self.info["heatmap_stride"]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of a heatmap."""
        return -(-self.shape[1] // self.stride), -(-self.shape[2] // self.stride)

    def given(self) -> dict[str, Any]:
        """How many heatmaps there are, what they start from, and the further heads with their numbers of channels."""
        return {**super().given(), "classes": len(self.classes), "further_heads": dict(self.further_heads),
                "heat_bias": self.heat_bias}

    def expected(self, count: int) -> tuple[int | None, ...]:
        """A heatmap for each class."""
        return (count, len(self.classes), *self.grid)


def gaussians(centres: Tensor, sigma: Tensor, size: tuple[int, int]) -> Tensor:
    """Gaussians of height 1 on a grid: exp(-d^2 / (2 sigma^2)), d in cells; exactly 1 in the cell of the centre.

    Args:
        centres: column and row of a cell, [..., 2], whole numbers.
        sigma: in cells, [...].
        size: height and width of the grid.

    Returns:
        [..., height, width], float32.
    """
    height, width = size
    columns = torch.arange(width, device=centres.device) - centres[..., 0, None]
    rows = torch.arange(height, device=centres.device) - centres[..., 1, None]
    squared = rows.square()[..., :, None] + columns.square()[..., None, :]
    return torch.exp(-squared / (2 * sigma.square())[..., None, None])


def gaussian_radius(width: Tensor, height: Tensor, overlap: float = 0.7) -> Tensor:
    """How far a box's corners may move, in cells, so that it still overlaps the true one by this IoU.

    The smallest of three cases (both corners outwards or inwards, one each), each the smaller root of its quadratic. The
    first published code (Law and Deng, CornerNet, ECCV 2018) takes other roots, which are too large.

    Args:
        width: of boxes, in cells, [...].
        height: likewise.
        overlap: the IoU.

    Returns:
        [...], not rounded.
    """
    total, area = width + height, width * height
    shifted = (total - (total.square() - 4 * area * (1 - overlap) / (1 + overlap)).sqrt()) / 2
    smaller = (2 * total - (4 * total.square() - 16 * (1 - overlap) * area).sqrt()) / 8
    larger = (-2 * overlap * total + (4 * overlap**2 * total.square() + 16 * overlap * (1 - overlap) * area).sqrt()) / (
        8 * overlap)
    return torch.minimum(torch.minimum(shifted, smaller), larger)


def nearest_cell(points: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """The cell nearest to each point [..., 2] (x, y in pixels), column and row, within a grid of (height, width)."""
    return within((points / stride).round(), size)


def within(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Columns and rows [..., 2] as whole numbers, moved to the edge where they are outside a grid of (height, width)."""
    last = torch.tensor([size[1] - 1, size[0] - 1], device=cells.device)
    return torch.minimum(cells.long(), last).clamp_min(0)


def point_targets(points: Tensor, stride: int, size: tuple[int, int], sigma: float = 1.0) -> Tensor:
    """The heatmaps of keypoints: a Gaussian of height 1 around the nearest cell of each.

    Args:
        points: x and y in pixels, [B, J, 2].
        stride: pixels a cell.
        size: height and width of the heatmaps.
        sigma: in cells.

    Returns:
        [B, J, h, w].
    """
    return gaussians(nearest_cell(points, stride, size), torch.full(points.shape[:2], sigma, device=points.device), size)


class BoxTargets(NamedTuple):
    """What a detector is to answer about pictures with D boxes at most.

    Attributes:
        heat: for each class the highest of its boxes' Gaussians, [B, K, h, w].
        cell: the cell of each box's centre, row * w + column, [B, D]; 0 where there is no box.
        size: width and height of each box, in cells, [B, D, 2].
        offset: where in its cell the centre is, x then y, in cells, [B, D, 2].
        present: whether there is a box, [B, D], float32.
    """

    heat: Tensor
    cell: Tensor
    size: Tensor
    offset: Tensor
    present: Tensor


def box_targets(boxes: Tensor, labels: Tensor, classes: int, stride: int, size: tuple[int, int], min_radius: int) -> BoxTargets:
    """Heatmaps, sizes and offsets of boxes.

    The Gaussian of a box has sigma = (2 r + 1) / 6, where r is the whole part of `gaussian_radius`, and at least `min_radius`.

    Args:
        boxes: left, top, right, bottom in pixels, [B, D, 4].
        labels: class of each, [B, D]; below 0 where there is none.
        classes: how many.
        stride: pixels a cell.
        size: height and width of the heatmaps.
        min_radius: in cells.
    """
    height, width = size
    present = labels >= 0
    extent = (boxes[..., 2:] - boxes[..., :2]) / stride
    centre = (boxes[..., 2:] + boxes[..., :2]) / (2 * stride)
    corner = within(centre, size)
    radius = gaussian_radius(extent[..., 0], extent[..., 1]).floor().clamp_min(min_radius)
    bumps = gaussians(corner, (2 * radius + 1) / 6, size) * present[..., None, None]
    # the class beyond the last takes the places without a box
    heat = bumps.new_zeros(len(boxes), classes + 1, height, width)
    where = torch.where(present, labels, classes)[..., None, None].expand_as(bumps)
    heat = heat.scatter_reduce(1, where, bumps, "amax")[:, :classes]
    cell = torch.where(present, corner[..., 1] * width + corner[..., 0], 0)
    return BoxTargets(heat, cell, extent, centre - corner, present.float())


def penalty_reduced_focal(logits: Tensor, target: Tensor, objects: Tensor) -> Tensor:
    """The focal loss of heatmaps whose penalty shrinks around centres (Law and Deng 2018; Zhou et al., Objects as points,
    2019, equation 1: alpha 2, beta 4).

    Args:
        logits: [B, K, h, w]; their sigmoid is the heat.
        target: [B, K, h, w], from 0 to 1; 1 exactly at the centres.
        objects: how many there are, a scalar; the sum is divided by it, or by 1.
    """
    log_heat, log_rest = F.logsigmoid(logits), F.logsigmoid(-logits)
    heat = logits.sigmoid()
    at_centres = (1 - heat).square() * log_heat
    elsewhere = (1 - target) ** 4 * heat.square() * log_rest
    return -torch.where(target == 1, at_centres, elsewhere).sum() / objects.clamp_min(1)


def heat_mse(maps: Tensor, target: Tensor, visible: Tensor, over: str = "all") -> Tensor:
    """Half the mean squared error of linear heatmaps, without those of invisible joints: the loss of common pose code.

    Args:
        maps: [B, J, h, w].
        target: likewise.
        visible: [B, J], 0 or 1.
        over: what the sum is divided by: "all" joints of the batch, or the "visible" ones alone (or 1).
    """
    cells = (maps - target).square().mean(dim=(2, 3)) * visible
    count = visible.sum().clamp_min(1) if over == "visible" else visible.numel()
    return cells.sum() / count / 2


def decode_points(maps: Tensor, stride: int) -> Tensor:
    """The keypoint of each heatmap, in pixels: [B, J, 2], x then y.

    The highest cell, moved by a quarter of a cell towards the higher neighbour on each axis; no move at the border, nor
    where both neighbours are equal.
    """
    width = maps.shape[-1]
    cell = maps.flatten(2).argmax(dim=2)
    row, column = cell // width, cell % width
    padded = F.pad(maps, (1, 1, 1, 1), value=math.nan).flatten(2)  # a comparison with NaN moves nothing

    def at(down: int, right: int) -> Tensor:
        place = (row + 1 + down) * (width + 2) + column + 1 + right
        return padded.gather(2, place[..., None])[..., 0]

    def towards(difference: Tensor) -> Tensor:
        return 0.25 * torch.nan_to_num(difference).sign()

    x = column + towards(at(0, 1) - at(0, -1))
    y = row + towards(at(1, 0) - at(-1, 0))
    return torch.stack([x, y], dim=-1) * stride


class Peaks(NamedTuple):
    """Boxes read from heatmaps, the best of each picture first.

    Attributes:
        corners: left, top, right, bottom, [B, N, 4], in pixels.
        label: class, [B, N].
        score: from 0 to 1, [B, N].
    """

    corners: Tensor
    label: Tensor
    score: Tensor


def decode_boxes(heat: Tensor, size: Tensor, offset: Tensor, stride: int, count: int = PEAKS) -> Peaks:
    """Boxes from the peaks of heatmaps: those that are highest among their 3x3 neighbours, the best over all classes.

    Args:
        heat: logits [B, K, h, w].
        size: width and height of the box at each cell, in cells, [B, 2, h, w].
        offset: where in a cell its centre is, x then y, in cells, [B, 2, h, w].
        stride: pixels a cell.
        count: boxes a picture, as many as there are cells at most.
    """
    classes, height, width = heat.shape[1:]
    peak = F.max_pool2d(heat, 3, 1, 1) == heat
    score, place = heat.masked_fill(~peak, -math.inf).flatten(1).topk(min(count, classes * height * width), dim=1)
    label, cell = place // (height * width), place % (height * width)
    corner = torch.stack([cell % width, cell // width], dim=-1)
    here = cell[:, None].expand(-1, 2, -1)
    centre = corner + offset.flatten(2).gather(2, here).transpose(1, 2)
    half = size.flatten(2).gather(2, here).transpose(1, 2).clamp_min(0) / 2
    return Peaks(torch.cat([centre - half, centre + half], dim=-1) * stride, label, score.sigmoid())
