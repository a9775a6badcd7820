"""Segmentation: the class of each pixel."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.samples import IGNORED, Samples, Source
from kdrun.evaluation.dense_metrics import confusion_matrix, mean_iou, pixel_accuracy
from kdrun.models.output import ModelOutput
from kdrun.tasks.base import Task

__all__ = ["Segmentation"]


class Segmentation(Task):
    """One of several classes for each pixel, the background among them; pixels whose label is 255 do not count.

    Labels of samples are masks [N, H, W], uint8. The rows of a batch are its pixels that count, or `max_rows` of them that
    are drawn anew in each step; the label loss is over all of them.

    Args:
        classes: their names, in the order of their numbers.
        shape: (channels, height, width) of the pictures.
        info: "max_rows": how many rows a batch has at most in training; None for no limit.
    """

    key = "segmentation"
    headline = "miou"
    measured = ("miou", "pixel_accuracy")
    watched = ("miou", "pixel_accuracy")
    under_crops: ClassVar[Literal["same", "moved", "refused"]] = "moved"

    def __init__(self, classes: tuple[str, ...], shape: tuple[int, ...], info: Mapping[str, Any] | None = None) -> None:
        super().__init__(classes, shape, info)
        self.max_rows: int | None = self.info.get("max_rows")

    def expected(self, count: int) -> tuple[int | None, ...]:
        """Logits of every pixel."""
        return (count, len(self.classes), *self.shape[1:])

    def problems(self, source: Source) -> list[str]:
        """What makes pictures and masks unfit."""
        return source.annotation_problems(self.mask_problem)

    def mask_problem(self, name: str, part: Samples) -> str | None:
        """What is wrong with the masks of a split."""
        masks, size = part.labels, list(part.inputs.shape[:3])
        if masks.dtype != torch.uint8 or list(masks.shape) != size:
            return f"the {name} masks are {masks.dtype} of the shape {list(masks.shape)}; wanted uint8 of {size}"
        counted = masks[masks != IGNORED]
        if not len(counted):
            return f"all pixels of the {name} masks are {IGNORED}, which marks what does not count"
        if int(counted.max()) >= len(self.classes):
            return (f"the {name} masks have the class {int(counted.max())}; wanted 0 to {len(self.classes) - 1}, or {IGNORED} "
                    "for what does not count")
        return None

    def batch(self, samples: Samples, rows: Tensor, inputs: Tensor, draws: torch.Generator | None = None) -> Batch:
        """Pictures with the labels of their pixels, and in `targets` the whole "mask" [B, H, W], int64."""
        mask = samples.labels[rows].long()
        labels = mask.flatten()
        places = (labels != IGNORED).nonzero()[:, 0]
        if draws is not None and self.max_rows is not None and len(places) > self.max_rows:
            chosen = torch.randperm(len(places), generator=draws)[:self.max_rows].sort().values
            places = places[chosen.to(places.device)]
        return Batch(inputs, labels[places], rows, places=places, targets={"mask": mask})

    def rows(self, logits: Tensor, batch: Batch) -> Tensor:
        """The logits of the pixels that are rows."""
        assert batch.places is not None
        return logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).index_select(0, batch.places)

    def label_loss(self, output: ModelOutput, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of all pixels that count, divided by their number in the batch; 0 where there are none."""
        assert output.dense is not None
        mask = batch.targets["mask"]
        total = F.cross_entropy(output.dense, mask, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing)
        return total / (mask != IGNORED).sum().clamp_min(1)

    def measures(self, answers: ModelOutput, samples: Samples) -> dict[str, float | None]:
        """The mean IoU of the classes that occur, and the share of right pixels, from one confusion matrix of the split."""
        confusion = confusion_matrix(answers.logits.argmax(dim=1), samples.labels, len(self.classes), IGNORED)
        return {"miou": mean_iou(confusion), "pixel_accuracy": pixel_accuracy(confusion)}

    def decode(self, output: ModelOutput) -> Tensor:
        """The class of each pixel, [B, H, W]."""
        return (output.logits if output.dense is None else output.dense).argmax(dim=1)
