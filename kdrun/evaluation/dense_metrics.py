"""Measures of dense prediction: of segmentations, of keypoints, of boxes. Pure functions of tensors.

All are sums over a whole split divided once, never means over batches. A value that is not defined is None.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["COCO_THRESHOLDS", "Boxes", "average_precision", "box_iou", "confusion_matrix", "detection_average_precision",
           "matches", "mean_defined", "mean_distance", "mean_iou", "pck", "per_class_iou", "pixel_accuracy",
           "point_distances"]

COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""The IoUs over which COCO averages: 0.5, 0.55, ..., 0.95."""

RECALL_POINTS = 101  # of COCO: recall 0, 0.01, ..., 1


def mean_defined(values: Iterable[float | None]) -> float | None:
    """The mean of those that are defined; None where none is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def confusion_matrix(predicted: Tensor, target: Tensor, classes: int, ignore: int = 255) -> Tensor:
    """How many places of each class (rows) are predicted as each class (columns): [K, K], int64.

    Args:
        predicted: classes of any shape.
        target: classes of the same shape; `ignore` where a place does not count.
        classes: how many.
        ignore: the label of places that do not count.
    """
    counted = target != ignore
    pairs = target[counted].long() * classes + predicted[counted].long()
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def per_class_iou(confusion: Tensor) -> list[float | None]:
    """Intersection over union of each class from a confusion matrix [K, K]: TP / (TP + FP + FN) over the whole set.

    None for a class that is neither in the target nor in the prediction.
    """
    hits = confusion.diagonal()
    union = confusion.sum(dim=0) + confusion.sum(dim=1) - hits
    return [hit / area if area else None for hit, area in zip(hits.tolist(), union.tolist(), strict=True)]


def mean_iou(confusion: Tensor) -> float | None:
    """The mean of `per_class_iou` over the classes that occur in the target or in the prediction."""
    return mean_defined(per_class_iou(confusion))


def pixel_accuracy(confusion: Tensor) -> float | None:
    """The share of places that count whose class is predicted."""
    total = int(confusion.sum())
    return int(confusion.diagonal().sum()) / total if total else None


def point_distances(predicted: Tensor, target: Tensor, visible: Tensor) -> Tensor:
    """Euclidean distances [M] of the visible keypoints, in the unit of the points.

    Args:
        predicted: points [N, J, 2].
        target: points [N, J, 2].
        visible: [N, J], bool.
    """
    return (predicted.double() - target.double()).norm(dim=-1)[visible]


def pck(distances: Tensor, size: float, share: float) -> float | None:
    """Percentage of correct keypoints as a share: those within `share` times the picture's longer side.

    Args:
        distances: [M] of the visible keypoints, in pixels.
        size: max(height, width) of the pictures.
        share: of it, that a keypoint may be off; 0.05 for PCK@0.05.
    """
    return float((distances <= share * size).double().mean()) if len(distances) else None


def mean_distance(distances: Tensor) -> float | None:
    """The mean of the distances [M]."""
    return float(distances.mean()) if len(distances) else None


@dataclass(eq=False)
class Boxes:
    """Boxes of a set of pictures, one row a box.

    Attributes:
        picture: which picture each is in, [D].
        label: its class, [D].
        corners: left, top, right, bottom, [D, 4], in pixels.
        score: how sure a detector is, [D]; None for true boxes.
    """

    picture: Tensor
    label: Tensor
    corners: Tensor
    score: Tensor | None = None

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, rows: Tensor) -> "Boxes":
        return Boxes(self.picture[rows], self.label[rows], self.corners[rows],
                     None if self.score is None else self.score[rows])


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union [D, G] of boxes [D, 4] with boxes [G, 4]; 0 where both areas are 0."""
    first, second = first.double(), second.double()
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(dim=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(dim=-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return torch.where(union > 0, shared / union.clamp_min(1e-12), torch.zeros_like(union))


def matches(detections: Boxes, truths: Boxes, thresholds: Sequence[float]) -> Tensor:
    """Which detections of one class are right, greedily: by falling score each takes the free box with the highest IoU.

    Args:
        detections: of one class; taken by falling score, ties in their order.
        truths: the boxes of that class.
        thresholds: the IoU that a pair needs at least; boxes are taken anew for each.

    Returns:
        [D, thresholds], bool, in the order of falling score.
    """
    assert detections.score is not None
    order = detections.score.argsort(descending=True, stable=True)
    right = torch.zeros(len(order), len(thresholds), dtype=torch.bool)
    by_picture: dict[int, list[int]] = {}
    for row, picture in enumerate(truths.picture.tolist()):
        by_picture.setdefault(picture, []).append(row)
    ranks: dict[int, list[int]] = {}
    for rank, picture in enumerate(detections.picture[order].tolist()):
        if picture in by_picture:
            ranks.setdefault(picture, []).append(rank)
    for picture, own in ranks.items():
        rows = by_picture[picture]
        overlap = box_iou(detections.corners[order[own]], truths.corners[rows]).tolist()
        for column, threshold in enumerate(thresholds):
            free = set(range(len(rows)))
            for rank, overlaps in zip(own, overlap, strict=True):
                if max(overlaps) < threshold - 1e-10:
                    continue  # as most are, and that is quickly seen
                best = max(free, key=lambda place: (overlaps[place], -place), default=None)
                # COCO's tolerance: an overlap of exactly the threshold counts, whatever its last bit
                if best is not None and overlaps[best] >= threshold - 1e-10:
                    free.remove(best)
                    right[rank, column] = True
    return right


def average_precision(right: Tensor, boxes: int) -> float | None:
    """Average precision at COCO's 101 recall points, from the precision envelope.

    Args:
        right: which detections are right, [D], bool, by falling score.
        boxes: how many there are to find; None is returned where there is none.
    """
    if not boxes:
        return None
    hits = right.double().cumsum(dim=0)
    recall, precision = hits / boxes, hits / torch.arange(1, len(right) + 1)
    envelope = precision.flip(0).cummax(dim=0).values.flip(0)
    # the points as COCO's tools round them: where a recall of 0.29 meets the point 0.29, the last bit decides
    points = torch.arange(RECALL_POINTS, dtype=torch.float64) * 0.01
    reached = torch.searchsorted(recall, points)
    padded = torch.cat([envelope, torch.zeros(1, dtype=torch.float64)])
    return float(padded[reached].mean())


def detection_average_precision(detections: Boxes, truths: Boxes, classes: int,
                                thresholds: Sequence[float] = COCO_THRESHOLDS
                                ) -> tuple[list[list[float | None]], list[float | None]]:
    """Average precision of every class at every IoU, and the recall of every class at the first.

    Args:
        detections: of all classes and pictures.
        truths: the boxes to be found.
        classes: how many.
        thresholds: IoUs.

    Returns:
        AP [K][thresholds] and recall [K]; None for a class without boxes. Means over classes are over the others.
    """
    precision: list[list[float | None]] = []
    recall: list[float | None] = []
    for label in range(classes):
        found, wanted = detections[detections.label == label], truths[truths.label == label]
        right = matches(found, wanted, thresholds)
        precision.append([average_precision(column, len(wanted)) for column in right.unbind(dim=1)])
        recall.append(int(right[:, 0].sum()) / len(wanted) if len(wanted) else None)
    return precision, recall
