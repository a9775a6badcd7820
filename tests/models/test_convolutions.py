"""Cheap convolutions: their weights in the authors' table, strides, shifts, and names that are none."""

import pytest
import torch

from kdrun.models.convolutions import Kind, Shift, convolution


@pytest.mark.parametrize(("name", "weights"), [  # of 64 channels to 64, by the layers of Crowley et al. 2018
    ("full", 36_864), ("grouped_1", 9 * 64 * 64 + 64 * 64), ("grouped_4", 13_312), ("depthwise", 4_672),
    ("bottleneck_2", 13_312), ("bottleneck_4", 4_352), ("bottleneck_2_grouped_8", 5_248), ("bottleneck_2_depthwise", 4_384),
    ("bottleneck_2_groups_of_8", 64 * 32 + 9 * 8 * 32 + 32 * 64), ("groups_of_64", 9 * 64 * 64 + 64 * 64), ("shift", 64 * 64),
    ("full_k5", 25 * 64 * 64), ("depthwise_k1", 64 + 64 * 64), ("bottleneck_2_depthwise_k7", 2 * 64 * 32 + 49 * 32)])
def test_weights_are_those_of_the_table(name, weights):
    layer = convolution(name, 64, 64, 1)
    assert sum(weight.numel() for weight in layer.parameters() if weight.ndim == 4) == weights
    assert convolution(name, 64, 128, 2)(torch.zeros(2, 64, 8, 8)).shape == (2, 128, 4, 4)


def test_the_bottleneck_is_of_the_channels_that_go_out():
    layer = convolution("bottleneck_2", 16, 64, 2)
    assert [tuple(weight.shape) for weight in layer.parameters() if weight.ndim == 4] == [
        (32, 16, 1, 1), (32, 32, 3, 3), (64, 32, 1, 1)]
    assert [module.stride[0] for module in layer if isinstance(module, torch.nn.Conv2d)] == [1, 2, 1]


def test_a_shift_moves_each_ninth_by_a_pixel():
    maps = torch.arange(9.0).view(1, 1, 3, 3).expand(1, 20, 3, 3)
    moved = Shift()(maps)[0]
    assert torch.equal(moved[:4], maps[0, :4])  # two ninths' worth and the two that are left over stay
    assert [float(moved[channel, 1, 1]) for channel in range(4, 20, 2)] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert moved[4].tolist() == [[0, 0, 0], [0, 0, 1], [0, 3, 4]]  # down and to the right, zeros behind it


@pytest.mark.parametrize("name", ["", "cheap", "grouped_0", "grouped", "bottleneck_2_", "bottleneck_2grouped_8",
                                  "grouped_4_depthwise", "full_k4"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="wanted one of full, shift, depthwise"):
        Kind.read(name)


@pytest.mark.parametrize(("name", "told"), [("grouped_7", "has 64 channels, which 7 does not divide"),
                                            ("bottleneck_2_groups_of_64", "has 32 channels, which 64 does not divide"),
                                            ("bottleneck_65", "has 0 channels")])
def test_groups_divide_the_channels(name, told):
    with pytest.raises(ValueError, match=told):
        convolution(name, 64, 64, 1)
