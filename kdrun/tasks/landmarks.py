"""Landmarks: where keypoints are, as heatmaps."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.samples import Samples, Source
from kdrun.evaluation.dense_metrics import mean_distance, pck, point_distances
from kdrun.models.output import ModelOutput
from kdrun.tasks.base import Need
from kdrun.tasks.heatmaps import HeatmapTask, decode_points, heat_mse, nearest_cell, point_targets

__all__ = ["Landmarks"]


class Landmarks(HeatmapTask):
    """The place of each of J keypoints, some of which are visible.

    Labels of samples are whether each is visible, [N, J], int64; the field "points" says where, in pixels, [N, J, 2].
    Networks answer linear heatmaps [B, J, h, w]. The rows of a batch are its visible keypoints: the heatmap of one is the
    logits of its h * w cells, and the label is the cell of the peak, so that every response method applies.

    Args:
        classes: the names of the keypoints.
        shape: (channels, height, width) of the pictures.
        info: "heatmap_stride": pixels a cell; "sigma": of the Gaussians, in cells; "divide_by": what the label loss is divided
            by, "all" keypoints of the batch or the "visible" ones.
    """

    key = "landmarks"
    headline = "pck_05"
    measured = ("pck_05", "pck_10", "mean_distance")
    watched = ("pck_05", "mean_distance")

    def __init__(self, classes: tuple[str, ...], shape: tuple[int, ...], info: Mapping[str, Any] | None = None) -> None:
        super().__init__(classes, shape, info)
        self.sigma: float = self.info["sigma"]
        self.divide_by: str = self.info["divide_by"]

    @property
    def gives(self) -> frozenset[Need]:
        """What every task of pictures has, and heatmaps."""
        return super().gives | {"heatmaps"}

    @property
    def outputs(self) -> int:
        """Each row has a logit for every cell."""
        return self.grid[0] * self.grid[1]

    @property
    def row_names(self) -> tuple[str, ...]:
        """Cells by row and column."""
        return tuple(f"cell {row} {column}" for row in range(self.grid[0]) for column in range(self.grid[1]))

    def problems(self, source: Source) -> list[str]:
        """What makes pictures and keypoints unfit."""
        return source.annotation_problems(self.point_problem)

    def point_problem(self, name: str, part: Samples) -> str | None:
        """What is wrong with the keypoints of a split."""
        points, wanted = part.fields.get("points"), [len(part.inputs), len(self.classes)]
        if part.labels.dtype != torch.int64 or list(part.labels.shape) != wanted:
            return (f"the {name} labels are {part.labels.dtype} of the shape {list(part.labels.shape)}; wanted int64 of "
                    f"{wanted}: 1 where a keypoint is visible, or else 0")
        if points is None or list(points.shape) != [*wanted, 2]:
            return f"the {name} points have the shape {None if points is None else list(points.shape)}; wanted {[*wanted, 2]}"
        return None if bool(part.labels.any()) else f"no keypoint of the {name} samples is visible"

    def batch(self, samples: Samples, rows: Tensor, inputs: Tensor, draws: torch.Generator | None = None) -> Batch:
        """Pictures with the cells of their visible keypoints, and in `targets` the "heat" [B, J, h, w] and what is "visible"
        [B, J], float32.
        """
        visible, points = samples.labels[rows], samples.fields["points"][rows]
        cell = nearest_cell(points, self.stride, self.grid)
        places = visible.flatten().nonzero()[:, 0]
        labels = (cell[..., 1] * self.grid[1] + cell[..., 0]).flatten()[places]
        heat = point_targets(points, self.stride, self.grid, self.sigma)
        return Batch(inputs, labels, rows, places=places, targets={"heat": heat, "visible": visible.float()})

    def rows(self, logits: Tensor, batch: Batch) -> Tensor:
        """The heatmaps of the visible keypoints, cell by cell."""
        assert batch.places is not None
        return logits.flatten(2).flatten(0, 1).index_select(0, batch.places)

    def label_loss(self, output: ModelOutput, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """Half the mean squared error of the visible keypoints' heatmaps.

        Raises:
            ValueError: labels are to be smoothed.
        """
        if smoothing:
            raise ValueError("recipe.label_smoothing: heatmaps are smooth as they are; give 0")
        assert output.dense is not None
        return heat_mse(output.dense, batch.targets["heat"], batch.targets["visible"], self.divide_by)

    def measures(self, answers: ModelOutput, samples: Samples) -> dict[str, float | None]:
        """The share of visible keypoints within 5 % and within 10 % of the longer side, and the mean distance in pixels."""
        distances = point_distances(decode_points(answers.logits, self.stride), samples.fields["points"], samples.labels.bool())
        size = max(self.shape[1:])
        return {"pck_05": pck(distances, size, 0.05), "pck_10": pck(distances, size, 0.1),
                "mean_distance": mean_distance(distances)}

    def decode(self, output: ModelOutput) -> Tensor:
        """Where each keypoint is, x and y in pixels, [B, J, 2]."""
        return decode_points(output.logits if output.dense is None else output.dense, self.stride)
