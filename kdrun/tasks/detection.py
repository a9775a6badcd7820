"""Detection: which objects are there, and the box around each."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.samples import Samples, Source
from kdrun.evaluation.dense_metrics import Boxes, detection_average_precision, mean_defined
from kdrun.models.output import ModelOutput
from kdrun.tasks.heatmaps import HeatmapTask, box_targets, decode_boxes, penalty_reduced_focal
from kdrun.utils.seeding import generator

__all__ = ["Detection"]

SIZE_WEIGHT, OFFSET_WEIGHT = 0.1, 1.0  # Zhou et al. 2019, equation 4
HEAT_BIAS = -2.19                      # their sigmoid is 0.1 (Law and Deng 2018)
NEAR = 0.1                             # a cell whose target heat is above this belongs to an object's surroundings


class Detection(HeatmapTask):
    """Boxes around objects of K classes, by the heatmaps of their centres (Zhou, Wang and Krähenbühl, Objects as points, 2019).

    Labels of samples are the class of each box, [N, D], int64, -1 where there are fewer; the field "boxes" says where, as
    left, top, right and bottom in pixels, [N, D, 4]. Networks answer heatmaps [B, K, h, w] whose sigmoid is the heat, and
    the heads "size" and "offset" [B, 2, h, w], in cells.

    A row is one cell of one class's heatmap, as two classes: its logits are (s, 0), since softmax((s, 0) / T) is the sigmoid
    of s / T; label 0 is the centre of an object, 1 is none. There are a hundred times as many cells without an object, so
    rows are those where the teacher's or the target's heat exceeds 0.1. That is read here as what the batch alone tells, so
    that all networks and all methods of a seed have the same rows: the cells where the target's heat exceeds 0.1 in any
    class, of all classes (which of them a teacher confuses is what it knows), and as many others, drawn anew in each step.

    Args:
        classes: their names.
        shape: (channels, height, width) of the pictures.
        info: "heatmap_stride": pixels a cell; "min_radius": of the Gaussians around centres, in cells.
    """

    key = "detection"
    headline = "map_50"
    measured = ("map_50", "map_50_95", "recall")
    watched = ("map_50",)
    further_heads: ClassVar[Mapping[str, int]] = {"size": 2, "offset": 2}
    heat_bias: ClassVar[float] = HEAT_BIAS
    keeps: ClassVar[tuple[str, ...]] = ("logits", "heads")

    def __init__(self, classes: tuple[str, ...], shape: tuple[int, ...], info: Mapping[str, Any] | None = None) -> None:
        super().__init__(classes, shape, info)
        self.min_radius: int = self.info["min_radius"]

    @property
    def outputs(self) -> int:
        """An object's centre, or none."""
        return 2

    @property
    def row_names(self) -> tuple[str, ...]:
        """The two classes of a cell."""
        return ("object", "none")

    def problems(self, source: Source) -> list[str]:
        """What makes pictures and boxes unfit."""
        return source.annotation_problems(self.box_problem)

    def box_problem(self, name: str, part: Samples) -> str | None:
        """What is wrong with the boxes of a split."""
        boxes, labels = part.fields.get("boxes"), part.labels
        if labels.dtype != torch.int64 or labels.ndim != 2:
            return (f"the {name} labels are {labels.dtype} of the shape {list(labels.shape)}; wanted int64 of [N, D], the "
                    "class of each box")
        if boxes is None or list(boxes.shape) != [*labels.shape, 4]:
            return (f"the {name} boxes have the shape {None if boxes is None else list(boxes.shape)}; wanted "
                    f"{[*labels.shape, 4]}")
        if int(labels.max()) < 0:
            return f"there is no box in the {name} samples"
        if int(labels.max()) >= len(self.classes):
            return f"the {name} boxes have the class {int(labels.max())}; wanted 0 to {len(self.classes) - 1}"
        return None

    def batch(self, samples: Samples, rows: Tensor, inputs: Tensor, draws: torch.Generator | None = None) -> Batch:
        """Pictures with the labels of some cells, and in `targets` the fields of `BoxTargets`.

        Without `draws`, in evaluation, the cells far from objects are always the same.
        """
        target = box_targets(samples.fields["boxes"][rows], samples.labels[rows], len(self.classes), self.stride, self.grid,
                             self.min_radius)
        heat = target.heat.flatten()
        hot = (target.heat.amax(dim=1, keepdim=True) > NEAR).expand_as(target.heat).flatten()
        near, far = hot.nonzero()[:, 0], (~hot).nonzero()[:, 0]
        drawn = torch.randperm(len(far), generator=generator("far cells") if draws is None else draws)[:max(len(near), 1)]
        places = torch.cat([near, far[drawn.to(far.device)]]).sort().values
        return Batch(inputs, (heat[places] < 1).long(), rows, places=places, targets=target._asdict())

    def places(self, logits: torch.Size) -> int:
        """Each cell of each class is one."""
        return logits.numel()

    def rows(self, logits: Tensor, batch: Batch) -> Tensor:
        """The logits (s, 0) of the cells that are rows."""
        assert batch.places is not None
        heat = logits.flatten().index_select(0, batch.places)
        return torch.stack([heat, torch.zeros_like(heat)], dim=1)

    def label_loss(self, output: ModelOutput, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """The focal loss of the heatmaps, and the distances of sizes and offsets at the boxes' centres, over their number.

        Raises:
            ValueError: labels are to be smoothed.
        """
        if smoothing:
            raise ValueError("recipe.label_smoothing: heatmaps are smooth as they are; give 0")
        assert output.dense is not None
        target = batch.targets
        objects = target["present"].sum()
        loss = penalty_reduced_focal(output.dense, target["heat"], objects)
        for name, weight in (("size", SIZE_WEIGHT), ("offset", OFFSET_WEIGHT)):
            off = (at_cells(output.heads[name], target["cell"]) - target[name]).abs().sum(dim=2)
            loss = loss + weight * (off * target["present"]).sum() / objects.clamp_min(1)
        return loss

    def measures(self, answers: ModelOutput, samples: Samples) -> dict[str, float | None]:
        """The mean over classes of average precision at an IoU of 0.5, and over IoUs of 0.5 to 0.95, and of recall at 0.5."""
        precision, recall = detection_average_precision(self.boxes(answers), truths(samples), len(self.classes))
        return {"map_50": mean_defined(one[0] for one in precision),
                "map_50_95": mean_defined(mean_defined(one) for one in precision), "recall": mean_defined(recall)}

    def boxes(self, output: ModelOutput) -> Boxes:
        """The boxes of all pictures; only true peaks."""
        heat = output.logits if output.dense is None else output.dense
        peaks = decode_boxes(heat, output.heads["size"], output.heads["offset"], self.stride)
        picture = torch.arange(len(heat))[:, None].expand_as(peaks.label)
        hot = peaks.score > 0
        return Boxes(picture[hot], peaks.label[hot], peaks.corners[hot], peaks.score[hot])

    def decode(self, output: ModelOutput) -> list[Boxes]:
        """The boxes of each picture, the surest first."""
        found = self.boxes(output)
        return [found[found.picture == number] for number in range(len(output.embedding))]


def truths(samples: Samples) -> Boxes:
    """The boxes of samples."""
    there = samples.labels >= 0
    picture = torch.arange(len(samples))[:, None].expand_as(samples.labels)
    return Boxes(picture[there], samples.labels[there], samples.fields["boxes"][there])


def at_cells(maps: Tensor, cell: Tensor) -> Tensor:
    """Maps [B, n, h, w] at cells [B, D], [B, D, n]."""
    return maps.flatten(2).gather(2, cell[:, None].expand(-1, maps.shape[1], -1)).transpose(1, 2)
