"""Measures of dense prediction on numbers that can be computed by hand."""

import pytest
import torch
from torch import tensor

from kdrun.evaluation.dense_metrics import (
    COCO_THRESHOLDS,
    Boxes,
    average_precision,
    box_iou,
    confusion_matrix,
    detection_average_precision,
    matches,
    mean_distance,
    mean_iou,
    pck,
    per_class_iou,
    pixel_accuracy,
    point_distances,
)

TARGET = tensor([[0, 0, 1, 1], [2, 255, 1, 0]])
PREDICTED = tensor([[0, 1, 1, 1], [2, 2, 0, 0]])


@pytest.mark.parametrize("classes", [3, 4])  # a class that is nowhere changes nothing
def test_iou_leaves_out_ignored_places_and_absent_classes(classes):
    counts = confusion_matrix(PREDICTED, TARGET, classes)
    assert counts.sum() == 7
    assert per_class_iou(counts) == [0.5, 0.5, 1.0] + [None] * (classes - 3)
    assert mean_iou(counts) == pytest.approx(2 / 3)
    assert pixel_accuracy(counts) == pytest.approx(5 / 7)


def test_iou_agrees_with_torchmetrics():
    import kdrun.utils.vision  # noqa: F401  (torchmetrics imports torchvision, which may need to be mended first)

    oracle = pytest.importorskip("torchmetrics.functional.classification", exc_type=ImportError)
    draws = torch.Generator().manual_seed(0)
    target, predicted = (torch.randint(5, (6, 9, 7), generator=draws) for _ in range(2))
    target[:, 0] = 255
    expected = oracle.multiclass_jaccard_index(predicted, target, num_classes=5, ignore_index=255)
    assert mean_iou(confusion_matrix(predicted, target, 5)) == pytest.approx(float(expected))


def test_confusion_of_a_set_is_the_sum_of_its_parts_and_nothing_is_undefined_not_zero():
    parts = [confusion_matrix(PREDICTED[row], TARGET[row], 3) for row in range(2)]
    assert torch.equal(sum(parts), confusion_matrix(PREDICTED, TARGET, 3))
    nothing = confusion_matrix(PREDICTED, torch.full_like(TARGET, 255), 3)
    assert mean_iou(nothing) is None
    assert pixel_accuracy(nothing) is None


def test_pck_counts_visible_keypoints_within_a_share_of_the_longer_side():
    target = torch.zeros(1, 3, 2)
    predicted = tensor([[[2.0, 0.0], [0.0, 6.0], [9.0, 9.0]]])
    distances = point_distances(predicted, target, tensor([[True, True, False]]))
    assert pck(distances, 64, 0.05) == 0.5
    assert pck(distances, 64, 0.1) == 1.0
    assert mean_distance(distances) == 4.0
    assert pck(distances[:0], 64, 0.05) is None


def test_box_iou():
    first = tensor([[0.0, 0.0, 10.0, 10.0]])
    second = tensor([[5.0, 0.0, 15.0, 10.0], [0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0], [3.0, 3.0, 3.0, 3.0]])
    assert box_iou(first, second).tolist() == [pytest.approx([1 / 3, 1.0, 0.0, 0.0])]


@pytest.mark.parametrize(("boxes", "expected"), [(2, 0.834983), (3, 0.554455)])
def test_average_precision_takes_101_recall_points(boxes, expected):
    assert average_precision(tensor([True, False, True]), boxes) == pytest.approx(expected, abs=1e-6)


def test_average_precision_at_its_ends():
    assert average_precision(tensor([True, True]), 2) == pytest.approx(1.0)
    assert average_precision(torch.zeros(0, dtype=torch.bool), 2) == 0.0
    assert average_precision(tensor([False]), 0) is None
    assert average_precision(tensor([True] * 100), 100) == pytest.approx(1.0)  # every recall is one of the points


def boxes_of(*rows: tuple[int, int, list[float]], score: list[float] | None = None) -> Boxes:
    return Boxes(tensor([row[0] for row in rows], dtype=torch.long), tensor([row[1] for row in rows], dtype=torch.long),
                 tensor([row[2] for row in rows]).view(-1, 4), None if score is None else tensor(score))


def test_a_box_is_found_once_by_the_surest_detection_of_its_own_picture_and_class():
    truths = boxes_of((0, 0, [0.0, 0.0, 10.0, 10.0]), (1, 0, [0.0, 0.0, 10.0, 10.0]))
    detections = boxes_of((0, 0, [0.0, 0.0, 10.0, 9.0]), (0, 0, [0.0, 0.0, 10.0, 10.0]), (1, 0, [0.0, 0.0, 10.0, 10.0]),
                          (2, 0, [0.0, 0.0, 10.0, 10.0]), score=[0.9, 0.8, 0.3, 0.5])
    # by falling score: found, a second time the same box, another picture without a box, found
    assert matches(detections, truths, (0.5, 0.95)).tolist() == [[True, False], [False, True], [False, False], [True, True]]


def test_a_detection_takes_the_free_box_that_it_overlaps_most():
    truths = boxes_of((0, 0, [0.0, 0.0, 10.0, 10.0]), (0, 0, [2.0, 0.0, 12.0, 10.0]))
    detections = boxes_of((0, 0, [2.0, 0.0, 12.0, 10.0]), (0, 0, [1.0, 0.0, 11.0, 10.0]), score=[0.9, 0.8])
    assert matches(detections, truths, (0.5,)).all()


def test_mean_average_precision_is_over_the_classes_that_have_boxes():
    truths = boxes_of((0, 0, [0.0, 0.0, 10.0, 10.0]), (0, 1, [20.0, 20.0, 30.0, 30.0]))
    detections = boxes_of((0, 0, [0.0, 0.0, 10.0, 8.0]), (0, 1, [20.0, 20.0, 30.0, 30.0]), (0, 2, [1.0, 1.0, 5.0, 5.0]),
                          score=[0.9, 0.8, 0.7])
    precision, recall = detection_average_precision(detections, truths, 3)
    assert recall == [1.0, 1.0, None]
    assert precision[0] == pytest.approx([1.0] * 7 + [0.0] * 3)  # an overlap of 0.8
    assert precision[1] == pytest.approx([1.0] * 10)
    assert precision[2] == [None] * 10
    assert COCO_THRESHOLDS[0] == 0.5
    assert COCO_THRESHOLDS[-1] == 0.95
