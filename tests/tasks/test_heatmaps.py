"""Heatmaps on numbers that can be computed by hand."""

import math

import pytest
import torch
from torch import tensor

from kdrun.tasks.heatmaps import (
    box_targets,
    decode_boxes,
    decode_points,
    gaussian_radius,
    gaussians,
    heat_mse,
    penalty_reduced_focal,
    point_targets,
)


def test_gaussians_are_one_in_their_cell():
    heat = gaussians(tensor([[2, 1]]), tensor([1.0]), (4, 5))[0]
    assert heat.shape == (4, 5)
    assert heat[1, 2] == 1.0
    assert heat[1, 3] == pytest.approx(0.606531, abs=1e-6)
    assert heat[2, 3] == pytest.approx(0.367879, abs=1e-6)


def test_the_radius_is_the_smallest_of_three():
    eight = tensor(8.0, dtype=torch.float64)
    assert float(gaussian_radius(eight, eight)) == pytest.approx(0.6534, abs=1e-4)
    radius = float(gaussian_radius(eight, eight))
    assert (8 - 2 * radius) ** 2 / 64 == pytest.approx(0.7)  # both corners inwards: the case that decides here


def test_targets_of_boxes():
    boxes = tensor([[[4.0, 4.0, 12.0, 16.0], [0.0, 0.0, 0.0, 0.0], [16.0, 16.0, 20.0, 20.0]]])
    target = box_targets(boxes, tensor([[1, -1, 1]]), 2, 4, (5, 5), min_radius=1)
    assert not target.heat[0, 0].any()                      # no box of this class, and no trace of the absent box
    assert (target.heat[0, 1] == 1).nonzero().tolist() == [[2, 2], [4, 4]]
    assert float(target.heat[0, 1, 2, 3]) == pytest.approx(math.exp(-2))  # sigma 0.5
    assert float(target.heat[0, 1, 3, 3]) == pytest.approx(math.exp(-4))  # the higher of two that are equal here
    assert target.cell.tolist() == [[12, 0, 24]]
    assert target.size[0, 0].tolist() == [2.0, 3.0]
    assert target.offset[0, [0, 2]].tolist() == [[0.0, 0.5], [0.5, 0.5]]
    assert target.present.tolist() == [[1.0, 0.0, 1.0]]
    large = box_targets(tensor([[[0.0, 0.0, 64.0, 64.0]]]), tensor([[0]]), 1, 1, (64, 64), min_radius=1)
    assert float(large.heat[0, 0, 32, 33]) == pytest.approx(math.exp(-0.5 / (11 / 6) ** 2))  # radius 5.2: sigma 11/6


def test_targets_of_points_stay_within_the_grid():
    target = point_targets(tensor([[[6.1, 1.9], [15.0, 15.0]]]), 4, (4, 4))
    assert (target == 1).nonzero()[:, 2:].tolist() == [[0, 2], [3, 3]]


def test_focal_loss_by_hand_is_divided_by_the_objects_and_has_gradients_everywhere():
    heat = tensor([0.9, 0.3]).view(1, 1, 1, 2)
    logits, target = (heat / (1 - heat)).log().requires_grad_(), tensor([1.0, 0.5]).view(1, 1, 1, 2)
    loss = penalty_reduced_focal(logits, target, tensor(1))
    assert loss.item() == pytest.approx(0.001054 + 0.002006, abs=1e-6)
    assert penalty_reduced_focal(logits, target, tensor(2)).item() == pytest.approx(0.003060 / 2, abs=1e-6)
    extreme = tensor([-80.0, 80.0]).view(1, 1, 1, 2).requires_grad_()
    penalty_reduced_focal(extreme, tensor([1.0, 0.0]).view(1, 1, 1, 2), tensor(0)).backward()
    assert extreme.grad.isfinite().all()


def test_invisible_joints_have_no_loss():
    maps, target = torch.zeros(1, 2, 2, 2, requires_grad=True), torch.ones(1, 2, 2, 2)
    visible = tensor([[1.0, 0.0]])
    assert heat_mse(maps, target, visible).item() == 0.25
    assert heat_mse(maps, target, visible, over="visible").item() == 0.5
    nothing = heat_mse(maps, target, torch.zeros(1, 2), over="visible")
    nothing.backward()
    assert nothing.item() == 0.0
    assert not maps.grad.any()


def test_points_move_a_quarter_of_a_cell_towards_the_higher_neighbour():
    maps = torch.zeros(1, 3, 4, 5)
    maps[0, 0, 1, 2], maps[0, 0, 1, 3] = 1.0, 0.5          # to the right; up and down are equal
    maps[0, 1, 2, 2], maps[0, 1, 1, 2], maps[0, 1, 2, 1] = 1.0, 0.5, 0.4
    maps[0, 2, 0, 4] = 1.0                                 # a corner
    assert decode_points(maps, 4).tolist() == [[[9.0, 4.0], [7.0, 7.0], [16.0, 0.0]]]


def test_boxes_are_read_from_peaks():
    heat = torch.full((1, 2, 4, 4), -5.0)
    heat[0, 1, 1, 2], heat[0, 1, 1, 3] = 2.0, 1.0           # its neighbour is no peak
    heat[0, 0, 3, 0] = 0.0
    size, offset = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    size[0, :, 1, 2], offset[0, :, 1, 2] = tensor([2.0, 1.0]), tensor([0.5, 0.25])
    size[0, :, 3, 0] = tensor([1.0, -1.0])                  # no box is smaller than nothing
    peaks = decode_boxes(heat, size, offset, 4, count=2)
    assert peaks.corners.tolist() == [[[6.0, 3.0, 14.0, 7.0], [-2.0, 12.0, 2.0, 12.0]]]
    assert peaks.label.tolist() == [[1, 0]]
    assert peaks.score[0].tolist() == pytest.approx([1 / (1 + math.exp(-2)), 0.5])
    assert decode_boxes(heat, size, offset, 4).label.shape == (1, 32)  # never more than there are cells
